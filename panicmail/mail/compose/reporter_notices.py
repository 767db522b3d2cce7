"""What the reporter is told: the receipt, once, and what became of it.

A receipt quotes nothing of the report but its subject, names none of our people and no link a stranger could use. It
says what happens next and by when, and that nothing depends on an answer. Only the holder's own words come with a
name: they are shown as anybody's, marked, and no link among them can be followed.
"""

from __future__ import annotations

from dataclasses import replace

from panicmail.incident import notice_kinds, typed_facts
from panicmail.incident.notice_kinds import News, ReceiptFacts
from panicmail.incident.reply_tokens import ReplyRoutes
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.catalogue import Notice
from panicmail.mail.compose.letterhead import reporter_envelope, subject
from panicmail.mail.compose.message import ComposedMail, TextLine, ours, sealed
from panicmail.mail.compose.notice_context import NoticeContext
from panicmail.mail.compose.wording import Wording


def receipt(context: NoticeContext, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """The reporter's first answer. `key`: the outbox row's; a retry repeats its Message-ID."""
    facts = typed_facts.read(ReceiptFacts, context.facts)
    envelope = reporter_envelope(context, routes, _subject(context), key=key)
    if answered := sanitize.message_id(facts.message_id):
        envelope = replace(envelope, in_reply_to=answered, references=(answered,))
    return sealed(envelope, _lines("receipt", facts, context))


def news(context: NoticeContext, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """What `context.facts` says became of it."""
    said = notice_kinds.news(context.facts)
    first, *others = _lines(said.what, said, context)
    drill = [ours("This is a drill.")] if context.incident.drill else []
    return sealed(reporter_envelope(context, routes, _subject(context), key=key), [first, *drill, *others])


def _lines(name: str, facts: News | ReceiptFacts, context: NoticeContext) -> list[TextLine]:
    voice = Wording.to_reporter(context)
    return Notice(f"reporter/{name}", n=facts, v=voice, c=context, i=context.incident).lines()


def _subject(context: NoticeContext) -> str:
    return subject("Re:", context, suffix=f" [{context.incident.ref}]")
