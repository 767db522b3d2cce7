"""Shifts: whose turn it is, and that no night of the year has two of them or none."""

from __future__ import annotations

import itertools
import tomllib
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail import config
from panicmail.oncall import runtime_settings
from panicmail.oncall.local_time import instant
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.oncall.shifts import DateRange, Rotation, ScheduleShift, spelled
from tests.examples import examples

EXAMPLE = Path(__file__).parents[2] / "deploy" / "panicmail.example.toml"

#: Clocks that jump an hour, half an hour, at midnight, twice a year more than others, backwards in winter, never.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "America/Santiago", "Africa/Cairo",
    "Africa/Casablanca", "Europe/Dublin", "America/St_Johns", "Asia/Kolkata", "UTC",
)  # fmt: skip
MONDAY = date(2026, 11, 23)
WORKDAYS, WEEKEND, DAILY = frozenset(range(5)), frozenset({5, 6}), frozenset(range(7))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def hours(number: float) -> timedelta:
    return number * HOUR


def at(text: str) -> datetime:
    """An instant in UTC: "2026-11-23 07:00"."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def shift(
    begins: float = 23,
    ends: float = 31,
    *people: str,
    days: frozenset[int] = WORKDAYS,
    zone: str = "UTC",
    rotation: Rotation = Rotation.NONE,
    start: date = MONDAY,
    season: DateRange | None = None,
) -> ScheduleShift:
    return ScheduleShift(
        days=days,
        begins=hours(begins),
        ends=hours(ends),
        zone=ZoneInfo(zone),
        people=people or ("ana",),
        rotation=rotation,
        start=start,
        season=season,
    )


def who(shifts: ScheduleShift | list[ScheduleShift], text: str) -> tuple[str, ...]:
    schedule = Schedule(shifts=tuple(shifts) if isinstance(shifts, list) else (shifts,))
    return Schedules({"seoc": schedule}).who("seoc", at(text))


# -- the wall clock


@pytest.mark.parametrize(
    ("zone", "shown", "expected"),
    [
        ("Europe/Berlin", "2026-07-01 02:30", "2026-07-01 00:30"),
        ("Europe/Berlin", "2027-03-28 01:59", "2027-03-28 00:59"),
        ("Europe/Berlin", "2027-03-28 02:00", "2027-03-28 01:00"),
        ("Europe/Berlin", "2027-03-28 02:30", "2027-03-28 01:00"),
        ("Europe/Berlin", "2027-03-28 03:00", "2027-03-28 01:00"),
        ("Europe/Berlin", "2027-03-28 03:01", "2027-03-28 01:01"),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30"),
        ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25 02:00"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:30"),
        ("Australia/Lord_Howe", "2027-04-04 01:45", "2027-04-03 14:45"),
        ("Australia/Lord_Howe", "2027-04-04 02:00", "2027-04-03 15:30"),
        ("America/Havana", "2026-11-01 00:30", "2026-11-01 04:30"),
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 10:00"),
        ("UTC", "2026-10-25 02:30", "2026-10-25 02:30"),
    ],
)
def test_a_skipped_time_is_the_jump_and_one_that_comes_twice_the_first(zone: str, shown: str, expected: str) -> None:
    local = datetime.fromisoformat(shown)
    after_midnight = local - datetime.combine(local.date(), datetime.min.time())
    assert instant(local.date(), after_midnight, ZoneInfo(zone)) == at(expected)


@given(
    zone=st.sampled_from(ZONES),
    day=st.dates(date(2020, 1, 1), date(2036, 12, 31)),
    earlier=st.integers(0, 48 * 60),
    later=st.integers(0, 48 * 60),
)
def test_a_later_time_of_the_clock_is_never_an_earlier_instant(zone: str, day: date, earlier: int, later: int) -> None:
    earlier, later = sorted((earlier, later))
    assert instant(day, earlier * MINUTE, ZoneInfo(zone)) <= instant(day, later * MINUTE, ZoneInfo(zone))
    midnight, next_midnight = instant(day, DAY, ZoneInfo(zone)), instant(day + DAY, timedelta(0), ZoneInfo(zone))
    assert midnight == next_midnight


@cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The hours of 2026 and 2027 in which the clock of a zone jumps; New Year where it never does."""
    jumps, hour = [], at("2026-01-01 00:00")
    while hour < at("2028-01-01 00:00"):
        if hour.astimezone(ZoneInfo(zone)).utcoffset() != (hour + HOUR).astimezone(ZoneInfo(zone)).utcoffset():
            jumps.append(hour)
        hour += HOUR
    return tuple(jumps) or (at("2027-01-01 00:00"),)


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone not in {"UTC", "Asia/Kolkata"}])
def test_the_zones_tried_here_do_jump_both_ways(zone: str) -> None:
    jumps = [
        (hour + HOUR).astimezone(ZoneInfo(zone)).utcoffset() - hour.astimezone(ZoneInfo(zone)).utcoffset()  # type: ignore[operator]  # aware
        for hour in changes(zone)
    ]
    assert min(jumps) < timedelta(0) < max(jumps)


