"""The configuration as the rest of panicmail sees it: frozen, typed, complete.

Attributes are named as in the file (contract.md part 2). What a file may leave out because it follows from other keys
has no default here; `inference` fills it in before a section is read, so nothing is None that the daemon needs.
Secrets are `SecretStr` (or inside a `RelayUrl`); no repr shows one.

A field's description says what is expected there, for a file that lacks it; a list or an inner table has an example,
written as the file is read, for a file that has something else there. A field marked `SECRET` is never printed
and may also be given as a file, under its name with `_file`.
"""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from panicmail.config import values
from panicmail.config.values import Ical, Listen, Network, RelayUrl, SocketAddress, SystemdSocket, UnixSocket
from panicmail.incident.people import EncryptionKey

#: Marks a field whose value is never shown.
SECRET = object()
#: Octets of the path of a socket in the file system: unix(7), 108 with the NUL behind it.
_LONGEST_SOCKET = 107
#: Octets of a file with a person's public key.
_LARGEST_KEY = 2**20


def _resolved(value: str | Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", ""), value)


def _file(value: object, info: ValidationInfo) -> Path | None:
    """A readable file, made absolute from the configuration's folder; "" says there is none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str | Path):
        raise ValueError("the path of a file")
    path = _resolved(value, info)
    try:
        with path.open("rb"):
            return path
    except OSError as exc:
        raise ValueError(f"a readable file ({path}: {exc.strerror})") from None


def _pgp_key(value: object, info: ValidationInfo) -> EncryptionKey | None:
    return _public_key("pgp", value, info)


def _smime_key(value: object, info: ValidationInfo) -> EncryptionKey | None:
    return _public_key("smime", value, info)


def _public_key(kind: Literal["pgp", "smime"], value: object, info: ValidationInfo) -> EncryptionKey | None:
    """The content of a file, read now: a page must not wait for a disk, nor fail on a file that is gone."""
    path = _file(value, info)
    if path is None:
        return None
    with path.open("rb") as file:
        octets = file.read(_LARGEST_KEY + 1)
    if len(octets) > _LARGEST_KEY:
        raise ValueError(f"a public key, and {path} is larger than one")
    return EncryptionKey(kind=kind, path=str(path), octets=octets)


def _secret_file(value: object, info: ValidationInfo) -> Path | None:
    """As `_file`, with a warning when everybody on the host can read it."""
    path = _file(value, info)
    if path and path.stat().st_mode & 0o004 and info.context:
        info.context["warnings"].append(f"{path}: everybody on this host can read this secret; chmod o-r")
    return path


def _database_url(value: object, info: ValidationInfo) -> SecretStr:
    """A database's URL; SQLite's path made absolute from the configuration's folder."""
    url = values.secret(value).get_secret_value()
    scheme, _, rest = url.partition("://")
    if scheme in ("postgresql", "postgresql+psycopg") and rest.strip("/"):
        return SecretStr(url)
    # In memory, a 250 would be a promise nobody can keep.
    if scheme != "sqlite" or not rest.startswith("/") or "?" in rest or rest[1:] in ("", "/", ":memory:"):
        raise ValueError(values.DATABASE_URL)
    path = _resolved(rest[1:], info)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"a database in a folder that is there ({path.parent})")
    return SecretStr(f"sqlite:///{path}")


