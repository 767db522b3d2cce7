"""How a page begins: who must do what by when, then why. One function for each word a page can carry.

Each says only what is true of the incident as it stands: silence is measured from a first page and claimed of nobody
who answered, was away, or was paged a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from panicmail.incident.model import PageReason, State
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import TextLine, headline, ours, theirs
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.wording import Wording, are, capital, listed, role_name, span

Opening = Callable[[Wording, NoticeContext], list[TextLine]]


def state_word(voice: Wording, word: PageReason) -> str:
    """What stands between the tag and the report's subject, with what ends it."""
    holder = voice.incident.holder
    drill = "DRILL " if voice.incident.drill else ""
    said = {
        PageReason.PAGE: "",
        PageReason.STILL_OPEN: "STILL OPEN:",
        PageReason.YOURS_NOW: "YOURS NOW:",
        PageReason.STILL_YOURS: "STILL YOURS?",
        PageReason.STATUS: "STILL YOURS?",
        PageReason.HANDED: "HANDED TO YOU:",
        PageReason.SILENT_HOLDER: f"{voice.first(holder)[:20].upper()} SILENT:" if holder else "HOLDER SILENT:",
        PageReason.REOPENED: "OPEN AGAIN:",
        PageReason.DATABASE_AWAY: "DATABASE AWAY:",
        PageReason.STATE_UNKNOWN: "STATE UNKNOWN:",
    }[word]
    return drill + said if said else drill.rstrip() + (":" if drill else "")


# -- nobody has it ---------------------------------------------------------------------------------


def first_page(voice: Wording, context: NoticeContext) -> list[TextLine]:
    if context.incident.once:
        return [
            headline(f'{voice.first(voice.reader)}: have a look; reply "ack" if it needs anybody.'),
            ours("You are paged once and nobody else is called: it does not look like a colleague's report."),
        ]
    return [
        headline(f"{voice.first(voice.reader)}: {voice.ask()}."),
        *_why_line(voice, context),
        _offer_no(voice),
    ]


def still_open(voice: Wording, context: NoticeContext) -> list[TextLine]:
    me = voice.first(voice.reader)
    coming = voice.next()
    if coming is None or not coming.people:
        return [
            headline(f"{me}: nobody has this. {capital(voice.ask())}."),
            *_why_line(voice, context),
            _offer_no(voice),
        ]
    others = voice.called_on_no()
    no = f', or "no" to call {voice.firsts(others)} now' if others else ""
    return [
        headline(f"{me}: nobody has this. {voice.what_follows()}"),
        ours(f'Reply "ack"{no or " so the calling stops"}.'),
        *_why_line(voice, context),
    ]


def yours_now(voice: Wording, context: NoticeContext) -> list[TextLine]:
    return [
        headline(f'{voice.first(voice.reader)}: {why_you(voice, context.facts)}. Reply "ack" so the calling stops.'),
        ours(f"Answer{voice.or_else()}."),
        ours(_nobody_since(voice)),
        _your_ack(voice),
    ]


def open_again(voice: Wording, context: NoticeContext) -> list[TextLine]:
    first = headline(f"{voice.first(voice.reader)}: {voice.ask()}.")
    cause = context.facts.get("cause")
    opener = str(cause.get("issue_reopened_by") or "") if isinstance(cause, Mapping) else ""
    by = "you" if opener == voice.reader else voice.full(opener)
    what = f"{by} opened its issue again in GitLab" if opener else "there is more in its thread"
    lines = [first, ours(f"Why: it was over, and {what}. You had it last.")]
    new = sanitize.report_lines(str(context.facts.get("text", "")), 1024)
    return [*lines, ours("What came now (quoted, untrusted):"), *map(theirs, new)] if new else lines


def _offer_no(voice: Wording) -> TextLine:
    others = voice.called_on_no()
    if others:
        return ours(f'Cannot take it? Reply "no" and {voice.firsts(others)} {are(others)} called at once.')
    other = voice.somebody_else()
    if other is None:
        return ours("Cannot take it? Telephone somebody: nobody else is left to call.")
    return ours(f'Cannot take it? Name somebody: reply "page {other.id}" and {voice.first(other.id)} is called.')


def _your_ack(voice: Wording) -> TextLine:
    other = voice.somebody_else()
    return ours("Your ack makes it yours." + (f' Reply "page {other.id}" for someone else.' if other else ""))


def _nobody_since(voice: Wording) -> str:
    incident = voice.incident
    if incident.holder and incident.acked_at and incident.opened_at > incident.acked_at:
        had = f"{voice.first(incident.holder)} had it from {voice.at(incident.acked_at)}"
        return f"{had}; since {voice.zoned(incident.opened_at)} nobody has it."
    return f"Since {voice.zoned(incident.opened_at)} nobody has it."


