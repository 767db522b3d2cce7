"""The kinds of value a configuration holds, and how each is written.

Every parser takes what TOML, JSON or the environment gave and raises `ValueError` with what it expected: a phrase that
completes "expected …" and never repeats the value, because the value may be a secret.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from panicmail.incident import triage

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESS = 'an address such as "ana@example.com"'
DURATION = 'a duration such as "90s", "15m" or "1h30m"'
#: Within a month an incident is opened again, and a reply is looked up.
SHORTEST_RETENTION = 30
RETENTION = f'a number of days such as "400d", at least {SHORTEST_RETENTION}d, or "" for ever'
SELECTOR = 'a name of letters, digits and hyphens such as "panic1"'
SIZE = 'a size such as "25MiB"'
LISTEN = 'host:port such as "127.0.0.1:2525" or "[::1]:2525"'
SOCKET = f'{LISTEN}, "unix:/run/panicmail/lmtp.sock", or "systemd:NAME" for a socket unit'
WEB_LISTEN = 'host:port such as "127.0.0.1:8025" or "[::1]:8025"'
WEB_URL = 'a URL such as "https://gitlab.example.com", without user, query or fragment'
EVENTS_URL = 'a URL such as "https://events.pagerduty.com", without user, query or fragment'
LINKS_URL = 'a URL such as "https://panic.example.com", without user, query or fragment, or "" for none'
RELAY_URL = (
    'a URL such as "smtp+starttls://user:password@relay.example.com:587", with smtp://, smtps:// or '
    "smtp+starttls://, and special characters of the password percent-encoded"
)
PUSH_URL = 'a URL of a push service such as "ntfys://ntfy.example.com/ana-secret" (Apprise knows them)'
SIGNING_KEY = 'a signing token as GitLab shows it: "whsec_" and base64 behind it'
DATABASE_URL = 'a URL such as "sqlite:///panicmail.db" or "postgresql://user:password@host/panicmail"'
INSTANT = "an instant with its zone such as 2026-12-24T18:00:00Z"
DAY = "a day such as 2026-11-23"
CLOCK_TIME = 'a time of day such as "23:00"'
WEEKDAYS = 'days such as "mon-fri", "sat,sun" or "daily"'
MONTH_DAY = 'a day of the year such as "03-29", month first'
CALENDAR = 'a file such as "seoc.ics", or an https://, http:// or webcal:// URL'

#: A token at its longest; a local part has 64 octets (RFC 5321 4.5.3.1.1), and the token must fit beside the rest.
LONGEST_TOKEN = 43

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_LOCAL_PART = re.compile(rf"(?=.{{1,64}}\Z){_ATOM}(?:\.{_ATOM})*\Z")
_NAME = re.compile(r"\w[\w.-]*\Z")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+\Z", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])", re.ASCII)
_DAYS = re.compile(r"\d{1,5}d\Z", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|[KMG]i?B)\Z", re.ASCII)

_CLOCK_TIME = re.compile(r"(\d\d?):(\d\d)\Z", re.ASCII)
_MONTH_DAY = re.compile(r"(\d\d)-(\d\d)\Z", re.ASCII)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_PUSH = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://[^\s/?#][^\s]*\Z|pagerduty:[A-Za-z0-9_-]+\Z", re.I)
#: Services of Apprise that show or keep a line on the host they run on.
_ON_THIS_HOST = frozenset({"syslog", "dbus", "qt", "kde", "glib", "gio", "gnome", "macosx", "windows", "blink", "file"})
_UNVERIFIED = re.compile(r"[?&]verify=(?!(?:yes|true|on|1)(?:&|\Z))", re.I)

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_OCTETS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
#: Longer is a slip of the pen, and an instant plus it may not exist.
_LONGEST = timedelta(days=366)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a socket listens. Port 0 lets the system choose."""

    host: str  #: an address or a host name; IPv6 without its brackets
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class SystemdSocket:
    """A socket that a socket unit of systemd listens on, and hands over at the start."""

    name: str  #: of its `FileDescriptorName=`, else of the unit, "panicmail.socket"

    def __str__(self) -> str:
        return f"systemd:{self.name}"