def _folder(value: object, info: ValidationInfo) -> Path:
    """A folder that is there or can be made, made absolute from the configuration's folder."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("the path of a folder")
    path = _resolved(value, info)
    try:
        is_other = path.exists() and not path.is_dir()
    except (OSError, ValueError) as exc:  # a name too long, or with a NUL in it
        raise ValueError("the path of a folder") from exc
    if is_other:
        raise ValueError(f"a folder, and {path} is none")
    return path


def _heartbeat_url(value: object) -> SecretStr | None:
    if value is None or value == "":
        return None
    url = values.secret(value)
    if not url.get_secret_value().startswith(("https://", "http://")):
        raise ValueError("an http or https URL")
    return url


def _secret_or_none(value: object) -> SecretStr | None:
    """A secret; "" says there is none."""
    return None if value is None or value == "" else values.secret(value)


def _signing_key_or_none(value: object) -> SecretStr | None:
    return None if value is None or value == "" else values.signing_key(value)


def _socket(value: object, info: ValidationInfo) -> SocketAddress:
    """A socket: host and port, a path (made absolute from the configuration's folder), or one that systemd has."""
    if isinstance(value, Listen | UnixSocket | SystemdSocket):
        return value
    if isinstance(value, str) and value.startswith("systemd:"):
        return values.systemd_socket(value)
    if not isinstance(value, str) or not value.startswith("unix:"):
        try:
            return values.listen(value)
        except ValueError:
            raise ValueError(values.SOCKET) from None
    path = _resolved(value.removeprefix("unix:"), info)
    if value == "unix:" or "\0" in value or path.is_dir() or len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"{values.SOCKET}; a socket's path has {_LONGEST_SOCKET} octets at most, and is no folder")
    return UnixSocket(path)


def _ical(value: object, info: ValidationInfo) -> Ical | None:
    """A calendar's file, made absolute from the configuration's folder, or its URL; "" says there is none.

    A file that cannot be read is a warning: the last good copy of it may be there, and a start must not fail on it.
    """
    if value is None or value == "":
        return None
    if isinstance(value, Ical):
        return value
    if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
        raise ValueError(values.CALENDAR)
    if url := values.calendar_url(value.strip()):
        return Ical(url=url)
    path = _resolved(value.strip(), info)
    if info.context and not os.access(path, os.R_OK):
        told = f"{path}: this calendar cannot be read; its last good copy answers, else the fallback"
        if told not in info.context["warnings"]:
            info.context["warnings"].append(told)
    return Ical(path=path)


def _new_file(value: object, info: ValidationInfo) -> Path | None:
    """A file that need not be there yet, made absolute from the configuration's folder; "" says it was not named."""
    if value is None or value == "":
        return None
    if not isinstance(value, str | Path) or _resolved(value, info).is_dir():
        raise ValueError("the path of a file")
    return _resolved(value, info)


def _new_secret_file(value: object, info: ValidationInfo) -> Path:
    """As `_secret_file`, of one that need not be there yet."""
    path = _new_file(value, info)
    if path is None:
        raise ValueError("the path of a file")
    return (_secret_file(value, info) or path) if path.exists() else path


def _day(value: object) -> date | None:
    return None if value is None else values.day(value)


def _zone_or_none(value: object) -> str:
    return "" if value == "" else values.time_zone(value)


def _naming(value: object) -> object:
    return "organizer" if value == "organiser" else value


Text = Annotated[str, BeforeValidator(values.text)]
Switch = Annotated[bool, BeforeValidator(values.switch)]
Address = Annotated[str, BeforeValidator(values.address)]
Domain = Annotated[str, BeforeValidator(values.domain)]
Secret = Annotated[SecretStr, BeforeValidator(values.secret)]
PushUrl = Annotated[SecretStr, BeforeValidator(values.push_url)]
File = Annotated[Path | None, BeforeValidator(_file)]
SecretFile = Annotated[Path | None, BeforeValidator(_secret_file)]
ListenAt = Annotated[SocketAddress, BeforeValidator(_socket)]
NewFile = Annotated[Path | None, BeforeValidator(_new_file)]
Instant = Annotated[datetime, BeforeValidator(values.instant)]
MonthDay = Annotated[tuple[int, int], BeforeValidator(values.month_day)]


TriagePattern = Annotated[str, BeforeValidator(values.triage_pattern)]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenerSettings(Section):
    """One place where mail is taken, and how."""

    address: ListenAt = Field(description=values.SOCKET)
    protocol: Literal["smtp", "lmtp"] = "smtp"
    #: "starttls": offered; "implicit": spoken from the first octet; None: as there is a certificate.
    tls: Literal["none", "starttls", "implicit"] | None = None
    require_tls: Switch = False  #: no mail is taken before TLS
    tls_cert_file: File = None  #: absolute; None: that of [smtp]
    tls_key_file: SecretFile = None


