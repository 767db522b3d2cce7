"""What a configuration comes to before anything is tried.

`everything` looks at the configuration and at the files it names on this host; it asks nobody else, neither DNS nor
GitLab nor relay nor database. A configuration that cannot be read at all never gets here: `config.load` refuses it
with all its mistakes.

What a file says twice is said once: a warning of `config` about a secret's file becomes that file's row.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from panicmail import certificates
from panicmail.check import certificate_checks, memory_checks, own_files, people_checks
from panicmail.check.result import Group, Row, in_order
from panicmail.check.web_checks import OUTSIDE, is_public
from panicmail.config import Config
from panicmail.config.schema import ListenerSettings
from panicmail.config.sources import read_file
from panicmail.config.values import is_local, written
from panicmail.incident.escalation_policy import DEFAULT
from panicmail.oncall import runtime_settings
from panicmail.oncall.runtime_settings import RuntimeSettings

#: Free space below which a disk is a warning, and below which it has failed, in octets.
LITTLE_SPACE, NO_SPACE = 2**30, 200 * 2**20
#: In a table of the file, the keys that name a file with a secret.
_SECRET_FILES = ("token_file", "url_file", "heartbeat_url_file", "key_file", "tls_key_file")
_OTHERS_MAY_READ = 0o004
#: So many files that others may use are named.
_NAMED = 5
#: What the operators are told when every step pages the same one.
_ONE_PERSON = "check_roles"


@dataclass(frozen=True, slots=True)
class Host:
    """What this host answers about its disks and its memory."""

    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free  #: octets
    may_write: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)
    memory: Callable[[], int | None] = memory_checks.limit  #: octets the service may use; None: no limit
    device: Callable[[Path], int] = lambda path: path.stat().st_dev  #: the number of the file system it is on


def everything(config: Config, now: datetime, host: Host | None = None) -> list[Row]:
    """Every row there is without asking anybody else.

    Args:
        now: Who is on call, and how long a certificate still holds, is told for this instant.
    """
    return in_order(
        rows(config, runtime_settings.from_config(config, [("a", b"")]), now, host or Host(), {}), config.people
    )


def rows(
    config: Config, settings: RuntimeSettings, now: datetime, host: Host, failures: Mapping[str, str]
) -> list[Row]:
    """The same, not in order yet.

    Args:
        failures: By role, why its calendar could not be read just now.
    """
    return [
        _configuration(config),
        *_smtp(config, now),
        _replies(settings, config),
        *_database(config, host),
        _file_modes(config),
        *memory_checks.rows(config.smtp.max_message_size, host.memory()),
        *_gitlab(config),
        *_secret_files(config),
        _relay(config),
        _one_domain(config),
        *people_checks.rows(config, settings),
        *people_checks.keys(settings, now),
        *people_checks.pushes(config, settings),
        *people_checks.schedule_rows(settings, now, failures),
        *_policy(settings, now),
        _operators(settings),
        _senders(config),
        _authentication(config),
        _receipts(config),
        _web(config),
        *_remaining_warnings(config),
    ]


# -- the file, and the door


def _configuration(config: Config) -> Row:
    path = config.path
    if path is None:
        return Group.FILE.ok("configuration", "the environment alone: read, no mistakes")
    inside = list(_secrets_inside(_tables(config)))
    if inside and path.stat().st_mode & _OTHERS_MAY_READ:
        found = f"{path}: read, no mistakes; but it holds secrets ({', '.join(inside)}) and everybody can read it"
        return Group.FILE.warning("configuration", found, f"chmod o= {path}")
    return Group.FILE.ok("configuration", f"{path}: read, no mistakes")


def _tables(config: Config) -> dict[str, dict[str, Any]]:
    """The tables of the configuration's file as they are written; none without a file."""
    if config.path is None:
        return {}
    return {name: table for name, table in read_file(config.path).items() if isinstance(table, dict)}


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
    where = ", ".join(f"{each.address}{_manner(each)}" for each in smtp.all_listeners)
    yield Group.DOOR.ok("addresses", f"{', '.join(smtp.addresses)} and subaddresses, at {where} as {smtp.hostname}")
    pairs = {(each.tls_cert_file, each.tls_key_file) for each in smtp.all_listeners if each.tls != "none"}
    for number, (certificate, key) in enumerate(sorted((c, k) for c, k in pairs if c and k), 1):
        name = "tls" if len(pairs) == 1 else f"tls {number}"
        yield _certificate(name, certificate, now)
        yield from _names(smtp.hostname, certificate, key)
    open_to_all = [each for each in smtp.all_listeners if each.tls == "none" and not is_local(each.address)]
    if open_to_all:
        mend = "set smtp.tls_cert_file and smtp.tls_key_file"
        at = f" at {', '.join(str(each.address) for each in open_to_all)}" if pairs else ""
        found = f"no STARTTLS{at}: reports cross the network in the clear"
        yield Group.DOOR.warning("tls" if not pairs else "tls missing", found, mend)
    elif not pairs:
        yield Group.DOOR.ok("tls", "no STARTTLS, and none needed: only this host can connect")


