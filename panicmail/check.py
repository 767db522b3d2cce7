"""What a configuration comes to before anything is tried: one row each, ok, warning or failed, and the mend.

`offline` looks at the configuration and at the files it names on this host; it asks nobody else, neither DNS nor
GitLab nor relay. A configuration that cannot be read at all never gets here: `config.load` refuses it with all its
mistakes.

    failed     panicmail could not do its work like this
    warning    it works, but somebody should look
    ok         nothing to do

What a file says twice is said once: a warning of `config` about a secret's file becomes that file's row.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from panicmail import certificate, orders
from panicmail.config import Config
from panicmail.config.values import written
from panicmail.orders import Orders

#: A certificate that ends sooner than this is a warning.
RENEW_WITHIN = timedelta(days=21)
#: Free space below which the database's disk is a warning, and below which it has failed, in octets.
LITTLE_SPACE, NO_SPACE = 2**30, 200 * 2**20
#: In a table of the file, the keys that name a file with a secret.
_SECRET_FILES = ("token_file", "url_file", "heartbeat_url_file", "key_file", "tls_key_file")
_OTHERS_MAY_READ = 0o004


class Verdict(StrEnum):
    """How a row turned out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was looked at."""

    subject: str  #: what was looked at, in a word or two
    verdict: Verdict
    found: str
    mend: str = ""  #: what to do about it; "" when nothing


@dataclass(frozen=True, slots=True)
class Host:
    """What this host answers about its disks."""

    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free  #: octets
    may_write: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)


def offline(config: Config, now: datetime, host: Host | None = None) -> list[Row]:
    """Every row there is without asking anybody else, in the order of the file.

    Args:
        now: Who is on call, and how long a certificate still holds, is told for this instant.
    """
    standing = orders.from_config(config, [("a", b"")])
    return [
        _configuration(config),
        *_smtp(config, now),
        _replies(standing, config),
        *_database(config, host or Host()),
        *_gitlab(config),
        *_secret_files(config),
        _relay(config),
        *_people(config),
        *_on_call(standing, now),
        *_ladder(standing, now),
        _operators(standing),
        _senders(config),
        _authentication(config),
        _receipts(config),
        _web(config),
        *_remaining_warnings(config),
    ]


def _ok(subject: str, found: str) -> Row:
    return Row(subject, Verdict.OK, found)


def _warning(subject: str, found: str, mend: str) -> Row:
    return Row(subject, Verdict.WARNING, found, mend)


def _failed(subject: str, found: str, mend: str) -> Row:
    return Row(subject, Verdict.FAILED, found, mend)


# -- the file, and the door


def _configuration(config: Config) -> Row:
    path = config.path
    if path is None:
        return _ok("configuration", "the environment alone: read, no mistakes")
    inside = list(_secrets_inside(_tables(config)))
    if inside and path.stat().st_mode & _OTHERS_MAY_READ:
        found = f"{path}: read, no mistakes; but it holds secrets ({', '.join(inside)}) and everybody can read it"
        return _warning("configuration", found, f"chmod o= {path}")
    return _ok("configuration", f"{path}: read, no mistakes")


def _tables(config: Config) -> dict[str, dict[str, Any]]:
    """The tables of the configuration's file as they are written; none without a file."""
    if config.path is None:
        return {}
    with config.path.open("rb") as file:
        return {name: table for name, table in tomllib.load(file).items() if isinstance(table, dict)}


