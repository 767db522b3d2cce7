"""The answer to what one of our people wrote, by mail, link or command.

Every command is answered: what was recorded, when, what it rests on, what else of theirs is open; or why nothing
happened and what to write. Each answer says "Clock stopped" or "Clock still running", as the incident stands when it
is written, not as their words hoped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from panicmail.incident.model import Outcome, Owed, State
from panicmail.incident.reply_commands import Command
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import TextLine, call, headline, ours
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.sections import (
    NoticeFacts,
    about,
    calls,
    clock_now,
    graded,
    issue,
    not_sent,
    report,
    rests_on,
    since,
    stopped,
    tap,
    tell_how_to_begin_anew,
    to_reporter,
)
from panicmail.mail.compose.wording import Wording, are, listed, span


def answered(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """The answer to what `context.facts` says they wrote and what came of it."""
    if context.facts.get("outcome") == Outcome.CLOSED or context.incident.state is State.RESOLVED:
        told = _closed(voice, context)
    else:
        told = _ANSWERS.get(str(context.facts.get("said")), _answer_no_command)(voice, context)
    if context.facts.get("severity"):
        told = NoticeFacts(told.subject, [told.lines[0], *graded(voice, context), *told.lines[1:]])
    if not context.facts.get("stays"):
        return told
    first, *others = told.lines
    return NoticeFacts(told.subject, [first, *not_sent(voice, context), *others])


def _yes(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    if incident.state is not State.ACKED or incident.holder is None:
        return _tell_clock_runs(voice, context, "It was acknowledged, and opened again since.")
    if incident.holder != voice.reader:
        return _somebody_has_it(voice, context)
    if context.facts.get("outcome") == Outcome.ALREADY:
        return _you_have_it(voice, context)
    return _clock_stopped(voice, context)


def _clock_stopped(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    name = voice.full(voice.reader)
    remind = f"Show signs of work by {voice.at(incident.remind_at)} or you are asked again."
    return NoticeFacts(
        stopped(name),
        [
            headline(_since_when(voice, context, name)),
            *rests_on(context),
            *_also_acknowledged(context),
            *_call_reporter(context),
            *to_reporter(context),
            issue(incident),
            *([ours(remind)] if incident.owed is Owed.WORK else []),
            *_also_open(voice, context),
            _menu(voice),
            *_show_report_if_not_paged(voice, context),
        ],
    )


def _show_report_if_not_paged(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """The report, for who has it without having been paged: no page of theirs shows it."""
    return [] if voice.reader in context.incident.paged else [*about(voice, context), *report(context)]


def _since_when(voice: Wording, context: NoticeContext, name: str) -> str:
    """When the clock stopped. Of what somebody else had before, that was earlier than it came to be theirs."""
    incident, before = context.incident, str(context.facts.get("before") or "")
    at = incident.acked_at or context.now
    if not before:
        return f"Clock stopped {voice.zoned(at)}. {name} has it, after {span(at - incident.opened_at)}."
    stopped_at = voice.said_at({"at": context.facts.get("stopped_at")})
    stopped_after = f"Clock stopped {voice.zoned(stopped_at)}, after {span(stopped_at - incident.opened_at)}."
    return f"{stopped_after} {name} has it since {voice.zoned(at)}, from {voice.full(before)}."


def _you_have_it(voice: Wording, context: NoticeContext) -> NoticeFacts:
    return NoticeFacts(
        stopped(voice.full(voice.reader)),
        [
            headline(f"Clock stopped: you have it since {voice.zoned(context.incident.acked_at)}."),
            *_call_reporter(context),
            *to_reporter(context),
            issue(context.incident),
            *_also_open(voice, context),
            _menu(voice),
        ],
    )


def _somebody_has_it(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    name = voice.full(incident.holder or "")
    return NoticeFacts(
        stopped(name),
        [
            headline(f"Clock stopped: {name} has it since {voice.zoned(incident.acked_at)}. You need do nothing."),
            *rests_on(context, incident.acked_how),
            ours('Was this wrong? Reply "take" so that it is yours.'),
            *calls(voice),
            issue(incident),
            *_also_open(voice, context),
        ],
    )


def _no(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    passed_over = "Your no is recorded: you are passed over as long as anybody else is left."
    if incident.state is State.ACKED:
        name = voice.full(incident.holder or "")
        is_passed_over = incident.owed is Owed.ANSWER and voice.reader in incident.away
        called = [person for person in voice.called_last() if person != incident.holder]
        now = [ours(f"{voice.team(called)} {are(called)} called for {name} instead.")] if called else []
        return NoticeFacts(
            stopped(name),
            [
                headline(f"Clock stopped: {name} has it since {voice.zoned(incident.acked_at)}. You need do nothing."),
                *([ours(passed_over), *now] if is_passed_over else [ours("Your no is kept as a note.")]),
            ],
        )
    return _called_on(voice, context, passed_over)


def _escalate(voice: Wording, context: NoticeContext) -> NoticeFacts:
    if context.incident.state is State.ACKED:
        return _yes(voice, context)
    return _called_on(voice, context, "You asked for more help; that is recorded.")


def _called_on(voice: Wording, context: NoticeContext, recorded: str) -> NoticeFacts:
    """The next step was asked for: who is called now, or that nobody is left."""
    if context.facts.get("outcome") == Outcome.NOBODY_LEFT:
        return NoticeFacts(
            "Clock still running: nobody is left to call",
            [
                headline(f"Clock still running, and nobody is left to call. {voice.repeated()}"),
                ours(recorded),
                *_name_somebody(voice),
                *calls(voice),
                *tap(context),
                issue(context.incident),
            ],
        )
    called = voice.called_last()
    who = f"{voice.team(called)} {are(called)} called now" if called else "the next step is taken now"
    return NoticeFacts(
        f"Clock still running: {who}",
        [
            headline(f"Clock still running: {who}."),
            ours(recorded),
            *calls(voice),
            *tap(context),
            issue(context.incident),
        ],
    )


def _name_somebody(voice: Wording) -> list[TextLine]:
    other = voice.somebody_else()
    return [ours(f'Reply "page {other.id}" to call somebody else.')] if other else []


def _resolve(voice: Wording, context: NoticeContext) -> NoticeFacts:
    if context.facts.get("outcome") != Outcome.HOW_TO_CLOSE:
        return _yes(voice, context)
    told = _clock_stopped(voice, context) if context.incident.holder == voice.reader else _yes(voice, context)
    how = ours('It is not over. Reply "resolve" once more to end it.')
    return NoticeFacts(told.subject, [told.lines[0], how, *told.lines[1:]])


def _hand_over(voice: Wording, context: NoticeContext) -> NoticeFacts:
    to = str(context.facts.get("to") or "")
    if context.facts.get("outcome") != Outcome.DONE or not to:
        return _answer_no_command(voice, context)
    name = voice.full(to)
    mobile = voice.organisation.people.get(to)
    return NoticeFacts(
        f"{name} is called",
        [
            headline(f"{name} is called and has it as soon as {voice.first(to)} agrees."),
            ours(f"Until then nothing changes. {clock_now(voice)}"),
            *([call(f"Call {voice.first(to)}: ", mobile.phone)] if mobile and mobile.phone else []),
            issue(context.incident),
        ],
    )


def _status(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """What is open, whose, and by when: this one first, then what else waits for the reader."""
    incident = context.incident
    by_when = f", next call at {voice.at(incident.next_step_at)}" if incident.next_step_at else ""
    others = [
        f"{each.ref}: nobody has it since {voice.at(each.opened_at)}"
        + (f", next call at {voice.at(each.next_step_at)}." if each.next_step_at else ".")
        for each in context.also_open
    ]
    open_ = [ours(f"{incident.ref}: nobody has it since {voice.at(incident.opened_at)}{by_when}.")]
    return NoticeFacts(
        "How it stands",
        [
            headline(clock_now(voice)),
            *(open_ if incident.state is State.OPEN else []),
            *(ours(each) for each in others or ["Nothing else is open for you."]),
            issue(incident),
            *(tap(context) if incident.state is State.OPEN and voice.reader in incident.paged else []),
            *([_menu(voice)] if incident.holder == voice.reader else []),
        ],
    )


def _severity(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """How grave it is, by the reader; whether the clock stands is no matter of that."""
    if context.incident.state is State.OPEN:
        return _tell_clock_runs(voice, context, "Why: it says how grave it is, and not that you have it.")
    return _answer_no_command(voice, context)


def _answer_no_command(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    if incident.state is State.OPEN:
        return _tell_clock_runs(voice, context, "")
    mine = incident.holder == voice.reader
    name = voice.full(incident.holder or "")
    has = f"{'you have' if mine else name + ' has'} it since {voice.zoned(incident.acked_at)}"
    why = _why(context)
    return NoticeFacts(
        "Your mail is kept as a note",
        [
            headline(f"Clock stopped: {has}. Your mail is kept as a note."),
            *([ours(why)] if why and not mine else []),
            issue(incident),
            _menu(voice) if mine else ours('Reply "take" for it to be yours.'),
        ],
    )


def _tell_clock_runs(voice: Wording, context: NoticeContext, why: str) -> NoticeFacts:
    """Their mail did not stop the clock: why, and what would."""
    person = voice.organisation.people.get(voice.reader)
    address = person.email if person else "your own address"
    coming = voice.next()
    by = f" by {voice.zoned(coming.at)}" if coming and coming.at > voice.now else " now"
    then = (
        f"Otherwise {voice.team(coming.people)} {are(coming.people)} called at {voice.at(coming.at)}."
        if (coming and coming.people)
        else voice.repeated()
    )
    word = "ack" if voice.reader in context.incident.paged else "take"
    return NoticeFacts(
        f'Clock still running: reply "{word}" to this mail',
        [
            headline(f"{voice.first(voice.reader)}: your mail did not stop the clock."),
            *([ours(reason)] if (reason := why or _why(context)) else []),
            ours(f'Reply "{word}" to THIS mail from {address}{by}.'),
            *(tap(context, "Or tap: ") if word == "ack" else _not_paged(voice)),
            ours("Your text is kept as a note on the issue."),
            ours(then),
            issue(context.incident),
        ],
    )


def _not_paged(voice: Wording) -> list[TextLine]:
    """To whoever was not paged: an "ack" of theirs is none. No link, for it would be one."""
    return [ours('You were not paged for this: "ack" does not count, "take" makes it yours.'), *calls(voice)]


def _closed(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    if incident.once and incident.holder is None:
        return _paged_once(context, voice.reader)
    by = "you" if incident.resolved_by == voice.reader else voice.full(incident.resolved_by or "somebody")
    at = voice.zoned(incident.resolved_at)
    if context.facts.get("said") == Command.RESOLVE and context.facts.get("outcome") == Outcome.DONE:
        lines = [headline(f"{incident.ref} is closed, {at}, by {by}."), *rests_on(context)]
    else:
        what = "mail" if context.facts.get("channel") == "mail" else "word"
        lines = [headline(f"{incident.ref} was closed at {at} by {by}. Your {what} changed nothing.")]
    return NoticeFacts(
        f"Closed by {by}", [*lines, tell_how_to_begin_anew(context), issue(incident), *_also_open(voice, context)]
    )


def _paged_once(context: NoticeContext, reader: str) -> NoticeFacts:
    """An incident without escalation: there is no clock to stop, and their yes still counts."""
    word = "ack" if reader in context.incident.paged else "take"
    return NoticeFacts(
        "Your mail is kept as a note",
        [
            headline(
                f'Your mail is kept as a note. Nobody has this; reply "{word}" to THIS mail if it needs somebody.'
            ),
            *([ours(why)] if (why := _why(context)) else []),
            *(tap(context) if word == "ack" else []),
            issue(context.incident),
        ],
    )


# -- lines several of them share -------------------------------------------------------------------


def _why(context: NoticeContext) -> str:
    why = sanitize.words(str(context.facts.get("why") or ""), 200).rstrip(".")
    return f"Why: {why}." if why else ""


def _call_reporter(context: NoticeContext) -> list[TextLine]:
    """What to do first: the reporter's number is data of the report, so it is no link."""
    phone = next((p for p in map(sanitize.phone, context.report.phones) if p), "")
    return [ours(f"Next: call the reporter; the number in the mail is {phone}.")] if phone else []


