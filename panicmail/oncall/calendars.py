"""Calendars: the events of an iCalendar as spans, and the people they name.

What `ical_parse` found in the text is resolved here: an event puts on call everybody it names, a name that is nobody's
is kept, so that it can be told. Two events at once put the people of both on call, the one that began earlier first.

A calendar is known from `since` until `until` only. Outside of that it answers with a gap that says so: nobody guesses,
the fallback is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from panicmail.oncall.match_names import NameMatcher, plain
from panicmail.oncall.spans import OnCallSpan

#: What of an event names the person; "any": the first of summary, attendees, organiser that names somebody we know.
Naming = Literal["any", "summary", "attendee", "organizer"]
#: A strange name as it is shown, in characters. Whoever may invite to a calendar writes it.
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Contact:
    """An attendee or organiser as an event names them; either may be ""."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time an event takes place; `start` and `end` aware and in UTC."""

    start: datetime
    end: datetime
    summary: str = ""
    attendees: tuple[Contact, ...] = ()
    organizer: Contact | None = None

    def as_json(self) -> dict[str, Any]:
        organizer = self.organizer
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "summary": self.summary,
            "attendees": [[each.name, each.address] for each in self.attendees],
            "organizer": [organizer.name, organizer.address] if organizer else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Occurrence:
        organizer = document["organizer"]
        return cls(
            start=datetime.fromisoformat(document["start"]),
            end=datetime.fromisoformat(document["end"]),
            summary=document["summary"],
            attendees=tuple(Contact(name, address) for name, address in document["attendees"]),
            organizer=Contact(*organizer) if organizer else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarReading:
    """What a calendar's text says about [since, until)."""

    since: datetime
    until: datetime
    occurrences: tuple[Occurrence, ...]  #: in the order they begin
    notes: tuple[str, ...] = ()  #: a sentence each: what in the text does not count, and why

    def as_json(self) -> dict[str, Any]:
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "occurrences": [each.as_json() for each in self.occurrences],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CalendarReading:
        """
        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        return cls(
            since=datetime.fromisoformat(document["since"]),
            until=datetime.fromisoformat(document["until"]),
            occurrences=tuple(map(Occurrence.from_json, document["occurrences"])),
            notes=tuple(map(str, document["notes"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """A calendar whose people are known. Without a reading it is all gap."""

    since: datetime | None = None  #: it was read from here
    until: datetime | None = None  #: until here, without it
    events: tuple[OnCallSpan, ...] = ()
    read_at: datetime | None = None  #: when its source last gave a calendar that could be read; None: never
    failure: str = ""  #: why it could not be read again since then; "": it was not tried, or it went well
    notes: tuple[str, ...] = field(default=())

    def age(self, now: datetime) -> timedelta | None:
        """How old the copy is that answers; None when there is none."""
        return None if self.read_at is None else now - self.read_at

    def spans(self, start: datetime, end: datetime) -> Iterator[OnCallSpan]:
        """The events that touch [start, end), whole, and a nameless span for each part of it that is not known."""
        if self.since is None or self.until is None:
            yield _nobody(start, end, "the calendar was never read")
            return
        yield from (event for event in self.events if event.start < end and event.end > start)
        if start < self.since:
            yield _nobody(start, min(end, self.since), "the calendar was not read so far back")
        if end > self.until:
            yield _nobody(max(start, self.until), end, "the calendar was not read so far ahead")


def resolve(reading: CalendarReading, names: NameMatcher, naming: Naming) -> tuple[OnCallSpan, ...]:
    """The occurrences as spans with the people they name."""
    return tuple(_span(each, names, naming) for each in reading.occurrences)


def _nobody(start: datetime, end: datetime, why: str) -> OnCallSpan:
    return OnCallSpan(start=start, end=end, people=(), source=why)


def _span(occurrence: Occurrence, names: NameMatcher, naming: Naming) -> OnCallSpan:
    people: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()
    for what in ("summary", "attendee", "organizer") if naming == "any" else (naming,):
        people, unknown = _named(occurrence, names, what)
        strange = strange or unknown
        if people:
            strange = unknown
            break
    if not people and not strange:
        strange = ("(no name)",)
    return OnCallSpan(start=occurrence.start, end=occurrence.end, people=people, source="calendar", unknown=strange)


def _named(occurrence: Occurrence, names: NameMatcher, what: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whom one property of an event names: the people we know, and the names of the others."""
    if what == "summary":
        people = names.in_text(occurrence.summary)
        said = _shown(occurrence.summary)
        return people, () if people or not said else (said,)
    found: list[str] = []
    unknown: list[str] = []
    contacts = occurrence.attendees if what == "attendee" else (occurrence.organizer,) if occurrence.organizer else ()
    for contact in contacts:
        person = names.with_address(contact.address)
        known = (person,) if person else names.in_text(contact.name)
        found.extend(known)
        if not known:
            unknown.append(_shown(contact.name or contact.address) or "(no name)")
    return tuple(dict.fromkeys(found)), tuple(dict.fromkeys(unknown))


def _shown(name: str) -> str:
    """A strange name on one line, cut short."""
    said = plain(name)
    return said if len(said) <= LONGEST_NAME else f"{said[: LONGEST_NAME - 1]}…"