class SmtpSettings(Section):
    listen: tuple[ListenAt, ...] = Field((Listen("127.0.0.1", 2525),), examples=[["127.0.0.1:2525"]])
    listeners: tuple[ListenerSettings, ...] = Field((), examples=[[{"address": "0.0.0.0:465", "tls": "implicit"}]])
    hostname: Domain
    #: Lower case; they and their subaddresses are accepted.
    addresses: tuple[Address, ...] = Field(examples=[["panic@example.com"]])
    max_message_size: Annotated[int, BeforeValidator(values.size)] = 50 * 2**20  #: octets
    tls_cert_file: File = None  #: absolute; both or none
    tls_key_file: SecretFile = None
    trusted_relays: tuple[Annotated[Network, BeforeValidator(values.network)], ...] = Field(
        (), examples=[["192.0.2.0/24"]]
    )
    lmtp: Switch = False  #: of `listen`
    require_tls: Switch = False  #: of `listen`

    @property
    def all_listeners(self) -> tuple[ListenerSettings, ...]:
        """Every place where mail is taken, with all that holds for it: `listen` first, then `listeners`."""
        plain = [
            ListenerSettings(address=at, protocol="lmtp" if self.lmtp else "smtp", require_tls=self.require_tls)
            for at in self.listen
        ]
        return tuple(self._completed(each) for each in (*plain, *self.listeners))

    def _completed(self, listener: ListenerSettings) -> ListenerSettings:
        """With the certificate of [smtp], unless it has its own, and with a kind of TLS."""
        own = listener.tls_cert_file is not None
        cert, key = (listener if own else self).tls_cert_file, (listener if own else self).tls_key_file
        tls = listener.tls or ("none" if cert is None or isinstance(listener.address, UnixSocket) else "starttls")
        return listener.model_copy(update={"tls_cert_file": cert, "tls_key_file": key, "tls": tls})


class ReplySettings(Section):
    #: "panic+{token}@example.com", "{token}@panic.example.com", or an address of ours without a token.
    address: Annotated[str, BeforeValidator(values.reply_address)]


class DatabaseSettings(Section):
    url: Annotated[SecretStr, BeforeValidator(_database_url), SECRET]  #: sqlite with an absolute path, or postgresql
    spool: Annotated[Path, BeforeValidator(_folder)]  #: absolute; takes mails while the database does not


class GitLabSettings(Section):
    #: Without a trailing slash.
    url: Annotated[str, BeforeValidator(values.web_url)] = Field(description=values.WEB_URL)
    #: Path or numeric id.
    project: Annotated[str, BeforeValidator(values.project)] = Field(
        description='a project\'s path such as "security/incidents", or its number'
    )
    token: Annotated[Secret, SECRET] = Field(description='`token_file = "gitlab.token"`, a file with an access token')
    labels: tuple[Annotated[str, BeforeValidator(values.label)], ...] = Field(
        ("security-incident",), examples=[["security-incident"]]
    )
    #: The label that shows the severity, {severity} in it; "": none.
    severity_label: Annotated[str, BeforeValidator(values.severity_label)] = "severity::{severity}"
    severity_field: Switch = True  #: GitLab's own field of incidents shows it too
    uploads: Literal["all", "attachments", "none"] = "all"
    reporter_access: Switch = False
    #: What GitLab's webhook sends as its secret token; None: nothing is taken for that alone.
    webhook_token: Annotated[SecretStr | None, BeforeValidator(_secret_or_none), SECRET] = None
    #: What GitLab signs its webhook with, as it showed it; None: signatures are not looked at.
    webhook_signing_key: Annotated[SecretStr | None, BeforeValidator(_signing_key_or_none), SECRET] = None


class DkimSettings(Section):
    """How panicmail signs what it sends (RFC 6376)."""

    selector: Annotated[str, BeforeValidator(values.selector)] = Field(description=values.SELECTOR)
    domain: Annotated[str, BeforeValidator(values.domain_or_none)] = ""  #: "": that of relay.sender
    #: Absolute; PEM. One that is not there yet is a warning: mail goes out unsigned.
    key_file: Annotated[Path, BeforeValidator(_new_secret_file)] = Field(
        description="the path of a file with the private key, made by panicmail keys dkim"
    )


