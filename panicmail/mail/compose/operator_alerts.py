"""What the operators are told: panicmail needs help. One sentence what it means, one what mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from panicmail.incident import notice_kinds
from panicmail.incident.model import Incident, State
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Addresses
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.catalogue import Notice, blocks
from panicmail.mail.compose.letterhead import NO_REPLY, Letterhead, announcement
from panicmail.mail.compose.message import ComposedMail, TextLine, button, headline, ours, theirs
from panicmail.mail.compose.notice_context import Organisation
from panicmail.mail.compose.wording import ReaderClock, Wording, listed

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AlarmWords:
    """A cause in words."""

    what: str  #: is wrong
    means: str
    mend: str


@cache
def alarm_words(cause: str) -> AlarmWords:
    """The words of a cause; those of any trouble where this version has none for it."""
    lines = Notice("operators").lines(cause if cause in causes() else _UNKNOWN)
    return AlarmWords(*(line.text for line in lines))


@cache
def causes() -> frozenset[str]:
    """Every cause there are words for."""
    return frozenset(blocks("operators")) - {_UNKNOWN}


#: So many entries of a list are told, one a line.
_LISTED = 100


def operators(facts: Mapping[str, Any], head: Letterhead, addresses: Addresses, *, key: str) -> ComposedMail:
    """The alarm of `facts` to one operator. `key`: the outbox row's; a retry repeats its Message-ID."""
    notice = alarm_notice(facts, ReaderClock(head.person.tz, head.now))
    message_id = addresses.message_id(head.local_id("operators", key))
    return announcement(head, message_id, f"[panicmail] {notice.line('subject')}", notice.lines())


def alarm_notice(facts: Mapping[str, Any], clock: ReaderClock | None = None) -> Notice:
    """The alarm of `facts` in all its media. `clock`: the reader's; a push needs none."""
    known, others = notice_kinds.alarm(facts)
    details = [
        f"{sanitize.words(str(name), 60).replace('_', ' ')}: {sanitize.words(str(value), 200)}"
        for name, values in others.items()
        for value in (values[:_LISTED] if isinstance(values, list) else [values])
        if value not in (None, "")
    ]
    words, ref = alarm_words(known.cause), sanitize.words(known.ref, 8)
    if words == alarm_words(_UNKNOWN):
        details.insert(0, f"cause: {sanitize.words(known.cause or 'not said', 60)}")
    return Notice("alarm", n=known, w=words, ref=ref, details=details, clock=clock)


# -- The daily list of what is open or held, to one of those it concerns.

#: So many are told one by one, and so many are named in the subject.
_MOST, _NAMED = 30, 4


@dataclass(frozen=True, slots=True)
class Listed:
    """An incident on the list of one reader."""

    incident: Incident
    link: str  #: the reader's page of it; "" when there is none


def listing(
    entries: Sequence[Listed],
    organisation: Organisation,
    head: Letterhead,
    addresses: Addresses,
    *,
    key: str,
) -> ComposedMail:
    """What is not closed, oldest first; at least one. `key`: the outbox row's; a retry repeats its Message-ID."""
    message_id = addresses.message_id(head.local_id("list", key))
    title = f"[panicmail] Not closed: {_refs(entries)}"
    return announcement(head, message_id, title, _lines(entries, organisation, head.person, head.now))


def _refs(entries: Sequence[Listed]) -> str:
    named = [each.incident.ref for each in entries[:_NAMED]]
    others = len(entries) - len(named)
    return listed([*named, *([f"{others} more"] if others else [])])


def _lines(entries: Sequence[Listed], organisation: Organisation, person: Person, now: datetime) -> list[TextLine]:
    is_one, others = len(entries) == 1, len(entries) - _MOST
    ask = f"Say where {'it' if is_one else 'each'} stands, or that it is over."
    told = ((each, Wording(organisation, each.incident, now, person.tz, person.id)) for each in entries[:_MOST])
    at_link = "At the link, or in " if any(each.link for each in entries) else "In "
    return [
        headline(f"{person.first_name}: {_refs(entries)} {'is' if is_one else 'are'} not closed. {ask}"),
        *(line for each, voice in told for line in _entry(each, voice)),
        *([ours(f"And {others} more: panicmail incidents shows all.")] if others > 0 else []),
        ours(f'{at_link}the mails of each: a line of status, "take" to make it yours, "resolve" at its end.'),
        ours("This list comes once a day, until all of it is closed."),
        ours(NO_REPLY),
    ]


def _entry(entry: Listed, voice: Wording) -> list[TextLine]:
    incident = entry.incident
    drill = " (drill)" if incident.drill else ""
    if incident.state is State.ACKED and incident.holder:
        who = "you have it" if incident.holder == voice.reader else f"{voice.full(incident.holder)} has it"
        heard_at = max(filter(None, (incident.acked_at, incident.worked_at)), default=voice.now)
        stands = f"{who} since {voice.zoned(incident.acked_at)}, last heard of {voice.zoned(heard_at)}"
    else:
        stands = f"nobody has it, open since {voice.zoned(incident.opened_at)}"
    return [
        ours(f"{incident.ref}{drill}: {stands}."),
        theirs(sanitize.MARK + sanitize.subject(incident.subject, "", 100)),
        *([button(f"{incident.ref}: ", entry.link, f"Open {incident.ref}")] if entry.link else []),
    ]
