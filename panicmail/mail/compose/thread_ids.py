"""Which mail of ours is which, and what it answers: Message-IDs and threads.

One incident is one thread. At its head stands a message nobody ever got, its root; a person's first page refers to
it, everything later to them refers to that page. Every Message-ID carries a token that names incident and person, so
a reply finds its incident by In-Reply-To even where addresses carry none. An id is made of what the mail is about,
never of when it is written: a retry repeats it.
"""

from __future__ import annotations

import hashlib

from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import Envelope
from panicmail.mail.compose.notice_context import NoticeContext


def root_id(incident: Incident, routes: ReplyRoutes) -> str:
    """The id at the head of an incident's thread."""
    return routes.message_id(Purpose.MESSAGE, incident.id)


def page_id(incident: Incident, person: str, round_: int, routes: ReplyRoutes) -> str:
    return routes.message_id(Purpose.MESSAGE, incident.id, person, round_)


def first_page_id(incident: Incident, person: str, routes: ReplyRoutes) -> str | None:
    """The id of the first page they got for it; None when they got none."""
    paged = incident.paged.get(person)
    return page_id(incident, person, paged.round, routes) if paged else None


def letter_id(incident: Incident, person: str, key: str, routes: ReplyRoutes) -> str:
    """The id of a mail that is no page. `key` tells it from the others of this incident, as its outbox row does."""
    token = routes.tokens.mint(Purpose.MESSAGE, incident.id, person)
    return routes.addresses.message_id(f"{token}.{digest(key)}")


def digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12]


def answer_envelope(context: NoticeContext, person: Person, routes: ReplyRoutes, subject: str, *, key: str) -> Envelope:
    """Of a mail that tells one of our people something: in their thread, answering their mail where they wrote one."""
    incident = context.incident
    first = first_page_id(incident, person.id, routes)
    theirs = sanitize.message_id(_text(context.facts.get("in_reply_to")))
    thread = (root_id(incident, routes), first, theirs)
    return Envelope(
        sender=context.organisation.sender,
        to=person.email,
        to_name=person.name,
        reply_to=routes.reply_to(Purpose.ANSWER, incident.id, person.id),
        subject=subject,
        message_id=letter_id(incident, person.id, key, routes),
        in_reply_to=theirs or first,
        references=tuple(each for each in thread if each),
        date=context.now,
        automatic="auto-replied",
        silences_robots=True,
    )


def reporter_envelope(context: NoticeContext, routes: ReplyRoutes, subject: str, *, key: str) -> Envelope:
    """Of a mail to the reporter, in the thread of the report where that can be named."""
    incident = context.incident
    report = sanitize.message_id(context.report.message_id or incident.message_id)
    return Envelope(
        sender=context.organisation.sender,
        to=incident.reporter_address,
        reply_to=routes.reply_to(Purpose.CONVERSATION, incident.id),
        subject=subject,
        message_id=letter_id(incident, "", key, routes),
        in_reply_to=report,
        references=(report or root_id(incident, routes),),
        date=context.now,
        automatic="auto-replied",
        silences_robots=True,
    )


def _text(fact: object) -> str | None:
    return fact if isinstance(fact, str) else None


def subject(tag: str, context: NoticeContext, state: str = "", suffix: str = "") -> str:
    """`tag`, a state word with what ends it, the report's subject, `suffix`; at most 120 characters."""
    before = f"{tag} {state} " if state else f"{tag} "
    room = 120 - len(before) - len(suffix)
    return (
        before
        + sanitize.subject(context.report.subject or context.incident.subject, context.report.text, room)
        + suffix
    )