class RelaySettings(Section):
    url: Annotated[RelayUrl, BeforeValidator(values.relay_url), SECRET] = RelayUrl("127.0.0.1", 25, "none")
    #: What pages go by that `url` does not take in time, in this order; two at most.
    fallback: Annotated[tuple[Annotated[RelayUrl, BeforeValidator(values.relay_url)], ...], SECRET] = Field(
        (), max_length=2, examples=[["smtp+starttls://user:password@relay.example.net"]]
    )
    #: Absolute; PEM. Who else vouches for these relays' certificates, beside those this host trusts.
    ca_file: File = None
    sender: Address  #: of receipts, answers, news
    page_sender: Address
    dkim: DkimSettings | None = Field(None, examples=[{"selector": "panic", "key_file": "dkim.key"}])

    @property
    def dkim_domain(self) -> str:
        """As whom mail is signed."""
        return (self.dkim.domain if self.dkim else "") or self.sender.rpartition("@")[2]


class PersonSettings(Section):
    name: Annotated[str, BeforeValidator(values.words)]
    email: Address = Field(description=values.ADDRESS)  #: lower case
    aliases: tuple[Address, ...] = Field((), examples=[["ana.reyes@example.com"]])
    phone: Text = ""  #: "" when not known
    gitlab: Annotated[str | None, BeforeValidator(values.gitlab_user)]  #: GitLab user name; None: has none
    tz: Annotated[str, BeforeValidator(values.time_zone)] = "UTC"  #: IANA name
    #: How much of a report their mails show.
    detail: Literal["full", "subject", "ref"] = "full"
    #: The domain their replies must be proved by; "": what `check --page` found; "none": nothing is asked.
    proof: Annotated[str, BeforeValidator(values.proof)] = ""
    #: Files with their public key, OpenPGP or S/MIME: their mails are encrypted. One of the two.
    pgp: Annotated[EncryptionKey | None, BeforeValidator(_pgp_key)] = None
    smime: Annotated[EncryptionKey | None, BeforeValidator(_smime_key)] = None
    push: Annotated[tuple[PushUrl, ...], SECRET] = Field((), examples=[["ntfys://ntfy.example.com/ana"]])

    @property
    def key(self) -> EncryptionKey | None:
        """What this person's mails are encrypted by."""
        return self.pgp or self.smime

    @property
    def zone(self) -> tzinfo:
        """The time zone of the times in this person's mails."""
        return values.zone(self.tz)


class SeasonSettings(Section):
    """The part of every year in which a shift takes place."""

    from_: MonthDay = Field(alias="from", description=values.MONTH_DAY)  #: (month, day)
    to: MonthDay = Field(description=values.MONTH_DAY)  #: the first day that is out again

    @model_validator(mode="after")
    def _some_days(self) -> SeasonSettings:
        if self.from_ == self.to:
            raise ValueError('a season of some days: "to" is the first day that is out again')
        return self


class ShiftSettings(Section):
    """A line of a rota. A shift belongs to the day it begins."""

    days: Annotated[frozenset[int], BeforeValidator(values.weekdays)] = Field(description=values.WEEKDAYS)
    #: By the wall clock of `tz`, since midnight.
    from_: Annotated[timedelta, BeforeValidator(values.clock_time)] = Field(alias="from", description=values.CLOCK_TIME)
    to: Annotated[timedelta, BeforeValidator(values.clock_time_or_midnight)] = Field(description=values.CLOCK_TIME)
    tz: Annotated[str, BeforeValidator(values.time_zone)] = "UTC"  #: IANA name
    people: tuple[str, ...] = Field(examples=[["ana"]])  #: keys of `people`
    rotate: Literal["weekly", "daily", "none"] | None = None  #: None: only one person is named
    start: Annotated[date | None, BeforeValidator(_day)] = None  #: the day the turn of the first of `people` begins
    season: SeasonSettings | None = Field(None, examples=[{"from": "03-29", "to": "10-25"}])  #: None: all year

    @property
    def ends(self) -> timedelta:
        """When it ends, since midnight of the day it begins: at `to` of the next day unless that is later than it."""
        return self.to if self.to > self.from_ else self.to + timedelta(days=1)


