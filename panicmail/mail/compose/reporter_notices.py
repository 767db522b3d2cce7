"""What the reporter is told: the receipt, once, and what became of it.

A receipt quotes nothing of the report but its subject, names none of our people and no link a stranger could use. It
says what happens next and by when, and that nothing depends on an answer. Only the holder's own words come with a
name: they are shown as anybody's, marked, and no link among them can be followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from panicmail.incident.escalation_policy import OPERATOR
from panicmail.incident.model import State
from panicmail.incident.reply_tokens import ReplyRoutes
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import ComposedMail, Link, TextLine, call, headline, ours, sealed, theirs
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.thread_ids import reporter_envelope, subject
from panicmail.mail.compose.wording import Wording


def receipt(context: NoticeContext, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """The reporter's first answer. `key`: the outbox row's; a retry repeats its Message-ID."""
    lines = _receipt(Wording.to_reporter(context), context)
    envelope = reporter_envelope(context, routes, _subject(context), key=key)
    if answered := sanitize.message_id(str(context.facts.get("message_id") or "")):
        envelope = replace(envelope, in_reply_to=answered, references=(answered,))
    return sealed(envelope, lines)


def news(context: NoticeContext, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """What `context.facts` says became of it."""
    what = str(context.facts.get("what"))
    lines = _NEWS.get(what, _tell_unknown_news)(Wording.to_reporter(context), context)
    if context.incident.drill:
        lines.insert(1, ours("This is a drill."))
    return sealed(reporter_envelope(context, routes, _subject(context), key=key), lines)


def _subject(context: NoticeContext) -> str:
    return subject("Re:", context, suffix=f" [{context.incident.ref}]")


def _receipt(voice: Wording, context: NoticeContext) -> list[TextLine]:
    incident, organisation = context.incident, context.organisation
    first = f"We have your report, {voice.zoned(incident.accepted_at)}. Reference {incident.ref}."
    if context.facts.get("mail"):  # one more of a storm
        at = voice.zoned(voice.said_at(context.facts))
        first = f"We have your mail, {at}. It is kept with the others you sent, as {incident.ref}."
    return [
        headline(first),
        *map(ours, _what_happens(voice)),
        ours("Stay reachable; reply with your phone number if you can."),
        ours("Nothing changes if you cannot reply."),
        *([call("Hotline: ", organisation.hotline)] if organisation.hotline else []),
        *map(ours, organisation.advice),
        *map(ours, _belongs(context)),
        *map(ours, _questions(context)),
        *_link(context),
        *([ours("This is a drill.")] if incident.drill else []),
    ]


def _belongs(context: NoticeContext) -> list[str]:
    """Where such reports go as well; what the reporter did with a phish is no news to them."""
    scope = context.organisation.scope
    return [remark for remark in context.remarks if remark in scope.values()]


def _questions(context: NoticeContext) -> list[str]:
    asked = context.organisation.questions
    if not asked or context.facts.get("mail"):
        return []
    return ["Please answer what you can, by reply and number:", *(f"{n}. {each}" for n, each in enumerate(asked, 1))]


def _what_happens(voice: Wording) -> list[str]:
    incident, policy = voice.incident, voice.organisation.policy
    if incident.state is State.ACKED:
        return [f"An engineer has it since {voice.zoned(incident.acked_at)} and will contact you."]
    if incident.state is State.RESOLVED:
        return [f"It was closed at {voice.zoned(incident.resolved_at)} by the security team."]
    if not incident.paged and incident.next_step_at and incident.next_step_at > voice.now:
        at = voice.zoned(incident.next_step_at)
        panic = voice.organisation.panic
        return [
            f"It is taken for something that can wait: the security engineer on call is called at {at}.",
            f"It cannot wait? Write anew to {panic}, with another subject: somebody is called at once.",
        ]
    on_call = [paged for paged in incident.paged.values() if paged.role != OPERATOR]
    called = "The security engineer on call is being called now." if on_call else "We are calling people now."
    later = incident.step < policy.last and policy.people(policy.managers, voice.organisation.who)
    manager_at = policy.step_at(incident.steps_from_at, policy.last)
    if later and manager_at > voice.now:
        return [called, f"If nobody answers by {voice.at(manager_at)}, the security manager is called."]
    return [called, "The call is repeated until somebody answers."]


def _link(context: NoticeContext) -> list[TextLine]:
    url = sanitize.one_line(context.incident.issue_url or "", 500)
    if not url:
        return []
    before = "Follow it here: " if context.organisation.reporter_access else "If you have access: "
    return [ours(before + url, Link(url, url))]


# -- news ------------------------------------------------------------------------------------------


def _acked(voice: Wording, context: NoticeContext) -> list[TextLine]:
    at = voice.zoned(voice.said_at(context.facts))
    paged = context.incident.paged.get(str(context.facts.get("holder", "")))
    manager = paged is not None and paged.role in context.organisation.policy.managers
    who = "The security manager" if manager else "An engineer"
    return [headline(f"{who} acknowledged {context.incident.ref} at {at} and will contact you."), *_link(context)]


def _breached(voice: Wording, context: NoticeContext) -> list[TextLine]:
    # Not "No engineer ...": such a line reads as a no where its quote marks are lost.
    first = headline(f"{context.incident.ref}: no engineer has answered yet.")
    hotline = [call("Hotline: ", context.organisation.hotline)] if context.organisation.hotline else []
    called = [p.last_at for p in context.incident.paged.values() if p.role in context.organisation.policy.managers]
    if not called or context.organisation.policy.last == 0:
        return [first, ours("We keep calling until somebody answers."), *hotline]
    said = f"The security manager was called at {voice.zoned(max(called))} and is called again until somebody answers."
    return [first, ours(said), *hotline]


def _resolved(voice: Wording, context: NoticeContext) -> list[TextLine]:
    at = voice.zoned(voice.said_at(context.facts))
    return [
        headline(f"{context.incident.ref} was closed at {at} by the security team."),
        ours("Something still wrong? Reply: that opens it again as urgent."),
    ]


def _not_closed(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """Closing it was undone a moment later."""
    at, ref = voice.zoned(voice.said_at(context.facts)), context.incident.ref
    has_it = " An engineer has it, as before." if context.incident.state is State.ACKED else ""
    return [headline(f"{ref} was not closed after all; that was put right at {at}.{has_it}"), *_link(context)]


def _reopened(voice: Wording, context: NoticeContext) -> list[TextLine]:
    at = voice.zoned(voice.said_at(context.facts))
    return [
        headline(f"{context.incident.ref} is open again as urgent since {at}. We are calling people now."),
        ours("Stay reachable; reply with your phone number if you can."),
    ]


def _quote_holder(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """What the holder writes to the reporter. Their words come last: no line of ours follows them."""
    name, ref = voice.full(str(context.facts.get("by", ""))), context.incident.ref
    hotline = [call("Hotline: ", context.organisation.hotline)] if context.organisation.hotline else []
    return [
        headline(f"{name} of the security team writes to you about {ref}. Reply to this mail to answer."),
        *hotline,
        ours(f"{name} writes:"),
        *map(theirs, sanitize.report_lines(str(context.facts.get("text") or ""))),
    ]


def _issue(voice: Wording, context: NoticeContext) -> list[TextLine]:
    return [headline(f"{context.incident.ref} has its issue now; nothing else has changed."), *_link(context)]


def _tell_unknown_news(voice: Wording, context: NoticeContext) -> list[TextLine]:
    """A kind of news this version has no words for."""
    return [headline(f"There is news of {context.incident.ref}; the security team will contact you."), *_link(context)]


_NEWS: Mapping[str, Callable[[Wording, NoticeContext], list[TextLine]]] = {
    "acked": _acked,
    "breached": _breached,
    "resolved": _resolved,
    "not_closed": _not_closed,
    "reopened": _reopened,
    "issue": _issue,
    "said": _quote_holder,
}