@st.composite
def rotas(draw: st.DrawFn) -> tuple[str, list[ScheduleShift]]:
    """A zone, and shifts that follow each other around the clock, cut wherever it pleases."""
    zone = draw(st.sampled_from(ZONES))
    cuts = sorted(draw(st.sets(st.integers(0, 24 * 60 - 1), min_size=1, max_size=6)))
    rotation = draw(st.sampled_from(Rotation))
    people = ("ana", "bo", "kim")[: draw(st.integers(1, 3))]
    shifts = [
        shift(begins / 60, ends / 60, *people, days=DAILY, zone=zone, rotation=rotation)
        for begins, ends in zip(cuts, [*cuts[1:], cuts[0] + 24 * 60], strict=True)
    ]
    return zone, shifts


@examples(150)
@given(rota=rotas(), number=st.integers(0, 20))
def test_shifts_around_the_clock_have_every_instant_once_whatever_the_clock_does(
    rota: tuple[str, list[ScheduleShift]], number: int
) -> None:
    zone, shifts = rota
    jump = changes(zone)[number % len(changes(zone))]
    start, end = jump - 3 * DAY, jump + 3 * DAY
    spans = sorted((span for each in shifts for span in each.spans(start, end)), key=lambda span: span.start)
    assert spans[0].start <= start
    assert spans[-1].end >= end
    for one, following in itertools.pairwise(spans):
        assert one.end == following.start
    assert all(span.start < span.end for span in spans)
    assert not any(span.is_gap for span in Schedule(shifts=tuple(shifts)).spans(start, end))


@examples(60)
@given(rota=rotas(), minutes=st.integers(-3 * 24 * 60, 3 * 24 * 60))
def test_who_is_on_call_at_an_instant_is_whom_the_spans_name(
    rota: tuple[str, list[ScheduleShift]], minutes: int
) -> None:
    zone, shifts = rota
    jump = changes(zone)[0]
    schedules = Schedules({"seoc": Schedule(shifts=tuple(shifts[:2]), fallback=("max",))})
    asked_at = jump + minutes * MINUTE
    (over,) = [s for s in schedules.spans("seoc", jump - 4 * DAY, jump + 4 * DAY) if s.start <= asked_at < s.end]
    assert schedules.who("seoc", asked_at) == over.people


def test_a_night_shift_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    night = shift(22, 30, days=DAILY, zone="Europe/Berlin")
    lengths = [
        next(s.end - s.start for s in night.spans(at(f"{day} 22:30"), at(f"{day} 23:00")))
        for day in ("2027-03-27", "2026-10-24", "2026-12-01")
    ]
    assert lengths == [hours(7), hours(9), hours(8)]


def test_a_shift_that_lies_in_skipped_time_does_not_take_place_that_day() -> None:
    short = shift(2.25, 2.75, days=DAILY, zone="Europe/Berlin")
    starts = [span.start for span in short.spans(at("2027-03-27 00:00"), at("2027-03-30 00:00"))]
    assert starts == [at("2027-03-27 01:15"), at("2027-03-29 00:15")]


