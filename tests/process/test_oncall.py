"""Who is on call, who will be, how that is shown, and what the settings say about senders."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail import config
from panicmail.cli import oncall_command
from panicmail.incident.sender_proof import NOT_CHECKED
from panicmail.oncall import config_schedules, render
from panicmail.oncall.calendar_source import refresh
from panicmail.oncall.calendars import Calendar
from panicmail.oncall.overrides import ScheduleOverride
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.oncall.schedules import HORIZON, OnCallDuty, Schedule, Schedules
from panicmail.oncall.shifts import ScheduleShift
from panicmail.oncall.spans import OnCallSpan, divide, join
from tests.cast import T0
from tests.examples import examples
from tests.office import office_settings
from tests.program import World, world

ROSTERS = Schedules(
    {
        "seoc": Schedule(fixed=("ana", "bo"), fallback=("max",)),
        "smoc": Schedule(fallback=("max",)),
        "gap": Schedule(),
    }
)


def test_the_fixed_people_are_on_call_in_their_order_and_the_fallback_is_not() -> None:
    assert ROSTERS.who("seoc", T0) == ("ana", "bo")
    assert ROSTERS.on_call("seoc", T0)[0] == OnCallDuty(role="seoc", person="ana", until=None, source="fixed")


def test_the_fallback_answers_for_a_gap_and_says_so() -> None:
    assert ROSTERS.on_call("smoc", T0) == (
        OnCallDuty(role="smoc", person="max", until=None, source="fallback: nobody was named"),
    )


@pytest.mark.parametrize("role", ["gap", "nobody has heard of it", ""])
def test_where_nobody_is_named_nobody_is_on_call(role: str) -> None:
    assert ROSTERS.who(role, T0) == ()


def test_roles_are_those_written_down() -> None:
    assert ROSTERS.roles == ("seoc", "smoc", "gap")


def test_the_settings_ask_the_schedules_at_the_instant_in_question() -> None:
    assert office_settings().who_at(T0)("smoc") == ("max",)


# -- what lies over what

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")


def h(hours: float) -> datetime:
    """So many hours into Monday."""
    return MONDAY + hours * HOUR


def shift(begins: float, ends: float, *people: str, days: str = "0123456", zone: ZoneInfo = BERLIN) -> ScheduleShift:
    return ScheduleShift(
        days=frozenset(map(int, days)), begins=begins * HOUR, ends=ends * HOUR, zone=zone, people=people
    )


def by_day(*people: str) -> ScheduleShift:
    return shift(8, 20, *people, zone=ZoneInfo("UTC"))


def override(start: datetime, end: datetime, person: str) -> ScheduleOverride:
    return ScheduleOverride(start=start, end=end, person=person)


def told(spans: tuple[OnCallSpan, ...]) -> list[tuple[float, tuple[str, ...], str]]:
    """Each span as the hour it begins, its people and the first word of its source."""
    return [((span.start - MONDAY) / HOUR, span.people, span.source.split()[0].rstrip(":")) for span in spans]


@pytest.mark.parametrize("turn", [1, -1], ids=["as they come", "the other way round"])
def test_an_override_replaces_everybody_for_its_time_and_of_two_the_later_counts(turn: int) -> None:
    overrides = (override(h(10), h(12), "max"), override(h(11), h(14), "bo"))[::turn]
    schedules = Schedules({"seoc": Schedule(shifts=(by_day("ana", "kim"),), overrides=overrides)})
    assert told(schedules.spans("seoc", h(9), h(15))) == [
        (9, ("ana", "kim"), "shift"),
        (10, ("max",), "override"),
        (11, ("bo",), "override"),
        (14, ("ana", "kim"), "shift"),
    ]
    assert schedules.on_call("seoc", h(10))[0].source == "override until 2026-11-23 12:00Z"
    assert [schedules.who("seoc", h(hour)) for hour in (9.99, 10, 10.99, 11)] == [
        ("ana", "kim"),
        ("max",),
        ("max",),
        ("bo",),
    ]


@pytest.mark.parametrize("turn", [1, -1], ids=["as they come", "the other way round"])
@pytest.mark.parametrize("evening", [(10, 14), (8, 12), (16, 20)], ids=["within", "from its start", "to its end"])
def test_a_shorter_override_within_a_longer_one_counts_in_either_order(evening: tuple[int, int], turn: int) -> None:
    overrides = (override(h(8), h(20), "max"), override(h(evening[0]), h(evening[1]), "bo"))[::turn]
    schedules = Schedules({"seoc": Schedule(("ana",), overrides=overrides)})
    assert [schedules.who("seoc", h(hour)) for hour in range(7, 21)] == [
        ("ana",) if hour in (7, 20) else ("bo",) if evening[0] <= hour < evening[1] else ("max",)
        for hour in range(7, 21)
    ]


def test_what_an_override_replaces_is_what_lies_beneath_it() -> None:
    overrides = (override(h(8), h(20), "max"), override(h(10), h(12), "bo"))
    schedules = Schedules({"seoc": Schedule(shifts=(by_day("ana"),), overrides=overrides, fallback=("kim",))})
    week, evening = schedules.replaced("seoc", h(0), h(48))
    assert (week.override.person, told(week.spans)) == ("max", [(8, ("ana",), "shift")])
    assert (evening.override.person, told(evening.spans)) == ("bo", [(10, ("max",), "override")])


def test_an_override_lies_over_fixed_people_and_over_gaps() -> None:
    fixed = Schedules({"seoc": Schedule(("ana",), overrides=(override(h(1), h(2), "bo"),))})
    assert told(fixed.spans("seoc", h(0), h(3))) == [
        (0, ("ana",), "fixed"),
        (1, ("bo",), "override"),
        (2, ("ana",), "fixed"),
    ]
    gap = Schedules({"seoc": Schedule(shifts=(by_day("ana"),), overrides=(override(h(6), h(8), "bo"),))})
    assert told(gap.spans("seoc", h(5), h(9))) == [(5, (), "nobody"), (6, ("bo",), "override"), (8, ("ana",), "shift")]


def test_a_gap_is_the_fallbacks_and_where_there_is_none_nobodys() -> None:
    shifts = (by_day("ana"),)
    covered = Schedules({"seoc": Schedule(shifts=shifts, fallback=("max", "bo"))})
    assert covered.who("seoc", h(7)) == ("max", "bo")
    assert [duty.until for duty in covered.on_call("seoc", h(7))] == [h(8), h(8)]
    (bare,) = Schedules({"seoc": Schedule(shifts=shifts)}).spans("seoc", h(6), h(7))
    assert (bare.people, bare.source, bare.is_gap) == ((), "nobody: nobody was named", True)


def test_a_duty_lasts_as_long_as_the_person_is_among_those_on_call() -> None:
    schedules = Schedules(
        {
            "seoc": Schedule(
                shifts=(
                    by_day("ana"),
                    shift(8, 12, "bo", zone=ZoneInfo("UTC")),
                    shift(20, 24, "ana", zone=ZoneInfo("UTC")),
                )
            ),
            "ever": Schedule(shifts=(shift(0, 24, "ana"),)),
        }
    )
    assert [(duty.person, duty.until) for duty in schedules.on_call("seoc", h(9))] == [("ana", h(24)), ("bo", h(12))]
    assert [duty.until for duty in schedules.on_call("ever", h(9))] == [None]


def test_an_end_beyond_the_horizon_is_none_known() -> None:
    far = Schedules({"seoc": Schedule(("ana",), overrides=(override(h(0) + HORIZON, h(1) + HORIZON, "bo"),))})
    assert far.on_call("seoc", h(0))[0].until is None
    assert far.on_call("seoc", h(1))[0].until == h(0) + HORIZON


def test_what_wants_mending_ahead_is_told_by_role() -> None:
    unknown = OnCallSpan(start=h(30), end=h(31), people=("ana",), source="calendar", unknown=("Zoe",))
    known = OnCallSpan(start=h(0), end=h(48), people=("bo",), source="calendar")
    schedules = Schedules(
        {
            "whole": Schedule(("ana",)),
            "shifts": Schedule(shifts=(shift(0, 24, "ana", days="01345"),), fallback=("max",)),
            "calendar": Schedule(calendar=Calendar(since=h(0), until=h(48), events=(known, unknown), read_at=h(0))),
        }
    )
    faults = schedules.faults(h(0), h(48))
    assert list(faults) == ["shifts", "calendar"]
    assert [(f.start, f.end, f.people, f.is_gap) for f in faults["shifts"]] == [(h(47), h(48), ("max",), True)]
    assert [(f.start, f.end, f.unknown, f.is_gap) for f in faults["calendar"]] == [(h(30), h(31), ("Zoe",), False)]


_WHEN = st.integers(-30, 120)


@st.composite
def rosters_of_all_kinds(draw: st.DrawFn) -> Schedule:
    def stretch() -> tuple[datetime, datetime]:
        start = draw(_WHEN)
        return h(start), h(start + draw(st.integers(1, 60)))

    some = st.lists(st.sampled_from(("ana", "bo", "kim")), max_size=2, unique=True).map(tuple)
    kind = draw(st.sampled_from(("fixed", "shifts", "calendar", "nothing")))
    events = []
    for _ in range(draw(st.integers(0, 5)) if kind == "calendar" else 0):
        start, end = stretch()
        people = draw(some)
        events.append(
            OnCallSpan(start=start, end=end, people=people, source="calendar", unknown=() if people else ("Zoe",))
        )
    return Schedule(
        fixed=("ana", "bo") if kind == "fixed" else (),
        fallback=draw(some),
        shifts=(by_day("ana"), shift(6, 30, "bo", "kim", days="024")) if kind == "shifts" else (),
        calendar=Calendar(since=h(-10), until=h(90), events=tuple(events)) if kind == "calendar" else None,
        overrides=tuple(override(*stretch(), "max") for _ in range(draw(st.integers(0, 3)))),
    )


@examples(200)
@given(schedule=rosters_of_all_kinds(), start=_WHEN, length=st.integers(1, 80), asked=st.integers(0, 79))
def test_whatever_a_roster_holds_every_instant_has_one_span_and_who_agrees(
    schedule: Schedule, start: int, length: int, asked: int
) -> None:
    schedules = Schedules({"seoc": schedule})
    spans = schedules.spans("seoc", h(start), h(start + length))
    assert (spans[0].start, spans[-1].end) == (h(start), h(start + length))
    for one, following in itertools.pairwise(spans):
        assert one.start < one.end == following.start
        assert (one.people, one.source, one.unknown) != (following.people, following.source, following.unknown)
    moment = h(start + asked % length)
    (over,) = [span for span in spans if span.start <= moment < span.end]
    assert schedules.who("seoc", moment) == over.people == tuple(d.person for d in schedules.on_call("seoc", moment))
    assert not schedule.fallback or all(span.people for span in spans)
    assert all(span.people == schedule.fallback for span in spans if span.is_gap)


def test_spans_that_say_the_same_are_one_and_an_empty_interval_has_none() -> None:
    one = OnCallSpan(start=h(0), end=h(1), people=("ana",), source="fixed")
    later = replace(one, start=h(1), end=h(2))
    assert list(join([one, later, replace(later, start=h(3), end=h(4))])) == [
        replace(one, end=h(2)),
        replace(one, start=h(3), end=h(4)),
    ]
    assert list(divide([one], h(0), h(0))) == []


# -- the strip


def odd_rota(*overrides: ScheduleOverride) -> Schedule:
    """Around the clock but for Sunday evening, which is nobody's."""
    evening = shift(16, 24, "kim", "max", days="012345")
    return Schedule(shifts=(shift(0, 8, "ana"), shift(8, 16, "bo"), evening), fallback=("max",), overrides=overrides)


