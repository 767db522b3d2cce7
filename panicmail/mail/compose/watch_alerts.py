"""What `panicmail watch` says: a panic that reached no manager, a panicmail that cannot be asked.

It speaks apart from the daemon, so it has no token and no link to offer, and nobody can answer it by reply. A push has
at most 120 characters; names, numbers and the count of incidents are cut before the instant is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Addresses
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.letterhead import NO_REPLY, Letterhead, announcement, subject
from panicmail.mail.compose.message import ComposedMail, TextLine, headline, ours, theirs
from panicmail.mail.compose.notice_context import NoticeContext, Organisation
from panicmail.mail.compose.sections import about, calls, issue, report
from panicmail.mail.compose.wording import ReaderClock, Wording, history, role_name

#: Of a push (mails.md).
PUSH_LIMIT = 120
#: Of many incidents in one mail, so many are named.
NAMED = 20

#: Who speaks.
_WATCH = "panicmail watch"


# -- nobody reached --------------------------------------------------------------------------------


def unreached(contexts: Sequence[NoticeContext], person: Person, addresses: Addresses, *, key: str) -> ComposedMail:
    """To a manager: nobody has these, and no page to a manager is confirmed. The most overdue first.

    `key`: of this page; a retry repeats its Message-ID.
    """
    first = contexts[0]
    voice = Wording.to(first, person)
    tag, drill = f"[PANIC {first.incident.ref}]", "DRILL " if first.incident.drill else ""
    if len(contexts) > 1:
        title, lines = f"{tag} NOBODY REACHED: {len(contexts)} incidents", _list(voice, contexts)
    else:
        title, lines = subject(tag, first, f"{drill}NOBODY REACHED:"), _one(voice, first)
    head = Letterhead(first.organisation.page_sender, person, first.now)
    return announcement(head, addresses.message_id(head.local_id("watch", key)), title, lines, _WATCH)


def _one(voice: Wording, context: NoticeContext) -> list[TextLine]:
    ref = context.incident.ref
    return [
        headline(f"{voice.first(voice.reader)}: nobody has {ref}. See now that somebody takes it, you or another."),
        ours(
            f"Why: the deadline passed at {voice.zoned(context.incident.sla_at)}, and no page to {_managers(context)}."
        ),
        _who_says_so(),
        *([ours("This is a drill. Act as if it were real.")] if context.incident.drill else []),
        *about(voice, context),
        *_paged(voice, context),
        *calls(voice),
        issue(context.incident),
        _by_hand(ref),
        ours(NO_REPLY),
        *report(context),
    ]


def _list(voice: Wording, contexts: Sequence[NoticeContext]) -> list[TextLine]:
    lines = [
        headline(f"{voice.first(voice.reader)}: nobody has these {len(contexts)}. See now that each finds somebody."),
        ours(f"Why: their deadlines passed, and no page to {_managers(contexts[0])}."),
        _who_says_so(),
    ]
    for context in contexts[:NAMED]:
        lines.append(ours(f"{context.incident.ref}, deadline {voice.zoned(context.incident.sla_at)}:"))
        lines.append(theirs(sanitize.marked(context.incident.subject or "(no subject)")))
    more = [ours(f"And {len(contexts) - NAMED} more: panicmail incidents --state open")] if contexts[NAMED:] else []
    return [*lines, *more, *calls(voice), _by_hand("REF"), ours(NO_REPLY)]


def _managers(context: NoticeContext) -> str:
    """Such as: the SMOC is confirmed."""
    return f"{_manager_role(context.organisation)} is confirmed"


def _manager_role(organisation: Organisation) -> str:
    return f"the {role_name(organisation.policy.managers[0])}"


def _who_says_so() -> TextLine:
    return ours("panicmail watch says so, which runs apart. panicmail itself may stand still: see that it runs.")


def _paged(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """Who was paged when since it is open, and what became of it."""
    since = [page for page in context.pages if page.at >= context.incident.opened_at]
    fates = [(p, history([page for page in since if page.person == p], voice.clock)) for p in context.incident.paged]
    said = [ours(f"{voice.titled(person)}: paged {fate}.") for person, fate in fates if fate]
    return said or [ours("Nobody was paged.")]


def _by_hand(ref: str) -> TextLine:
    return ours(f"By hand, where panicmail runs: panicmail show {ref}, panicmail ack {ref} --as PERSON.")


def unreached_push(contexts: Sequence[NoticeContext], zone: tzinfo) -> str:
    """The same as a push, for a telephone in `zone`."""
    first = contexts[0]
    voice = Wording(first.organisation, first.incident, first.now, zone)
    named = first.incident.ref if len(contexts) == 1 else f"{first.incident.ref} and {len(contexts) - 1} more"
    drill = "DRILL " if all(context.incident.drill for context in contexts) else ""
    begin = f"PANIC {named} {drill}NOBODY REACHED: SLA passed {voice.zoned(first.incident.sla_at)}"
    why = f"{begin}, no page to {_manager_role(first.organisation)} confirmed"
    people = first.organisation.people
    managers = [
        people[p] for p in first.organisation.policy.people(first.organisation.policy.managers, first.organisation.who)
    ]
    numbers = [" ".join(f"{p.first_name} {p.phone}".split()) for p in managers if p.id in people]
    return _fitting(
        f"{why} | call {' or '.join(numbers)}" if numbers else why,
        *([f"{why} | call {numbers[0]}", f"{begin} | call {numbers[0]}"] if numbers else []),
        why,
        begin,
    )


def _fitting(*texts: str) -> str:
    """The first that fits; of the last, what fits."""
    return next((text for text in texts if len(text) <= PUSH_LIMIT), texts[-1][:PUSH_LIMIT])


# -- blind -----------------------------------------------------------------------------------------


def blind(since: datetime, reason: str, head: Letterhead, addresses: Addresses, *, key: str) -> ComposedMail:
    """To an operator: since `since` nobody could ask the database. `reason`: what it said, in its words."""
    clock = ReaderClock(head.person.tz, head.now)
    lines = [
        headline(f"{head.person.first_name}: see now that panicmail runs and that its database answers."),
        ours(f"Why: panicmail watch cannot ask the database since {clock.zoned(since)}."),
        ours(f"Detail: {sanitize.words(reason, 200)}"),
        ours("Until it can, nothing outside panicmail knows whether a panic waits for somebody."),
        ours("Mend: where panicmail runs, systemctl status panicmail and its journal; the database and the way to it."),
        ours(NO_REPLY),
    ]
    title = f"[panicmail] CANNOT BE CHECKED since {clock.zoned(since)}"
    return announcement(head, addresses.message_id(head.local_id("watch", key)), title, lines, _WATCH)


def blind_push(since: datetime, now: datetime, zone: tzinfo) -> str:
    at = ReaderClock(zone, now).zoned(since)
    return f"PANICMAIL cannot be checked since {at}: its database gives no answer. See that both run."


def sees_push(since: datetime, now: datetime, zone: tzinfo) -> str:
    """It can be asked again."""
    clock = ReaderClock(zone, now)
    return f"PANICMAIL can be checked again since {clock.zoned(now)}. It could not since {clock.at(since)}."
