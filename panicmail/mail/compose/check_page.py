"""The mails of `panicmail check --page`: the test page, and the answer to what came back on it.

A test page looks like a page and asks for the same answer, and says in its first line that nothing is wrong. All of
its addresses and ids carry a token of the test, so that whatever comes back is known for what it is: never a report,
never an acknowledgement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose, ReplyRoutes
from panicmail.mail.compose import sanitize
from panicmail.mail.compose.letterhead import Letterhead, digest
from panicmail.mail.compose.message import ComposedMail, Envelope, TextLine, headline, ours, sealed
from panicmail.mail.compose.wording import ReaderClock

#: Of the token in the envelope sender, where delivery reports go; that of the reply address is 0.
RETURNED = 1


def message_id(test: str, person: str, routes: ReplyRoutes) -> str:
    """The Message-ID of a test page."""
    return routes.message_id(Purpose.TEST, test, person)


def reply_to(test: str, person: str, routes: ReplyRoutes) -> str:
    """Where the answer to a test page goes."""
    return routes.reply_to(Purpose.TEST, test, person)


def test_page(test: str, head: Letterhead, routes: ReplyRoutes, *, with_code: bool) -> ComposedMail:
    """The test page to one person. `with_code`: a push with a code goes out too."""
    person, sender = head.person, head.sender
    returned = routes.reply_to(Purpose.TEST, test, person.id, RETURNED)
    code = 'Your phone shows a code of four signs: write it below the "ack" of your reply.'
    return sealed(
        Envelope(
            sender=sender,
            to=person.email,
            to_name=person.name,
            reply_to=reply_to(test, person.id, routes),
            mail_from=returned if routes.addresses.carries_token else sender,
            subject='[PANIC TEST] Reply "ack": does a page reach you?',
            message_id=message_id(test, person.id, routes),
            date=head.now,
            automatic="auto-generated",
            silences_robots=False,  # as of a page: an out-of-office is news
        ),
        [
            headline(f'{person.first_name}: this is a test and nothing is wrong. Reply "ack" to this mail.'),
            ours("Why: panicmail tries whether a page reaches you, and whether your answer would count."),
            *([ours(code)] if with_code else []),
            ours("There is no incident. Your reply acknowledges nothing, and nobody else is called."),
        ],
    )


def push(code: str) -> str:
    """The test page for a lock screen."""
    return f'PANIC TEST, nothing is wrong. Reply "ack" to the test mail and write this code below it: {code}'


def proven(facts: Mapping[str, Any], head: Letterhead, routes: ReplyRoutes, *, key: str) -> ComposedMail:
    """The answer to what was written on a test page. `key`: the outbox row's; a retry repeats its Message-ID."""
    person, test = head.person, str(facts.get("test") or "")
    clock, why = ReaderClock(person.tz, head.now), _texts(facts.get("why"))
    page, reply = message_id(test, person.id, routes), _text(facts.get("in_reply_to"))
    answers = sanitize.message_id(reply) or page
    subject = "your reply would not have stopped the clock" if why else "a page reaches you, and your reply counts"
    return sealed(
        Envelope(
            sender=head.sender,
            to=person.email,
            to_name=person.name,
            reply_to=reply_to(test, person.id, routes),
            subject=f"[TEST] {'Not proven' if why else 'Proven'}: {subject}",
            message_id=page.replace("@", f".{digest(key)}@"),
            in_reply_to=answers,
            references=tuple(dict.fromkeys((page, answers))),
            date=head.now,
            automatic="auto-replied",
            silences_robots=True,
        ),
        [
            *(_not_counted(person, why) if why else _counted(facts, clock)),
            *_codes(facts),
            ours(f"This address takes answers to this test only. For an emergency write to {routes.addresses.panic}."),
        ],
    )


def _counted(facts: Mapping[str, Any], clock: ReaderClock) -> list[TextLine]:
    return [
        headline(f"Proven {clock.zoned(clock.now)}: a page reaches you by mail, and your reply would have counted."),
        ours(f"Rests on: {sanitize.words(str(facts.get('how') or ''), 200)}"),
    ]


def _not_counted(person: Person, why: Sequence[str]) -> list[TextLine]:
    return [
        headline("Not proven: a page reaches you, but your reply would not have stopped the clock."),
        *(ours(f"Why: {sanitize.words(reason, 200).rstrip('.')}.") for reason in why),
        ours(f'Once more: reply "ack" to THIS mail from {person.email}.'),
    ]


def _codes(facts: Mapping[str, Any]) -> list[TextLine]:
    """What the reply says about pushes."""
    seen, missing = _texts(facts.get("seen")), _texts(facts.get("missing"))
    lines = [ours(f"Proven by its code: {', '.join(seen)}.")] if seen else []
    if missing:
        lines.append(ours(f"Your reply has no code from {', '.join(missing)}. If one came, reply again with it."))
    return lines


def _texts(fact: object) -> list[str]:
    return [str(each) for each in fact] if isinstance(fact, list | tuple) else []


def _text(fact: object) -> str | None:
    return fact if isinstance(fact, str) else None