class OverrideSettings(Section):
    """Somebody else for a while."""

    from_: Instant = Field(alias="from", description=values.INSTANT)
    to: Instant = Field(description=values.INSTANT)
    person: str = Field(description="one of the people")  #: key of `people`


class ScheduleSettings(Section):
    """A role. Exactly one of `fixed`, `ical` and `shifts` is given."""

    fixed: tuple[str, ...] = Field((), examples=[["ana"]])  #: keys of `people`
    fallback: tuple[str, ...] = Field((), examples=[["max"]])
    ical: Annotated[Ical | None, BeforeValidator(_ical), SECRET] = None
    #: What of an event names the person; "any": the first of the three that names somebody we know.
    ical_person: Annotated[Literal["any", "summary", "attendee", "organizer"], BeforeValidator(_naming)] = "any"
    ical_tz: Annotated[str, BeforeValidator(_zone_or_none)] = ""  #: of whole days and floating times; "": its own
    ical_free: Literal["count", "ignore"] = "count"  #: entries marked as free
    ical_refresh: Annotated[timedelta, BeforeValidator(values.refresh)] = timedelta(minutes=15)
    ical_copy: NewFile = None  #: absolute, for the last good copy; None: beside the database
    shifts: tuple[ShiftSettings, ...] = Field(
        (), examples=[[{"days": "mon-fri", "from": "08:00", "to": "20:00", "people": ["ana"]}]]
    )
    overrides: tuple[OverrideSettings, ...] = Field(
        (), examples=[[{"from": "2026-12-24T18:00:00Z", "to": "2026-12-25T06:00:00Z", "person": "max"}]]
    )


class StepSettings(Section):
    #: From the acceptance of the mail.
    after: Annotated[timedelta, BeforeValidator(values.duration)] = Field(description=values.DURATION)
    page: tuple[str, ...] = Field(examples=[["seoc"]])  #: keys of `oncall`


class EscalationSettings(Section):
    sla: Annotated[timedelta, BeforeValidator(values.positive_duration)] = timedelta(minutes=15)
    steps: tuple[StepSettings, ...] = Field(
        examples=[[{"after": "0s", "page": ["seoc"]}]]
    )  #: ascending, the first at 0
    repeat: Annotated[timedelta, BeforeValidator(values.interval)] = timedelta(minutes=5)
    remind_after: Annotated[timedelta, BeforeValidator(values.positive_duration)] = timedelta(minutes=20)


class BusinessHoursSettings(Section):
    """The hours that count for an escalation policy nobody is woken for."""

    days: Annotated[frozenset[int], BeforeValidator(values.weekdays)] = Field(description=values.WEEKDAYS)
    #: By the wall clock of `tz`, since midnight.
    from_: Annotated[timedelta, BeforeValidator(values.clock_time)] = Field(alias="from", description=values.CLOCK_TIME)
    to: Annotated[timedelta, BeforeValidator(values.clock_time)] = Field(description=values.CLOCK_TIME)
    tz: Annotated[str, BeforeValidator(values.time_zone)] = "UTC"  #: IANA name


class PolicySettings(EscalationSettings):
    """An escalation policy beside the default one, and which panics follow it: one hit is enough."""

    #: None: day and night
    hours: BusinessHoursSettings | None = Field(None, examples=[{"days": "mon-fri", "from": "08:00", "to": "18:00"}])
    severity: tuple[Annotated[int, BeforeValidator(values.severity)], ...] = Field((), examples=[[3, 4]])
    #: "people": these severities count where one of our people says them, and no report does.
    severity_from: Literal["anybody", "people"] = "anybody"
    subject: tuple[Text, ...] = Field((), examples=[["phishing"]])  #: single words
    addresses: tuple[Address, ...] = Field((), examples=[["panic+low@example.com"]])  #: of ours, subaddresses included
    drill: Switch = False


