"""The database and the disks: reading, writing, tables, settings, room; and what the database knows for other rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from panicmail.check import result
from panicmail.check.result import Group, Row
from panicmail.clock import wall_clock
from panicmail.config import Config
from panicmail.errors import StoreFailed
from panicmail.store import database_probe, open_store, postgres_settings
from panicmail.store.blocked_adapters import Bar
from panicmail.store.channel_proofs import Proof
from panicmail.store.database import Database
from panicmail.store.database_probe import Tables
from panicmail.store.postgres_settings import Setting
from panicmail.store.rows import OutboxRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_STORE = Group.STORE
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class KnownFindings:
    """What the database knows that other rows want."""

    proofs: Sequence[Proof]
    newest_by_peer: Sequence[tuple[str, datetime]]
    refused_pushes: Sequence[OutboxRow] = ()  #: the last of each channel that took none since
    begun_at: datetime | None = None  #: when the first signing key was made; None: they stand in a file
    bars: Sequence[Bar] = ()  #: what the daemon gets nothing through to

    @classmethod
    def of(cls, tx: Transaction) -> KnownFindings:
        bars = tuple(tx.adapters.barred().values())
        return cls(tx.proofs.latest(), tx.mails.newest_by_peer(), tx.outbox.refused_pushes(), tx.keys.first_at(), bars)


@dataclass(frozen=True, slots=True)
class Tried:
    """How the database did."""

    rows: Sequence[Row]
    known: KnownFindings | None = None  #: None: it could not be asked, or has no tables yet


def sqlite_file(config: Config) -> Path | None:
    """The file of a SQLite database; None for PostgreSQL."""
    url = config.database.url.get_secret_value()
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def try_database(config: Config) -> Tried:
    """Try it. A SQLite file that is not there is not made."""
    file = sqlite_file(config)
    if file is not None and not file.exists():
        return Tried([_STORE.ok("tables", "made at the first start")])
    try:
        with closing(open_store.connect(config)) as database:
            return _try_open_database(database)
    except StoreFailed as exc:
        mend = "see database.url, and that the server runs and lets this host in"
        if file is not None:
            mend = "see who may write the file, and that nothing holds it: a copy, a backup, another program"
        return Tried([_STORE.failed("database answers", f"it does not answer: {exc}", mend)])


def _try_open_database(database: Database) -> Tried:
    found, revision = database_probe.tables(database)
    rows = [_tables(found, revision), *([] if database.is_sqlite else _settings(database))]
    if found in (Tables.OURS, Tables.OLDER):
        rows.append(_write(database))
    if found is not Tables.OURS:
        return Tried(rows)
    with closing(Store(database)) as store:
        return Tried(rows, store.read(KnownFindings.of))


def _tables(found: Tables, revision: str) -> Row:
    if found is Tables.NEWER:
        told = f"of revision {revision}, which a newer panicmail made; this one does not start on them"
        return _STORE.failed("tables", told, "use that version of panicmail, or restore the copy made before it")
    if found is Tables.OLDER:
        mend = "restart panicmail serve: it brings them up to date when it starts"
        return _STORE.warning("tables", f"of revision {revision}, older than this program", mend)
    told = "made at the first start" if found is Tables.NONE else f"up to date, revision {revision}"
    return _STORE.ok("tables", told)


def _write(database: Database) -> Row:
    try:
        database_probe.write_and_roll_back(database)
    except StoreFailed as exc:
        mend = "see that it is the primary, that panicmail's user may write, and that its disk has room"
        return _STORE.failed("writing", f"a mail cannot be stored: {exc}", mend)
    return _STORE.ok("writing", "a mail was stored, read, and taken back")


def _settings(database: Database) -> Iterator[Row]:
    """The server's settings: those that are as they should be in one row, the others in one each."""
    facts = postgres_settings.look(database, wall_clock())
    judged = [each for each in postgres_settings.judge(facts) if each.name != "clock"]
    good = [each for each in judged if each.verdict is postgres_settings.SettingVerdict.OK]
    yield _STORE.ok("postgresql", ", ".join(f"{each.name} {each.value}" for each in good))
    yield from (_setting(each) for each in judged if each not in good)
    yield result.judge("database's clock", facts.clock_ahead)


def _setting(each: Setting) -> Row:
    told = f"{each.value}: {each.why}"
    if each.verdict is postgres_settings.SettingVerdict.FAILED:
        return _STORE.failed(each.name, told, each.mend)
    return _STORE.warning(each.name, told, each.mend)


def waiting(known: KnownFindings) -> Iterator[Row]:
    """What the running daemon keeps for GitLab or the relay, as its last try found them. Phones have rows of theirs."""
    groups = {"gitlab": Group.GITLAB, "relay": Group.RELAY}
    for bar in known.bars:
        if group := groups.get(bar.adapter):
            found = f"kept since {bar.since_at:%Y-%m-%dT%H:%MZ}; the running daemon was told: {bar.answer}"
            mend = "it is tried once a minute; once the rows here are well, panicmail retry tries it at once"
            yield group.warning(f"{bar.adapter} backlog", found, mend).passes()


# -- the spool


def spool(config: Config, device: Callable[[Path], int]) -> Iterator[Row]:
    """Whether a mail could be put there, and whether what fills the database's disk fills this one too.

    Args:
        device: Answers the number of the file system a folder is on.
    """
    folder = config.database.spool
    try:
        _try_folder(folder)
    except OSError as exc:
        found = f"{folder}: {exc.strerror}; while the database is away mails would be refused (451)"
        mend = "give it to the user panicmail runs as, or name another folder in database.spool"
        yield _STORE.failed("spool", found, mend)
        return
    file = sqlite_file(config)
    if file is not None and device(_there(folder)) == device(file.parent):
        found = f"{folder} can be written, but it is on the disk of the database: one full disk stops both"
        yield _STORE.warning("spool", found, "name a folder on another disk in database.spool")
    else:
        yield _STORE.ok("spool", f"{folder} can be written")


def _try_folder(folder: Path) -> None:
    """Write a file there and take it away; a folder that is not there yet is tried where it would be made."""
    with tempfile.TemporaryFile(dir=_there(folder)) as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def _there(folder: Path) -> Path:
    """The folder, or where it would be made."""
    return next(path for path in (folder, *folder.parents) if path.exists())