def _why_line(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """Why now, where somebody's act or absence caused it, or it was somebody's before."""
    caused = _cause(voice, context.facts)
    why = f"Why now: {caused}." if caused else _stand_in(voice)
    before = [_nobody_since(voice)] if context.incident.opened_at > context.incident.accepted_at else []
    return [ours(each) for each in [why, *before] if each]


def _stand_in(voice: Wording) -> str:
    """A sentence for who answers for a gap; "" when the roster names them."""
    paged = voice.incident.paged.get(voice.reader)
    if paged is None or not voice.organisation.has_gap(paged.role):
        return ""
    return f"Why you: nobody is on call as {role_name(paged.role)}, and you answer for gaps."


def why_you(voice: Wording, facts: Mapping[str, Any]) -> str:
    """Why the reader and not those called before, without its full stop."""
    return _cause(voice, facts) or _silence(voice) or _absence(voice) or _gap(voice) or "nobody has this yet"


def _cause(voice: Wording, facts: Mapping[str, Any]) -> str:
    cause = facts.get("cause")
    if not isinstance(cause, Mapping):
        return ""
    if by := cause.get("declined_by"):
        said = _quote_words(cause.get("words", ""))
        return f"{voice.first(str(by))} asks for you" + (f' ("{said}")' if said else "")
    if by := cause.get("escalated_by"):
        return f'{voice.first(str(by))} asks for you ("escalate")'
    if gone := cause.get("holder_gone"):
        return f"{voice.full(str(gone))} had it and is no longer in panicmail's configuration"
    if by := cause.get("issue_reopened_by"):
        return f"{voice.full(str(by))} opened its issue again in GitLab"
    if since := cause.get("on_call_since"):
        return f"you came on call at {voice.at(voice.said_at({'at': since}))}"
    if away := cause.get("unreachable"):
        return _tell_why_unreachable(voice, str(away), str(cause.get("why", "")))
    if why := cause.get("last_resort"):
        roles = listed(role_name(str(role)) for role in cause.get("roles", ()))
        left = f"is on call as {roles}" if why == "nobody_on_call" else "else on call is left"
        return f"nobody {left}, so the operators are called"
    return ""


def _quote_words(text: object) -> str:
    return sanitize.words(str(text or ""), 40).replace('"', "'")


def _tell_why_unreachable(voice: Wording, person: str, why: str) -> str:
    if "out of office" in why.lower():
        return f"{voice.first(person)} is out of office"
    if why.startswith("declined"):
        return f"{voice.first(person)} cannot take it"
    reason = _quote_words(why.removeprefix("every way failed").strip(" :()"))
    return f"every way to {voice.first(person)} failed{f' ({reason})' if reason else ''}"


def _silence(voice: Wording) -> str:
    """Who was asked and gave no answer, and for how long at least."""
    asked = {p: at for p in voice.others_paged() if (at := _asked_at(voice, p)) is not None}
    if not asked:
        return ""
    return f"{voice.team(list(asked))} gave no answer in {span(voice.now - max(asked.values()))}"


def _asked_at(voice: Wording, person: str) -> datetime | None:
    """When they were first asked since it is open; None when they are away or were asked only just now."""
    paged, opened = voice.incident.paged[person], voice.incident.opened_at
    at = paged.at if paged.at >= opened else paged.last_at
    enough = timedelta(seconds=1) if voice.clock.seconds else timedelta(minutes=1)
    return None if person in voice.incident.away or at < opened or voice.now - at < enough else at


def _absence(voice: Wording) -> str:
    away = [p for p in voice.others_paged() if p in voice.incident.away]
    return listed(_tell_why_unreachable(voice, p, voice.incident.away[p]) for p in away[:3])


def _gap(voice: Wording) -> str:
    """Roles of the steps before this one that nobody fills; "" when anybody else was paged."""
    if voice.others_paged():
        return ""
    policy = voice.organisation.policy
    roles = dict.fromkeys(role for step in policy.steps[: max(voice.incident.step, 0)] for role in step.page)
    empty = [role_name(role) for role in roles if not voice.organisation.who(role)]
    return f"nobody is on call as {listed(empty)}" if empty else ""


# -- somebody has it -------------------------------------------------------------------------------


def still_yours(voice: Wording, context: NoticeContext) -> list[TextLine]:
    others = voice.called_for_silent()
    by = f" by {voice.zoned(context.incident.remind_at)}" if context.incident.remind_at else ""
    called = f"{voice.team(others)} {are(others)} called" if others else "you are asked again"
    return [
        headline(f"{voice.first(voice.reader)}: reply with one line of status{by}, or {called}."),
        ours(f"Why: you took this at {voice.zoned(context.incident.acked_at)}; {_tell_what_is_missing(context)}."),
    ]


def status(voice: Wording, context: NoticeContext) -> list[TextLine]:
    incident = context.incident
    heard_at = max(filter(None, (incident.acked_at, incident.worked_at)), default=context.now)
    return [
        headline(f"{voice.first(voice.reader)}: reply with one line of status, or that it is over."),
        ours(f"Why: you have this since {voice.zoned(incident.acked_at)}; it is quiet since {voice.zoned(heard_at)}."),
        ours('Is it over? Then reply "resolve" and no more. Nobody else is called; you are asked again.'),
    ]


def _tell_what_is_missing(context: NoticeContext) -> str:
    """What is missing of a silent holder."""
    is_unanswered = "answer" in str(context.facts.get("why", ""))
    return "a message in the thread is not answered" if is_unanswered else "no sign of work seen since"


def handed(voice: Wording, context: NoticeContext) -> list[TextLine]:
    cause = context.facts.get("cause")
    giver = str(cause["handed_by"]) if isinstance(cause, Mapping) and cause.get("handed_by") else ""
    gives = f"{voice.first(giver) or 'somebody'} hands this to you"
    line = headline(f'{voice.first(voice.reader)}: {gives}. Reply "ack" so that it is yours.')
    holder = context.incident.holder
    if context.incident.state is State.ACKED and holder:
        name = "you have it" if holder == voice.reader else f"{voice.first(holder)} has it"
        return [line, ours(f'Until then {name}. Cannot take it? Reply "no" and that stays so.')]
    coming = voice.next()
    until = "Until then nobody has it."
    if coming and coming.people:
        until = f"Until then nobody has it, and {voice.what_follows()}"
    return [line, ours(until), _offer_no(voice)]


def silent_holder(voice: Wording, context: NoticeContext) -> list[TextLine]:
    me, holder = voice.first(voice.reader), context.incident.holder or ""
    missing = _tell_what_is_missing(context)
    if holder == voice.reader:
        return [
            headline(f"{me}: reply with one line of status."),
            ours(f"Why: you took this at {voice.zoned(context.incident.acked_at)}; {missing}."),
        ]
    return [
        headline(f'{me}: call {voice.first(holder)} now, or reply "take" so that it is yours.'),
        ours(f"Why: {voice.first(holder)} took this at {voice.zoned(context.incident.acked_at)}; {missing}."),
    ]


# -- the database is away --------------------------------------------------------------------------


def database_away(voice: Wording, context: NoticeContext) -> list[TextLine]:
    others = voice.others_paged()
    told = f"{voice.team(others)} {are(others)} told the same; call each other" if others else "nobody else is called"
    return [
        headline(f"{voice.first(voice.reader)}: act on this now. {capital(told)}."),
        ours(f"Why: panicmail's database has been away since {_tell_since(voice, context)}, so nothing escalates."),
        ours("Your reply is kept, and counts once the database is back. Until then panicmail answers nobody."),
    ]


def state_unknown(voice: Wording, context: NoticeContext) -> list[TextLine]:
    others = voice.others_paged()
    ask = f"call {voice.team(others)} now, or act on this yourself" if others else "act on this now"
    turn = voice.zoned(voice.said_at({"at": context.facts.get("turn_at")}))
    since = _tell_since(voice, context)
    return [
        headline(f"{voice.first(voice.reader)}: {ask}. Your turn came at {turn}."),
        ours(f"Why: panicmail's database has been away since {since}, so it cannot say who has this."),
        ours("Your reply is kept, and counts once the database is back."),
    ]


def _tell_since(voice: Wording, context: NoticeContext) -> str:
    return voice.zoned(voice.said_at({"at": context.facts.get("since")}))


OPENINGS: Mapping[PageReason, Opening] = {
    PageReason.PAGE: first_page,
    PageReason.STILL_OPEN: still_open,
    PageReason.YOURS_NOW: yours_now,
    PageReason.STILL_YOURS: still_yours,
    PageReason.STATUS: status,
    PageReason.HANDED: handed,
    PageReason.SILENT_HOLDER: silent_holder,
    PageReason.REOPENED: open_again,
    PageReason.DATABASE_AWAY: database_away,
    PageReason.STATE_UNKNOWN: state_unknown,
}
