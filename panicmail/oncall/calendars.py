"""Calendars: the events of an iCalendar as spans, and the people they name.

What `ical_parse` found in the text is resolved here: an event puts on call everybody it names but those who declined
it; a name that is nobody's is kept, so that it can be told. Two events at once put the people of both on call, the one
that began earlier first. An entry that does not count leaves what it says where a gap can tell it.

A calendar is known from `since` until `until` only. Outside of that it answers with a gap that says so: nobody guesses,
the fallback is called.

A reading in which less than half of the coming week has anybody that had somebody before is not believed for
`DOUBTED_FOR`: the people of both readings are on call (`Doubt`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from panicmail.oncall.match_names import NameMatcher, plain
from panicmail.oncall.spans import OnCallSpan, divide

#: What of an event names the person; "any": the first of summary, attendees, organiser that names somebody we know.
Naming = Literal["any", "summary", "attendee", "organizer"]
#: So long a reading that takes too much away is not believed alone.
DOUBTED_FOR = timedelta(hours=1)
#: A strange name as it is shown, in characters. Whoever may invite to a calendar writes it.
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class CalendarRules:
    """What the configuration decides about a calendar's entries."""

    zone: str = ""  #: of whole days and of times that name none, an IANA name; "": the calendar's own
    free: Literal["count", "ignore"] = "count"  #: entries that are marked as free

    def __str__(self) -> str:
        return f"{self.zone} {self.free}"


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
    declined: tuple[Contact, ...] = ()  #: attendees who do not come

    def as_json(self) -> dict[str, Any]:
        organizer = self.organizer
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "summary": self.summary,
            "attendees": [[each.name, each.address] for each in self.attendees],
            "organizer": [organizer.name, organizer.address] if organizer else None,
            "declined": [[each.name, each.address] for each in self.declined],
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
            declined=tuple(Contact(name, address) for name, address in document.get("declined", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UncountedEntry:
    """An entry of a calendar, or one time it takes place, that puts nobody on call."""

    title: str
    why: str
    is_mistake: bool  #: nobody decided so: somebody should mend it
    uid: str = ""
    start: datetime | None = None  #: aware and in UTC; None: nobody knows when it is
    end: datetime | None = None

    def touches(self, start: datetime, end: datetime) -> bool:
        """Whether it may be within [start, end)."""
        return self.start is None or self.end is None or (self.start < end and self.end > start)

    def __str__(self) -> str:
        when = f", {self.start:%Y-%m-%d %H:%MZ} to {self.end:%Y-%m-%d %H:%MZ}" if self.start and self.end else ""
        return f'"{_shown(self.title) or "(no title)"}"{when}: {self.why}'

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "why": self.why,
            "is_mistake": self.is_mistake,
            "uid": self.uid,
            "start": self.start.isoformat() if self.start else None,
            "end": self.end.isoformat() if self.end else None,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> UncountedEntry:
        start, end = (datetime.fromisoformat(at) if at else None for at in (document["start"], document["end"]))
        given = {key: document[key] for key in ("title", "why", "is_mistake", "uid")}
        return cls(**given, start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarReading:
    """What a calendar's text says about [since, until)."""

    since: datetime
    until: datetime
    occurrences: tuple[Occurrence, ...]  #: in the order they begin
    uncounted: tuple[UncountedEntry, ...] = ()  #: what does not count, and why
    notes: tuple[str, ...] = ()  #: a sentence each: how the text was read

    def as_json(self) -> dict[str, Any]:
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "occurrences": [each.as_json() for each in self.occurrences],
            "uncounted": [each.as_json() for each in self.uncounted],
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
            uncounted=tuple(map(UncountedEntry.from_json, document.get("uncounted", ()))),
            notes=tuple(map(str, document["notes"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A reading that was not believed at once, because too much of the coming week is gone in it."""

    since: datetime
    until: datetime
    events: tuple[OnCallSpan, ...]  #: of the reading before, within [since, until)
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """A calendar whose people are known. Without a reading it is all gap."""

    since: datetime | None = None  #: it was read from here
    until: datetime | None = None  #: until here, without it
    events: tuple[OnCallSpan, ...] = ()
    read_at: datetime | None = None  #: when its source last gave a calendar that could be read; None: never
    failure: str = ""  #: why it could not be read again since then; "": it was not tried, or it went well
    notes: tuple[str, ...] = field(default=())
    uncounted: tuple[UncountedEntry, ...] = ()
    doubt: Doubt | None = None

    def age(self, now: datetime) -> timedelta | None:
        """How old the copy is that answers; None when there is none."""
        return None if self.read_at is None else now - self.read_at

    def spans(self, start: datetime, end: datetime) -> Iterator[OnCallSpan]:
        """The events that touch [start, end), whole, and a nameless span for each part of it that is not known, and
        for each entry that does not count."""
        if self.since is None or self.until is None:
            yield _nobody(start, end, "the calendar was never read")
            return
        doubted = self.doubt.events if self.doubt else ()
        yield from (event for event in (*self.events, *doubted) if event.start < end and event.end > start)
        if start < self.since:
            yield _nobody(start, min(end, self.since), "the calendar was not read so far back")
        if end > self.until:
            yield _nobody(max(start, self.until), end, "the calendar was not read so far ahead")
        for each in self.uncounted:
            if each.start and each.end and each.start < end and each.end > start:
                yield _nobody(each.start, each.end, f'"{_shown(each.title)}" does not count: {each.why}')

    def left_out(self, start: datetime, end: datetime) -> tuple[UncountedEntry, ...]:
        """The entries that do not count and may be within [start, end): the first time of each."""
        found = [each for each in self.uncounted if each.touches(start, end)]
        return tuple({(each.uid, each.title, each.why): each for each in reversed(found)}.values())[::-1]

    def mistakes(self, start: datetime, end: datetime) -> tuple[UncountedEntry, ...]:
        """Of those, the ones somebody should mend."""
        return tuple(each for each in self.left_out(start, end) if each.is_mistake)


def resolve(reading: CalendarReading, names: NameMatcher, naming: Naming) -> tuple[OnCallSpan, ...]:
    """The occurrences as spans with the people they name."""
    return tuple(_span(each, names, naming) for each in reading.occurrences)


def find_doubt(events: Sequence[OnCallSpan], before: Sequence[OnCallSpan], since: datetime) -> Doubt | None:
    """Whether a reading of `since` takes more than half of the coming week from those who had it before."""
    week = since + timedelta(days=7)
    now, then = (_covered(each, since, week) for each in (events, before))
    if now * 2 >= then:
        return None
    until = since + DOUBTED_FOR
    kept = tuple(
        replace(each, start=max(each.start, since), end=min(each.end, until), source="calendar as it was read before")
        for each in before
        if each.people and each.start < until and each.end > since
    )
    told = f"{_hours(now)} of the coming week {'have' if now else 'has'} somebody on call, {_hours(then)} before"
    why = f"{told}; until {until:%Y-%m-%d %H:%MZ} the people of both readings are called"
    return Doubt(since=since, until=until, events=kept, why=why)


def _covered(spans: Sequence[OnCallSpan], start: datetime, end: datetime) -> timedelta:
    """How much of [start, end) has somebody."""
    pieces = divide([each for each in spans if each.people and each.start < end and each.end > start], start, end)
    return sum((ends - begins for begins, ends, over in pieces if over), timedelta(0))


def _hours(length: timedelta) -> str:
    return f"{length / timedelta(hours=1):.0f} h"


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
        if what == "attendee" and occurrence.declined and not occurrence.attendees:
            break  # all who were asked declined: whoever asked them is not on call for that
    start, end, away = occurrence.start, occurrence.end, _away(occurrence, names)
    there = tuple(person for person in people if person not in away)
    if not there and (people or (occurrence.declined and not occurrence.attendees and naming != "summary")):
        who = ", ".join(_shown(each.name or each.address) for each in occurrence.declined)
        return _nobody(start, end, f'"{_shown(occurrence.summary)}" does not count: {who} declined')
    if not there and not strange:
        strange = ("(no name)",)
    return OnCallSpan(start=start, end=end, people=there, source="calendar", unknown=strange)


def _away(occurrence: Occurrence, names: NameMatcher) -> set[str]:
    """Who declined."""
    return {person for contact in occurrence.declined for person in _known(contact, names)}


def _known(contact: Contact, names: NameMatcher) -> tuple[str, ...]:
    person = names.with_address(contact.address)
    return (person,) if person else names.in_text(contact.name)


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
        known = _known(contact, names)
        found.extend(known)
        if not known:
            unknown.append(_shown(contact.name or contact.address) or "(no name)")
    return tuple(dict.fromkeys(found)), tuple(dict.fromkeys(unknown))


def _shown(name: str) -> str:
    """A strange name on one line, cut short."""
    said = plain(name)
    return said if len(said) <= LONGEST_NAME else f"{said[: LONGEST_NAME - 1]}…"