def _manner(listener: ListenerSettings) -> str:
    """What is special about it."""
    words = [
        "LMTP" if listener.protocol == "lmtp" else "",
        "TLS from the first octet" if listener.tls == "implicit" else "",
        "TLS required" if listener.require_tls and listener.tls != "implicit" else "",
    ]
    said = ", ".join(filter(None, words))
    return f" ({said})" if said else ""


def _certificate(subject: str, file: Path, now: datetime) -> Row:
    try:
        ends_at = certificates.ends_at(file.read_text())
    except (OSError, ValueError) as exc:
        found = f"{file}: when it ends cannot be read ({exc})"
        return Group.DOOR.warning(subject, found, "look at it with openssl x509 -enddate")
    mend = "renew it; panicmail reads it again by itself within a minute"
    row = certificate_checks.judge(Group.DOOR, subject, ends_at, now, mend)
    return replace(row, found=f"certificate and key are a pair; {row.found}")


def _names(hostname: str, file: Path, key: Path) -> Iterator[Row]:
    """That the certificate is another host's; nothing when it is right, or cannot be used at all."""
    with suppress(OSError):
        if certificate_checks.is_for(hostname, file, key):
            return
        found = f"{file} is not for {hostname}: a sender that verifies it (MTA-STS, DANE) does not deliver"
        mend = "get a certificate with that name; or let smtp.hostname be a name in it, and the one the MX record names"
        yield Group.DOOR.warning("tls name", found, mend)


def _replies(settings: RuntimeSettings, config: Config) -> Row:
    address = config.replies.address
    if settings.addresses.carries_token:
        return Group.DOOR.ok("replies", f"answers go to {address}")
    found = f"answers go to {address}, which carries no token: bounces of pages cannot be told from reports"
    mend = "let the mail server deliver subaddresses, then put {token} in replies.address"
    return Group.DOOR.warning("replies", found, mend)


# -- the disk


def _database(config: Config, host: Host) -> Iterator[Row]:
    url = config.database.url.get_secret_value()
    if not url.startswith("sqlite:"):
        yield Group.STORE.ok("database", "PostgreSQL")
        return
    path = Path(url.removeprefix("sqlite:///"))
    yield _writable(path, host)
    yield _space("disk", path.parent, host)


def _writable(path: Path, host: Host) -> Row:
    mend = "give it to the user panicmail runs as"
    if not host.may_write(path.parent):
        return Group.STORE.failed("database", f"{path.parent} cannot be written by {_me()}", mend)
    if path.exists() and not host.may_write(path):
        return Group.STORE.failed("database", f"{path} cannot be written by {_me()}", mend)
    told = f"{path}{'' if path.exists() else ', made at the first start'}; {_me()} may write there"
    return Group.STORE.ok("database", told)


def _space(subject: str, folder: Path, host: Host) -> Row:
    free = host.free(folder)
    told = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < NO_SPACE:
        row = Group.STORE.failed(subject, told, "make room: a mail that cannot be stored is refused for now (451)")
    elif free < LITTLE_SPACE:
        row = Group.STORE.warning(subject, told, "make room; every raw mail is kept")
    else:
        row = Group.STORE.ok(subject, told)
    return row.told_as("check_disk")


