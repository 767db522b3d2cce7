"""Calendars, and reading them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from panicmail.incident.people import Person
from panicmail.oncall import ical_parse
from panicmail.oncall.calendars import CalendarReading
from panicmail.oncall.match_names import NameMatcher

PEOPLE = {
    "ana": Person(id="ana", name="Ana Reyes", email="ana.reyes@example.com", aliases=("ana@private.example.net",)),
    "bo": Person(id="bo", name="Bo", email="bo@example.com"),
    "max": Person(id="max", name="Max Ode", email="max@example.com"),
    "jose": Person(id="jose", name="José Núñez", email="jose@example.com"),
}


NAMES = NameMatcher(PEOPLE)


NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


HOUR, DAY = timedelta(hours=1), timedelta(days=1)


SINCE, UNTIL = NOW - 2 * DAY, NOW + 30 * DAY


def at(text: str) -> datetime:
    """An instant in UTC: "2026-11-23 07:00"."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


_numbers = itertools.count()


def event(*lines: str, uid: str = "") -> str:
    return "\n".join(["BEGIN:VEVENT", f"UID:{uid or next(_numbers)}", *lines, "END:VEVENT"])


def calendar(*parts: str) -> str:
    text = "\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example//EN", *parts, "END:VCALENDAR", ""])
    return text.replace("\n", "\r\n")


def day(number: int, *lines: str, who: str = "ana", uid: str = "") -> str:
    """An event on a whole day of November 2026, in UTC."""
    times = f"DTSTART:202611{number:02}T000000Z", f"DTEND:202611{number + 1:02}T000000Z"
    return event(*times, f"SUMMARY:{who}", *lines, uid=uid)


def read(*parts: str, since: datetime = SINCE, until: datetime = UNTIL) -> CalendarReading:
    return ical_parse.read(calendar(*parts), since, until)


def times(found: CalendarReading) -> list[str]:
    """Each occurrence as "24 08:00 - 24 16:00 ana"."""
    return [f"{o.start:%d %H:%M} - {o.end:%d %H:%M} {o.summary}" for o in found.occurrences]