def shown(spans: Iterator[OnCallSpan], zone: ZoneInfo = BERLIN) -> str:
    kept = list(spans)
    lines = [*render.days(kept, zone), *render.faults(kept, zone)]
    assert all(len(line.text) <= 80 for line in lines)
    assert all(line.is_loud for line in lines if "!!" in line.text)
    return "\n".join(line.text for line in lines)


AUTUMN = """\
Thu 22 Oct        bo                  16:00 kim, max
Fri 23 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Sat 24 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Sun 25 Oct  00:00 ana                 02:30 CEST kim (override) 02:30 CET ana
            08:00 bo                  16:00 !! max              (25 h)
Mon 26 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Tue 27 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Wed 28 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Thu 29 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Fri 30 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Sat 31 Oct  00:00 ana                 08:00 bo                  16:00 kim, max
Sun 01 Nov  00:00 ana                 08:00 bo                  16:00 !! max
Mon 02 Nov  00:00 ana                 08:00 bo                  16:00 kim, max
Tue 03 Nov  00:00 ana                 08:00 bo                  16:00 kim, max
Wed 04 Nov  00:00 ana                 08:00 bo                  16:00 kim, max
Thu 05 Nov  00:00 ana                 08:00 bo
!! Sun 25 Oct 16:00 - Mon 26 Oct 00:00  fallback: nobody was named
!! Sun 01 Nov 16:00 - Mon 02 Nov 00:00  fallback: nobody was named"""
SPRING = """\
Fri 26 Mar        ana             08:00 bo              16:00 kim, max
Sat 27 Mar  00:00 ana             08:00 bo              16:00 kim, max
Sun 28 Mar  00:00 ana             01:30 kim (override)  03:30 ana
            08:00 bo              16:00 !! max          (23 h)
Mon 29 Mar  00:00 ana             08:00 bo              16:00 kim, max
Tue 30 Mar  00:00 ana             08:00 bo              16:00 kim, max
Wed 31 Mar  00:00 ana             08:00 bo              16:00 kim, max
Thu 01 Apr  00:00 ana             08:00 bo              16:00 kim, max
Fri 02 Apr  00:00 ana             08:00 bo              16:00 kim, max
Sat 03 Apr  00:00 ana             08:00 bo              16:00 kim, max
Sun 04 Apr  00:00 ana             08:00 bo              16:00 !! max
Mon 05 Apr  00:00 ana             08:00 bo              16:00 kim, max
Tue 06 Apr  00:00 ana             08:00 bo              16:00 kim, max
Wed 07 Apr  00:00 ana             08:00 bo              16:00 kim, max
Thu 08 Apr  00:00 ana             08:00 bo              16:00 kim, max
Fri 09 Apr  00:00 ana
!! Sun 28 Mar 16:00 - Mon 29 Mar 00:00  fallback: nobody was named
!! Sun 04 Apr 16:00 - Mon 05 Apr 00:00  fallback: nobody was named"""


