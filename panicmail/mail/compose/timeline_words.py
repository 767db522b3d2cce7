"""A line of the timeline in words: as an internal note on the issue, and for the link page.

A note begins with the instant it is about, for it may come later; then what happened, then what a sender wrote, inert.
People are named in words, never mentioned. Every note ends in its marker, so that a repeat finds the first. An event
nobody wrote a sentence for is still told, by its name and facts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from panicmail.gitlab import description, notes
from panicmail.gitlab.escape import block, inline
from panicmail.gitlab.notes import TEXT_LIMIT
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import Incident
from panicmail.incident.people import Person
from panicmail.incident.timeline_kinds import MailNamed, MoreLine, PersonLine, event_now, line_of
from panicmail.mail.compose.catalogue import Notice, Verbatim, blocks

#: Actors that are nobody of ours and no sender either.
_NOBODY = (None, "", "panicmail", "somebody", "somebody in GitLab")

People = Mapping[str, Person]


class TimelineLine(Protocol):
    """A line of the timeline."""

    @property
    def id(self) -> int: ...
    @property
    def at(self) -> datetime: ...
    @property
    def event(self) -> str: ...
    @property
    def actor(self) -> str | None: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...


def note_text(line: TimelineLine, incident: Incident, people: People) -> str:
    """The line as a note on the issue of the incident."""
    marker = notes.marker(incident.id, line.id)
    return f"{_utc(line.at)}. {_noted(line, people)}\n\n`{marker}`"


def sender_text(line: TimelineLine) -> str:
    """What was found of the sender, where it could not be written into the description."""
    return _noted(line, {})


def amended_text(line: TimelineLine, incident: Incident, report: Report | None) -> str:
    """That the report was read again. `report`: what it says, where the description does not; None where it does."""
    said = note_text(line, incident, {})
    if report is None:
        return said
    sentence, _, own_marker = said.rpartition("\n\n")
    parts = [sentence, "The description was edited, so it is here.", block(report.text, TEXT_LIMIT)]
    if report.attachments:
        parts.append(description.attachment_table(report.attachments))
    return "\n\n".join([*parts, own_marker])


def link_line(line: TimelineLine, people: People) -> str | None:
    """The line as the link page shows it; None for what its reader need not know."""
    name = f"link_{_block(line.event)}"
    if name not in blocks("timeline"):
        return None
    return _notice(line, LinkWords(line, people)).line(name)


def _noted(line: TimelineLine, people: People) -> str:
    name, words = f"note_{_block(line.event)}", NoteWords(line, people)
    if name in blocks("timeline"):
        return _notice(line, words).passage(name)
    facts = json.dumps(dict(line.facts), ensure_ascii=False, default=str)
    return f"Recorded: {inline(line.event)} by {words.actor}, {inline(facts, 2000)}."


def _notice(line: TimelineLine, words: NoteWords | LinkWords) -> Notice:
    return Notice(
        "timeline", n=line_of(line.event, line.facts), t=words, what=line.event.partition(".")[0], late=_late, utc=_utc
    )


def _block(event: str) -> str:
    return event_now(event).replace(".", "_")


def _utc(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"


def _late(seconds: int) -> str:
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


class LinkWords:
    """People as the link page names them; the page escapes all of it."""

    def __init__(self, line: TimelineLine, people: People) -> None:
        self._people = people
        self.actor = self.name(line.actor or "somebody")

    def name(self, person: str) -> str:
        known = self._people.get(person)
        return known.name if known else person

    def names(self, people: Iterable[str]) -> str:
        return ", ".join(self.name(person) for person in people)

    def server(self, line: PersonLine) -> str:
        """Whose answer it was: of their mail or of their phone."""
        return f"The {'mail server' if line.channel == 'mail' else 'push service'} of {self.name(line.person)}"


class NoteWords:
    """People and strangers' words as GitLab may show them."""

    def __init__(self, line: TimelineLine, people: People) -> None:
        self._people = people
        self.actor = self.name(line.actor)

    def name(self, who: str | None) -> Verbatim:
        """A person's name; whoever is not one of ours is quoted."""
        person = self._people.get(who or "")
        if person is not None:
            return self.plain(person.name)
        return Verbatim(who or "somebody") if who in _NOBODY else self.quoted(who or "")

    def plain(self, words: str) -> Verbatim:
        """Words of the operator's as they are, when there are only letters in them."""
        is_plain = re.fullmatch(r"[^\W\d_]+(?:[ .'-]{1,2}[^\W\d_]+)*\.?", words) and len(words) <= 80
        return Verbatim(words if is_plain else inline(words))

    def names(self, people: Iterable[str]) -> Verbatim:
        return Verbatim(", ".join(self.name(person) for person in people))

    def everybody(self, people: Mapping[str, str]) -> Verbatim:
        """Names with roles."""
        shown = (self.name(p) + (f" ({self.plain(role.upper())})" if role else "") for p, role in people.items())
        return Verbatim(", ".join(shown))

    def roles(self, roles: Iterable[str]) -> Verbatim:
        return Verbatim(", ".join(self.plain(role.upper()) for role in roles))

    def quoted(self, text: str) -> Verbatim:
        return Verbatim(inline(text, 500))

    def all(self, texts: Iterable[str]) -> Verbatim:
        return Verbatim(", ".join(inline(text) for text in texts))

    def after(self, before: str, text: str) -> Verbatim:
        """A quotation behind `before`; nothing at all when there is none."""
        return Verbatim(f"{before}{inline(text, 500)}" if text else "")

    def rests_on(self, how: str) -> Verbatim:
        return Verbatim(f" Rests on: {inline(how, 500)}." if how else "")

    def mailbox(self, line: MoreLine) -> Verbatim:
        name, address = line.from_name, line.from_address
        return Verbatim(inline(f"{name} <{address}>" if name and address else address or name or "somebody"))

    def text(self, text: str) -> Verbatim:
        """A longer text on lines of its own."""
        return Verbatim(f"\n\n{block(text, TEXT_LIMIT)}" if text.strip() else " There is no text.")

    def answers(self, rows: Sequence[Sequence[str]]) -> Verbatim:
        """What it answers of the receipt's questions, as a table."""
        if not rows:
            return Verbatim("")
        cells = (
            f"| {number} | {inline(asked, 300)} | {inline(' / '.join(said.split(chr(10))), 1000)} |"
            for number, asked, said in rows
        )
        return Verbatim("\n\n" + "\n".join(["| | Question | Answer |", "| --- | --- | --- |", *cells]))

    def mails(self, mails: Sequence[MailNamed]) -> Verbatim:
        text = "\n".join(f"{each.at[:19]} {each.subject or '(no subject)'}" for each in mails)
        return Verbatim(f"\n\n{block(text, TEXT_LIMIT)}")

    def table(self, attachments: Sequence[Attachment]) -> Verbatim:
        return Verbatim(f"\n\n{description.attachment_table(attachments)}")

    def not_uploaded(self, mail: str) -> Verbatim:
        kept = self.after(", in the mail ", mail)
        return Verbatim(f"\n\nNot uploaded, by the configuration. Kept by panicmail{kept}.")
