"""Shifts that change."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from panicmail.escalation.tick import ShiftHandover
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.oncall.shifts import ScheduleShift
from tests.cast import T0
from tests.office import Office

HOUR = timedelta(hours=1)


#: The SEOC's shift changes, 23 minutes into the tests.
CHANGE = datetime(2026, 11, 22, 2, 30, tzinfo=T0.tzinfo)


def shift(begins: float, ends: float, *people: str) -> ScheduleShift:
    days = frozenset(range(7))
    return ScheduleShift(days=days, begins=begins * HOUR, ends=ends * HOUR, zone=ZoneInfo("UTC"), people=people)


def seoc(*shifts: ScheduleShift, smoc: Schedule | None = None, **more: object) -> Schedules:
    schedule = replace(Schedule(shifts=shifts), **more)  # type: ignore[arg-type]
    return Schedules({"seoc": schedule, "smoc": smoc or Schedule(fixed=("max",))})


def look(desk: Office) -> int:
    """The minute's look, by a daemon that has just started; for how many incidents it told anything."""
    moved = ShiftHandover(desk.store, lambda: desk.settings).tell_changes()
    desk.settle()
    return moved