@pytest.mark.parametrize(
    ("start", "instead", "expected"),
    [
        (datetime(2026, 10, 22, 10, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC), AUTUMN),
        (datetime(2027, 3, 26, 5, tzinfo=UTC), datetime(2027, 3, 28, 0, 30, tzinfo=UTC), SPRING),
    ],
    ids=["the clock is put back", "the clock is put forward"],
)
def test_two_weeks_are_a_line_a_day_and_the_odd_night_is_told_as_it_is(
    start: datetime, instead: datetime, expected: str
) -> None:
    schedule = odd_rota(override(instead, instead + HOUR, "kim"))
    assert shown(schedule.spans(start, start + 14 * DAY)) == expected


def test_a_person_who_goes_on_from_the_day_before_has_no_time_and_nobody_is_loud() -> None:
    weekdays = Schedule(shifts=(shift(0, 24, "ana", days="01234", zone=ZoneInfo("UTC")),))
    assert shown(weekdays.spans(h(0), h(6 * 24)), ZoneInfo("UTC")).splitlines() == [
        "Mon 23 Nov        ana",
        "Tue 24 Nov        ana",
        "Wed 25 Nov        ana",
        "Thu 26 Nov        ana",
        "Fri 27 Nov        ana",
        "Sat 28 Nov  00:00 !! NOBODY",
        "!! Sat 28 Nov 00:00 - Sun 29 Nov 00:00  nobody: nobody was named",
    ]


