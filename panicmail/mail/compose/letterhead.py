"""Mails outside an incident's thread: from whom, to whom and when; and those of them that nobody answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from panicmail.incident.classify import Report
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import ComposedMail, Envelope, TextLine, sealed
from panicmail.mail.compose.notice_context import NoticeContext

#: The last line of a mail that nobody answers.
NO_REPLY = "Do not reply to this mail: a reply is taken for a new report."


@dataclass(frozen=True, slots=True)
class Letterhead:
    """From whom a mail is, to whom, and of when."""

    sender: str  #: address
    person: Person
    now: datetime

    def local_id(self, kind: str, key: str) -> str:
        """What is before the @ in the Message-ID of one of this kind. `key` tells it from the others to the person."""
        return f"{kind}.{digest(f'{self.person.id} {key}')}"


def announcement(
    head: Letterhead, message_id: str, subject: str, lines: Sequence[TextLine], sender_name: str = "panicmail"
) -> ComposedMail:
    """A mail that nobody answers."""
    return sealed(
        Envelope(
            sender=head.sender,
            sender_name=sender_name,
            to=head.person.email,
            to_name=head.person.name,
            subject=subject,
            message_id=message_id,
            date=head.now,
            automatic="auto-generated",
            silences_robots=True,
        ),
        lines,
    )


# -- Which mail of ours is which, and what it answers: Message-IDs and threads.
#
# One incident is one thread. At its head stands a message nobody ever got, its root; a person's first page refers
# to it, everything later to them refers to that page. Every Message-ID carries a token that names incident and
# person, so a reply finds its incident by In-Reply-To even where addresses carry none. An id is made of what the
# mail is about, never of when it is written: a retry repeats it.


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


# -- How much of a report the mails to one person show (`people.KEY.detail`): all, its subject and sender, or its REF.

#: Of what a mail tells about, the sender's words and files; and who they are.
_WORDS, _NAMES = ("text", "attachments", "new"), ("from_name", "from_address", "sender")
_SUBJECT, _REPORTER = "Panic report", "a reporter"


def within(context: NoticeContext, detail: str) -> NoticeContext:
    """The context with no more in it than a person's mails may show.

    Args:
        detail: "full", "subject" or "ref".
    """
    if detail == "full":
        return context
    left_out = (*_WORDS, *_NAMES) if detail == "ref" else _WORDS
    report = context.report
    kept = replace(report, text="", reply_text="", attachments=(), phones=(), links=())
    if detail == "ref":
        kept = Report(subject=_SUBJECT, from_name=_REPORTER)
    return replace(
        context,
        incident=incident_within(context.incident, detail),
        report=kept,
        facts={name: value for name, value in context.facts.items() if name not in left_out},
        flags=() if detail == "ref" else context.flags,
        known_as=None if detail == "ref" else context.known_as,
        detail=detail,
    )


def incident_within(incident: Incident, detail: str) -> Incident:
    """The incident with no more in it than a person's mails may show."""
    if detail != "ref":
        return incident
    return replace(incident, subject=_SUBJECT, reporter_name=_REPORTER, reporter_address="")
