"""Who is on call by a calendar, held against an oracle of its own: a table of minutes, filled by dateutil.

The oracle shares nothing with `panicmail.oncall`: it knows the rota, not the text, and has neither
its reader nor its clock. `PANICMAIL_ORACLE_INSTANTS` asks at so many instants in place of a few.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dateutil import rrule, tz  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from panicmail.incident.people import Person
from panicmail.oncall import ical_parse
from panicmail.oncall.calendars import Calendar, resolve
from panicmail.oncall.match_names import NameMatcher
from panicmail.oncall.schedules import Schedule, Schedules

PEOPLE = ("ana", "bo", "kim", "max")
NAMES = NameMatcher({who: Person(id=who, name=who.title(), email=f"{who}@example.com") for who in PEOPLE})
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC", "America/Sao_Paulo")
#: Four weeks in which some zone's clock is changed, or none.
WINDOWS = (datetime(2026, 10, 12, tzinfo=UTC), datetime(2027, 3, 8, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
MINUTES = 28 * 24 * 60
INSTANTS = int(os.environ.get("PANICMAIL_ORACLE_INSTANTS", "200"))
AT_ONCE = 20
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True)
class Swap:
    """What becomes of one time of a series."""

    number: int
    who: str  #: "": it is cancelled
    later: timedelta  #: it is moved by so much
    is_day: bool  #: its RECURRENCE-ID is a day


@dataclass(frozen=True)
class Series:
    """Somebody's shifts, by the wall clock of a zone."""

    who: str
    zone: str
    first: datetime  #: naive
    length: timedelta
    rule: str
    is_in_days: bool
    swaps: tuple[Swap, ...]
    without: tuple[int, ...]  #: by EXDATE

    def starts(self) -> list[datetime]:
        return list(rrule.rrulestr(self.rule, dtstart=self.first)) if self.rule else [self.first]


@st.composite
def series(draw: st.DrawFn, window: datetime) -> Series:
    is_in_days = draw(st.booleans())
    day = window.replace(tzinfo=None) + draw(st.integers(-20, 20)) * DAY
    first = day if is_in_days else day + draw(st.integers(0, 95)) * timedelta(minutes=15)
    length = draw(st.integers(1, 9)) * DAY if is_in_days else draw(st.integers(1, 100)) * timedelta(minutes=30)
    rule = draw(
        st.sampled_from(
            ["", "FREQ=DAILY;COUNT=12", "FREQ=WEEKLY;COUNT=6", "FREQ=WEEKLY;INTERVAL=2;COUNT=4",
             "FREQ=DAILY;INTERVAL=3;COUNT=9", "FREQ=WEEKLY;BYDAY=MO,WE,FR;COUNT=9", "FREQ=MONTHLY;BYDAY=-1SU;COUNT=3"]
        )
    )  # fmt: skip
    # RFC 5545 3.8.5.3 leaves open what a start means that its own rule does not give.
    first = rrule.rrulestr(rule, dtstart=first)[0] if rule else first
    numbers = st.integers(0, 8)
    swap = st.builds(
        Swap,
        number=numbers,
        who=st.sampled_from(("", *PEOPLE)),
        later=st.sampled_from((timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(hours=-30))),
        is_day=st.booleans(),
    )
    swaps = draw(st.lists(swap, max_size=3, unique_by=lambda each: each.number)) if rule else []
    without = draw(st.lists(numbers, max_size=2, unique=True)) if rule else []
    zone = "Europe/Berlin" if is_in_days else draw(st.sampled_from(ZONES))
    who = draw(st.sampled_from(PEOPLE))
    left = tuple(each for each in without if each not in {swap.number for swap in swaps})
    return Series(who, zone, first, length, rule, is_in_days, tuple(swaps), left)


@st.composite
def rotas(draw: st.DrawFn) -> tuple[datetime, list[Series]]:
    window = draw(st.sampled_from(WINDOWS))
    return window, draw(st.lists(series(window), min_size=1, max_size=5))


