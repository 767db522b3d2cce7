"""What both sides are told when a shift ends with something open or held."""

from __future__ import annotations

from panicmail.incident.model import State
from panicmail.mail.compose.message import TextLine, headline, ours
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.sections import NoticeFacts, about, calls, clock_now, issue, report, tap
from panicmail.mail.compose.thread_ids import subject
from panicmail.mail.compose.wording import Wording, are, listed, role_name


def shift_ended(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """To whoever was on call until then."""
    incident, me = context.incident, voice.first(voice.reader)
    ended = f"your shift as {_role(context)} ended at {voice.zoned(voice.said_at(context.facts))}"
    mine = incident.state is State.ACKED and incident.holder == voice.reader
    if mine:
        lines = [headline(f"{me}: {ended}, and this is still yours."), *_hand_on(voice, context)]
    elif incident.state is State.OPEN:
        lines = [
            headline(f"{me}: {ended}. {_name_arrivals(voice, context, 'called')}"),
            ours("Nobody has this yet; you are told when somebody does. Until then your ack still counts."),
        ]
    else:
        lines = [headline(f"{me}: {ended}. You need do nothing."), ours(clock_now(voice))]
    return NoticeFacts(subject("", context, "YOUR SHIFT ENDED:").strip(), [*lines, *tap(context), issue(incident)])


def _hand_on(voice: Wording, context: NoticeContext) -> list[TextLine]:
    came = _arrivals(voice, context)
    if not came:
        return [
            ours(_name_arrivals(voice, context, "")),
            ours('Reply "to" and a name to offer it, or "escalate" for help.'),
        ]
    return [
        ours(f"{_name_arrivals(voice, context, 'asked to take it')} Until somebody does, it stays yours."),
        ours(f'Hand over: reply "to {came[0]}" once you have told all there is.'),
    ]


def _name_arrivals(voice: Wording, context: NoticeContext, are_what: str) -> str:
    came = _arrivals(voice, context)
    if not came:
        return f"Nobody is on call as {_role(context)} now."
    return f"{listed(voice.full(person) for person in came)} {are(came)} on call now, and {are_what}."


def _arrivals(voice: Wording, context: NoticeContext) -> list[str]:
    people = context.facts.get("people")
    return [str(p) for p in people if p != voice.reader] if isinstance(people, list | tuple) else []


def shift_began(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """To whoever is on call from then on: somebody of the shift before has it."""
    incident, me = context.incident, voice.first(voice.reader)
    holder = incident.holder or ""
    if incident.state is not State.ACKED or holder != context.facts.get("holder"):
        return NoticeFacts(
            subject("", context, "FROM THE LAST SHIFT:").strip(), [headline(clock_now(voice)), issue(incident)]
        )
    ended = voice.zoned(voice.said_at(context.facts))
    return NoticeFacts(
        subject("", context, "FROM THE LAST SHIFT:").strip(),
        [
            headline(f'{me}: {voice.full(holder)} has this, off shift since {ended}. Reply "take" to make it yours.'),
            ours(f"Until then {voice.first(holder)} has it, since {voice.zoned(incident.acked_at)}."),
            *about(voice, context),
            *calls(voice),
            *tap(context),
            issue(incident),
            *report(context),
        ],
    )


def _role(context: NoticeContext) -> str:
    return role_name(str(context.facts.get("role") or ""))