def test_a_clock_put_back_over_midnight_leaves_nobody_out() -> None:
    """At 00:01 of 7 November 2010 Newfoundland's clock went back to 23:01 of the 6th."""
    days = shift(0, 24, "ana", "bo", days=DAILY, zone="America/St_Johns", rotation=Rotation.DAILY)
    (night,) = days.spans(at("2010-11-07 02:40"), at("2010-11-07 03:00"))
    assert (night.start, night.end) == (at("2010-11-07 02:30"), at("2010-11-08 03:30"))


# -- days and hours


def test_a_shift_ends_at_its_end_and_not_a_moment_later() -> None:
    day, night = shift(7, 23, "ana"), shift(23, 31, "bo")
    assert who([day, night], "2026-11-24 06:59:59.999999") == ("bo",)
    assert who([day, night], "2026-11-24 07:00") == ("ana",)


def test_a_shift_belongs_to_the_day_it_begins() -> None:
    night = shift(23, 31, "ana", days=WORKDAYS)
    assert who(night, "2026-11-28 06:00") == ("ana",)  # Saturday morning is Friday's
    assert who(night, "2026-11-23 06:00") == ()  # Monday morning would be Sunday's
    assert who(night, "2026-11-29 23:30") == ()


def test_shifts_that_overlap_are_all_on_call_in_the_order_they_are_written() -> None:
    rota = [shift(12, 20, "bo"), shift(8, 16, "ana"), shift(8, 16, "bo")]
    assert who(rota, "2026-11-23 09:00") == ("ana", "bo")
    assert who(rota, "2026-11-23 13:00") == ("bo", "ana")
    assert who(rota, "2026-11-23 17:00") == ("bo",)


@pytest.mark.parametrize(
    ("days", "text"),
    [(DAILY, "daily"), (WORKDAYS, "mon-fri"), (WEEKEND, "sat,sun"), (frozenset({0, 2, 3, 4}), "mon,wed-fri"),
     (frozenset({6}), "sun"), (frozenset({4, 5, 6, 0}), "mon,fri-sun")],
)  # fmt: skip
def test_days_are_spelled_as_people_write_them(days: frozenset[int], text: str) -> None:
    assert spelled(days) == text


def test_a_span_says_which_shift_it_is() -> None:
    said = {
        str(shift()): "mon-fri 23:00-07:00 UTC",
        str(shift(0, 24, days=DAILY, zone="Asia/Kolkata")): "daily 00:00-24:00 Asia/Kolkata",
        str(shift(8, 32, days=WEEKEND)): "sat,sun 08:00-08:00 UTC",
        str(shift(8, 16, season=DateRange((3, 29), (10, 25)))): "mon-fri 08:00-16:00 UTC, 03-29 to 10-25",
    }
    assert list(said) == list(said.values())


# -- turns


def test_a_weekly_rotation_changes_on_the_weekday_of_its_start_and_goes_back_before_it() -> None:
    weekly = shift(0, 24, "ana", "bo", "kim", days=DAILY, rotation=Rotation.WEEKLY, start=date(2026, 11, 25))
    turns = {day: who(weekly, f"{day} 12:00")[0] for day in ("2026-11-17", "2026-11-18", "2026-11-24", "2026-11-25",
             "2026-12-01", "2026-12-02", "2026-12-09", "2026-12-16")}  # fmt: skip
    assert list(turns.values()) == ["bo", "kim", "kim", "ana", "ana", "bo", "kim", "ana"]


def test_the_week_of_a_night_shift_ends_with_the_night_that_began_in_it() -> None:
    weekly = shift(23, 31, "ana", "bo", days=DAILY, rotation=Rotation.WEEKLY, start=MONDAY)
    assert who(weekly, "2026-11-30 06:59") == ("ana",)
    assert who(weekly, "2026-11-30 23:00") == ("bo",)


