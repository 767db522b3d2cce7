"""The daily list of what is open or held, to one of those it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from panicmail.incident.model import Incident, State
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Addresses
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.letterhead import NO_REPLY, Letterhead, announcement
from panicmail.mail.compose.message import ComposedMail, TextLine, button, headline, ours, theirs
from panicmail.mail.compose.notice_context import Organisation
from panicmail.mail.compose.wording import Wording, listed

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
