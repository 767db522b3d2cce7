"""What our own people are told: what others did, what more came, and the answer to what they wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from panicmail.incident.model import Outcome, Owed, State
from panicmail.incident.people import Person
from panicmail.incident.reply_commands import Command
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.incident.sender_proof import sender_line
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.command_replies import answered
from panicmail.mail.compose.message import ComposedMail, TextLine, headline, ours, sealed, theirs
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.sections import (
    NOT_SHOWN,
    NoticeFacts,
    attached_in,
    clock_now,
    goes_to_reporter,
    issue,
    rests_on,
    stopped,
    tap,
    tell_how_to_begin_anew,
    to_reporter,
    writer,
)
from panicmail.mail.compose.shift_notices import shift_began, shift_ended
from panicmail.mail.compose.thread_ids import answer_envelope, subject
from panicmail.mail.compose.undelivered_to_reporter import sent_without, unsent
from panicmail.mail.compose.wording import Wording, are, capital, listed

#: So many REFs are named of a digest that is asked about.
_REFS_SHOWN = 20


def tell(context: NoticeContext, person: Person, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """What `context.facts` says to `person`. `key`: the outbox row's; a retry repeats its Message-ID."""
    voice = Wording.to(context, person)
    told = _TELLERS.get(str(context.facts.get("what")), _tell_unknown_news)(voice, context)
    tag, lines = f"[{context.incident.ref}]", [*told.lines]
    if context.incident.drill:
        tag, lines = f"{tag} DRILL", [lines[0], ours("This is a drill. Act as if it were real."), *lines[1:]]
    title = f"{tag} {told.subject}" if told.subject else subject(tag, context)
    envelope = answer_envelope(context, person, routes, title[:120], key=key)
    if context.facts.get("what") == "more" and _replies_go_out(context):
        envelope = replace(envelope, reply_to=context.conversation)
    if digest := context.facts.get("digest"):
        envelope = replace(envelope, reply_to=routes.reply_to(Purpose.DIGEST, str(digest), person.id))
    return sealed(envelope, lines)


def _acked_by(voice: Wording, context: NoticeContext) -> NoticeFacts:
    holder, before = str(context.facts.get("holder", "")), context.facts.get("before")
    name, at = voice.full(holder), voice.zoned(voice.said_at(context.facts))
    taken = before == voice.reader
    first = f"{name} has taken it over from you, {at}." if taken else f"{name} has it since {at}."
    return NoticeFacts(
        stopped(name),
        [
            headline(f"{first} You need do nothing."),
            *rests_on(context),
            ours('Was this wrong? Reply "take" so that it is yours.'),
            issue(context.incident),
        ],
    )


