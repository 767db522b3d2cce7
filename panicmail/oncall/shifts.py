"""Shifts: what recurs on the same days at the same times, and whose turn it is.

A shift belongs to the day it begins, in its own zone: "mon-fri 23:00-07:00" begins on Friday for the last time and ends
on Saturday morning; day, turn and season are those of Friday. What its times mean on the nights the clock is put
forward or back, `wall` says.

A rotation has no beginning: `start` only fixes whose turn it is in which week or on which day, before it too. A rota
written for next Monday therefore leaves no gap until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from panicmail.oncall.local_time import instant
from panicmail.oncall.spans import OnCallSpan

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)


class Rotation(StrEnum):
    """How the people of a shift take turns."""

    NONE = "none"  #: all of them, every time
    WEEKLY = "weekly"  #: a week each, changing on the weekday of `start`
    DAILY = "daily"  #: each time the next one


@dataclass(frozen=True, slots=True)
class DateRange:
    """The part of every year in which a shift takes place. Days are (month, day)."""

    first: tuple[int, int]
    until: tuple[int, int]  #: the first day that is out again, so that the next season can begin with it

    def holds(self, day: date) -> bool:
        """Whether it takes place on `day`; a season may go over the turn of the year."""
        at = (day.month, day.day)
        if self.first < self.until:
            return self.first <= at < self.until
        return at >= self.first or at < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleShift:
    """One line of a rota."""

    days: frozenset[int]  #: on which it begins; 0 is Monday
    begins: timedelta  #: by the wall clock of `zone`, after midnight of the day it begins; less than 24 h
    ends: timedelta  #: from the same midnight; at most 24 h after `begins`
    zone: ZoneInfo
    people: tuple[str, ...]
    rotation: Rotation = Rotation.NONE
    start: date = date(1970, 1, 5)  #: the day the turn of the first of `people` begins; a Monday when not given
    season: DateRange | None = None  #: None: all year

    def spans(self, start: datetime, end: datetime) -> Iterator[OnCallSpan]:
        """Every time it takes place within [start, end), in order and whole."""
        # The day before may reach into it, and a clock put back over midnight shows the day after already.
        day = start.astimezone(self.zone).date() - _DAY
        last = end.astimezone(self.zone).date() + _DAY
        while day <= last:
            begins, ends = instant(day, self.begins, self.zone), instant(day, self.ends, self.zone)
            if self._takes_place(day) and begins < ends and begins < end and ends > start:
                yield OnCallSpan(start=begins, end=ends, people=self._turn(day), source=f"shift {self}")
            day += _DAY

    def _takes_place(self, day: date) -> bool:
        return day.weekday() in self.days and (self.season is None or self.season.holds(day))

    def _turn(self, day: date) -> tuple[str, ...]:
        """Who has the shift that begins on `day`."""
        if self.rotation is Rotation.NONE:
            return self.people
        if self.rotation is Rotation.WEEKLY:
            turn = (day - self.start).days // 7
        else:
            turn = self._times_before(day) - self._times_before(self.start)
        return (self.people[turn % len(self.people)],)

    def _times_before(self, day: date) -> int:
        """How many of the shift's days there were before `day`, in season or not."""
        weeks, weekday = divmod(day.toordinal() - 1, 7)  # day 1 of the year 1 is a Monday
        return weeks * len(self.days) + sum(each < weekday for each in self.days)

    def __str__(self) -> str:
        season = f", {_spelled(self.season.first)} to {_spelled(self.season.until)}" if self.season else ""
        return f"{spelled(self.days)} {_clock(self.begins)}-{_clock(self.ends)} {self.zone.key}{season}"


def spelled(days: frozenset[int]) -> str:
    """Weekdays as they are written: "daily", "mon,wed-fri"."""
    if len(days) == 7:
        return "daily"
    parts: list[str] = []
    for first in (day for day in sorted(days) if day - 1 not in days):
        last = first
        while last + 1 in days:
            last += 1
        between = "-" if last - first > 1 else ","
        parts.append(WEEKDAYS[first] if first == last else f"{WEEKDAYS[first]}{between}{WEEKDAYS[last]}")
    return ",".join(parts)


def _clock(after_midnight: timedelta) -> str:
    minutes = after_midnight // timedelta(minutes=1)
    minutes = minutes if minutes == 24 * 60 else minutes % (24 * 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _spelled(day: tuple[int, int]) -> str:
    return f"{day[0]:02}-{day[1]:02}"