class StormSettings(Section):
    """Two brakes that drop nothing: a flood of one mailbox is one incident, and many pages of one person are one."""

    #: So many mails of one mailbox within `within` are incidents each; 0: any number.
    members: Annotated[int, BeforeValidator(values.count)] = 20
    within: Annotated[timedelta, BeforeValidator(values.positive_duration)] = timedelta(minutes=5)
    digest_after: Annotated[int, BeforeValidator(values.count)] = 10
    digest_every: Annotated[timedelta, BeforeValidator(values.positive_duration)] = timedelta(seconds=30)


class PagingSettings(Section):
    detail: Literal["full", "subject", "ref"] = "subject"
    pagerduty_url: Annotated[str, BeforeValidator(values.events_url)] = "https://events.pagerduty.com"
    #: What PagerDuty's webhook signs with; None: it is not listened to.
    pagerduty_webhook_secret: Annotated[SecretStr | None, BeforeValidator(_secret_or_none), SECRET] = None


class SenderSettings(Section):
    #: Empty: everybody.
    known: tuple[Annotated[str, BeforeValidator(values.address_or_domain)], ...] = Field((), examples=[["example.com"]])
    unknown: Literal["page", "once"] = "page"
    reporters_file: File = None


class AuthenticationSettings(Section):
    method: Literal["verify", "trusted", "none"] = "verify"
    #: Names of our own mail servers, as they stand in their Authentication-Results.
    trusted_authserv_ids: tuple[Text, ...] = Field((), examples=[["mx.example.com"]])
    #: Domains of forwarders whose seals (ARC) are believed.
    arc_sealers: tuple[Domain, ...] = Field((), examples=[["lists.example.com"]])
    #: Empty: those of the system.
    nameservers: tuple[Annotated[Listen, BeforeValidator(values.nameserver)], ...] = Field(
        (), examples=[["127.0.0.1:53"]]
    )


class ReceiptSettings(Section):
    enabled: Switch = True
    #: Asked in the receipt, numbered from 1; answers by reply are taken apart.
    questions: tuple[Annotated[str, BeforeValidator(values.words)], ...] = Field(
        (), max_length=20, examples=[["What happened?"]]
    )
    domains: tuple[Domain, ...] = Field(examples=[["example.com"]])
    phone: Text = ""  #: a hotline; "" when there is none
    advice: tuple[Text, ...] = Field(
        (
            "If a device is involved: leave it on, take it off the network. Use another device.",
            "We never ask for passwords.",
        ),
        examples=[["We never ask for passwords."]],
    )


class TriageSettings(Section):
    """One `[[triage]]`: what a mail must say (every key given, one pattern of each), and what that raises or adds."""

    subject: tuple[TriagePattern, ...] = Field((), examples=[["ransom*"]])
    body: tuple[TriagePattern, ...] = Field((), examples=[["locked files"]])
    sender: tuple[Annotated[str, BeforeValidator(values.address_or_domain)], ...] = Field(
        (), examples=[["example.com"]]
    )
    topic: tuple[Annotated[str, BeforeValidator(values.topic)], ...] = Field((), examples=[["phish"]])
    question: Annotated[int | None, BeforeValidator(values.question_number)] = None  #: of `receipts.questions`
    answer: tuple[TriagePattern, ...] = Field((), examples=[["yes"]])  #: to that question; empty: any
    severity: Annotated[int | None, BeforeValidator(values.severity_or_none)] = None
    labels: tuple[Annotated[str, BeforeValidator(values.label)], ...] = Field((), examples=[["ransomware"]])
    page: tuple[str, ...] = Field((), examples=[["max"]])  #: keys of `people` and `oncall`
    policy: Text = ""  #: key of `policies`, or "default"; "": none


class ScopeSettings(Section):
    """What is paged all the same and belongs elsewhere: what receipt and issue say of it. "": nothing."""

    vulnerability: Text = (
        "A report of a vulnerability in what we make: please send it to those who take such reports as well."
    )
    abuse: Text = (
        "Abuse of our services, or a copyright matter (DMCA): please send it to those who take such notices as well."
    )
    customer: Text = "A customer's question: please send it to those who answer customers as well."
    phishing: Text = (
        "Phishing you did not act on: please forward it, as an attachment, to those who take it as well. "
        "If you clicked, replied, entered something or paid: reply and say so."
    )
    #: Of "I clicked", "I replied", "I entered", "I paid"; 0: none.
    engaged_severity: Annotated[int, BeforeValidator(values.severity_or_zero)] = 2