def test_a_daily_rotation_hands_on_each_time_and_skips_no_turn_at_the_weekend() -> None:
    daily = shift(8, 16, "ana", "bo", "kim", rotation=Rotation.DAILY, start=MONDAY)
    days = [MONDAY + n * DAY for n in range(-3, 9)]
    turns = [who(daily, f"{day} 12:00") for day in days if day.weekday() < 5]
    assert [turn[0] for turn in turns] == ["kim", "ana", "bo", "kim", "ana", "bo", "kim", "ana"]


def test_without_a_rotation_everybody_has_every_shift() -> None:
    assert who(shift(8, 16, "ana", "bo"), "2026-11-23 12:00") == ("ana", "bo")


@given(
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.sets(st.integers(0, 6), min_size=1),
)
def test_turns_of_a_daily_rotation_are_those_counted_by_hand(start: date, day: date, days: set[int]) -> None:
    start, day = min(start, day), min(max(start, day), min(start, day) + 400 * DAY)
    if day.weekday() not in days:
        return
    counted = sum((start + n * DAY).weekday() in days for n in range((day - start).days))
    people = ("ana", "bo", "kim")
    daily = shift(8, 9, *people, days=frozenset(days), rotation=Rotation.DAILY, start=start)
    assert who(daily, f"{day} 08:30") == (people[counted % 3],)


# -- seasons


@pytest.mark.parametrize(
    ("day", "in_summer"),
    [("2026-03-28", False), ("2026-03-29", True), ("2026-10-24", True), ("2026-10-25", False), ("2027-01-01", False)],
)
def test_two_seasons_that_meet_have_every_day_once(day: str, in_summer: bool) -> None:
    summer, winter = DateRange((3, 29), (10, 25)), DateRange((10, 25), (3, 29))
    assert (summer.holds(date.fromisoformat(day)), winter.holds(date.fromisoformat(day))) == (in_summer, not in_summer)


@given(st.dates(), st.dates(), st.dates())
def test_of_two_opposite_seasons_exactly_one_holds(first: date, until: date, day: date) -> None:
    one, other = (first.month, first.day), (until.month, until.day)
    if one != other:
        assert DateRange(one, other).holds(day) != DateRange(other, one).holds(day)


def test_a_night_out_of_season_is_judged_by_the_day_it_began() -> None:
    night = shift(23, 31, "ana", days=DAILY, season=DateRange((3, 29), (10, 25)))
    assert who(night, "2026-10-25 06:00") == ("ana",)
    assert who(night, "2026-10-25 23:30") == ()


# -- the handbook's rota


def regions(schedules: Schedules, first: str) -> list[str]:
    """Who begins when within a day from `first` on: "23:00 apac"."""
    spans = schedules.spans("seoc", at(first), at(first) + DAY)
    return [f"{span.start:%H:%M} {','.join(span.people)}" for span in spans]


def handbook(tmp_path: Path, schedule: str) -> Schedules:
    """A configuration with this roster of the SEOC and a person for each region."""
    (tmp_path / "gitlab.token").write_text("glpat-example")
    (tmp_path / "gitlab.token").chmod(0o600)
    people = "".join(f'[people.{p}]\nemail = "{p}@example.com"\n' for p in ("apac", "emea", "amer", "sat", "max"))
    (tmp_path / "panicmail.toml").write_text(
        '[smtp]\naddresses = ["panic@example.com"]\n'
        '[gitlab]\nurl = "https://gitlab.example.com"\nproject = "security/incidents"\ntoken_file = "gitlab.token"\n'
        f'{people}\n[oncall.smoc]\nfixed = ["max"]\n[oncall.seoc]\n{schedule}'
    )
    loaded = config.load(tmp_path / "panicmail.toml", {}, host_name=lambda: "panic.example.com")
    return runtime_settings.from_config(loaded, [("a", b"")]).schedules


