"""Storms: a flood of one mailbox becomes one incident more, and nothing of it is dropped.

Beyond `StormLimits.members` mails of one mailbox within `within`, the next one opens the storm: an incident like any
other, on the default policy. What follows joins it: kept, counted on the issue, told to whoever has it, and not paged.
The first ones stay incidents, and go with the storm: whoever acknowledges it has them too. A storm ends `within` after
its last member, or when it is resolved.

Different mailboxes are never one, and no subject or text joins anything: thirty colleagues who report one phish are
thirty reporters.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from panicmail.incident.model import Incident, State

#: The line of the timeline that keeps that an incident is a storm.
STORM_BEGAN = "storm.began"
#: The issue, and whoever has the storm, is told this often what joined it …
TOLD_EVERY = timedelta(minutes=5)
#: … and sooner of a mail unlike the others, but no more often than this.
UNLIKE_EVERY = timedelta(minutes=1)
#: A mailbox in a storm gets at most five receipts an hour.
RECEIPT_EVERY = timedelta(minutes=12)
#: So much of a text is compared, in characters.
_COMPARED = 20_000
#: A word of this length is an id.
_ID_LENGTH = 24

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class StormLimits:
    """When a flood is a storm."""

    members: int = 20  #: so many mails of one mailbox are incidents each; 0: storms are off
    within: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What is known of a storm beside its incident."""

    incident_id: str
    mailbox: str  #: as `storm_mailbox` gives it
    first: tuple[str, ...]  #: the ids of the incidents that go with it
    last_at: datetime  #: when its latest mail was accepted
    members: int = 0  #: how many mails joined it
    told: int = 0  #: how many of them the issue names
    tell_at: datetime | None = None  #: when there is something to tell; None: nothing
    told_at: datetime | None = None  #: when its holder was told last; None: never
    receipt_at: datetime | None = None  #: of the latest receipt to a member; None: there was none
    split_at: datetime | None = None  #: when somebody took it apart; None: nobody did


def storm_mailbox(address: str, peer: str, received_from: str, relays: Iterable[Network]) -> str:
    """Who sends, as far as a storm goes: the From address and the host the mail came from; "": it joins no storm.

    Args:
        peer: Who handed the mail over, as text.
        received_from: Whom the topmost Received of the mail names as its peer; it counts where `peer` is one of
            `relays`, ours.
    """
    host = _host(received_from if is_relay_of_ours(peer, relays) else peer)
    return f"{address} {host}" if address and host is not None else ""


def is_relay_of_ours(peer: str, relays: Iterable[Network]) -> bool:
    """Whether that address is in one of these networks."""
    host = _host(peer)
    return host is not None and any(host in relay for relay in relays if relay.version == host.version)


