"""A digest: one page about several incidents, each named by its REF, its sender and its subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panicmail.incident.model import Incident, State
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.incident.storm_rules import PageDigest
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.letterhead import Letterhead
from panicmail.mail.compose.message import ComposedMail, Envelope, TextLine, button, headline, ours, sealed, theirs
from panicmail.mail.compose.notice_context import Organisation
from panicmail.mail.compose.sections import writer
from panicmail.mail.compose.wording import Wording

#: Of the token in the envelope sender, where delivery reports go; that of the reply address is 0.
RETURNED = 1


@dataclass(frozen=True, slots=True)
class DigestEntry:
    """One incident of a digest."""

    incident: Incident
    link: str  #: the reader's page of it; "" when there is none
    is_late: bool  #: its SLA has passed


def digest_page(
    digest: PageDigest,
    entries: Sequence[DigestEntry],
    organisation: Organisation,
    head: Letterhead,
    routes: ReplyRoutes,
) -> ComposedMail:
    """The digest to one person. At least two entries, in the order they are named."""
    back = routes.reply_to(Purpose.DIGEST, digest.id, digest.person, RETURNED)
    carries_token = routes.addresses.carries_token
    first, others = entries[0].incident, len(entries) - 1
    return sealed(
        Envelope(
            sender=head.sender,
            to=head.person.email,
            to_name=head.person.name,
            reply_to=routes.reply_to(Purpose.DIGEST, digest.id, digest.person),
            mail_from=back if carries_token else head.sender,
            subject=f"[PANIC {first.ref}] and {others} more",
            message_id=routes.message_id(Purpose.DIGEST, digest.id, digest.person),
            date=head.now,
            automatic="auto-generated",
            silences_robots=False,
        ),
        _lines(entries, organisation, head),
    )


def _lines(entries: Sequence[DigestEntry], organisation: Organisation, head: Letterhead) -> list[TextLine]:
    person, first = head.person, entries[0].incident
    one = f'"ack {first.ref}"'
    return [
        headline(
            f'{person.first_name}: {len(entries)} incidents. Reply "ack all" to have all of them, or {one} for one.'
        ),
        ours('Cannot take them? Reply "no" and others are called for each at once.'),
        ours("Why one mail: many different senders wrote within minutes. Nothing is dropped; each has its own clock."),
        *(line for each in entries for line in _entry(each, organisation, head)),
        ours("A word without a REF is taken for none of them."),
    ]


def _entry(entry: DigestEntry, organisation: Organisation, head: Letterhead) -> list[TextLine]:
    incident, person = entry.incident, head.person
    voice = Wording(organisation, incident, head.now, person.tz, person.id)
    by = writer(incident.reporter_name, incident.reporter_address)
    drill = " (drill)" if incident.drill else ""
    late = ", SLA passed" if entry.is_late else ""
    return [
        ours(f"{incident.ref}{drill}: {_stands(voice)}{late}, by {by}."),
        theirs(sanitize.MARK + sanitize.subject(incident.subject, "", 100)),
        *([button(f"{incident.ref}: ", entry.link, f"Open {incident.ref}")] if entry.link else []),
    ]


def _stands(voice: Wording) -> str:
    incident = voice.incident
    if incident.state is State.ACKED and incident.holder:
        who = "you have it" if incident.holder == voice.reader else f"{voice.full(incident.holder)} has it"
        return f"{who} since {voice.at(incident.acked_at)}"
    return f"nobody has it, open since {voice.at(incident.opened_at)}"
