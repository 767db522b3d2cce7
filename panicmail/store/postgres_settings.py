"""What PostgreSQL must be set to for a 250 to survive, and whether it is.

    facts = settings.look(database, now)              # read once
    for setting in settings.judge(facts): ...         # pure: one row each, with the mend

Panicmail sets for its own sessions what a session may set (`postgres.SESSION`); what is judged here is the server's:
whether an answered COMMIT is on its disk, whether it is on a second one as well, and whether there is room for all
nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from panicmail.store.database import Database
from panicmail.store.leases import living
from panicmail.store.sql_limits import CONNECTIONS

#: The oldest server with every time-out we set.
OLDEST = 14
#: Connections that must stay free for commands, monitors and the people who look after the server.
SPARE = 5
#: The SLA is counted by the server's clock; people and other programs go by this host's.
CLOCKS_APART = timedelta(seconds=2)

_NAMES = (
    "server_version",
    "server_version_num",
    "server_encoding",
    "fsync",
    "full_page_writes",
    "data_checksums",
    "synchronous_commit",
    "synchronous_standby_names",
    "default_transaction_read_only",
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",  # since 16
)


class SettingVerdict(StrEnum):
    """How a setting is judged."""

    OK = "ok"
    WARNING = "warning"  #: panicmail works, and promises less
    FAILED = "failed"  #: a 250 may be lost, or none can be given


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing the promise rests on."""

    name: str
    value: str
    verdict: SettingVerdict
    why: str = ""  #: what comes of it; "" when it is as it should be
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the server answered."""

    settings: Mapping[str, str]
    is_standby: bool = False
    standbys: tuple[str | None, ...] = ()  #: pg_stat_replication.sync_state of each; None: not ours to see
    connection_limit: int = -1  #: of role or database, whichever is less; -1: none
    nodes: int = 0  #: that have a session now
    is_pooled: bool = False  #: somebody stands between us and the server
    clock_ahead: timedelta = field(default_factory=timedelta)  #: the server's clock before this host's


def look(database: Database, now: datetime) -> Facts:
    """Ask the server. `now` is this host's.

    Raises:
        StoreFailed: It does not answer, or is a standby.
    """
    with database.reading() as connection:
        return _look(connection, now)


def _look(connection: sa.Connection, now: datetime) -> Facts:
    settings = sa.text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")
    standbys = sa.text("SELECT sync_state FROM pg_stat_replication")
    limits = sa.text(
        "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user AND NOT rolsuper "
        "UNION ALL SELECT datconnlimit FROM pg_database WHERE datname = current_database()"
    )
    here = sa.text("SELECT pg_is_in_recovery() AS standby, pg_backend_pid() AS pid, clock_timestamp() AS clock")
    is_standby, pid, clock = connection.execute(here).one()
    driver: Any = connection.connection.driver_connection
    return Facts(
        settings={row.name: row.setting for row in connection.execute(settings, {"names": list(_NAMES)})},
        is_standby=is_standby,
        standbys=tuple(connection.execute(standbys).scalars()),
        connection_limit=min((limit for limit in connection.execute(limits).scalars() if limit >= 0), default=-1),
        nodes=len(living(connection)),
        is_pooled=driver.info.backend_pid != pid,
        clock_ahead=clock.astimezone(UTC) - now,
    )


def judge(facts: Facts, nodes: int = 2) -> list[Setting]:
    """What the facts come to.

    Args:
        nodes: How many there are going to be; those that have a session now count in any case.
    """
    return [
        _version(facts),
        _writable(facts),
        _fsync(facts),
        _full_page_writes(facts),
        _checksums(facts),
        _synchronous_commit(facts),
        _standbys(facts),
        _encoding(facts),
        _room(facts, max(nodes, facts.nodes)),
        _pooler(facts),
        _clock(facts),
    ]


def _ok(name: str, value: str) -> Setting:
    return Setting(name, value, SettingVerdict.OK)


def _warning(name: str, value: str, why: str, mend: str) -> Setting:
    return Setting(name, value, SettingVerdict.WARNING, why, mend)


def _failed(name: str, value: str, why: str, mend: str) -> Setting:
    return Setting(name, value, SettingVerdict.FAILED, why, mend)


def _version(facts: Facts) -> Setting:
    value = facts.settings["server_version"]
    if int(facts.settings["server_version_num"]) >= OLDEST * 10_000:
        return _ok("server_version", value)
    why = "it does not know the time-outs that free what a frozen node holds"
    return _failed("server_version", value, why, f"use PostgreSQL {OLDEST} or newer")


def _writable(facts: Facts) -> Setting:
    if facts.is_standby:
        mend = "name all servers in database.url (host=a&host=b); panicmail then finds the one that is the primary"
        return _failed("role", "standby", "it takes no writes, so no mail", mend)
    if facts.settings["default_transaction_read_only"] == "on":
        mend = "set default_transaction_read_only = off"
        return _failed("role", "primary, but read-only", "it takes no writes, so no mail", mend)
    return _ok("role", "primary")


def _fsync(facts: Facts) -> Setting:
    if facts.settings["fsync"] == "on":
        return _ok("fsync", "on")
    return _failed("fsync", "off", "a power cut loses mails that were answered 250, or all of them", "set fsync = on")


def _full_page_writes(facts: Facts) -> Setting:
    if facts.settings["full_page_writes"] == "on":
        return _ok("full_page_writes", "on")
    why = "a page half written in a power cut cannot be mended, unless the file system writes pages whole"
    return _warning("full_page_writes", "off", why, "set full_page_writes = on")


def _checksums(facts: Facts) -> Setting:
    if facts.settings["data_checksums"] == "on":
        return _ok("data_checksums", "on")
    why = "what a bad disk changes is not noticed, and goes to the standby and into the backup"
    return _warning("data_checksums", "off", why, "stop the server and run pg_checksums --enable")


def _synchronous_commit(facts: Facts) -> Setting:
    value = facts.settings["synchronous_commit"]
    mend = "take synchronous_commit out of the options in database.url: panicmail itself asks for on"
    if value in ("on", "remote_apply"):
        return _ok("synchronous_commit", value)
    if value == "off":
        return _failed("synchronous_commit", value, "a crash of the server loses mails that were answered 250", mend)
    why = {
        "local": "a COMMIT does not wait for the standby",
        "remote_write": "a COMMIT does not wait for the standby's disk",
    }[value]
    return _warning("synchronous_commit", value, f"{why}: a failover may lose mails that were answered 250", mend)


def _standbys(facts: Facts) -> Setting:
    """Whether an answered COMMIT is on a second server, and whether one that is away holds up all of them."""
    name, value = "synchronous_standby_names", facts.settings["synchronous_standby_names"]
    if not value:
        why = "an answered COMMIT is on one server alone: a failover may lose the last mails that were answered 250"
        return _warning(
            name, "none", why, "run two standbys, a and b, and set synchronous_standby_names = 'ANY 1 (a, b)'"
        )
    if None in facts.standbys:
        why = "whether the standbys are there is not for this role to see"
        return _warning(name, value, why, "grant it pg_read_all_stats")
    there = sum(state in ("sync", "quorum", "potential") for state in facts.standbys)
    if there == 0:
        why = "none of them is there: no COMMIT is answered, and mails go to the spools"
        return _failed(name, value, why, "start a standby, or take its name out")
    if there == 1:
        why = "one of them is there: when it goes, no COMMIT is answered and mails go to the spools"
        return _warning(name, value, why, "run a second standby, and name both: 'ANY 1 (a, b)'")
    return _ok(name, f"{value}, {there} of them there")


def _encoding(facts: Facts) -> Setting:
    value = facts.settings["server_encoding"]
    if value == "UTF8":
        return _ok("server_encoding", value)
    why = "a mail with a character it does not know cannot be stored"
    return _failed("server_encoding", value, why, "create the database with ENCODING 'UTF8' TEMPLATE template0")


def _room(facts: Facts, nodes: int) -> Setting:
    reserved = ("superuser_reserved_connections", "reserved_connections")
    room = int(facts.settings["max_connections"]) - sum(int(facts.settings.get(name, 0)) for name in reserved)
    if facts.connection_limit >= 0:
        room = min(room, facts.connection_limit)
    wanted = nodes * CONNECTIONS + SPARE
    value = f"{room} for us; {nodes} nodes use up to {nodes * CONNECTIONS}"
    if room >= wanted:
        return _ok("max_connections", value)
    why = "a node that gets no connection cannot accept, page or escalate"
    mend = f"set max_connections to {wanted + int(facts.settings['max_connections']) - room} or more"
    if room == facts.connection_limit:
        mend = f"raise the CONNECTION LIMIT of the role and of the database to {wanted} or more"
    return _warning("max_connections", value, why, mend)


def _pooler(facts: Facts) -> Setting:
    if not facts.is_pooled:
        return _ok("connection", "direct")
    why = "it drops the time-outs we ask for; in transaction mode also the locks by which nodes know of each other"
    mend = "let database.url name the server itself: a node has a pool of its own"
    return _warning("connection", "through a pooler", why, mend)


def _clock(facts: Facts) -> Setting:
    apart = abs(facts.clock_ahead)
    how = "ahead of" if facts.clock_ahead > timedelta(0) else "behind"
    value = f"{apart.total_seconds():.1f} s {how} this host's"
    if apart <= CLOCKS_APART:
        return _ok("clock", value)
    why = "all times are the server's: what mails say, when steps are due, who is on call"
    return _warning("clock", value, why, "let both hosts keep time by NTP")