def _secrets_inside(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The keys whose secrets stand in the file itself."""
    if "token" in tables.get("gitlab", {}):
        yield "gitlab.token"
    for table in ("relay", "database"):
        if urlsplit(str(tables.get(table, {}).get("url", ""))).password:
            yield f"{table}.url"
    for name, person in tables.get("people", {}).items():
        if person.get("push"):
            yield f"people.{name}.push"


def _smtp(config: Config, now: datetime) -> Iterator[Row]:
    smtp = config.smtp
    where = ", ".join(map(str, smtp.listen))
    yield _ok("addresses", f"{', '.join(smtp.addresses)} and subaddresses, at {where} as {smtp.hostname}")
    if smtp.tls_cert_file is not None:
        yield _certificate(smtp.tls_cert_file, now)
    elif all(_is_this_host(listen.host) for listen in smtp.listen):
        yield _ok("tls", "no STARTTLS, and none needed: only this host can connect")
    else:
        mend = "set smtp.tls_cert_file and smtp.tls_key_file"
        yield _warning("tls", "no STARTTLS: reports cross the network in the clear", mend)


def _certificate(file: Path, now: datetime) -> Row:
    try:
        ends = certificate.ends_at(file.read_text())
    except (OSError, ValueError) as exc:
        return _warning("tls", f"{file}: when it ends cannot be read ({exc})", "look at it with openssl x509 -enddate")
    left = ends - now
    told = f"certificate and key are a pair; it ends {ends:%Y-%m-%d}, {left.days} days left"
    if left <= timedelta(0):
        return _failed("tls", f"{file}: ended {ends:%Y-%m-%d}", "renew it, then send panicmail a SIGHUP")
    return _ok("tls", told) if left > RENEW_WITHIN else _warning("tls", told, "renew it, then send panicmail a SIGHUP")


def _is_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _replies(standing: Orders, config: Config) -> Row:
    address = config.replies.address
    if standing.addresses.carries_token:
        return _ok("replies", f"answers go to {address}")
    found = f"answers go to {address}, which carries no token: bounces of pages cannot be told from reports"
    return _warning("replies", found, "let the mail server deliver subaddresses, then put {token} in replies.address")


# -- the disk


def _database(config: Config, host: Host) -> Iterator[Row]:
    url = config.database.url.get_secret_value()
    if not url.startswith("sqlite:"):
        yield _ok("database", "PostgreSQL; nothing was asked of it")
        return
    path = Path(url.removeprefix("sqlite:///"))
    yield _writable(path, host)
    yield _space(path.parent, host)


def _writable(path: Path, host: Host) -> Row:
    mend = "give it to the user panicmail runs as"
    if not host.may_write(path.parent):
        return _failed("database", f"{path.parent} cannot be written by {_me()}", mend)
    if path.exists() and not host.may_write(path):
        return _failed("database", f"{path} cannot be written by {_me()}", mend)
    return _ok("database", f"{path}{'' if path.exists() else ', made at the first start'}; {_me()} may write there")


def _space(folder: Path, host: Host) -> Row:
    free = host.free(folder)
    told = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < NO_SPACE:
        return _failed("disk", told, "make room: a mail that cannot be stored is refused for now (451)")
    return _ok("disk", told) if free >= LITTLE_SPACE else _warning("disk", told, "make room; every raw mail is kept")


def _me() -> str:
    return f"user {os.getuid()}"


# -- GitLab, relay, secrets


def _gitlab(config: Config) -> Iterator[Row]:
    gitlab = config.gitlab
    told = f"{gitlab.url}, project {gitlab.project}, labels {', '.join(gitlab.labels) or 'none'}"
    if gitlab.url.startswith("http://") and not _is_this_host(urlsplit(gitlab.url).hostname or ""):
        yield _warning("gitlab", f"{told}: the token crosses the network in the clear", "use https:// in gitlab.url")
    else:
        yield _ok("gitlab", told)
    if not any(place == "gitlab.token_file" for place, _ in _secret_paths(config)):
        yield _ok("gitlab token", "given, and not in a file of its own")


def _secret_files(config: Config) -> Iterator[Row]:
    """Who may read each file that holds a secret."""
    for place, path in _secret_paths(config):
        mode = path.stat().st_mode
        told = f"{path}, mode {mode & 0o777:04o}"
        if mode & _OTHERS_MAY_READ:
            yield _warning(_spoken(place), f"{told}: everybody on this host can read it", f"chmod o= {path}")
        else:
            yield _ok(_spoken(place), told)


def _secret_paths(config: Config) -> list[tuple[str, Path]]:
    """Key and path of each file with a secret that the configuration's file names."""
    folder = config.path.absolute().parent if config.path else Path()
    found = [
        (f"{table}.{key}", folder / str(value))
        for table, keys in _tables(config).items()
        for key, value in keys.items()
        if key in _SECRET_FILES and value
    ]
    return [(place, path) for place, path in found if path.is_file()]


def _spoken(place: str) -> str:
    table, _, key = place.partition(".")
    return "tls key" if key == "tls_key_file" else f"{table} {key.removesuffix('_file').replace('_', ' ')}"


def _relay(config: Config) -> Row:
    relay = config.relay
    login = f", as {relay.url.username}" if relay.url.username else ""
    pages = "" if relay.page_sender == relay.sender else f", pages from {relay.page_sender}"
    return _ok("relay", f"{relay.url}{login}; mail from {relay.sender}{pages}")


# -- people and ladder


def _people(config: Config) -> Iterator[Row]:
    for key, person in config.people.items():
        ways = [person.email, *([f"phone {person.phone}"] if person.phone else [])]
        told = f"{person.name}: {', '.join(ways)}{f', GitLab @{person.gitlab}' if person.gitlab else ''}"
        mend = "have phones let page mails through do-not-disturb; push channels come with a later version"
        yield _warning(f"person {key}", f"{told}; pages go by mail only", mend)


def _on_call(standing: Orders, now: datetime) -> Iterator[Row]:
    for role in standing.rosters.roles:
        duties = standing.rosters.on_call(role, now)
        names = ", ".join(f"{standing.people[duty.person].name} ({duty.source})" for duty in duties)
        subject = f"on call {role}"
        if names:
            yield _ok(subject, names)
        else:
            yield _failed(subject, "nobody now", f"name somebody in oncall.{role}.fixed or .fallback")


def _ladder(standing: Orders, now: datetime) -> Iterator[Row]:
    ladder, who = standing.ladder, standing.who_at(now)
    for number, step in enumerate(ladder.steps, 1):
        named = ladder.people(step.page, who)
        told = ", ".join(f"{standing.people[person].name} ({role})" for person, role in named.items())
        yield _ok(f"step {number}", f"after {written(step.after)}: {told}")
    yield _ok("then", f"the last step again every {written(ladder.repeat)} until somebody answers")
    yield _escalates(standing, now)


def _escalates(standing: Orders, now: datetime) -> Row:
    """Whether the ladder calls somebody new, and by when."""
    ladder, who = standing.ladder, standing.who_at(now)
    first = ladder.people(ladder.steps[0].page, who)
    for step in ladder.steps[1:]:
        new = [standing.people[person].name for person in ladder.people(step.page, who) if person not in first]
        if not new:
            continue
        told = f"{', '.join(new)} after {written(step.after)}; the SLA is {written(ladder.sla)}"
        if step.after > ladder.sla:
            return _warning("escalation", told, "let a step at or before escalation.sla page somebody new")
        return _ok("escalation", told)
    names = ", ".join(standing.people[person].name for person in first)
    return _warning(
        "escalation", f"every step pages {names} and nobody else", "put somebody else in the last step's role"
    )


def _operators(standing: Orders) -> Row:
    names = ", ".join(standing.people[person].name for person in standing.operators)
    return _ok("operators", f"{names}: told when panicmail itself needs help")


# -- senders and the web


def _senders(config: Config) -> Row:
    if not config.senders.known:
        return _ok("senders", "everybody may raise a panic")
    what = {"page": "paged all the same", "once": "filed and paged once"}[config.senders.unknown]
    return _ok("senders", f"known: {', '.join(config.senders.known)}; anybody else's report is {what}")


def _authentication(config: Config) -> Row:
    found = "senders are not verified: an acknowledgement rests on the page's token and the From address"
    return _warning("authentication", found, "nothing yet: verifying comes with a later version")


def _receipts(config: Config) -> Row:
    receipts = config.receipts
    if not receipts.enabled:
        return _warning("receipts", "switched off: reporters are told nothing", "set receipts.enabled = true")
    hotline = f"; hotline {receipts.phone}" if receipts.phone else ""
    return _ok("receipts", f"to reporters at {', '.join(receipts.domains)}{hotline}")


def _web(config: Config) -> Row:
    web = config.web
    if not web.url:
        return _warning("web", f"no web.url: mails carry no links (listening at {web.listen})", "set web.url")
    if web.url.startswith("http://") and not _is_this_host(urlsplit(web.url).hostname or ""):
        return _warning("web", f"{web.url}: whoever sees a link pass can use it", "use https:// in web.url")
    return _ok("web", f"{web.url}, listening at {web.listen}")


def _remaining_warnings(config: Config) -> Iterator[Row]:
    """The warnings of the configuration that are not a row already."""
    files = tuple(f"{path}: " for _, path in _secret_paths(config))
    for sentence in config.warnings:
        if not sentence.startswith(files):
            found, _, mend = sentence.partition("; ")
            yield _warning("configuration", found, mend)
