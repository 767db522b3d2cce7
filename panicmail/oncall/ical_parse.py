"""iCalendar text -> occurrences, and what of it does not count.

It runs in a process of its own (`ical_worker`): a text can ask for more time and memory than there is.

One entry that cannot be understood, or whose rule never ends, is left out and told; all others count. What counts, and
in which zone, `ical_events` says. Which of several entries of one UID counts:

    RECURRENCE-ID     replaces the time of the series it names, on that day when it is a day; the newest SEQUENCE of
                      several, and all times from there on with RANGE=THISANDFUTURE. Where it does not count itself,
                      that time is nobody's: who was replaced is not called. Without a series it counts for itself.
    several series    each counts: single events under one UID, a series cut in two. Where two overlap whose SEQUENCEs
                      differ, the newer one counts.

Times the clock skips or shows twice are RFC 5545's: a skipped one is reckoned with the offset before the jump, of one
that comes twice the first is meant. A time in UTC stays in UTC, whatever the calendar's zone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import time as time_of_day
from types import FrameType

import icalendar
import recurring_ical_events

from panicmail.oncall.calendars import CalendarReading, CalendarRules, Occurrence, UncountedEntry
from panicmail.oncall.ical_events import EventReader, IcalEvent, Moment, is_whole_day
from panicmail.oncall.ical_text import components
from panicmail.oncall.ical_zones import IcalZones, ZoneOfDays

#: More within the time that is read is no rota: one of three shifts a day has 300 in a hundred days.
MOST_OCCURRENCES = 5000
#: So much CPU time an entry may take to be worked out, and all of them together, in seconds.
ENTRY_SECONDS, ALL_SECONDS = 1.0, 15.0
#: So many entries of other times are told one by one.
_TOLD = 3
_DAY = timedelta(days=1)


class TooOftenError(Exception):
    """A rule gives more times than a rota has, or takes too long to give them."""


@dataclass(frozen=True, slots=True)
class _Time:
    """One time an entry takes place."""

    event: IcalEvent
    start: Moment
    end: Moment


def read(text: str, since: datetime, until: datetime, rules: CalendarRules | None = None) -> CalendarReading:
    """What a calendar says about [since, until).

    Raises:
        ValueError: It cannot be read; the text says why.
    """
    rules = rules or CalendarRules()
    try:
        calendar = components(text.removeprefix("\ufeff"))
    except ValueError as exc:
        raise ValueError(f"not an iCalendar file ({exc})") from exc
    zones = IcalZones(calendar)
    days = zones.of_days(rules.zone)
    found = _Found(since, until, days.zone or UTC)
    events = []
    for each in calendar.within:
        if each.name == "VEVENT":
            events.append(EventReader(each, zones, days, rules).event())
            found.check_time()
    for same in _by_uid(events):
        found.add(same)
    return found.done(_notes(events, days))


def _notes(events: Sequence[IcalEvent], days: ZoneOfDays) -> Iterator[str]:
    if days.zone is not None and not all(event.has_own_zone for event in events):
        yield f"whole days and times without a zone are those of {days.name} ({days.why})"


def _by_uid(events: Sequence[IcalEvent]) -> Iterator[list[IcalEvent]]:
    same: dict[str, list[IcalEvent]] = {}
    for number, event in enumerate(events):
        same.setdefault(event.uid or f" {number}", []).append(event)
    yield from same.values()


class _Found:
    """What was found so far.

    Args:
        zone: Of whole days.
    """

    def __init__(self, since: datetime, until: datetime, zone: tzinfo) -> None:
        self._since, self._until, self._zone = since, until, zone
        self._ends_at = time.process_time() + ALL_SECONDS
        self._occurrences: list[Occurrence] = []
        self._uncounted: list[UncountedEntry] = []
        self._elsewhere: list[UncountedEntry] = []  #: mistakes of other times

    def check_time(self) -> None:
        if time.process_time() > self._ends_at:
            raise ValueError(f"it takes longer than {ALL_SECONDS:g} s to work out")

    def done(self, notes: Iterator[str]) -> CalendarReading:
        self._occurrences.sort(key=lambda each: (each.start, each.end))
        self._uncounted.sort(key=lambda each: each.start or self._since)
        return CalendarReading(
            since=self._since,
            until=self._until,
            occurrences=tuple(self._occurrences),
            uncounted=tuple(self._uncounted),
            notes=(*notes, *self._told_elsewhere()),
        )

    def _told_elsewhere(self) -> Iterator[str]:
        yield from (f"an entry of another time cannot be understood: {each}" for each in self._elsewhere[:_TOLD])
        if more := len(self._elsewhere[_TOLD:]):
            yield f"and {more} more entries of other times"

    def add(self, same: Sequence[IcalEvent]) -> None:
        """The entries of one UID."""
        swaps = self._newest([event for event in same if event.replaces is not None and event.start is not None])
        series = sorted((e for e in same if e.replaces is None and e.start), key=lambda e: -e.sequence)
        for lost in (event for event in same if event.start is None and event.is_mistake):
            self._uncounted.append(UncountedEntry(uid=lost.uid, title=lost.title, why=lost.uncounted, is_mistake=True))
        # An unreadable swap still replaces the time it names.
        swaps += [event for event in same if event.replaces is not None and event.start is None]
        placed: list[tuple[int, datetime, datetime]] = []
        used: set[int] = set()
        for event in series:
            for each in self._times(event, swaps):
                used.add(id(each.event))
                newer = [(start, end) for sequence, start, end in placed if sequence > event.sequence]
                placed.append((event.sequence, *self._place(each, newer)))
        for swap in swaps:
            if id(swap) not in used and swap.start is not None and swap.end is not None:
                self._place(_Time(swap, swap.start, swap.end), ())

    def _newest(self, swaps: Sequence[IcalEvent]) -> list[IcalEvent]:
        """Of those that replace the same time the newest, or all that are equally new."""
        newest: dict[datetime, int] = {}
        for each in swaps:
            at = self._instant(each.replaces)
            newest[at] = max(each.sequence, newest.get(at, -1))
        return [each for each in swaps if each.sequence == newest[self._instant(each.replaces)]]

    def _times(self, event: IcalEvent, swaps: Sequence[IcalEvent]) -> Iterator[_Time]:
        """Every time of a series, with what replaces some of them in its place."""
        self.check_time()
        onwards = sorted((s for s in swaps if s.is_onwards), key=lambda s: self._instant(s.replaces))
        for start, end in self._expanded(event, onwards):
            instead = [swap for swap in swaps if self._is_at(swap.replaces, start)]
            for swap in instead:
                # One that does not count leaves the time it replaces.
                at = (None, None) if swap.uncounted else (swap.start, swap.end)
                yield _Time(swap, at[0] or start, at[1] or end)
            if not instead and not any(self._is_at(but, start) for but in event.but):
                before = [swap for swap in onwards if self._instant(swap.replaces) < self._instant(start)]
                yield self._moved(before[-1], start, end) if before else _Time(event, start, end)

    def _moved(self, swap: IcalEvent, start: Moment, end: Moment) -> _Time:
        """A time of a series after one that replaces all from there on."""
        if swap.start is None or swap.end is None or swap.uncounted:
            return _Time(swap, start, end)
        moved = start + (self._instant(swap.start) - self._instant(swap.replaces))
        return _Time(swap, moved, moved + (self._instant(swap.end) - self._instant(swap.start)))

    def _expanded(self, event: IcalEvent, onwards: Sequence[IcalEvent]) -> Iterator[tuple[Moment, Moment]]:
        """A series by its rules. One whose rules give too much is told, and gives nothing."""
        moves = (abs(self._instant(s.start) - self._instant(s.replaces)) for s in onwards if s.start is not None)
        wider = max(moves, default=timedelta(0)) + _DAY
        try:
            with _limited(ENTRY_SECONDS):
                times = _by_rules(event, self._since - wider, self._until + wider, self._zone)
        except TooOftenError:
            self._give_up(event, "it repeats too often for a rota, or its rule takes too long to work out")
        except Exception:  # the libraries raise what they happen to
            self._give_up(event, f"its RRULE ({'; '.join(event.rules)[:60]}) cannot be worked out")
        else:
            yield from times

    def _give_up(self, event: IcalEvent, why: str) -> None:
        if not event.uncounted:
            begins = self._instant(event.start)
            told = UncountedEntry(
                uid=event.uid, title=event.title, why=why, is_mistake=True, start=begins, end=self._until
            )
            self._uncounted.append(told)

    def _place(self, at: _Time, newer: Sequence[tuple[datetime, datetime]]) -> tuple[datetime, datetime]:
        """Keep one time if it is within what is read. Answers when it is."""
        event, start, end = at.event, self._instant(at.start), self._instant(at.end)
        if event.is_endless:
            end = max(end, self._until)
        why = event.uncounted
        if not why and any(start < other_end and end > other_start for other_start, other_end in newer):
            why = "a newer version of it is in the calendar"
        lost = UncountedEntry(
            uid=event.uid, title=event.title, why=why, is_mistake=event.is_mistake, start=start, end=end
        )
        if start >= end:
            pass  # a time the clock skipped is none
        elif start >= self._until or end <= self._since:
            self._elsewhere += [lost] if event.is_mistake and not event.rules else []
        elif why:
            self._uncounted.append(lost)
        else:
            self._occurrences.append(_occurrence(event, start, end))
        if len(self._occurrences) + len(self._uncounted) > MOST_OCCURRENCES:
            raise ValueError(f"more than {MOST_OCCURRENCES} events in {(self._until - self._since).days} days")
        return start, end

    def _is_at(self, named: Moment | None, start: Moment) -> bool:
        """Whether a RECURRENCE-ID or EXDATE names the time that begins at `start`; a day, whatever begins on it."""
        if isinstance(named, datetime) and isinstance(start, datetime):
            return named == start
        if isinstance(named, datetime):
            named = (named.astimezone(self._zone) if named.tzinfo is UTC else named).date()
        return named == (start.date() if isinstance(start, datetime) else start)

    def _instant(self, at: Moment | None) -> datetime:
        if at is None:
            raise ValueError("no time")
        if not isinstance(at, datetime):
            at = datetime.combine(at, time_of_day(), self._zone)
        return at.astimezone(UTC)


def _occurrence(event: IcalEvent, start: datetime, end: datetime) -> Occurrence:
    return Occurrence(
        start=start,
        end=end,
        summary=event.title,
        attendees=event.attendees,
        organizer=event.organizer,
        declined=event.declined,
    )


def _by_rules(event: IcalEvent, since: datetime, until: datetime, zone: tzinfo) -> list[tuple[Moment, Moment]]:
    """Every time of an entry that touches [since, until).

    Raises:
        TooOftenError: There are too many.
    """
    if event.start is None or event.end is None:
        return []
    if not event.rules and not event.more:
        return [(event.start, event.end)]
    start: Moment = event.start
    if is_whole_day(start) and not is_whole_day(event.end):
        start = datetime.combine(start, time_of_day(), zone)
    alone = icalendar.Event(
        {"UID": "1", "DTSTART": icalendar.vDDDTypes(start), "DTEND": icalendar.vDDDTypes(event.end)}
    )
    if event.rules:
        alone["RRULE"] = [icalendar.vRecur.from_ical(rule) for rule in event.rules]
    if event.more:
        alone["RDATE"] = icalendar.vDDDLists(list(event.more))
    calendar = icalendar.Calendar()
    calendar.add_component(alone)
    found = recurring_ical_events.of(calendar, components=["VEVENT"]).between(since, until)
    if len(found) > MOST_OCCURRENCES:
        raise TooOftenError
    return [(each["DTSTART"].dt, each["DTEND"].dt) for each in found]


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `TooOftenError` in what takes more CPU time than that. Only the main thread may ask."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooOftenError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
