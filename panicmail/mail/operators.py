"""What the operators are told: panicmail needs help. One sentence what it means, one what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from panicmail.mail import quoting
from panicmail.mail.compose import Envelope, Letter, Line, headline, ours, sealed
from panicmail.mail.phrases import Clock
from panicmail.mail.scene import House
from panicmail.mail.threads import digest
from panicmail.mail.tokens import Addresses
from panicmail.people import Person

#: Cause -> what is wrong, what it means, what mends it.
CAUSES: Mapping[str, tuple[str, str, str]] = {
    "nobody_on_call": (
        "nobody is on call",
        "A step of the ladder named nobody, so nobody was paged in it; the later steps keep their times.",
        "Put somebody on call in that role, and call the incident's people yourself until then.",
    ),
    "nobody_left": (
        "nobody is left to call",
        "The ladder has no step left that names anybody new; its last step is repeated until somebody answers.",
        "Telephone somebody who can take it.",
    ),
    "gitlab_refused": (
        "GitLab refused the issue",
        "The incident has no issue, or an incomplete one; paging goes on without it.",
        "See that the token, the project and the rights of its user are right; it is tried again every ten minutes.",
    ),
    "gitlab_dropped": (
        "GitLab changed the issue",
        "The issue is there, but not as it was asked for; what is missing stands below.",
        "Set it by hand, and see that the token's user has the Reporter role in the project.",
    ),
    "gitlab_spam": (
        "GitLab took a report for spam",
        "The issue was opened with neutral words; the report is in the page and in the file on the issue.",
        "Exempt the token's user from GitLab's spam check.",
    ),
    "gitlab_twins": (
        "an issue was there twice",
        "A lost answer of GitLab made a second issue for the same panic; the younger one was closed.",
        "Nothing, unless somebody already worked on the younger one.",
    ),
    "page_refused": (
        "a page was refused",
        "The mail relay refused a page for good; that person was not reached by mail.",
        "See that her address and the relay are right, and telephone her if the incident is open.",
    ),
    "escalation_failed": (
        "a step could not be taken",
        "panicmail failed on an incident when its next step was due; it tries again every second.",
        "Call the incident's people yourself, and look at the log: escalation.failed.",
    ),
    "mail_loop": (
        "two panicmails page each other",
        "A page came back through another panicmail. It was filed, and nobody was paged for it.",
        "Give each panicmail people with mailboxes of their own.",
    ),
    "intake_again": (
        "a mail needed more than one try",
        "panicmail failed while it took in an accepted mail; it is taken in again, at last unread.",
        "Look at the log around that time: worker.failed. The mail is safe.",
    ),
    "parked": (
        "something could not be done",
        "An effect failed for good and is parked; it is kept, and not tried again by itself.",
        "Look at the cause in the log, mend it, and do by hand what is missing.",
    ),
    "reader_failed": (
        "a mail could not be read",
        "The reader failed on a mail; it was understood from its raw bytes, filed and paged all the same.",
        "Look at the raw mail on the issue: the page may lack a part of it.",
    ),
}
_GENERIC = (
    "panicmail needs help",
    "Something happened that panicmail cannot mend by itself.",
    "Look at the log around that time.",
)
#: Facts that are said in sentences of their own.
_SAID = frozenset({"cause", "ref", "at"})


def operators(
    facts: Mapping[str, Any], house: House, person: Person, addresses: Addresses, now: datetime, *, key: str
) -> Letter:
    """The alarm of `facts` to one operator. `key`: the outbox row's; a retry repeats its Message-ID."""
    cause = str(facts.get("cause", ""))
    what, _, _ = CAUSES.get(cause, _GENERIC)
    ref = quoting.words(str(facts.get("ref") or ""), 8)
    return sealed(
        Envelope(
            sender=house.sender,
            sender_name="panicmail",
            to=person.email,
            to_name=person.name,
            subject=f"[panicmail] {what}{f' ({ref})' if ref else ''}",
            message_id=addresses.message_id(f"operators.{person.id}.{digest(key)}"),
            date=now,
            automatic="auto-generated",
            silences_robots=True,
        ),
        _lines(facts, CAUSES.get(cause, _GENERIC), ref, Clock(person.tz, now)),
    )


def _lines(facts: Mapping[str, Any], texts: tuple[str, str, str], ref: str, clock: Clock) -> list[Line]:
    what, meaning, mend = texts
    about = f", for {ref}" if ref else ""
    details = [
        f"{quoting.words(str(name), 30).replace('_', ' ')}: {quoting.words(str(value), 200)}"
        for name, value in facts.items()
        if name not in _SAID and value not in (None, "")
    ]
    unknown = [f"cause: {quoting.words(str(facts.get('cause') or 'not said'), 60)}"] if texts is _GENERIC else []
    return [
        headline(f"Operators: {what}{about}, {clock.zoned(_at(facts, clock.now))}."),
        ours(meaning),
        ours(f"Mend: {mend}"),
        *(ours(f"Detail: {detail}") for detail in [*unknown, *details]),
        *([ours(f"All of it: panicmail show {ref}")] if ref else []),
        ours("Do not reply to this mail: a reply is taken for a new report."),
    ]


def _at(facts: Mapping[str, Any], now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(str(facts.get("at")))
    except ValueError:
        return now
    return at if at.tzinfo else now