def _answer(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """What was done by link is answered as a mail is, to whoever's link it was: it may have been a stranger."""
    told = answered(voice, context)
    if not context.facts.get("by_link"):
        return told
    first, *others = told.lines
    return NoticeFacts(told.subject, [first, *_not_you(voice, context), *others])


def undo_by(context: NoticeContext, reader: str) -> datetime | None:
    """Until when the reader's link undoes what `context.facts` says was done by it; None when it does not any more."""
    incident, by = context.incident, context.facts.get("undo_by")
    has_it = incident.holder == reader if incident.state is State.ACKED else incident.resolved_by == reader
    if not by or not has_it or not context.link:
        return None
    until = datetime.fromisoformat(str(by))
    return until if context.now <= until else None


def _not_you(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """What the reader can do about it if somebody else pressed."""
    incident, until = context.incident, undo_by(context, voice.reader)
    if until is not None:
        return tap(context, f'Was it not you? Open the link and press "Undo" by {voice.zoned(until)}: ')
    if context.facts.get("outcome") not in {Outcome.DONE, Outcome.HOW_TO_CLOSE, Outcome.NOBODY_LEFT}:
        return []  # nothing was done
    if incident.state is State.OPEN and context.facts.get("said") in {Command.NO, Command.ESCALATE}:
        return [
            *rests_on(context),
            ours('Was it not you? Who was called stays called; reply "ack" so that it is yours.'),
        ]
    if incident.state is State.ACKED and incident.holder == voice.reader:
        return [ours('Was it not you? Reply "no" and others are called.')]
    return []


#: What can be undone, in words.
_UNDID = {"ack": "the acknowledgement", "take": "taking it over", "resolve": "closing it"}


def _undone(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """Somebody says within two minutes that what was done by their link was not their doing; they are told as well."""
    by, at = str(context.facts.get("by", "")), voice.zoned(voice.said_at(context.facts))
    runs, is_theirs = context.incident.state is State.OPEN, by == voice.reader
    who, undid = "Your link" if is_theirs else voice.full(by), _UNDID.get(str(context.facts.get("undid")), "it")
    first = f"{voice.first(voice.reader)}: {_still_ask(voice)}" if runs else clock_now(voice)
    return NoticeFacts(
        _undone_subject(context, "you do" if is_theirs else f"{voice.full(by)} does"),
        [
            headline(first),
            ours(f"Why: {who} undid {undid} at {at}; it counts as never done."),
            *rests_on(context),
            *tap(context),
            issue(context.incident),
        ],
    )


def _undone_subject(context: NoticeContext, who_does: str) -> str:
    state = context.incident.state
    if state is State.OPEN:
        return f"Clock still running: {who_does} not have it"
    if context.facts.get("undid") == "resolve":
        return "Not closed after all" if state is State.ACKED else ""
    return f"Changed back: {who_does} not have it"


def _opened_again(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """To whoever had it until somebody else asked for more people."""
    incident, by = context.incident, voice.full(str(context.facts.get("by", "")))
    if incident.state is not State.OPEN:
        return NoticeFacts("", [headline(clock_now(voice)), issue(incident)])
    return NoticeFacts(
        "Clock running again: you do not have it any more",
        [
            headline(f'{voice.first(voice.reader)}: at work on it? Reply "take" so that it is yours again.'),
            ours(f"Why: {by} asked for more people at {voice.zoned(voice.said_at(context.facts))}; nobody has it now."),
            ours(voice.what_follows()),
            *tap(context),
            issue(incident),
        ],
    )


def _resolved_by(voice: Wording, context: NoticeContext) -> NoticeFacts:
    by, at = voice.full(str(context.facts.get("by", ""))), voice.zoned(voice.said_at(context.facts))
    return NoticeFacts(
        f"Closed by {by}",
        [
            headline(f"{context.incident.ref} was closed at {at} by {by}. You need do nothing."),
            *rests_on(context),
            tell_how_to_begin_anew(context),
            issue(context.incident),
        ],
    )


def _issue_closed(voice: Wording, context: NoticeContext) -> NoticeFacts:
    if context.incident.state is State.ACKED:
        return NoticeFacts(
            "The issue was closed before it was taken",
            [
                headline(f'{voice.first(voice.reader)}: is it over? Reply "resolve". It is not closed here.'),
                ours("Why: the issue in GitLab was closed before somebody took this; so that does not end it."),
                ours(clock_now(voice)),
                *tap(context),
                issue(context.incident),
            ],
        )
    return NoticeFacts(
        "Clock still running: the issue was closed",
        [
            headline(f"{voice.first(voice.reader)}: {voice.ask()}."),
            ours("Why: somebody who was not called closed the issue in GitLab. That does not stop the clock."),
            *tap(context),
            issue(context.incident),
        ],
    )


def _issue_altered(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """What every issue of ours has was taken off this one."""
    facts, incident = context.facts, context.incident
    is_exposed, taken_off = bool(facts.get("exposed")), [str(each) for each in facts.get("taken_off") or ()]
    ask = "the report was open to others; see who read it." if is_exposed else "see that this was meant."
    off = sanitize.one_line(listed(taken_off), 200)
    return NoticeFacts(
        "The issue was not confidential" if is_exposed else "The issue was changed",
        [
            headline(f"{voice.first(voice.reader)}: {ask}"),
            *(map(ours, _exposed(voice, facts)) if is_exposed else []),
            *([ours(f"Taken off the issue in GitLab: {off}. panicmail does not set it again.")] if off else []),
            ours(f"{_capital(_still_ask(voice))}" if incident.state is State.OPEN else clock_now(voice)),
            *tap(context),
            issue(incident),
        ],
    )


def _exposed(voice: Wording, facts: Mapping[str, object]) -> list[str]:
    by, at = voice.full(str(facts.get("by") or "somebody in GitLab")), str(facts.get("exposed_at") or "")
    when = f" at {voice.zoned(voice.said_at({'at': at}))}" if at else ""
    if not facts.get("stands"):
        return [f"Why: {by} switched its confidential flag off{when}. panicmail switches it on again, this once."]
    return [f"Why: {by} switched its confidential flag off{when}, for the second time, so it stays off.",
            "Not meant? Switch it on in GitLab."]  # fmt: skip


def _issue_reopened(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """It is open in GitLab and closed here, and nobody is called for it."""
    incident, by = context.incident, voice.full(str(context.facts.get("by") or "somebody in GitLab"))
    when = voice.zoned(voice.said_at({"at": context.facts.get("reopened_at")}))
    is_closed = incident.state is State.RESOLVED
    ask = f"is {incident.ref} over? Its issue is open again." if is_closed else clock_now(voice)
    return NoticeFacts(
        "The issue was opened again, nobody is called" if is_closed else "The issue was opened again",
        [
            headline(f"{voice.first(voice.reader)}: {ask}"),
            ours(f"Why: {by} opened it in GitLab at {when}. That opens nothing here."),
            ours(clock_now(voice)) if is_closed else ours("Nothing changed by that."),
            *([tell_how_to_begin_anew(context)] if is_closed else []),
            *tap(context),
            issue(incident),
        ],
    )


#: How an issue went elsewhere, before the place.
_WENT = {"moved": "moved", "duplicate": "closed as a duplicate", "promoted": "promoted to an epic"}


def _issue_went(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """It is closed, and nothing is over by that."""
    facts, incident = context.facts, context.incident
    place, by = sanitize.one_line(str(facts.get("place") or ""), 200), voice.full(str(facts.get("by") or "somebody"))
    how = _WENT.get(str(facts.get("how")), "closed")
    ask = f"{_capital(_still_ask(voice))}" if incident.state is State.OPEN else clock_now(voice)
    notes = (
        "panicmail's notes and this link follow it."
        if facts.get("followed")
        else ("panicmail cannot follow it there: its notes stay on the old issue.")
    )
    exposed = (
        []
        if facts.get("confidential", True)
        else [ours("It was NOT confidential there; panicmail is switching that on. See who read it.")]
    )
    return NoticeFacts(
        f"The issue was {how}",
        [
            headline(f"{voice.first(voice.reader)}: {incident.ref} is not over: its issue was {how} by {by}."),
            ours(f"Where: {place}" if place else "Where: GitLab does not say."),
            ours(notes),
            *exposed,
            ours(ask),
            *tap(context),
            issue(incident),
        ],
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _said_head(context: NoticeContext, text: Sequence[str]) -> str:
    """What stands above a stranger's words."""
    if context.detail != "full":
        return NOT_SHOWN
    return "They write (quoted, untrusted):" if text else "The message has no text."


def _more(voice: Wording, context: NoticeContext) -> NoticeFacts:
    incident = context.incident
    ask = _answer_them(voice) if incident.state is State.ACKED else _still_ask(voice)
    text = sanitize.report_lines(str(context.facts.get("text") or ""))
    sender = writer(context.facts.get("from_name"), context.facts.get("from_address"))
    return NoticeFacts(
        subject("", context, "More on:").strip(),
        [
            headline(f"{voice.first(voice.reader)}: {ask}"),
            ours(f"There is more on {incident.ref}, by {sender}."),
            ours(sanitize.one_line(sender_line(context.writer), 240)),
            *([] if context.facts.get("is_reporter") else [ours("The writer is not the reporter: take care.")]),
            *(
                [ours("You had a part of this message before: this is all of it.")]
                if context.facts.get("reread")
                else []
            ),
            ours(clock_now(voice)),
            *(goes_to_reporter(context) if _replies_go_out(context) else to_reporter(context)),
            *tap(context),
            issue(incident),
            *attached_in(context),
            ours(_said_head(context, text)),
            *map(theirs, text),
        ],
    )


def _replies_go_out(context: NoticeContext) -> bool:
    """Whether a reply to the mail that tells of more goes to the reporter, whose words it brings to whoever has it."""
    return bool(context.conversation) and bool(context.facts.get("is_reporter"))


def _came_again(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """The same mail once more: a server's second try, another way, or a probe that fires again."""
    incident = context.incident
    ask = _still_ask(voice) if incident.state is State.OPEN else "see whether it is the same matter."
    way = f" by {context.facts['way']}" if context.facts.get("way") in {"a mailing list", "another way"} else ""
    at = voice.zoned(voice.said_at(context.facts))
    which = "a mail with more on" if context.facts.get("more") else "the mail that opened"
    return NoticeFacts(
        "The same mail came again",
        [
            headline(f"{voice.first(voice.reader)}: {ask}"),
            ours(f"Why: {which} {incident.ref} came again{way} at {at}."),
            ours("It is kept with the first one; it opened no second incident."),
            ours(clock_now(voice)),
            *tap(context),
            issue(incident),
        ],
    )


def _storm(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """What joined a storm, to whoever has it."""
    incident, facts = context.incident, context.facts
    count, unlike, shown = (facts.get(key) for key in ("count", "unlike", "new"))
    mails = f"{count} more {'mail' if count == 1 else 'mails'}" if count else "What came"
    ask = "look at what is unlike the rest." if unlike else "nothing in them is new."
    sender = writer("", facts.get("sender"))
    new = shown if isinstance(shown, list) else []
    rest = f" The first {len(new)} of {unlike}:" if isinstance(unlike, int) and unlike > len(new) else ""
    return NoticeFacts(
        f"Storm: {mails}" + (", some unlike the rest" if unlike else ""),
        [
            headline(f"{voice.first(voice.reader)}: {ask}"),
            ours(f"Why: {sender} sends a flood; {facts.get('members')} mails joined it so far, and page nobody."),
            ours(f"Not one matter? The operator can take it apart: panicmail split {incident.ref}"),
            ours(clock_now(voice)),
            *tap(context),
            issue(incident),
            *([ours(f"Unlike the rest (quoted, untrusted).{rest}")] if new else []),
            *(line for each in new for line in _storm_mail(voice, each)),
        ],
    )


def _storm_mail(voice: Wording, mail: Mapping[str, str]) -> list[TextLine]:
    at = voice.zoned(voice.said_at(mail))
    subject_line = sanitize.one_line(mail.get("subject", ""), 200) or "(no subject)"
    return [
        ours(f"{at}:"),
        theirs(f"{sanitize.MARK}{subject_line}"),
        *map(theirs, sanitize.report_lines(mail.get("text", ""))[:8]),
    ]


def _pages_bundled(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """To the managers: somebody is paged by digests."""
    who = voice.full(str(context.facts.get("person", "")))
    return NoticeFacts(
        f"Many panics at once: {who} is paged by digests",
        [
            headline(f"{voice.first(voice.reader)}: ask {who} whether they need help."),
            ours(f"Why: so many different senders wrote within minutes that {who} gets one page for all that is new."),
            ours("Each incident has its own clock, and is escalated as ever."),
            ours(clock_now(voice)),
            issue(context.incident),
        ],
    )


def _which(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """To whoever answered a digest without saying which."""
    refs = context.facts.get("refs")
    named = [sanitize.words(str(ref), 8) for ref in refs] if isinstance(refs, list) else []
    shown = listed([*named[:_REFS_SHOWN], *([f"{len(named) - _REFS_SHOWN} more"] if len(named) > _REFS_SHOWN else [])])
    why, words = str(context.facts.get("why") or ""), sanitize.one_line(str(context.facts.get("words") or ""), 120)
    return NoticeFacts(
        "Clock still running: which one do you mean?",
        [
            headline(f'{voice.first(voice.reader)}: reply "ack all", or "ack" with the REF of each you have.'),
            ours(f"Why: {sanitize.one_line(why, 160)}. Nothing was done."),
            ours(f"It was about {shown}."),
            *([theirs(f"{sanitize.MARK}{words}")] if words else []),
        ],
    )


def _answer_them(voice: Wording) -> str:
    incident = voice.incident
    if incident.holder != voice.reader:
        return f"{voice.full(incident.holder or 'somebody')} has it, and has this message as well."
    if incident.owed is not Owed.ANSWER:
        return "see what has come; you have it."
    others = voice.called_for_silent()
    called = f", or {voice.team(others)} {are(others)} called" if others else ""
    return f"answer with one line by {voice.zoned(incident.remind_at)}{called}."


def _still_ask(voice: Wording) -> str:
    return f"nobody has this. {capital(voice.ask())}."


def _tell_unknown_news(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """A kind of news this version has no words for: the state is true whatever it was."""
    return NoticeFacts("", [headline(clock_now(voice)), issue(context.incident)])


def _offer_failed(voice: Wording, context: NoticeContext) -> NoticeFacts:
    name, why = voice.full(str(context.facts.get("to", ""))), str(context.facts.get("why", ""))
    return NoticeFacts(
        f"Still yours: {name} does not have it",
        [
            headline(f"It is still yours: {name} does not take it."),
            ours(f"Why: {sanitize.one_line(why, 120)}."),
            ours('Reply "to" and a name to offer it to somebody else, or "escalate" for more help.'),
            issue(context.incident),
        ],
    )


def _link_revoked(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """To the owner of a link that stood in somebody else's mail."""
    who = writer(context.facts.get("from_name"), context.facts.get("from_address"))
    return NoticeFacts(
        "Your link is replaced",
        [
            headline(f"{voice.first(voice.reader)}: use the link below; the one you had acts no more."),
            ours(f"Why: it stood in a mail by {who}, so others have read it. It still shows {context.incident.ref}."),
            *tap(context, "Your new link: "),
            ours(clock_now(voice)),
            issue(context.incident),
        ],
    )


def _severity(voice: Wording, context: NoticeContext) -> NoticeFacts:
    """One of ours said how grave it is, or the words of the report raised it."""
    facts, level = context.facts, context.incident.severity
    name = voice.full(str(facts["by"])) if facts.get("by") else "The report's own words"
    first = f"{voice.first(voice.reader)}: it is graded S{level} now. {clock_now(voice)}"
    policy = [ours("It follows another escalation policy from now on.")] if facts.get("policy") else []
    return NoticeFacts(
        f"Graded S{level} now",
        [
            headline(first),
            ours(f"Why: {name} said so, at {voice.zoned(voice.said_at(facts))}."),
            *rests_on(context),
            *policy,
            *tap(context),
            issue(context.incident),
        ],
    )


_TELLERS: Mapping[str, Callable[[Wording, NoticeContext], NoticeFacts]] = {
    "acked_by": _acked_by,
    "undone": _undone,
    "opened_again": _opened_again,
    "resolved_by": _resolved_by,
    "issue_closed": _issue_closed,
    "issue_altered": _issue_altered,
    "issue_reopened": _issue_reopened,
    "issue_went": _issue_went,
    "more": _more,
    "came_again": _came_again,
    "storm": _storm,
    "pages_bundled": _pages_bundled,
    "which": _which,
    "offer_failed": _offer_failed,
    "shift_ended": shift_ended,
    "shift_began": shift_began,
    "link_revoked": _link_revoked,
    "severity": _severity,
    "unsent": unsent,
    "sent_without": sent_without,
    "answer": _answer,
}