def test_a_day_the_date_line_took_away_is_no_line() -> None:
    apia = ZoneInfo("Pacific/Apia")
    start = datetime(2011, 12, 29, 10, tzinfo=UTC)
    assert shown(Schedule(("ana",)).spans(start, start + 2 * DAY), apia).splitlines() == [
        "Thu 29 Dec        ana",
        "Sat 31 Dec        ana",
    ]


@examples(60)
@given(
    people=st.lists(st.text("abcdefgh", min_size=1, max_size=30), min_size=1, max_size=12, unique=True),
    cuts=st.lists(st.integers(1, 71), unique=True, max_size=20),
    name=st.text(max_size=60),
)
def test_a_strip_is_never_wider_than_the_screen(people: list[str], cuts: list[int], name: str) -> None:
    edges = [h(0), *(h(cut) for cut in sorted(cuts)), h(72)]
    spans = [
        OnCallSpan(
            start=start,
            end=end,
            people=tuple(people[: n % len(people) + 1]),
            source="calendar",
            unknown=(name,) * (n % 2),
        )
        for n, (start, end) in enumerate(itertools.pairwise(edges))
    ]
    shown(iter(spans))
    text = "".join(line.text for line in render.days(spans, BERLIN))
    assert all(person in text for person in people[: min(len(people), len(spans))])