SocketAddress = Listen | UnixSocket | SystemdSocket


@dataclass(frozen=True, slots=True)
class RelayUrl:
    """The mail relay that takes what panicmail sends."""

    host: str
    port: int
    tls: Literal["none", "starttls", "implicit"]
    username: str | None = None
    password: SecretStr | None = None  #: set whenever `username` is

    def __str__(self) -> str:
        scheme = {"none": "smtp", "starttls": "smtp+starttls", "implicit": "smtps"}[self.tls]
        return f"{scheme}://{Listen(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Ical:
    """Where a role's calendar is. Its URL is often the only key to it, so no repr shows it."""

    path: Path | None = None
    url: SecretStr | None = None  #: http or https; exactly one of the two is given

    @property
    def source(self) -> Path | str:
        """The file, else the URL with all that is secret in it."""
        return self.url.get_secret_value() if self.url else self.path or Path()


def text(value: object) -> str:
    """One line of text for people: names, labels, advice. It may end in a mail header, so no control characters."""
    if not isinstance(value, str) or _CONTROL.search(value):
        raise ValueError("one line of text")
    return value.strip()


def words(value: object) -> str:
    said = text(value)
    if not said:
        raise ValueError("one line of text that is not empty")
    return said


def switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):  # the environment knows only text
        return value.lower() == "true"
    raise ValueError("true or false")


def duration(value: object) -> timedelta:
    """A length of time, zero allowed. A bare number is refused: nobody remembers its unit."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.match(value):
        raise ValueError(DURATION)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"a duration of at most {_LONGEST.days}d")
    return timedelta(milliseconds=round(seconds * 1000))


def written(passed: timedelta) -> str:
    """A duration as it would stand in the file: "1h30m", "2.5s"."""
    minutes, rest = divmod(passed, timedelta(minutes=1))
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest.total_seconds():.3f}".rstrip("0").rstrip(".")
    parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{seconds}s" if rest else "")
    return "".join(parts) or "0s"


def positive_duration(value: object) -> timedelta:
    passed = duration(value)
    if not passed:
        raise ValueError(f"{DURATION}, longer than nothing")
    return passed


def interval(value: object) -> timedelta:
    """How often something is done again: at least a second, which is as often as the clock ticks."""
    passed = duration(value)
    if passed < timedelta(seconds=1):
        raise ValueError(f"{DURATION}, at least 1s")
    return passed


def refresh(value: object) -> timedelta:
    """How often something is fetched from somebody else: at least a minute."""
    passed = duration(value)
    if passed < timedelta(minutes=1):
        raise ValueError(f"{DURATION}, at least 1m")
    return passed


def retention(value: object) -> timedelta | None:
    """How long something is kept; "" is for ever."""
    if value is None or value == "":
        return None
    if isinstance(value, timedelta):
        return value
    days = int(value[:-1]) if isinstance(value, str) and _DAYS.match(value) else 0
    if not SHORTEST_RETENTION <= days <= 36500:
        raise ValueError(RETENTION)
    return timedelta(days=days)


def instant(value: object) -> datetime:
    """An instant, in UTC. One without a zone is refused: nobody remembers whose wall clock was meant."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(INSTANT) from None
    if not isinstance(value, datetime) or value.tzinfo is None or not 1970 <= value.year < 9999:
        raise ValueError(INSTANT)
    return value.astimezone(UTC)


def day(value: object) -> date:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            raise ValueError(DAY) from None
    if not isinstance(value, date) or isinstance(value, datetime) or not 1970 <= value.year < 9999:
        raise ValueError(DAY)
    return value


def clock_time(value: object) -> timedelta:
    """A time of day by the wall clock, as the time since midnight; to the minute."""
    passed = clock_time_or_midnight(value)
    if passed >= timedelta(days=1):
        raise ValueError(CLOCK_TIME)
    return passed