def _also_acknowledged(context: NoticeContext) -> list[TextLine]:
    refs = context.facts.get("refs")
    others = (
        [sanitize.words(str(r), 8) for r in refs if r != context.incident.ref] if isinstance(refs, list | tuple) else []
    )
    return [ours(f"Also yours now: {listed(others)}.")] if others else []


def _also_open(voice: Wording, context: NoticeContext) -> list[TextLine]:
    return [ours(f"Still open and also yours: {since(voice, context.also_open)}.")] if context.also_open else []


def _menu(voice: Wording) -> TextLine:
    other = voice.somebody_else()
    hand = f'"to {other.id}" to hand it over, ' if other else ""
    return ours(f'Reply {hand}"escalate" for more help, "resolve" at its end.')


_ANSWERS: Mapping[str, Callable[[Wording, NoticeContext], NoticeFacts]] = {
    Command.YES.value: _yes,
    Command.YES_ALL.value: _yes,
    Command.TAKE.value: _yes,
    Command.NO.value: _no,
    Command.ESCALATE.value: _escalate,
    Command.RESOLVE.value: _resolve,
    Command.HAND_OVER.value: _hand_over,
    Command.STATUS.value: _status,
    Command.SEVERITY.value: _severity,
    Command.NOTHING.value: _answer_no_command,
}
