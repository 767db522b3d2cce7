"""What a push says: one line for a lock screen, at most 120 characters, that calls nobody in a chat.

What does not fit is cut: the subject first, our own words at last, the deadline never; a reporter is shown whole or
not at all. How much of the report it shows is the operator's choice (`[paging] detail`): "full" is subject and
reporter, "subject", or "ref" alone. The link is not part of the line; whoever sends it adds it where nobody else reads
along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from panicmail.incident.model import Outcome, PageReason, State
from panicmail.incident.people import Person
from panicmail.incident.push_channel import inert
from panicmail.incident.reply_commands import Command
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.notices import undo_by
from panicmail.mail.compose.operator_alerts import CAUSES
from panicmail.mail.compose.page_headlines import why_you
from panicmail.mail.compose.wording import Wording, are

LIMIT = 120
#: What is shorter once it is cut is left out.
_SHORTEST = 8
#: So many REFs are named of a digest.
_DIGEST_NAMES = 5
#: Of names so much, that all else has room: of one person's, and of everybody's who is called.
_NAME, _NAMES = 40, 36


def page(context: NoticeContext, person: Person, detail: str) -> str:
    """The page of `context.facts` to `person`, as their lock screen shows it."""
    voice, word = Wording.to(context, person), PageReason(context.facts["word"])
    drill = "DRILL " if context.incident.drill else ""
    head, tail = _PAGES.get(word, _plain)(voice, context)
    return _joined(f"PANIC {context.incident.ref} {drill}{head}".rstrip(), *_about(context, detail), tail)


def tell(context: NoticeContext, person: Person, detail: str) -> str:
    """What `context.facts` tells `person`, as their lock screen shows it."""
    voice = Wording.to(context, person)
    what = str(context.facts.get("what"))
    subject, reporter = _about(context, detail) if what == "more" else ("", "")
    return _joined(f"{context.incident.ref} {_TOLD.get(what, _state)(voice, context)}", subject, reporter)


def digest(refs: Sequence[str]) -> str:
    """One line for many pages; two at least."""
    named = ", ".join(refs[:_DIGEST_NAMES])
    others = f" and {len(refs) - _DIGEST_NAMES} more" if len(refs) > _DIGEST_NAMES else ""
    return _joined(f"PANIC {named}{others}: {len(refs)} incidents", tail='In your mail: reply "ack all"')


def operators(facts: Mapping[str, object]) -> str:
    """That panicmail needs help."""
    what = CAUSES[str(facts.get("cause"))][0] if facts.get("cause") in CAUSES else "panicmail needs help"
    ref = sanitize.words(str(facts.get("ref") or ""), 8)
    return _joined(f"PANICMAIL: {what}{f' ({ref})' if ref else ''}. See your mail or the log.")


def _joined(head: str, subject: str = "", reporter: str = "", tail: str = "") -> str:
    """What there is of these in one line. `tail` is never cut: whoever writes it keeps it short."""
    head, reporter, tail = inert(head), inert(reporter), inert(tail)
    head = _cut(head, _left(tail))
    if len(reporter) > _left(head, tail):
        reporter = ""  # the half of it might say they are proved
    return _line(head, _cut(subject, _left(head, reporter, tail)), reporter, tail)


def _line(*parts: str) -> str:
    return " | ".join(filter(None, parts))


def _left(*others: str) -> int:
    """The room beside these."""
    return LIMIT - len(_line(*others, "…")) + 1


def _cut(text: str, room: int) -> str:
    """The text, inert, or as much of it as there is room for."""
    text = inert(text)  # before the cut: it becomes longer by that
    if len(text) <= room:
        return text
    return f"{text[: room - 1].rstrip()}…" if room >= _SHORTEST else ""


def _about(context: NoticeContext, detail: str) -> tuple[str, str]:
    """The report's subject, and its sender, who is named as proved only where that is so."""
    if detail == "ref":
        return "", ""
    subject = sanitize.subject(context.report.subject or context.incident.subject, context.report.text, LIMIT)
    reporter = sanitize.name(context.report.from_name) or sanitize.address(context.incident.reporter_address)
    proved = "proved" if context.sender.startswith("Sender: proved") else "not proved"
    return subject, f"{_cut(reporter, _NAME)}, {proved}" if detail == "full" and reporter else ""


def _ack_by(voice: Wording) -> str:
    coming = voice.next()
    return f"ack by {voice.at(coming.at)}" if coming and coming.at > voice.now else "ack now"