def clock_time_or_midnight(value: object) -> timedelta:
    """As `clock_time`; "24:00" is the midnight at the day's end."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, time) and value.tzinfo is None and not value.second and not value.microsecond:
        return timedelta(hours=value.hour, minutes=value.minute)
    form = _CLOCK_TIME.match(value) if isinstance(value, str) else None
    if form is None or int(form[2]) > 59 or int(form[1]) * 60 + int(form[2]) > 24 * 60:
        raise ValueError(f'{CLOCK_TIME}; a day ends at "24:00"')
    return timedelta(hours=int(form[1]), minutes=int(form[2]))


def weekdays(value: object) -> frozenset[int]:
    """Days of the week, 0 for Monday: "mon-fri", "mon,wed-fri", "fri-mon" over the weekend, "daily"."""
    if isinstance(value, frozenset):
        return value
    expected = ValueError(WEEKDAYS)
    if not isinstance(value, str):
        raise expected
    if value.strip().lower() == "daily":
        return frozenset(range(7))
    days: set[int] = set()
    for part in value.lower().split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if first not in _WEEKDAYS or (dash and last not in _WEEKDAYS):
            raise expected
        begin, end = _WEEKDAYS.index(first), _WEEKDAYS.index(last if dash else first)
        days.update((begin + n) % 7 for n in range((end - begin) % 7 + 1))
    return frozenset(days)


def month_day(value: object) -> tuple[int, int]:
    """A day of every year, as month and day; "02-29" is one in leap years."""
    if isinstance(value, tuple):
        return value
    form = _MONTH_DAY.match(value) if isinstance(value, str) else None
    try:
        on = date(2000, int(form[1]), int(form[2])) if form else None
    except ValueError:
        on = None
    if on is None:
        raise ValueError(MONTH_DAY)
    return on.month, on.day


def calendar_url(value: str) -> SecretStr | None:
    """The http or https URL of a calendar; None when this is none, but maybe a file."""
    if "://" not in value:
        return None
    expected = ValueError(CALENDAR)
    if _CONTROL.search(value) or " " in value:
        raise expected
    scheme, _, rest = value.partition("://")
    plain = {"webcal": "https", "webcals": "https", "https": "https", "http": "http"}.get(scheme.lower())
    try:
        host = urlsplit(f"{plain}://{rest}").hostname
    except ValueError:
        raise expected from None
    if plain is None or not host:
        raise expected
    return SecretStr(f"{plain}://{rest}")


def size(value: object) -> int:
    """A number of octets, more than none. MB are millions, MiB powers of two."""
    octets = 0.0
    if isinstance(value, str) and value.isascii() and value.isdigit():
        octets = int(value)
    elif isinstance(value, str) and (match := _SIZE.match(value)):
        octets = float(match[1]) * _OCTETS[match[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        octets = value
    if not math.isfinite(octets) or octets < 1:
        raise ValueError(SIZE)
    return int(octets)


def is_domain(value: str) -> bool:
    return _DOMAIN.match(value) is not None


def domain(value: object) -> str:
    if not isinstance(value, str) or not is_domain(value):
        raise ValueError('a domain such as "example.com"')
    return value.lower()


def domain_or_none(value: object) -> str:
    """As `domain`; "" says there is none."""
    return "" if value == "" else domain(value)


def selector(value: object) -> str:
    """The name a DKIM key has in its domain (RFC 6376 section 3.1)."""
    if not isinstance(value, str) or not is_domain(value):
        raise ValueError(SELECTOR)
    return value.lower()


def address(value: object) -> str:
    """A plain mail address in lower case: no display name, no address literal, ASCII only."""
    if isinstance(value, str):
        local, at, host = value.rpartition("@")
        if at and _LOCAL_PART.match(local) and is_domain(host):
            return value.lower()
    raise ValueError(ADDRESS)


def address_or_domain(value: object) -> str:
    if isinstance(value, str):
        return address(value) if "@" in value else domain(value)
    raise ValueError('a domain such as "example.com" or an address')


def reply_address(value: object) -> str:
    """Where answers go: an address in which {token} may stand for the whole local part or for the subaddress."""
    if isinstance(value, str) and value.count("{token}") <= 1:
        plain = address(value.replace("{token}", "t" * LONGEST_TOKEN))
        local = value.rpartition("@")[0]
        if local == "{token}" or local.endswith("+{token}") or "{" not in value:
            return plain if "{token}" not in value else value.lower()
    raise ValueError('an address such as "panic+{token}@example.com" or "{token}@panic.example.com"')


def web_listen(value: object) -> Listen:
    """As `listen`, where the web's own port is what comes to mind."""
    try:
        return listen(value)
    except ValueError:
        raise ValueError(WEB_LISTEN) from None


