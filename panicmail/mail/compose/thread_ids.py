"""Which mail of ours is which, and what it answers: Message-IDs and threads.

One incident is one thread. At its head stands a message nobody ever got, its root; a person's first page refers to
it, everything later to them refers to that page. Every Message-ID carries a token that names incident and person, so
a reply finds its incident by In-Reply-To even where addresses carry none. An id is made of what the mail is about,
never of when it is written: a retry repeats it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Addresses, Purpose, TokenSigner
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.message import ComposedMail, Envelope, TextLine, sealed
from panicmail.mail.compose.notice_context import NoticeContext


def root_id(incident: Incident, tokens: TokenSigner, addresses: Addresses) -> str:
    """The id at the head of an incident's thread."""
    return addresses.message_id(tokens.mint(Purpose.MESSAGE, incident.id))


def page_id(incident: Incident, person: str, round_: int, tokens: TokenSigner, addresses: Addresses) -> str:
    return addresses.message_id(tokens.mint(Purpose.MESSAGE, incident.id, person, round_))


def first_page_id(incident: Incident, person: str, tokens: TokenSigner, addresses: Addresses) -> str | None:
    """The id of the first page they got for it; None when they got none."""
    paged = incident.paged.get(person)
    return page_id(incident, person, paged.round, tokens, addresses) if paged else None


def letter_id(incident: Incident, person: str, key: str, tokens: TokenSigner, addresses: Addresses) -> str:
    """The id of a mail that is no page. `key` tells it from the others of this incident, as its outbox row does."""
    return addresses.message_id(f"{tokens.mint(Purpose.MESSAGE, incident.id, person)}.{digest(key)}")


def digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12]


def answer_to(
    context: NoticeContext,
    person: Person,
    tokens: TokenSigner,
    addresses: Addresses,
    *,
    key: str,
    subject: str,
    lines: Iterable[TextLine],
    reply_to: str = "",
) -> ComposedMail:
    """A mail that tells one of our people something: in their thread, answering their mail where they wrote one.

    `reply_to`: where a reply goes; "" the person's own token address.
    """
    incident = context.incident
    first = first_page_id(incident, person.id, tokens, addresses)
    theirs = sanitize.message_id(_text(context.facts.get("in_reply_to")))
    thread = (root_id(incident, tokens, addresses), first, theirs)
    return sealed(
        Envelope(
            sender=context.organisation.sender,
            to=person.email,
            to_name=person.name,
            reply_to=reply_to or addresses.reply_to(tokens.mint(Purpose.ANSWER, incident.id, person.id)),
            subject=subject,
            message_id=letter_id(incident, person.id, key, tokens, addresses),
            in_reply_to=theirs or first,
            references=tuple(each for each in thread if each),
            date=context.now,
            automatic="auto-replied",
            silences_robots=True,
        ),
        list(lines),
    )


def word_to_reporter(
    context: NoticeContext,
    tokens: TokenSigner,
    addresses: Addresses,
    *,
    key: str,
    subject: str,
    lines: Iterable[TextLine],
) -> ComposedMail:
    """A mail to the reporter, in the thread of the report where that can be named."""
    incident = context.incident
    report = sanitize.message_id(context.report.message_id or incident.message_id)
    return sealed(
        Envelope(
            sender=context.organisation.sender,
            to=incident.reporter_address,
            reply_to=addresses.reply_to(tokens.mint(Purpose.CONVERSATION, incident.id)),
            subject=subject,
            message_id=letter_id(incident, "", key, tokens, addresses),
            in_reply_to=report,
            references=(report or root_id(incident, tokens, addresses),),
            date=context.now,
            automatic="auto-replied",
            silences_robots=True,
        ),
        list(lines),
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
