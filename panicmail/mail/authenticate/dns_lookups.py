"""What DNS says, for one check of a sender at a time: cached, counted, and over when its time is.

An answer is kept for as long as it says, a refusal (no such name, no such record) for a minute at most; a server that
does not answer is asked again by the next check. The keys and policies of our own people's domains are kept on disk
as well, for seven days: DNS may be the incident.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import structlog

_log = structlog.get_logger()

#: A check of a sender takes no longer than this, in seconds, all its look-ups together.
WITHIN = 5.0
#: And asks no more than so many questions; SPF alone may ask for ten records with ten hosts each.
QUESTIONS = 200
#: A refusal is kept for no longer than this, in seconds, and an answer for no longer than a day.
_REFUSAL_FOR, _ANSWER_FOR = 60, 86_400
#: So many answers are kept in memory.
_MOST = 5_000
#: Of one answer no more records than this are looked at, and of one record no more octets.
_RECORDS, _OCTETS = 100, 64_000
#: Keys of our people's domains are good for so long when DNS is away.
KEPT_FOR = timedelta(days=7)


class Unanswered(Exception):  # noqa: N818
    """DNS gave no answer: nothing is known, in either direction."""


class FindsRecords(Protocol):
    """Answers the records of a name: octets of TXT, addresses of A and AAAA, (preference, host) of MX, names of PTR.

    None are there: an empty list.

    Raises:
        Unanswered: Nobody knows.
    """

    def find(self, name: str, kind: str) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What a server said."""

    records: tuple[Any, ...]
    seconds: float  #: how long it may be kept


class Asks(Protocol):
    """Asks a server one question.

    Raises:
        Unanswered: It did not answer in time, or had no answer.
    """

    def ask(self, name: str, kind: str, seconds: float) -> DnsAnswer: ...


class Resolver:
    """Asks name servers.

    Args:
        nameservers: (address, port) of each; none: those of the system.
    """

    def __init__(self, nameservers: Sequence[tuple[str, int]] = ()) -> None:
        self._resolver = dns.resolver.Resolver(configure=not nameservers)
        if nameservers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]

    def ask(self, name: str, kind: str, seconds: float) -> DnsAnswer:
        try:
            found = self._resolver.resolve(name, kind, lifetime=max(seconds, 0.05), search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return DnsAnswer((), _REFUSAL_FOR)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            if isinstance(error, (dns.exception.SyntaxError, ValueError)) or _is_no_name(error):
                return DnsAnswer((), _REFUSAL_FOR)  # what cannot be asked is not there
            raise Unanswered(f"{type(error).__name__} for {kind} {name[:100]}") from error
        records = tuple(_value(kind, record) for record in list(found)[:_RECORDS])
        ttl = found.rrset.ttl if found.rrset is not None else _REFUSAL_FOR
        return DnsAnswer(records, min(ttl, _ANSWER_FOR))


def _is_no_name(error: Exception) -> bool:
    return isinstance(error, (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape))


def _value(kind: str, record: Any) -> Any:
    match kind:
        case "TXT":
            return b"".join(record.strings)[:_OCTETS]
        case "MX":
            return record.preference, record.exchange.to_text(omit_final_dot=True)
        case "PTR":
            return record.target.to_text(omit_final_dot=True)
    return record.address


class DnsCache:
    """Answers of a resolver, kept for as long as they say. Safe to use from several threads."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, tuple[Any, ...]]] = OrderedDict()

    def find(self, name: str, kind: str, until: float) -> tuple[Any, ...]:
        """The records.

        Args:
            until: When its asker's time is up, in monotonic seconds.

        Raises:
            Unanswered: As the resolver, or the time is up.
        """
        key, now = (name.lower().rstrip("."), kind), time.monotonic()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept[0] > now:
            return kept[1]
        if until <= now:
            raise Unanswered("its time is up")
        answer = self._asks.ask(key[0], kind, until - now)
        with self._lock:
            self._kept[key] = (now + answer.seconds, answer.records)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return answer.records


class KeyFile:
    """The keys and policies of some domains, on disk.

    Args:
        path: A JSON file; it is written anew for each new key.
        domains: Whose are kept, lower case.
    """

    def __init__(self, path: Path, domains: Collection[str]) -> None:
        self._path, self._domains = path, frozenset(domains)
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Any]] = self._read()

    def keep(self, name: str, records: Sequence[bytes], now: datetime) -> None:
        """Keep what DNS said of a name, if it is one of theirs and is new, or was seen long ago."""
        if not self._is_theirs(name) or not records:
            return
        texts = [base64.b64encode(record).decode() for record in records]
        with self._lock:
            before = self._kept.get(name)
            if before and before["records"] == texts and now - _seen_at(before) < timedelta(hours=1):
                return
            self._kept[name] = {"records": texts, "seen_at": now.isoformat()}
            self._write()

    def find(self, name: str, now: datetime) -> list[bytes] | None:
        """What DNS said of a name within `KEPT_FOR`; None when that is not known."""
        with self._lock:
            kept = self._kept.get(name)
        if kept is None or not self._is_theirs(name) or now - _seen_at(kept) > KEPT_FOR:
            return None
        return [base64.b64decode(text) for text in kept["records"]]

    def _is_theirs(self, name: str) -> bool:
        owner = name.removeprefix("_dmarc.").rpartition("._domainkey.")[2]
        return owner != name and owner in self._domains

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())
            kept = {str(name): dict(one) for name, one in found.items()}
            for one in kept.values():
                _seen_at(one), [base64.b64decode(text) for text in one["records"]]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("sender.keys_unreadable", file=str(self._path), reason=str(error)[:200])
            return {}
        return kept

    def _write(self) -> None:
        """A new file in place of the old one. One that cannot be written is told, and changes nothing else."""
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(self._kept))
            beside.replace(self._path)
        except OSError as error:
            _log.warning("sender.keys_not_kept", file=str(self._path), reason=str(error)[:200])


def _seen_at(kept: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(kept["seen_at"]))


@dataclass(slots=True)
class SenderLookups:
    """The look-ups of one check of a sender.

    Args:
        now: For the keys on disk; aware UTC.
        until: When its time is up, in monotonic seconds.
        keys: None: none are kept.
    """

    cache: DnsCache
    now: datetime
    until: float
    keys: KeyFile | None = None
    left: int = QUESTIONS
    asked: list[str] = field(default_factory=list)  #: such as "TXT _dmarc.example.com", in order

    def find(self, name: str, kind: str) -> Sequence[Any]:
        name = name.lower().rstrip(".")
        self.left -= 1
        if self.left < 0:
            raise Unanswered("it asks too many questions")
        self.asked.append(f"{kind} {name}")
        try:
            found = self.cache.find(name, kind, self.until)
        except Unanswered:
            kept = self.keys.find(name, self.now) if self.keys and kind == "TXT" else None
            if kept is None:
                raise
            return kept
        if self.keys and kind == "TXT":
            self.keys.keep(name, found, self.now)
        return found