def listen(value: object) -> Listen:
    if isinstance(value, Listen):
        return value
    if not isinstance(value, str):
        raise ValueError(LISTEN)
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_ip(host, 6)
    else:
        good = _is_ip(host, 4) or (is_domain(host) and not host.replace(".", "").isdigit())
    if not (colon and good and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(LISTEN)
    return Listen(host, int(port))


def systemd_socket(value: str) -> SystemdSocket:
    """What stands behind "systemd:"."""
    name = value.removeprefix("systemd:")
    # systemd.socket(5), FileDescriptorName=: printable ASCII without a colon, at most 255 characters.
    if not (0 < len(name) < 256 and name.isascii() and name.isprintable()) or set(name) & set(": "):
        raise ValueError(SOCKET)
    return SystemdSocket(name)


def is_local(at: SocketAddress) -> bool:
    """Whether only this host can connect there; of systemd's sockets its unit alone knows."""
    return isinstance(at, UnixSocket) or (isinstance(at, Listen) and is_loopback(at.host))


def is_loopback(host: str) -> bool:
    """Whether what goes to this host name or address never leaves this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_ip(value: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(value).version == version
    except ValueError:
        return False


def nameserver(value: object) -> Listen:
    """A name server: its address, and its port where that is not 53."""
    if isinstance(value, Listen):
        return value
    text = value if isinstance(value, str) else ""
    host, port = text, "53"
    if not (_is_ip(text, 4) or _is_ip(text, 6)):
        host, _, port = text.rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (_is_ip(host, 4) or _is_ip(host, 6)) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError('the address of a name server such as "192.0.2.53" or "127.0.0.1:5353"')
    return Listen(host, int(port))


def proof(value: object) -> str:
    """The domain a person's replies must be proved by; "" and "none" as they stand."""
    if value in ("", "none"):
        return str(value)
    if not isinstance(value, str) or not is_domain(value):
        raise ValueError('a domain such as "example.com", "" or "none"')
    return value.lower()


def network(value: object) -> Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError('a network such as "192.0.2.0/24" or "2001:db8::1", without host bits') from None


def web_url(value: object) -> str:
    """An http or https URL without its trailing slash. Credentials are refused: this one is printed."""
    expected = ValueError(WEB_URL)
    if not isinstance(value, str) or _CONTROL.search(value) or " " in value:
        raise expected
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise expected from None
    if not good or "@" in parts.netloc or "?" in value or "#" in value:
        raise expected
    return value.rstrip("/")


def events_url(value: object) -> str:
    """As `web_url`, of PagerDuty's Events API."""
    try:
        return web_url(value)
    except ValueError:
        raise ValueError(EVENTS_URL) from None


def links_url(value: object) -> str:
    """As `web_url`, of panicmail itself; "" says there is none."""
    try:
        return "" if value == "" else web_url(value)
    except ValueError:
        raise ValueError(LINKS_URL) from None


def relay_url(value: object) -> RelayUrl:
    if isinstance(value, RelayUrl):
        return value
    expected = ValueError(RELAY_URL)
    schemes = {"smtp": ("none", 25), "smtp+starttls": ("starttls", 587), "smtps": ("implicit", 465)}
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        tls, default_port = schemes[parts.scheme]
        host, port = parts.hostname or "", parts.port or default_port
    except (KeyError, ValueError):
        raise expected from None
    if not (is_domain(host) or _is_ip(host, 4) or _is_ip(host, 6)) or parts.path.strip("/") or parts.query:
        raise expected
    # An unescaped "#" cuts a password short, and the wrong half of it must not become a host.
    if parts.fragment or "#" in str(value) or bool(parts.username) != bool(parts.password):
        raise expected
    password = SecretStr(unquote(parts.password)) if parts.password else None
    username = unquote(parts.username) if parts.username else None
    return RelayUrl(host, port, tls, username, password)  # type: ignore[arg-type]  # the table holds the literals


def secret(value: object) -> SecretStr:
    """A secret of one line, not empty."""
    shown = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(shown, str) or not shown.strip() or _CONTROL.search(shown.strip()):
        raise ValueError("a secret on one line")
    return SecretStr(shown.strip())


def signing_key(value: object) -> SecretStr:
    """A signing token of Standard Webhooks, as GitLab shows it once: "whsec_" and at least 24 octets in base64."""
    given = secret(value)
    prefix, key = given.get_secret_value()[:6], given.get_secret_value()[6:]
    try:
        octets = base64.b64decode(key, validate=True)
    except ValueError:
        octets = b""
    if prefix != "whsec_" or len(octets) < 24:
        raise ValueError(SIGNING_KEY)
    return given


def push_url(value: object) -> SecretStr:
    """An Apprise URL, by its shape alone, or `pagerduty:KEY`."""
    url = secret(value)
    shape = _PUSH.match(url.get_secret_value())
    if shape is None:
        raise ValueError(PUSH_URL)
    if shape["scheme"] in _ON_THIS_HOST:
        raise ValueError(f"{PUSH_URL}; what {shape['scheme']}:// shows on this host reaches nobody")
    if _UNVERIFIED.search(url.get_secret_value()):
        raise ValueError(f"{PUSH_URL}, without verify=no: name your own authority in REQUESTS_CA_BUNDLE")
    return url


def project(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    if isinstance(value, str) and (path := value.strip().strip("/")) and not _CONTROL.search(path):
        return path
    raise ValueError('a project\'s path such as "security/incidents", or its number')


def label(value: object) -> str:
    named = text(value)
    if not named or "," in named:
        raise ValueError("a label, not empty and without a comma")
    return named


def severity_label(value: object) -> str:
    if value == "":
        return ""
    named = label(value)
    if named.count("{severity}") != 1:
        raise ValueError('a label with {severity} in it such as "severity::{severity}", or "" for none')
    return named


def gitlab_user(value: object) -> str | None:
    """A GitLab user name, with or without its @; "" says the person has none."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"@?[\w][\w.-]*", value, re.ASCII):
        return value.removeprefix("@")
    raise ValueError('a GitLab user name such as "ana"')


def severity(value: object) -> int:
    """1, the worst, to 4."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4:
        raise ValueError("a severity from 1, the worst, to 4")
    return value


def severity_or_none(value: object) -> int | None:
    return None if value is None else severity(value)


def severity_or_zero(value: object) -> int:
    """As `severity`; 0: none."""
    return 0 if value == 0 and not isinstance(value, bool) else severity(value)


def triage_pattern(value: object) -> str:
    """A pattern of `[[triage]]`, as `incident.triage` reads it."""
    given = text(value)
    triage.pattern(given)
    return given


def topic(value: object) -> str:
    """What stands behind the "+" of one of our addresses; lower case."""
    if isinstance(value, str) and re.fullmatch(r"[\w.-]{1,60}", value, re.ASCII):
        return value.lower()
    raise ValueError('what stands behind the + of our address, such as "phish" for panic+phish@')


def question_number(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("the number of a question in receipts.questions, from 1")
    return value


def count(value: object) -> int:
    """How many; 0 switches off what counts. From the environment it comes as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:9])
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10_000:
        raise ValueError("a number from 0, which switches it off, to 10000")
    return value


def time_zone(value: object) -> str:
    if isinstance(value, str):
        try:
            zone(value)
        except (ValueError, OSError, LookupError):
            pass
        else:
            return value
    raise ValueError('a time zone such as "Europe/Berlin" or "UTC"')


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name. UTC needs no database of zones.

    Raises:
        ValueError, OSError, LookupError: There is no such zone; zoneinfo's choice of exception depends on the name.
    """
    return UTC if name == "UTC" else ZoneInfo(name)


def is_name(value: str) -> bool:
    """Whether this can name a person or a role: one word, as it is said in a reply ("page bo")."""
    return _NAME.match(value) is not None