def _file_modes(config: Config) -> Row:
    """Whether what panicmail keeps on the disk is for its own user alone."""
    wide = own_files.too_wide(config)
    if not wide:
        return Group.STORE.ok("file modes", "what panicmail keeps on this disk is for its own user alone")
    named = [f"{path}, mode {mode:04o}" for path, mode in wide[:_NAMED]]
    more = f"; and {len(wide) - _NAMED} more" if len(wide) > _NAMED else ""
    found = f"others on this host may use what panicmail keeps: {'; '.join(named)}{more}"
    mend = f"chmod go= {' '.join(str(path) for path, _ in wide[:_NAMED])}; a restart of panicmail serve closes them all"
    return Group.STORE.warning("file modes", found, mend)


def _me() -> str:
    return f"user {os.getuid()}"


# -- GitLab, relay, secrets


def _gitlab(config: Config) -> Iterator[Row]:
    gitlab = config.gitlab
    told = f"{gitlab.url}, project {gitlab.project}, labels {', '.join(gitlab.labels) or 'none'}"
    yield _unless_in_the_clear(Group.GITLAB.ok("gitlab", told), config, "gitlab.url")
    if not any(place == "gitlab.token_file" for place, _ in _secret_paths(config)):
        yield Group.GITLAB.ok("gitlab token", "given, and not in a file of its own")


def _secret_files(config: Config) -> Iterator[Row]:
    """Who may read each file that holds a secret."""
    for place, path in _secret_paths(config):
        mode = path.stat().st_mode
        told = f"{path}, mode {mode & 0o777:04o}"
        if mode & _OTHERS_MAY_READ:
            yield Group.FILE.warning(
                _name_secret(place), f"{told}: everybody on this host can read it", f"chmod o= {path}"
            )
        else:
            yield Group.FILE.ok(_name_secret(place), told)


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


def _name_secret(place: str) -> str:
    table, _, key = place.partition(".")
    return "tls key" if key == "tls_key_file" else f"{table} {key.removesuffix('_file').replace('_', ' ')}"


def _relay(config: Config) -> Row:
    relay = config.relay
    login = f", as {relay.url.username}" if relay.url.username else ""
    pages = "" if relay.page_sender == relay.sender else f", pages from {relay.page_sender}"
    told = f"{relay.url}{login}; mail from {relay.sender}{pages}"
    return _unless_in_the_clear(Group.RELAY.ok("relay", told), config, "relay.url")


def _one_domain(config: Config) -> Row:
    """From, envelope and Message-ID of our mails: one domain, or one above the others, is what receivers trust."""
    names = {
        "relay.sender": config.relay.sender.rpartition("@")[2],
        "relay.page_sender": config.relay.page_sender.rpartition("@")[2],
        "replies.address": config.replies.address.rpartition("@")[2],
        "smtp.hostname": config.smtp.hostname,
    }
    first = min(names.values(), key=len)
    others = [f"{key} in {domain}" for key, domain in names.items() if not f".{domain}".endswith(f".{first}")]
    if not others:
        return Group.RELAY.ok("one domain", f"From, envelope and Message-ID of our mails are in {first}")
    found = f"our mails are of several domains: {', '.join(f'{key} in {domain}' for key, domain in names.items())}"
    mend = f"let {' and '.join(key.partition(' ')[0] for key in others)} be in {first}: else SPF or DMARC may fail"
    return Group.RELAY.warning("one domain", found, mend)


def _unless_in_the_clear(row: Row, config: Config, key: str) -> Row:
    """The row of a server; with the configuration's warning that a secret goes there in the clear, if there is one."""
    for sentence in config.warnings:
        if sentence.startswith(f"{key}: "):
            warning, _, mend = sentence.removeprefix(f"{key}: ").partition("; ")
            return row.group.warning(row.subject, f"{row.found}: {warning}", mend)
    return row


# -- the escalation policy


def _policy(settings: RuntimeSettings, now: datetime) -> Iterator[Row]:
    policy, who = settings.policies[DEFAULT], settings.who_at(now)
    for number, step in enumerate(policy.steps, 1):
        named = policy.people(step.page, who)
        told = ", ".join(f"{settings.people[person].name} ({role})" for person, role in named.items())
        if told:
            yield Group.POLICY.ok(f"step {number}", f"after {written(step.after)}: {told}")
        else:
            found = f"after {written(step.after)}: nobody is on call as {', '.join(step.page)} now"
            yield Group.POLICY.warning(f"step {number}", found, "put somebody on call, or name a fallback")
    yield Group.POLICY.ok("then", f"the last step again every {written(policy.repeat)} until somebody answers")
    yield _escalates(settings, now)