FOLLOW_THE_SUN = """\
shifts = [
  { days = "mon-fri", from = "00:00", to = "08:00", tz = "Europe/Berlin", people = ["apac"] },
  { days = "mon-fri", from = "08:00", to = "16:00", tz = "Europe/Berlin", people = ["emea"] },
  { days = "mon-fri", from = "16:00", to = "24:00", tz = "Europe/Berlin", people = ["amer"] },
  { days = "sat,sun", from = "00:00", to = "24:00", tz = "Europe/Berlin", people = ["sat"] },
]
"""
#: The same with the change of season on a date, in UTC.
WITH_SEASONS = """\
shifts = [
  { days = "sun-thu", from = "23:00", to = "07:00", people = ["apac"], season = { from = "11-01", to = "04-01" } },
  { days = "mon-fri", from = "07:00", to = "15:00", people = ["emea"], season = { from = "11-01", to = "04-01" } },
  { days = "mon-fri", from = "15:00", to = "23:00", people = ["amer"], season = { from = "11-01", to = "04-01" } },
  { days = "fri,sat", from = "23:00", to = "23:00", people = ["sat"], season = { from = "11-01", to = "04-01" } },
  { days = "sun-thu", from = "22:00", to = "06:00", people = ["apac"], season = { from = "04-01", to = "11-01" } },
  { days = "mon-fri", from = "06:00", to = "14:00", people = ["emea"], season = { from = "04-01", to = "11-01" } },
  { days = "mon-fri", from = "14:00", to = "22:00", people = ["amer"], season = { from = "04-01", to = "11-01" } },
  { days = "fri,sat", from = "22:00", to = "22:00", people = ["sat"], season = { from = "04-01", to = "11-01" } },
]
fallback = ["max"]
"""


@pytest.mark.parametrize("schedule", [FOLLOW_THE_SUN, WITH_SEASONS], ids=["by Berlin's clock", "by seasons"])
def test_the_handbooks_rota_follows_the_sun_in_winter_and_an_hour_earlier_in_summer(
    tmp_path: Path, schedule: str
) -> None:
    schedules = handbook(tmp_path, schedule)
    assert regions(schedules, "2027-01-12 23:00") == ["23:00 apac", "07:00 emea", "15:00 amer"]
    assert regions(schedules, "2026-07-14 22:00") == ["22:00 apac", "06:00 emea", "14:00 amer"]
    weekend = schedules.spans("seoc", at("2027-01-15 15:00"), at("2027-01-18 07:00"))
    assert [(f"{s.start:%a %H:%M}", s.people) for s in weekend] == [
        ("Fri 15:00", ("amer",)),
        ("Fri 23:00", ("sat",)),
        ("Sun 23:00", ("apac",)),
    ]


def test_by_a_wall_clock_the_change_of_season_leaves_no_gap_and_by_dates_the_fallback_has_an_hour(
    tmp_path: Path,
) -> None:
    year = at("2026-06-01 00:00"), at("2027-06-01 00:00")
    assert handbook(tmp_path, FOLLOW_THE_SUN).faults(*year) == {}
    gaps = handbook(tmp_path, WITH_SEASONS).faults(*year)["seoc"]
    assert [(f"{g.start:%m-%d %H:%M}", g.end - g.start, g.people) for g in gaps] == [("11-01 22:00", HOUR, ("max",))]


def test_the_rota_of_the_shipped_example_is_the_handbooks(tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8").replace("/var/lib/panicmail", str(tmp_path))
    (tmp_path / "gitlab.token").write_text("glpat-example")
    (tmp_path / "gitlab.token").chmod(0o600)
    (tmp_path / "panicmail.toml").write_text(text)
    loaded = config.load(tmp_path / "panicmail.toml", {}, host_name=lambda: "panic.example.com")
    schedules = runtime_settings.from_config(loaded, [("a", b"")]).schedules
    assert len(tomllib.loads(text)["oncall"]["seoc"]["shifts"]) == 4
    for first, expected in (
        ("2027-01-12 23:00", ["23:00", "07:00", "15:00"]),
        ("2026-07-14 22:00", ["22:00", "06:00", "14:00"]),
    ):
        assert [told.split()[0] for told in regions(schedules, first)] == expected
    assert schedules.faults(at("2026-06-01 00:00"), at("2028-06-01 00:00")) == {}
