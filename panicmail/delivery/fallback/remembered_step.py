"""A step whose time has come while the database is away: what a page says of it, from memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from panicmail.incident.classify import Report
from panicmail.incident.model import Incident, PageReason
from panicmail.incident.people import Person
from panicmail.incident.sender_proof import from_json, sender_line
from panicmail.mail import compose, encryption
from panicmail.mail.compose import ComposedMail, push_text
from panicmail.mail.compose.letterhead import within
from panicmail.mail.compose.notice_context import NoticeContext, organisation_at
from panicmail.oncall.runtime_settings import RuntimeSettings

#: Pages from memory have rounds no escalation reaches: a mail server may drop a second mail with one Message-ID.
ROUND_FROM_MEMORY = 500_000


@dataclass(frozen=True, slots=True)
class RememberedStep:
    """One step of an incident, for those whose turn it is."""

    settings: RuntimeSettings
    incident: Incident  #: as it was when the database last answered
    turn_at: datetime  #: since when it is their turn
    away_since: datetime  #: since when the database does not answer

    def letter(self, person: Person, now: datetime) -> ComposedMail | None:
        """The page about it."""

        def page(reader: Person) -> ComposedMail:
            return compose.page(within(self._context(now), reader.detail), reader, self.settings.reply_routes)

        return encryption.for_reader(page, person, now)[0]

    def line(self, person: Person, now: datetime) -> str:
        """The same for a lock screen."""
        return push_text.page(self._context(now), person, self.settings.detail)

    def _context(self, now: datetime) -> NoticeContext:
        facts = {
            "word": PageReason.STATE_UNKNOWN.value,
            "round": ROUND_FROM_MEMORY + self.incident.round,
            "since": self.away_since.isoformat(),
            "turn_at": self.turn_at.isoformat(),
        }
        return NoticeContext(
            organisation=organisation_at(self.settings, now, self.incident),
            incident=self.incident,
            report=Report(subject=self.incident.subject),
            facts=facts,
            now=now,
            sender=sender_line(from_json(None, self.settings.method)),
        )