# -- the rota as a calendar writes it


def written(rota: list[Series]) -> str:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example//oracle//EN", "X-WR-TIMEZONE:Europe/Berlin"]
    for number, each in enumerate(rota):
        begin, end = stamp(each, "DTSTART", each.first), stamp(each, "DTEND", each.first + each.length)
        starts = each.starts()
        out = [stamp(each, "EXDATE", starts[n]) for n in each.without if n < len(starts)]
        rule = [f"RRULE:{each.rule}"] if each.rule else []
        lines += ["BEGIN:VEVENT", f"UID:{number}", begin, end, *rule, *out, f"SUMMARY:{each.who}", "END:VEVENT"]
        for swap in each.swaps:
            if swap.number < len(starts):
                lines += ["BEGIN:VEVENT", f"UID:{number}", *changed(each, swap, starts[swap.number]), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def stamp(each: Series, name: str, at: datetime) -> str:
    if each.is_in_days:
        return f"{name};VALUE=DATE:{at:%Y%m%d}"
    return f"{name}:{at:%Y%m%dT%H%M%SZ}" if each.zone == "UTC" else f"{name};TZID={each.zone}:{at:%Y%m%dT%H%M%S}"


def moved(each: Series, swap: Swap) -> timedelta:
    return swap.later // DAY * DAY if each.is_in_days else swap.later


def changed(each: Series, swap: Swap, start: datetime) -> list[str]:
    at = start + moved(each, swap)
    names = f"RECURRENCE-ID;VALUE=DATE:{start:%Y%m%d}" if swap.is_day else stamp(each, "RECURRENCE-ID", start)
    said = [f"SUMMARY:{swap.who}"] if swap.who else ["STATUS:CANCELLED", f"SUMMARY:{each.who}"]
    return [names, stamp(each, "DTSTART", at), stamp(each, "DTEND", at + each.length), *said]


# -- the oracle


def table(window: datetime, rota: list[Series]) -> list[int]:
    """For each minute of the window who has it, a bit for each of `PEOPLE`."""
    minutes = [0] * MINUTES
    for each in rota:
        swaps = {swap.number: swap for swap in each.swaps}
        for number, start in enumerate(each.starts()):
            swap = swaps.get(number)
            who, at = (swap.who, start + moved(each, swap)) if swap else (each.who, start)
            if who and number not in each.without:
                fill(minutes, window, (at, at + each.length), each.zone, 1 << PEOPLE.index(who))
    return minutes


def fill(minutes: list[int], window: datetime, shown: tuple[datetime, datetime], zone: str, bit: int) -> None:
    first, last = ((instant(at, zone) - window) // MINUTE for at in shown)
    for minute in range(max(0, first), min(MINUTES, last)):
        minutes[minute] |= bit


def instant(shown: datetime, zone: str) -> datetime:
    there: datetime = tz.resolve_imaginary(shown.replace(tzinfo=tz.gettz(zone)))
    return there.astimezone(UTC)


@settings(max_examples=max(1, INSTANTS // AT_ONCE), deadline=None, suppress_health_check=list(HealthCheck))
@given(rotas(), st.lists(st.integers(0, MINUTES * 60 - 1), min_size=AT_ONCE, max_size=AT_ONCE))
def test_who_is_on_call_by_a_calendar_is_who_the_rota_says(
    drawn: tuple[datetime, list[Series]], seconds: list[int]
) -> None:
    window, rota = drawn
    reading = ical_parse.read(written(rota), window, window + 28 * DAY)
    answers = Calendar(since=reading.since, until=reading.until, events=resolve(reading, NAMES, "any"))
    schedules = Schedules({"seoc": Schedule(calendar=answers)})
    right = table(window, rota)
    for second in seconds:
        who = schedules.who("seoc", window + timedelta(seconds=second))
        assert set(who) == {person for bit, person in enumerate(PEOPLE) if right[second // 60] & 1 << bit}
