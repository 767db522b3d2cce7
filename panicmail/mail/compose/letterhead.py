"""Mails outside an incident's thread: from whom, to whom and when; and those of them that nobody answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from panicmail.incident.people import Person
from panicmail.mail.compose.message import ComposedMail, Envelope, TextLine, sealed
from panicmail.mail.compose.thread_ids import digest

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