def _escalates(settings: RuntimeSettings, now: datetime) -> Row:
    """Whether the policy calls somebody new, and by when."""
    policy, who = settings.policies[DEFAULT], settings.who_at(now)
    first = policy.people(policy.steps[0].page, who)
    for step in policy.steps[1:]:
        new = [settings.people[person].name for person in policy.people(step.page, who) if person not in first]
        if not new:
            continue
        told = f"{', '.join(new)} after {written(step.after)}; the SLA is {written(policy.sla)}"
        if step.after > policy.sla:
            return Group.POLICY.warning("escalation", told, "let a step at or before escalation.sla page somebody new")
        return Group.POLICY.ok("escalation", told).told_as(_ONE_PERSON)
    names = ", ".join(settings.people[person].name for person in first)
    found = f"every step pages {names} and nobody else"
    return Group.POLICY.warning("escalation", found, "put somebody else in the last step's role").told_as(_ONE_PERSON)


def _operators(settings: RuntimeSettings) -> Row:
    names = ", ".join(settings.people[person].name for person in settings.operators)
    return Group.POLICY.ok("operators", f"{names}: told when panicmail needs help, paged when nobody else can be")


# -- senders and the web


def _senders(config: Config) -> Row:
    if not config.senders.known:
        return Group.DOOR.ok("senders", "everybody may raise a panic")
    what = {"page": "paged all the same", "once": "filed and paged once"}[config.senders.unknown]
    return Group.DOOR.ok("senders", f"known: {', '.join(config.senders.known)}; anybody else's report is {what}")


def _authentication(config: Config) -> Row:
    given = config.authentication
    if given.method == "none":
        found = "senders are not checked: an acknowledgement rests on the page's token and the From address alone"
        return Group.DOOR.warning("authentication", found, 'set authentication.method = "verify", or "trusted"')
    if given.method == "trusted":
        found = f"as {', '.join(given.trusted_authserv_ids)} found, of mail by smtp.trusted_relays"
        mend = "see that this server removes such fields of strangers: panicmail check --mx"
        return Group.DOOR.warning("authentication", found, mend)
    servers = ", ".join(map(str, given.nameservers)) or "those of the system"
    return Group.DOOR.ok("authentication", f"DKIM, SPF and DMARC by DNS; name servers: {servers}")


def _receipts(config: Config) -> Row:
    receipts = config.receipts
    if not receipts.enabled:
        found = "switched off: reporters are told nothing"
        return Group.RELAY.warning("receipts", found, "set receipts.enabled = true")
    hotline = f"; hotline {receipts.phone}" if receipts.phone else ""
    return Group.RELAY.ok("receipts", f"to reporters at {', '.join(receipts.domains)}{hotline}")


def _web(config: Config) -> Row:
    web = config.web
    if not web.url:
        return Group.WEB.warning("web", f"no web.url: mails carry no links (listening at {web.listen})", "set web.url")
    if not is_public(urlsplit(web.url).hostname or ""):
        found = f"{web.url} is on this host or in a private network: no phone elsewhere opens it"
        return Group.WEB.warning("web", found, OUTSIDE)
    if web.url.startswith("http://"):
        return Group.WEB.warning("web", f"{web.url}: whoever sees a link pass can use it", "use https:// in web.url")
    return Group.WEB.ok("web", f"{web.url}, listening at {web.listen}")


def _remaining_warnings(config: Config) -> Iterator[Row]:
    """The warnings of the configuration that are not a row already."""
    calendars = (role.ical.path for role in config.oncall.values() if role.ical and role.ical.path)
    files = tuple(f"{path}: " for path in (*(path for _, path in _secret_paths(config)), *calendars))
    for sentence in config.warnings:
        if not sentence.startswith((*files, "gitlab.url: ", "relay.url: ")):
            found, _, mend = sentence.partition("; ")
            yield Group.FILE.warning("configuration", found, mend)