def _first(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return "", "nobody else is called" if context.incident.once else _ack_by(voice)


def _still_open(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return "STILL OPEN", _ack_by(voice)


def _yours_now(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return f"YOURS NOW: {why_you(voice, context.facts)}", ""


def _still_yours(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    by = f" by {voice.at(context.incident.remind_at)}" if context.incident.remind_at else ""
    return "STILL YOURS?", f"a line of status{by}"


def _handed(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    cause = context.facts.get("cause")
    giver = str(cause.get("handed_by") or "") if isinstance(cause, Mapping) else ""
    return f"HANDED TO YOU{f' by {voice.first(giver)}' if giver else ''}", "ack, or no"


def _silent_holder(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    holder = context.incident.holder or ""
    return f"{voice.first(holder).upper()} SILENT: call {voice.first(holder)}, or take it", ""


def _reopened(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return "OPEN AGAIN", _ack_by(voice)


def _database_away(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    others = voice.others_paged()
    return "DATABASE AWAY: nothing escalates", f"call {_cut(voice.firsts(others), _NAMES)}" if others else "act now"


def _state_unknown(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return "STATE UNKNOWN: database away", _database_away(voice, context)[1]


def _plain(voice: Wording, context: NoticeContext) -> tuple[str, str]:
    return "", _ack_by(voice)


_PAGES: Mapping[PageReason, Callable[[Wording, NoticeContext], tuple[str, str]]] = {
    PageReason.PAGE: _first,
    PageReason.STILL_OPEN: _still_open,
    PageReason.YOURS_NOW: _yours_now,
    PageReason.STILL_YOURS: _still_yours,
    PageReason.HANDED: _handed,
    PageReason.SILENT_HOLDER: _silent_holder,
    PageReason.REOPENED: _reopened,
    PageReason.DATABASE_AWAY: _database_away,
    PageReason.STATE_UNKNOWN: _state_unknown,
}


# -- news and answers ------------------------------------------------------------------------------


def _answer(voice: Wording, context: NoticeContext) -> str:
    if context.facts.get("stays") and context.incident.state is State.ACKED and context.incident.holder == voice.reader:
        return _unsent(voice, context)
    if context.incident.state is not State.OPEN:
        until = undo_by(context, voice.reader)
        return f"{_state(voice, context)}{f' By link. Not you? Undo by {voice.at(until)}.' if until else ''}"
    if context.facts.get("said") in {Command.ESCALATE, Command.NO}:
        said = f'You said "{context.facts["said"]}" by link. ' if context.facts.get("by_link") else ""
        return f"Clock still running. {said}{_called(voice, context)}"
    coming = voice.next()
    who = _cut(voice.team(coming.people), _NAMES) if coming and coming.people else ""
    then = f" {who} at {voice.at(coming.at)}." if coming and who else ""
    if context.facts.get("said") == Command.NOTHING and voice.reader not in context.incident.paged:
        return f'NOT STOPPED: you were not paged. Reply "take" to our mail.{then}'
    if context.facts.get("said") == Command.NOTHING:
        return f"NOT STOPPED: your mail was kept as a note.{then}"
    return f"Clock still running.{then}"


def _called(voice: Wording, context: NoticeContext) -> str:
    """Who is called because the reader asked for the next step."""
    called = voice.called_last()
    if context.facts.get("outcome") == Outcome.NOBODY_LEFT or not called:
        return "Nobody is left to call."
    return f"{voice.team(called)} {are(called)} called now."


def _state(voice: Wording, context: NoticeContext) -> str:
    incident = context.incident
    if incident.state is State.OPEN:
        return "is open: nobody has it."
    name = voice.full(incident.holder or "")
    if incident.state is State.RESOLVED:
        return f"Closed {voice.at(incident.resolved_at)}. You need do nothing."
    if incident.holder == voice.reader:
        return f"Clock stopped: you have it since {voice.at(incident.acked_at)}."
    return f"Clock stopped: {name} has it since {voice.at(incident.acked_at)}. You need do nothing."


def _more(voice: Wording, context: NoticeContext) -> str:
    who = "the reporter" if context.facts.get("is_reporter") else "somebody else"
    return f"MORE from {who}: see your mail"


def _came_again(voice: Wording, context: NoticeContext) -> str:
    if context.incident.state is State.OPEN:
        return f"CAME AGAIN, the same mail; nobody has it. {_ack_by(voice)}."
    return "CAME AGAIN, the same mail: see your mail."


def _storm(voice: Wording, context: NoticeContext) -> str:
    if context.facts.get("unlike"):
        return "STORM, some mails unlike the rest: see your mail."
    return f"STORM goes on, {context.facts.get('count')} more mails. {_state(voice, context)}"


def _pages_bundled(voice: Wording, context: NoticeContext) -> str:
    who = _cut(voice.full(str(context.facts.get("person", ""))), _NAME)
    return f"MANY PANICS: {who} is paged by digests. {_state(voice, context)}"


def _which(voice: Wording, context: NoticeContext) -> str:
    return 'WHICH ONE? Your reply named none. "ack all", or "ack" and a REF: see your mail.'


def _issue_closed(voice: Wording, context: NoticeContext) -> str:
    if context.incident.state is State.ACKED:
        return "NOT CLOSED here: the issue was closed before it was taken. See your mail."
    return f"NOT STOPPED: somebody else closed the issue. {_ack_by(voice)}."


def _issue_reopened(voice: Wording, context: NoticeContext) -> str:
    if context.incident.state is not State.RESOLVED:
        return "ISSUE OPENED AGAIN in GitLab. See your mail."
    return "ISSUE OPENED AGAIN in GitLab; it is closed here, nobody is called. See your mail."


def _issue_altered(voice: Wording, context: NoticeContext) -> str:
    if not context.facts.get("exposed"):
        return "ISSUE CHANGED: type or label taken off. See your mail."
    stays = "and stays so" if context.facts.get("stands") else "switched on again"
    return f"ISSUE NOT CONFIDENTIAL, {stays}: see who read it. See your mail."


def _issue_went(voice: Wording, context: NoticeContext) -> str:
    where = "not confidential there. " if not context.facts.get("confidential", True) else ""
    return f"ISSUE WENT ELSEWHERE, {where}{_state(voice, context)} See your mail."


def _offer_failed(voice: Wording, context: NoticeContext) -> str:
    return f"STILL YOURS: {voice.full(str(context.facts.get('to', '')))} does not take it."


def _undone(voice: Wording, context: NoticeContext) -> str:
    by, undid = str(context.facts.get("by", "")), context.facts.get("undid")
    who_does = "you do" if by == voice.reader else f"{_cut(voice.first(by), _NAME)} does"
    if context.incident.state is State.OPEN:
        return f"NOT STOPPED: {who_does} not have it. {_ack_by(voice)}."
    if context.incident.state is State.RESOLVED or undid not in {"take", "resolve"}:
        return _state(voice, context)
    return (
        f"{'NOT CLOSED' if undid == 'resolve' else f'CHANGED BACK: {who_does} not have it'}. {_state(voice, context)}"
    )


def _opened_again(voice: Wording, context: NoticeContext) -> str:
    incident = context.incident
    if incident.state is not State.OPEN:
        return _state(voice, context)
    return (
        f"NOT YOURS any more: {voice.first(str(context.facts.get('by', '')))} asked for help. Take it, see your mail."
    )


def _unsent(voice: Wording, context: NoticeContext) -> str:
    return "NOT SENT to the reporter: what you wrote. See your mail."


def _sent_without(voice: Wording, context: NoticeContext) -> str:
    return "SENT to the reporter, WITHOUT the attachment. See your mail."


def _shift_ended(voice: Wording, context: NoticeContext) -> str:
    incident = context.incident
    if incident.state is State.ACKED and incident.holder == voice.reader:
        return "YOUR SHIFT ENDED: still yours. Hand it over, see your mail."
    return f"Your shift ended. It {_state(voice, context)}" if incident.state is State.OPEN else _state(voice, context)


def _shift_began(voice: Wording, context: NoticeContext) -> str:
    incident = context.incident
    if incident.state is not State.ACKED or incident.holder != context.facts.get("holder"):
        return _state(voice, context)
    return f"FROM THE LAST SHIFT: {voice.full(incident.holder or '')} has it. Take it, see your mail."


def _link_revoked(voice: Wording, context: NoticeContext) -> str:
    return "YOUR LINK IS REPLACED: others have read it. The new one is in your mail."


def _severity(voice: Wording, context: NoticeContext) -> str:
    return f"GRADED S{context.incident.severity} NOW. {_state(voice, context)}"


_TOLD: Mapping[str, Callable[[Wording, NoticeContext], str]] = {
    "answer": _answer,
    "more": _more,
    "came_again": _came_again,
    "storm": _storm,
    "pages_bundled": _pages_bundled,
    "which": _which,
    "issue_closed": _issue_closed,
    "issue_reopened": _issue_reopened,
    "issue_altered": _issue_altered,
    "issue_went": _issue_went,
    "offer_failed": _offer_failed,
    "opened_again": _opened_again,
    "undone": _undone,
    "link_revoked": _link_revoked,
    "severity": _severity,
    "unsent": _unsent,
    "sent_without": _sent_without,
    "shift_ended": _shift_ended,
    "shift_began": _shift_began,
}
