"""What our own people are told: what others did, what more came, and the answer to what they wrote."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from panicmail.incident import notice_kinds
from panicmail.incident.model import Outcome, State
from panicmail.incident.notice_kinds import AnswerNotice, MoreNotice, Told, WhichNotice
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.mail.compose.catalogue import Notice
from panicmail.mail.compose.letterhead import answer_envelope, subject
from panicmail.mail.compose.message import ComposedMail, ours, sealed
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.wording import Wording


def tell(context: NoticeContext, person: Person, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """What `context.facts` says to `person`. `key`: the outbox row's; a retry repeats its Message-ID."""
    said = notice_kinds.told(context.facts)
    notice = notice_of(said, context, person)
    first, *others = notice.lines()
    if isinstance(said, AnswerNotice):
        others = [*about_told(said, "answer/after_first", context, person).lines(), *others]
    drill = [ours("This is a drill. Act as if it were real.")] if context.incident.drill else []
    tag = f"[{context.incident.ref}]{' DRILL' if context.incident.drill else ''}"
    words = notice.line("subject")
    title = f"{tag} {words}" if words else subject(tag, context)
    envelope = answer_envelope(context, person, routes, title[:120], key=key)
    match said:
        case MoreNotice(is_reporter=True) if context.conversation:
            envelope = replace(envelope, reply_to=context.conversation)
        case WhichNotice(digest=str(digest)) if digest:
            envelope = replace(envelope, reply_to=routes.reply_to(Purpose.DIGEST, digest, person.id))
    return sealed(envelope, [first, *drill, *others])


def notice_of(said: Told, context: NoticeContext, person: Person) -> Notice:
    """The notice of `said` to `person`, in all its media."""
    if isinstance(said, AnswerNotice):
        return about_told(said, f"answer/{_answer(said, context, person)}", context, person)
    return about_told(said, f"told/{said.what}", context, person)


def about_told(said: Told, name: str, context: NoticeContext, person: Person) -> Notice:
    voice = Wording.to(context, person)

    def undo_until(_: NoticeContext, reader: str) -> datetime | None:
        return undo_by(context, reader)

    return Notice(name, n=said, v=voice, c=context, i=context.incident, me=voice.first(person.id), undo_by=undo_until)


def undo_by(context: NoticeContext, reader: str) -> datetime | None:
    """Until when the reader's link undoes what `context.facts` says was done by it; None when it does not any more."""
    incident, said = context.incident, notice_kinds.told(context.facts)
    has_it = incident.holder == reader if incident.state is State.ACKED else incident.resolved_by == reader
    if not isinstance(said, AnswerNotice) or said.undo_by is None or not has_it or not context.link:
        return None
    return said.undo_by if context.now <= said.undo_by else None


def _answer(said: AnswerNotice, context: NoticeContext, person: Person) -> str:
    """Which answer is true: it says how the incident stands when it is written, not as their words hoped."""
    incident = context.incident
    is_held = incident.state is State.ACKED
    if said.outcome is Outcome.CLOSED or incident.state is State.RESOLVED:
        return "paged_once" if incident.once and incident.holder is None else "closed"
    match said.said:
        case Command.NO:
            return "no_to_a_holder" if is_held else _called_on(said)
        case Command.ESCALATE if not is_held:
            return _called_on(said)
        case Command.RESOLVE if said.outcome is Outcome.HOW_TO_CLOSE and is_held and incident.holder == person.id:
            return "clock_stopped"
        case Command.YES | Command.YES_ALL | Command.TAKE | Command.ESCALATE | Command.RESOLVE:
            return _yes(said, context, person) if is_held and incident.holder else "clock_runs"
        case Command.HAND_OVER if said.outcome is Outcome.DONE and said.to:
            return "handed_over"
        case Command.STATUS:
            return "status"
        case Command.QUIET | Command.QUIET_OFF:
            return "quiet"
        case Command.NOTHING | Command.HAND_OVER | Command.SEVERITY | None:
            return "kept_as_note" if is_held else "clock_runs"
        case _:
            assert_never(said.said)


def _called_on(said: AnswerNotice) -> str:
    return "nobody_left" if said.outcome is Outcome.NOBODY_LEFT else "called_on"


def _yes(said: AnswerNotice, context: NoticeContext, person: Person) -> str:
    if context.incident.holder != person.id:
        return "somebody_has_it"
    return "you_have_it" if said.outcome is Outcome.ALREADY else "clock_stopped"
