"""iCalendar text -> occurrences. The only file that knows icalendar, recurring-ical-events and x-wr-timezone.

It runs in a process of its own (`ical_worker`): a text can ask for more time and memory than there is, and icalendar
remembers the VTIMEZONE of one text for the next one it reads.

What counts is an event of some length that is not cancelled (STATUS) and not marked as free (TRANSP). All-day events
and times without a zone are those of X-WR-TIMEZONE, without one of UTC. An event whose zone nobody knows does not
count: a gap is loud, and a shift at the wrong hours is not. Of the attendees those count who are persons and have not
declined.

Times the clock skips or shows twice are RFC 5545's: a skipped one is reckoned with the offset before the jump, of one
that comes twice the first is meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events
import x_wr_timezone

from panicmail.oncall.calendars import CalendarReading, Contact, Occurrence

#: More within the time that is read is no rota: one of three shifts a day has 300 in a hundred days.
MOST_OCCURRENCES = 5000
#: A property as it is kept, in characters.
LONGEST_TEXT = 500
_MOST_CONTACTS = 50
_DAY = timedelta(days=1)


def read(text: str, since: datetime, until: datetime) -> CalendarReading:
    """What a calendar says about [since, until).

    Raises:
        ValueError: It cannot be read; the text says why.
    """
    skipped: Counter[str] = Counter()
    calendar = _parsed(text, skipped)
    zone = _zone(calendar)
    occurrences: list[Occurrence] = []
    # A day more on each side: times without a zone are compared as if they were in UTC.
    for event in _events(calendar, since - _DAY, until + _DAY):
        occurrence = _occurrence(event, zone, skipped)
        if occurrence is not None and occurrence.start < until and occurrence.end > since:
            occurrences.append(occurrence)
        if len(occurrences) > MOST_OCCURRENCES:
            raise ValueError(f"more than {MOST_OCCURRENCES} events in {(until - since).days} days")
    occurrences.sort(key=lambda each: (each.start, each.end))
    return CalendarReading(since=since, until=until, occurrences=tuple(occurrences), notes=tuple(_notes(skipped)))


def _notes(skipped: Counter[str]) -> Iterator[str]:
    for why, number in skipped.items():
        if number:
            yield f"{number} {'events do' if number > 1 else 'event does'} not count: {why}"


def _parsed(text: str, skipped: Counter[str]) -> Any:
    try:
        calendar = icalendar.Calendar.from_ical(text.removeprefix("\ufeff"))
        if calendar.name != "VCALENDAR":
            raise ValueError(f"expected a VCALENDAR, found a {calendar.name}")
        # Before X-WR-TIMEZONE is looked at: x_wr_timezone would take them for times of that zone.
        lost = [event for event in calendar.walk("VEVENT") if _is_in_no_zone(event)]
        calendar.subcomponents = [each for each in calendar.subcomponents if not any(each is one for one in lost)]
        skipped["in a time zone nobody knows"] += len(lost)
        return x_wr_timezone.to_standard(calendar)
    except Exception as exc:  # the libraries raise what they happen to: KeyError, AttributeError, OverflowError
        raise ValueError(_why(exc)) from exc


def _events(calendar: Any, since: datetime, until: datetime) -> Iterator[Any]:
    try:
        yield from recurring_ical_events.of(calendar, components=["VEVENT"]).between(since, until)
    except Exception as exc:
        raise ValueError(_why(exc)) from exc


def _why(exc: Exception) -> str:
    return f"not an iCalendar file ({type(exc).__name__}: {' '.join(str(exc).split())[:120]})"


def _zone(calendar: Any) -> tzinfo:
    named = calendar.get("X-WR-TIMEZONE")
    return ZoneInfo(str(named)) if named else UTC


def _occurrence(event: Any, zone: tzinfo, skipped: Counter[str]) -> Occurrence | None:
    """One event that counts; None, and a word in `skipped`, for one that does not."""
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return None
    start, end = _instant(event.start, zone), _instant(event.end, zone)
    if str(event.get("TRANSP", "")).upper() == "TRANSPARENT":
        skipped["marked as free (TRANSP)"] += 1
        return None
    if start >= end:
        skipped["of no length"] += 1
        return None
    attendees = [_contact(each) for each in _listed(event.get("ATTENDEE")) if _counts(each)]
    organizer = event.get("ORGANIZER")
    return Occurrence(
        start=start,
        end=end,
        summary=str(event.get("SUMMARY", ""))[:LONGEST_TEXT],
        attendees=tuple(attendees[:_MOST_CONTACTS]),
        organizer=None if organizer is None else _contact(organizer),
    )


def _instant(at: date, zone: tzinfo) -> datetime:
    if not isinstance(at, datetime):
        at = datetime.combine(at, time())
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def _is_in_no_zone(event: Any) -> bool:
    """Whether a TZID is written and nothing came of it."""
    start = event.get("DTSTART")
    if start is None or not isinstance(start.dt, datetime):
        return False
    return start.dt.tzinfo is None and bool(start.params.get("TZID"))


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _counts(attendee: Any) -> bool:
    params = {key: str(value).upper() for key, value in attendee.params.items()}
    return params.get("PARTSTAT") != "DECLINED" and params.get("CUTYPE", "INDIVIDUAL") in ("INDIVIDUAL", "UNKNOWN")


def _contact(value: Any) -> Contact:
    address = str(value)
    if address[:7].lower() == "mailto:":
        address = address[7:]
    return Contact(str(value.params.get("CN", ""))[:LONGEST_TEXT], address[:LONGEST_TEXT])
