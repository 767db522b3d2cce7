"""A mail in the spool, as those who are called for it get to know it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import structlog

from panicmail.delivery.fallback.remembered_step import ROUND_FROM_MEMORY
from panicmail.incident import ids, transitions
from panicmail.incident.classify import LOOP_HOPS, Report
from panicmail.incident.model import Incident, PagedPerson, PageReason
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose, Token
from panicmail.incident.sender_proof import from_json, sender_line
from panicmail.mail import compose, encryption
from panicmail.mail.compose import ComposedMail, push_text
from panicmail.mail.compose.letterhead import within
from panicmail.mail.compose.notice_context import NoticeContext, organisation_at
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool, Spooled

_log = structlog.get_logger()

#: What is said of a mail that cannot be read now.
UNREAD = Report(subject="(a mail panicmail cannot read)", lossless=False)


class ReadsSpooledMail(Protocol):
    """Reads raw bytes into a report; total, and bounded in time."""

    def read(self, raw: bytes, mail_from: str) -> Report: ...


class SpooledPanic:
    """One mail, and who is still to be called for it. It is read once, by whoever is first to call.

    Args:
        people: Who is called: person -> role.
        away_since: Since when the database does not answer.
    """

    def __init__(
        self,
        spooled: Spooled,
        spool: Spool,
        reads: ReadsSpooledMail,
        settings: RuntimeSettings,
        people: Mapping[str, str],
        away_since: datetime,
    ) -> None:
        self.spooled = spooled
        self._spool = spool
        self._reads = reads
        self._settings = settings
        self._people = people
        self._away_since = away_since
        self._left = set(people)
        self._reading = threading.Lock()
        self._report: Report | None = None
        self._is_none = False  #: it is no panic

    def is_wanted(self) -> bool:
        """Whether it still waits in the spool."""
        return self.spooled.path.exists()

    def letter(self, person: Person, now: datetime) -> ComposedMail | None:
        """The page about it; None when it is no panic, or has been taken in."""
        context = self._context(now)
        if context is None:
            return None

        def page(reader: Person) -> ComposedMail:
            return compose.page(within(context, reader.detail), reader, self._settings.reply_routes)

        return encryption.for_reader(page, person, now)[0]

    def line(self, person: Person, now: datetime) -> str | None:
        """The same for a lock screen."""
        context = self._context(now)
        return None if context is None else push_text.page(context, person, self._settings.detail)

    def _context(self, now: datetime) -> NoticeContext | None:
        report = self._read_once()
        if report is None:
            return None
        return NoticeContext(
            organisation=organisation_at(self._settings, now),
            incident=self._incident(now),
            report=report,
            facts={
                "word": PageReason.DATABASE_AWAY.value,
                "round": ROUND_FROM_MEMORY,
                "since": self._away_since.isoformat(),
            },
            now=now,
            sender=sender_line(from_json(None, self._settings.method)),
        )

    def note_called(self, person: str) -> None:
        """That person was called, or need not or cannot be."""
        with self._reading:
            self._left.discard(person)
            if not self._left:
                self._spool.mark_called(self.spooled)

    def _incident(self, now: datetime) -> Incident:
        """The incident this mail will open, as far as it can be known."""
        mail_id = self.spooled.mail_id
        paged = {
            p: PagedPerson(role=role, round=ROUND_FROM_MEMORY, at=now, last_at=now) for p, role in self._people.items()
        }
        incident = transitions.new(
            id=ids.incident_id(mail_id),
            ref=ids.ref(mail_id),
            mail_id=mail_id,
            accepted_at=self.spooled.accepted_at,
            policy=self._settings.policy,
        )
        return replace(incident, paged=paged)

    def _read_once(self) -> Report | None:
        with self._reading:  # the others wait for the first
            if self._report is None and not self._is_none:
                try:
                    self._report = self._read()
                except Exception as exc:  # called for all the same; whoever is called next may have the whole of it
                    _log.error("emergency.unreadable", ref=ids.ref(self.spooled.mail_id), reason=str(exc))
                    return UNREAD
                self._is_none = self._report is None
            return self._report

    def _read(self) -> Report | None:
        with self._spool.trying(self.spooled) as is_first:
            return self._read_panic() if is_first else UNREAD

    def _read_panic(self) -> Report | None:
        found = self._spool.read(self.spooled)
        if found is None:  # taken in, or put aside and told as that
            return None
        mail, raw = found
        if _answers(self._settings, mail):
            return None
        report = self._reads.read(raw, mail.mail_from)
        if report.hops >= LOOP_HOPS or _refers(self._settings, report):
            return None
        return report


def _answers(settings: RuntimeSettings, mail: AcceptedMail) -> bool:
    """Whether it went to somebody's own token address: an answer, or the bounce of a page, a test page included."""
    texts = filter(None, map(settings.addresses.token_in, mail.recipients))
    purposes = {Purpose.ANSWER, Purpose.BOUNCE, Purpose.TEST}
    return any(token.purpose in purposes for token in _verified(settings, texts))


def _refers(settings: RuntimeSettings, report: Report) -> bool:
    """Whether it answers a page, by the Message-IDs that carry the token where addresses do not."""
    if settings.addresses.carries_token:
        return False
    texts = filter(None, map(settings.addresses.token_of, report.references))
    # A token of a mail to the reporter names nobody.
    return any(
        token.person and token.purpose in {Purpose.MESSAGE, Purpose.TEST} for token in _verified(settings, texts)
    )


def _verified(settings: RuntimeSettings, texts: Iterator[str]) -> Iterator[Token]:
    return filter(None, (settings.tokens.verify(text, settings.people) for text in texts))