# -- panicmail oncall

SHIFTS = [
    {"days": "mon-fri", "from": "08:00", "to": "20:00", "tz": "Europe/Berlin", "people": ["ana", "bo"],
     "rotate": "weekly", "start": "2026-11-23"},
]  # fmt: skip
ICS = """\
BEGIN:VCALENDAR
BEGIN:VEVENT
UID:1
DTSTART:20261123T000000Z
DTEND:20261124T000000Z
SUMMARY:On call: Ana Reyes
END:VEVENT
BEGIN:VEVENT
UID:2
DTSTART:20261124T000000Z
DTEND:20261125T000000Z
SUMMARY:Zoe
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as town:
        yield town


def test_oncall_says_now_next_and_the_coming_two_weeks_by_the_clock_asked_for(town: World) -> None:
    town.config["oncall"]["seoc"] = {"shifts": SHIFTS, "fallback": ["max"]}
    town.write_config()
    ran = town.run("oncall", "--at", "2026-11-23T09:00+01:00", "--tz", "Europe/Berlin")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[:12] == [
        "On call at Mon 2026-11-23 09:00 Europe/Berlin",
        "",
        "seoc: Ana Reyes (ana), until Mon 23 Nov 20:00",
        "  from shift mon-fri 08:00-20:00 Europe/Berlin",
        "  next Max Ode (max), Mon 23 Nov 20:00",
        "",
        "smoc: Max Ode (max), no end known",
        "  from fixed",
        "",
        'The coming two weeks, by the clock of Europe/Berlin ("!!" wants mending)',
        "",
        "seoc",
    ]
    assert "  Tue 24 Nov        !! max  08:00 ana     20:00 !! max" in lines
    assert "  !! Fri 27 Nov 20:00 - Mon 30 Nov 08:00  fallback: nobody was named" in lines
    assert lines[-2:] == ["smoc", "  max: all of it (fixed)"]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("days", "end"), [(13, "  !! and 1 line more"), (14, "  !! and 2 lines more")])
def test_what_of_many_faults_is_not_shown_is_counted(days: int, end: str) -> None:
    day = timedelta(days=1)
    nights = [OnCallSpan(start=T0 + n * day, end=T0 + (n + 0.5) * day, people=("max",), source="x", unknown=("Zoe",))
              for n in range(days)]  # fmt: skip
    role = oncall_command.Role("seoc", (), tuple(nights))
    assert [line.text for line in oncall_command._ahead(role, BERLIN)][-1] == end


def test_oncall_as_a_document_has_every_span_ahead(town: World) -> None:
    town.config["oncall"]["seoc"] = {"shifts": SHIFTS}
    town.write_config()
    document = town.run("oncall", "--at", "2026-11-23T06:00Z", "--json").json
    assert [duty["role"] for duty in document["on_call"]] == ["smoc"]
    assert document["ahead"]["seoc"][:2] == [
        {"start": "2026-11-23T06:00:00+00:00", "end": "2026-11-23T07:00:00+00:00", "people": [],
         "source": "nobody: nobody was named", "gap": True, "unknown": []},
        {"start": "2026-11-23T07:00:00+00:00", "end": "2026-11-23T19:00:00+00:00", "people": ["ana"],
         "source": "shift mon-fri 08:00-20:00 Europe/Berlin", "gap": False, "unknown": []},
    ]  # fmt: skip
    assert document["ahead"]["seoc"][-1]["end"] == "2026-12-07T06:00:00+00:00"
    assert "seoc: !! NOBODY IS ON CALL" in town.run("oncall", "--at", "2026-11-23T06:00Z").out


def test_oncall_reads_a_calendar_in_a_file_as_it_is_and_leaves_no_trace(town: World) -> None:
    town.config["oncall"]["seoc"] = {"ical": "seoc.ics", "fallback": ["max"]}
    town.write_config()
    (town.folder / "seoc.ics").write_text(ICS)
    before = {file.name for file in town.folder.iterdir()}
    lines = town.run("oncall", "--at", "2026-11-23T12:00Z").out.splitlines()
    assert "seoc: Ana Reyes (ana), until Tue 24 Nov 00:00" in lines
    assert any(line.startswith("seoc: its calendar was read 0 min ago, at ") for line in lines)
    assert "  !! Tue 24 Nov 00:00 - Wed 25 Nov 00:00  fallback: unknown name Zoe" in lines
    assert {file.name for file in town.folder.iterdir()} == before


def test_oncall_says_what_of_a_calendar_does_not_count_and_whom_an_override_replaces(town: World) -> None:
    night = [
        "BEGIN:VEVENT",
        "UID:n",
        "DTSTART:20261124T230000Z",
        "DTEND:20261124T070000Z",
        "SUMMARY:night",
        "END:VEVENT",
    ]
    (town.folder / "seoc.ics").write_text(ICS.replace("END:VCALENDAR", "\n".join([*night, "END:VCALENDAR"])))
    week = {"from": "2026-11-23T08:00:00Z", "to": "2026-11-30T08:00:00Z", "person": "max"}
    evening = {"from": "2026-11-24T18:00:00Z", "to": "2026-11-24T22:00:00Z", "person": "ana"}
    town.config["oncall"]["seoc"] = {"ical": "seoc.ics", "fallback": ["max"], "overrides": [evening, week]}
    town.write_config()
    told = " ".join(town.run("oncall", "--at", "2026-11-23T12:00Z", "--tz", "UTC").out.split())
    assert '!! does not count: "night", 2026-11-24 23:00Z to 2026-11-25 07:00Z: it ends at 2026-11-24 07:00' in told
    assert "override Mon 23 Nov 08:00 - Mon 30 Nov 08:00: max instead of ana, " in told
    assert "override Tue 24 Nov 18:00 - Tue 24 Nov 22:00: ana instead of max" in told
    document = town.run("oncall", "--at", "2026-11-24T20:00Z", "--json").json
    assert [each["person"] for each in document["on_call"] if each["role"] == "seoc"] == ["ana"]
    assert [each["person"] for each in document["overrides"]["seoc"]] == ["max", "ana"]
    assert [each["title"] for each in document["calendars"][0]["findings"]] == ["night"]


def test_two_overrides_of_one_time_are_a_mistake_told_at_start(town: World) -> None:
    both = {"from": "2026-12-24T18:00:00Z", "to": "2026-12-25T06:00:00Z"}
    town.config["oncall"]["seoc"]["overrides"] = [{**both, "person": "ana"}, {**both, "person": "max"}]
    town.write_config()
    ran = town.run("check", "--offline")
    assert ran.status == 2
    assert "found max, and ana for the same time; expected one of them, or other times" in ran.out + ran.err


def test_oncall_answers_from_the_last_good_copy_and_says_how_old_it_is_and_why(town: World) -> None:
    url = "https://calendar.example.com/private-hunter2/basic.ics"
    town.config["oncall"]["seoc"] = {"ical": url, "fallback": ["max"]}
    town.write_config()
    never = town.run("oncall")
    assert "seoc: !! its calendar was never read; panicmail serve reads it" in never.out
    (feed,) = config_schedules.feeds(config.load(town.path, {}))
    assert feed.copy_path == town.folder / "calendars" / "seoc.json"
    read_at = datetime.now(UTC) - timedelta(days=2, hours=3)
    copy = refresh(feed, None, lambda url: ICS.encode(), read_at).copy
    refresh(feed, copy, lambda url: b"<html>", read_at + DAY)
    ran = town.run("oncall", "--at", "2026-11-23T12:00Z")
    assert "seoc: Ana Reyes (ana), until Tue 24 Nov 00:00" in ran.out
    assert "its calendar was read 2 days 3 h ago" in ran.out
    assert "!! it could not be read the last time: not an iCalendar file" in ran.out
    (calendar,) = town.run("oncall", "--json").json["calendars"]
    assert calendar["role"] == "seoc"
    assert calendar["age_seconds"] >= 51 * 3600
    assert "not an iCalendar file" in calendar["failure"]
    assert "hunter2" not in never.out + ran.out + ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tz", "Mars/Olympus"), "write it as Europe/Berlin or UTC"),
        (("--tz", "../etc/passwd"), "write it as Europe/Berlin or UTC"),
        (("--at", "0001-01-01T00:00+14:00"), "no time anybody is on call at"),
        (("--at", "9999-12-31T23:59Z"), "no time anybody is on call at"),
    ],
)
def test_a_zone_or_time_nobody_has_is_answered_with_a_right_one(
    town: World, arguments: tuple[str, ...], said: str
) -> None:
    ran = town.run("oncall", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


# -- senders


def knowing(*known: str) -> RuntimeSettings:
    return replace(office_settings(), known_senders=known)


@pytest.mark.parametrize(
    ("address", "is_known"),
    [
        ("rita@example.com", True),
        ("guest@partner.example", True),
        ("other@partner.example", False),
        ("rita@sub.example.com", False),
        ("rita@notexample.com", False),
        ("rita@example.com.evil.example", False),
        ("example.com@evil.example", False),
        ("", False),
    ],
)
def test_a_sender_is_known_by_the_whole_address_or_the_whole_domain(address: str, is_known: bool) -> None:
    assert knowing("example.com", "guest@partner.example").is_known_sender(address) is is_known


@pytest.mark.parametrize("address", ["rita@example.com", "anybody@elsewhere.example", ""])
def test_everybody_is_known_where_nobody_is_listed(address: str) -> None:
    assert knowing().is_known_sender(address)


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("rita@example.com", True),
        ("rita@elsewhere.example", False),
        ("rita@sub.example.com", False),
        ("rita@example.com.evil.example", False),
        ("panic@example.com", False),
        ("panic+anything@example.com", False),
        ("", False),
    ],
)
def test_a_receipt_goes_into_its_domains_and_never_to_ourselves(address: str, may: bool) -> None:
    assert office_settings().may_have_receipt(address, NOT_CHECKED) is may


def test_receipts_that_are_switched_off_go_to_nobody() -> None:
    assert not replace(office_settings(), receipts=False).may_have_receipt("rita@example.com", NOT_CHECKED)