def _host(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def likeness(subject: str, text: str) -> str:
    """The same for mails that differ in digits, ids and times alone: what a program fills into one text."""
    words = f"{subject}\n{text[:_COMPARED]}".casefold().split()
    kept = (word for word in words if not re.search(r"\d", word) and len(word) < _ID_LENGTH)
    return hashlib.sha256(" ".join(kept).encode("utf-8", "replace")).hexdigest()


def takes_in(storm: Storm, incident: Incident, at: datetime, limits: StormLimits) -> bool:
    """Whether a mail of its mailbox that was accepted at that instant joins the storm.

    One that was paged once takes in what follows until somebody has closed it.
    """
    is_over = incident.state is State.RESOLVED and not (incident.once and incident.holder is None)
    return storm.split_at is None and not is_over and is_near(storm, incident, at, limits)


def is_near(storm: Storm, incident: Incident, at: datetime, limits: StormLimits) -> bool:
    """Whether an instant belongs to the time of the storm."""
    return incident.accepted_at - limits.within <= at <= storm.last_at + limits.within


def joined(storm: Storm, at: datetime, now: datetime, *, is_unlike: bool, is_heard: bool) -> Storm:
    """The storm with one more member, accepted at `at`.

    Args:
        is_unlike: It differs from all before.
        is_heard: Somebody is told of it (`hears`).
    """
    tell_at = now + TOLD_EVERY
    if is_unlike and is_heard:
        told_at = storm.told_at or now - UNLIKE_EVERY
        tell_at = max(now, min(told_at, now) + UNLIKE_EVERY)  # a clock may have been put back
    return replace(
        storm,
        members=storm.members + 1,
        last_at=max(storm.last_at, at),
        tell_at=min(storm.tell_at or tell_at, tell_at),
    )


def is_due(storm: Storm, now: datetime) -> bool:
    """Whether there is something to tell now; one too far ahead is from before a clock was put back."""
    return storm.tell_at is not None and not now < storm.tell_at <= now + TOLD_EVERY


def hears(incident: Incident) -> list[str]:
    """Who is told what joined a storm: who has it, or had it last when it is closed; of one that was paged once, and
    that nobody took, those who were paged. While nobody has it people are paged, and whoever takes it is told."""
    if incident.state is not State.OPEN and incident.holder is not None:
        return [incident.holder]
    return list(incident.paged) if incident.once else []


def may_have_receipt(storm: Storm, now: datetime) -> bool:
    return storm.receipt_at is None or now - storm.receipt_at >= RECEIPT_EVERY


# -- Digests: many pages to one person go out as one mail, and every incident's clock runs on as ever.
#
# When more than `DigestLimits.after` different mailboxes have paged one person within the storm's `within`, what is
# new goes out as one page that names each incident, the first at once, the next ones every `every`. A word about
# "all", or about one by its REF, is about what that digest named and nothing else.

#: So many incidents one digest names; what is beyond goes with the next one.
MOST = 100
#: What may stand between two REFs.
_BETWEEN = frozenset({"and", "&", "+", "und", "et", "y", "e", "en"})
_AROUND = ".,:;!()[]<>\"'#"


@dataclass(frozen=True, slots=True)
class DigestLimits:
    """When many pages are one."""

    after: int = 10  #: pages of so many mailboxes are a mail each; 0: any number
    every: timedelta = timedelta(seconds=30)

    def next_at(self, last_at: datetime | None, now: datetime, undelivered_after: timedelta) -> datetime:
        """When the next digest may go out.

        A page that waits for one must not make its person unreachable, so it never waits half as long as that takes.
        """
        if last_at is None or last_at > now:  # a clock was put back: no page waits for a time that was wrong
            return now
        return last_at + min(self.every, undelivered_after / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDigest:
    """A page about several incidents to one person, by one channel."""

    id: str  #: what its tokens name
    person: str
    channel: str
    made_at: datetime
    pages: tuple[tuple[str, int], ...]  #: (id of the incident, round), in the order it names them


def digest_id(person: str, channel: str, keys: Iterable[str]) -> str:
    """The same for the same pages: a repeat is the same mail."""
    text = "\n".join([person, channel, *sorted(keys)])
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode().lower()


def spell_out(line: str, refs: Collection[str], stand_in: str) -> tuple[str, list[str]]:
    """A line with every run of REFs become the one `stand_in`, and the REFs it named."""
    said: list[str] = []
    named: list[str] = []
    for word in line.replace(",", " ").split():
        ref = word.strip(_AROUND).upper()
        if ref not in refs:
            said.append(word)
            continue
        named.append(ref)
        if len(said) > 1 and said[-1].lower() in _BETWEEN and said[-2] == stand_in:
            said.pop()
        if not said or said[-1] != stand_in:
            said.append(stand_in)
    return " ".join(said), list(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class NamedRefs:
    """A reply to a digest, read as a reply about one incident."""

    text: str
    by_line: Sequence[tuple[str, tuple[str, ...]]]  #: each line as it is in `text`, and the REFs it named

    def about(self, line: str) -> tuple[str, ...]:
        """The REFs that the line of the command names; none where another line names others as well."""
        here = next((named for text, named in self.by_line if line and text.startswith(line)), ())
        everywhere = {ref for _, named in self.by_line for ref in named}
        return here if everywhere <= set(here) else ()


def named_refs(text: str, refs: Collection[str], stand_in: str) -> NamedRefs:
    """Which incidents of a digest an answer names."""
    lines = [spell_out(line, refs, stand_in) for line in text.splitlines()]
    return NamedRefs("\n".join(line for line, _ in lines), [(line, tuple(named)) for line, named in lines])