class OperatorSettings(Section):
    page: tuple[str, ...] = Field(examples=[["max"]])  #: keys of `people`


class WebSettings(Section):
    listen: Annotated[Listen, BeforeValidator(values.web_listen)] = Listen("127.0.0.1", 8025)
    url: Annotated[str, BeforeValidator(values.links_url)] = ""  #: no trailing slash; "": no links


class WatchSettings(Section):
    #: {who} in it is who lives, "tick" or "watch"; None: nobody is pinged.
    heartbeat_url: Annotated[SecretStr | None, BeforeValidator(_heartbeat_url), SECRET] = None
    #: The watch's own way to page.
    push: Annotated[tuple[PushUrl, ...], SECRET] = Field((), examples=[["ntfys://ntfy.example.com/watch"]])

    @property
    def pinged(self) -> str:
        """What is pinged, a secret; "": nothing."""
        return self.heartbeat_url.get_secret_value() if self.heartbeat_url else ""


class TokenSettings(Section):
    key_file: SecretFile = None  #: absolute; None: keys are kept in the database


class RetentionSettings(Section):
    """How long after its end an incident keeps what; None: for ever."""

    raw_mails: Annotated[timedelta | None, BeforeValidator(values.retention)] = None
    incidents: Annotated[timedelta | None, BeforeValidator(values.retention)] = None


class LogSettings(Section):
    format: Literal["json", "console"] | None = None  #: None: console on a terminal, else json
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(BaseSettings):
    """Everything panicmail was told, and what it concluded. Two of the same content are equal."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="PANICMAIL_", env_nested_delimiter="__", hide_input_in_errors=True
    )

    smtp: SmtpSettings
    replies: ReplySettings
    database: DatabaseSettings
    gitlab: GitLabSettings
    relay: RelaySettings
    people: dict[str, PersonSettings]
    oncall: dict[str, ScheduleSettings]
    escalation: EscalationSettings
    policies: dict[str, PolicySettings]  #: besides the default one, which is `escalation`
    storm: StormSettings
    paging: PagingSettings
    senders: SenderSettings
    authentication: AuthenticationSettings
    receipts: ReceiptSettings
    operators: OperatorSettings
    triage: tuple[TriageSettings, ...]
    scope: ScopeSettings
    web: WebSettings
    watch: WatchSettings
    tokens: TokenSettings
    retention: RetentionSettings
    log: LogSettings

    path: Path | None  #: the file it came from; None: the environment alone
    inferred: dict[str, str]  #: key -> value, for what nobody wrote down and depends on other keys
    warnings: tuple[str, ...]  #: one sentence each: it works, but somebody should look

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands in: it asks the sources itself, to know which of them a mistake came from."""
        return (init_settings,)


#: The tables of the file that have fixed keys.
TABLES: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
#: The tables that hold one table per name of our own choosing.
NAMED_TABLES: dict[str, type[Section]] = {
    "people": PersonSettings,
    "oncall": ScheduleSettings,
    "policies": PolicySettings,
}

#: The lists of tables: `[[triage]]`.
LIST_TABLES: dict[str, type[Section]] = {"triage": TriageSettings}

#: The tables that stand within a list or under a key of another table.
INNER_TABLES: dict[str, type[Section]] = {
    "listeners": ListenerSettings,
    "steps": StepSettings,
    "shifts": ShiftSettings,
    "overrides": OverrideSettings,
    "season": SeasonSettings,
    "hours": BusinessHoursSettings,
    "dkim": DkimSettings,
}


def is_secret(model: type[Section], key: str) -> bool:
    """Whether the value under this key must not be shown."""
    return key in model.model_fields and SECRET in model.model_fields[key].metadata


def keys_of(model: type[Section]) -> list[str]:
    """Every key that may stand in a table, a secret's `_file` included."""
    return [
        name
        for key, field in model.model_fields.items()
        for name in ((key, f"{key}_file") if is_secret(model, key) else (field.alias or key,))
    ]
