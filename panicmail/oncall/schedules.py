"""Rosters: who is on call in each role, until when, and where that is written.

A role has fixed people, or shifts, or a calendar. Above them lie overrides, which replace everybody; below them lies
the fallback, who answers for every gap: an hour nobody has, a name nobody knows, a calendar that was never read.
Several people at once are all on call, in the order they are written.

    override > fixed | shifts | calendar > fallback > nobody

Pure: the instant is an argument, and what a calendar says was read before. Every interval is [start, end).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from panicmail.oncall.calendars import Calendar
from panicmail.oncall.overrides import ScheduleOverride
from panicmail.oncall.shifts import ScheduleShift
from panicmail.oncall.spans import OnCallSpan, divide, join

#: How far ahead it is looked for the end of somebody's duty.
HORIZON = timedelta(days=62)
#: So many reasons of a gap are told.
_WHYS = 3


@dataclass(frozen=True, slots=True)
class Replaced:
    """What an override changes."""

    override: ScheduleOverride
    spans: tuple[OnCallSpan, ...]  #: who is on call beneath it, in its time as far as it was asked for


@dataclass(frozen=True, slots=True)
class Schedule:
    """One role. At most one of `fixed`, `shifts` and `calendar` is given."""

    fixed: tuple[str, ...] = ()  #: who always has it
    fallback: tuple[str, ...] = ()  #: who answers when nobody has it
    shifts: tuple[ScheduleShift, ...] = ()
    calendar: Calendar | None = None
    overrides: tuple[ScheduleOverride, ...] = ()

    def spans(self, start: datetime, end: datetime) -> Iterator[OnCallSpan]:
        """Who is on call from `start` until `end`: spans that leave nothing out and do not overlap."""
        overrides = (one for one in self.overrides if one.start < end and one.end > start)
        laid: list[ScheduleOverride | OnCallSpan] = [*overrides, *self._written(start, end)]
        yield from join(self._span(begins, ends, over) for begins, ends, over in divide(laid, start, end))

    def replaced(self, start: datetime, end: datetime) -> Iterator[Replaced]:
        """The overrides within [start, end), in the order they begin."""
        for one in sorted(self.overrides, key=lambda each: each.rank):
            if one.start < end and one.end > start:
                others = replace(self, overrides=tuple(other for other in self.overrides if other.rank < one.rank))
                yield Replaced(one, tuple(others.spans(max(start, one.start), min(end, one.end))))

    def _written(self, start: datetime, end: datetime) -> Iterator[OnCallSpan]:
        if self.fixed:
            yield OnCallSpan(start=start, end=end, people=self.fixed, source="fixed")
        for shift in self.shifts:
            yield from shift.spans(start, end)
        if self.calendar is not None:
            yield from self.calendar.spans(start, end)

    def _span(self, start: datetime, end: datetime, over: tuple[ScheduleOverride | OnCallSpan, ...]) -> OnCallSpan:
        overrides = sorted((each for each in over if isinstance(each, ScheduleOverride)), key=lambda each: each.rank)
        written = [each for each in over if isinstance(each, OnCallSpan)]
        if overrides:
            last = overrides[-1]
            return OnCallSpan(start=start, end=end, people=(last.person,), source=last.source)
        return self._beneath(start, end, written)

    def _beneath(self, start: datetime, end: datetime, written: list[OnCallSpan]) -> OnCallSpan:
        """Without overrides."""
        people = tuple(dict.fromkeys(person for each in written for person in each.people))
        unknown = tuple(dict.fromkeys(name for each in written for name in each.unknown))
        if not people:
            return self._gap(start, end, unknown, written)
        source = ", ".join(dict.fromkeys(each.source for each in written if each.people))
        return OnCallSpan(start=start, end=end, people=people, source=source, unknown=unknown)

    def _gap(self, start: datetime, end: datetime, unknown: tuple[str, ...], written: list[OnCallSpan]) -> OnCallSpan:
        if unknown:
            why = f"unknown name{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
        else:
            told = list(dict.fromkeys(each.source for each in written))
            why = "; ".join(told[:_WHYS]) or "nobody was named"
        who = "fallback" if self.fallback else "nobody"
        source = f"{who}: {why}"
        return OnCallSpan(start=start, end=end, people=self.fallback, source=source, unknown=unknown, is_gap=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnCallDuty:
    """That one person is on call in one role."""

    role: str
    person: str
    until: datetime | None  #: None: no end within `HORIZON`
    source: str  #: of their being on call now, as in `OnCallSpan.source`


class Schedules:
    """All roles. Immutable; a reload or a calendar that changed makes new ones."""

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self._schedules = dict(schedules)

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(self._schedules)

    @property
    def calendars(self) -> Mapping[str, Calendar]:
        """The calendar of each role that has one."""
        return {role: schedule.calendar for role, schedule in self._schedules.items() if schedule.calendar is not None}

    def who(self, role: str, at: datetime) -> tuple[str, ...]:
        """Who is on call in `role` at `at`; () when nobody is, not even as fallback, or no such role is."""
        (now,) = self.spans(role, at, at + datetime.resolution)
        return now.people

    def has_gap(self, role: str, at: datetime) -> bool:
        """Whether the roster of `role` names nobody at `at`, so that its fallback answers, if it has one."""
        return role in self._schedules and self.spans(role, at, at + datetime.resolution)[0].is_gap

    def spans(self, role: str, start: datetime, end: datetime) -> tuple[OnCallSpan, ...]:
        """Who is on call in `role` from `start` until `end`, which is later: without a hole and without an overlap."""
        return tuple(self._schedules.get(role, Schedule()).spans(start, end))

    def replaced(self, role: str, start: datetime, end: datetime) -> tuple[Replaced, ...]:
        """The overrides of `role` within [start, end), in the order they begin."""
        return tuple(self._schedules.get(role, Schedule()).replaced(start, end))

    def on_call(self, role: str, at: datetime) -> tuple[OnCallDuty, ...]:
        """As `who`, with the end of each person's duty: when they are no longer among those on call, shifts between."""
        now, *later = self.spans(role, at, at + HORIZON)
        return tuple(
            OnCallDuty(role=role, person=person, until=_until(person, later), source=now.source)
            for person in now.people
        )

    def faults(self, start: datetime, end: datetime) -> Mapping[str, tuple[OnCallSpan, ...]]:
        """Of each role what somebody should mend before it comes: its gaps, and names that are nobody's."""
        found = {role: tuple(s for s in self.spans(role, start, end) if s.is_faulty) for role in self.roles}
        return {role: spans for role, spans in found.items() if spans}


def _until(person: str, later: list[OnCallSpan]) -> datetime | None:
    return next((span.start for span in later if person not in span.people), None)
