"""Calendars are read again in time, and what is wrong with a roster is told days ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from panicmail import config
from panicmail.config import Config
from panicmail.daemon import calendar_refresh
from panicmail.daemon.calendar_refresh import CalendarRefresh, ScheduleFaults, fetched
from panicmail.errors import Permanent, Temporary
from panicmail.oncall import config_schedules
from panicmail.oncall.calendar_cache import CachedCalendar
from panicmail.oncall.overrides import ScheduleOverride
from panicmail.oncall.schedules import Schedule, Schedules
from tests.cast import T0
from tests.office import PEOPLE, Office, Posted
from tests.provider import Provider
from tests.shift_changes import seoc, shift

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SEOC, SMOC = "https://calendar.example.com/seoc-hunter2.ics", "https://calendar.example.com/smoc-hunter2.ics"

CONFIGURATION = """
[smtp]
listen = ["127.0.0.1:0"]
addresses = ["panic@example.com"]

[gitlab]
url = "https://gitlab.example.com"
project = "security/incidents"
token = "glpat-kept"

[relay]
url = "smtp://127.0.0.1:25"

[people.ana]
email = "ana@example.com"

[people.max]
email = "max@example.com"

[operators]
page = ["max"]

[oncall.seoc]
{seoc}

[oncall.smoc]
{smoc}
"""


def calendar(who: str, day: int = 22) -> bytes:
    """A calendar with one event of two days of November 2026."""
    lines = (
        "BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example//EN", "BEGIN:VEVENT", "UID:1",
        f"DTSTART:202611{day:02}T000000Z", f"DTEND:202611{day + 2:02}T000000Z", f"SUMMARY:{who}", "END:VEVENT",
        "END:VCALENDAR", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


class Server:
    """Calendars on somebody's server, and who asked for which."""

    def __init__(self, **answers: bytes | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        role = "seoc" if "seoc" in url else "smoc"
        self.asked.append(role)
        answer = self.answers[role]
        if isinstance(answer, Exception):
            raise answer
        return answer


def configuration(folder: Path, seoc: str = f'ical = "{SEOC}"', smoc: str = 'fixed = ["max"]') -> Config:
    path = folder / "panicmail.toml"
    path.write_text(CONFIGURATION.format(seoc=seoc, smoc=smoc))
    return config.load(path, {}, host_name=lambda: "panic.example.com")


@pytest.fixture
def configured_with(tmp_path: Path) -> Callable[..., Config]:
    return lambda **roles: configuration(tmp_path, **roles)


With = Callable[..., Config]


def on_call(settings: Config, copies: Mapping[str, CachedCalendar | None], role: str = "seoc") -> tuple[str, ...]:
    return config_schedules.schedules(settings, PEOPLE, copies).who(role, T0)


# -- refreshing


def test_what_was_read_answers_and_is_asked_again_when_its_time_has_come_not_before(configured_with: With) -> None:
    settings, server = configured_with(), Server(seoc=calendar("ana"))
    calendars = CalendarRefresh(settings, server)
    assert calendars.copies == {"seoc": None}
    copies = calendars.refresh(T0)
    assert copies is not None
    assert on_call(settings, copies) == ("ana",)
    assert calendars.refresh(T0 + 15 * MINUTE - MINUTE) is None
    assert server.asked == ["seoc"]
    server.answers["seoc"] = calendar("max")
    changed = calendars.refresh(T0 + 15 * MINUTE)
    assert changed is not None
    assert on_call(settings, changed) == ("max",)


def test_a_calendar_that_says_what_it_said_makes_no_new_settings(configured_with: With) -> None:
    calendars = CalendarRefresh(configured_with(), Server(seoc=calendar("ana")))
    calendars.refresh(T0)
    before = calendars.copies["seoc"]
    assert calendars.refresh(T0 + HOUR) is None
    after = calendars.copies["seoc"]
    assert before is not None
    assert after is not None
    assert (before.read_at, after.read_at) == (T0, T0 + HOUR)


def test_after_a_restart_the_last_good_copy_answers_before_anybody_was_asked(configured_with: With) -> None:
    settings, server = configured_with(), Server(seoc=calendar("ana"))
    CalendarRefresh(settings, server).refresh(T0)
    again = CalendarRefresh(settings, Server(seoc=Temporary("away")))
    assert on_call(settings, again.copies) == ("ana",)
    assert again.refresh(T0 + MINUTE, unread_only=True) is None, "and a start waits for nobody"


def test_a_calendar_that_is_away_keeps_its_copy_and_no_roles_is_held_up_by_it(configured_with: With) -> None:
    settings = configured_with(smoc=f'ical = "{SMOC}"')
    server = Server(seoc=calendar("ana"), smoc=calendar("max"))
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.answers.update(seoc=Temporary("the server said 503"), smoc=calendar("ana"))
    copies = calendars.refresh(T0 + HOUR)
    assert copies is not None
    assert (on_call(settings, copies), on_call(settings, copies, "smoc")) == (("ana",), ("ana",))
    kept = copies["seoc"]
    assert kept is not None
    assert (kept.failure, kept.read_at) == ("the server said 503", T0)


def test_calendars_are_asked_together(configured_with: With) -> None:
    both = threading.Barrier(2, timeout=15)

    def meets(url: str) -> bytes:
        both.wait()  # breaks when the other one is not asked meanwhile
        return calendar("ana")

    calendars = CalendarRefresh(configured_with(smoc=f'ical = "{SMOC}"'), meets)
    copies = calendars.refresh(T0)
    assert copies is not None
    assert None not in copies.values()


def test_one_that_was_never_read_is_asked_every_time(configured_with: With) -> None:
    server = Server(seoc=Temporary("away"))
    calendars = CalendarRefresh(configured_with(), server)
    assert [calendars.refresh(T0 + n * MINUTE) for n in range(3)] == [None] * 3
    assert len(server.asked) == 3
    server.answers["seoc"] = calendar("ana")
    assert calendars.refresh(T0 + 3 * MINUTE) is not None


def test_a_reload_asks_all_of_them_again_and_forgets_what_is_gone(configured_with: With) -> None:
    settings = configured_with(smoc=f'ical = "{SMOC}"')
    server = Server(seoc=calendar("ana"), smoc=calendar("max"))
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.asked.clear()
    taken = calendars.take(configured_with())
    assert set(taken) == {"seoc"}
    assert taken["seoc"] is not None, "what is known answers at once"
    calendars.refresh(T0 + MINUTE)
    assert server.asked == ["seoc"]


def test_another_address_is_another_calendar(configured_with: With) -> None:
    calendars = CalendarRefresh(configured_with(), Server(seoc=calendar("ana")))
    calendars.refresh(T0)
    assert calendars.take(configured_with(seoc='ical = "https://calendar.example.com/seoc-2.ics"')) == {"seoc": None}


def test_a_calendar_a_reload_took_away_while_it_was_asked_does_not_come_back(configured_with: With) -> None:
    without = configured_with(seoc='fixed = ["ana"]')
    calendars: list[CalendarRefresh] = []

    def slow(url: str) -> bytes:
        calendars[0].take(without)
        return calendar("ana")

    calendars.append(CalendarRefresh(configured_with(), slow))
    assert calendars[0].refresh(T0) is None
    assert calendars[0].copies == {}


def test_a_calendar_in_a_file_needs_no_network(configured_with: With, tmp_path: Path) -> None:
    (tmp_path / "seoc.ics").write_bytes(calendar("ana"))
    settings = configured_with(seoc='ical = "seoc.ics"')
    copies = CalendarRefresh(settings, Server()).refresh(T0)
    assert copies is not None
    assert on_call(settings, copies) == ("ana",)


# -- a reading that takes people away


def weeks(*events: tuple[str, int, int]) -> bytes:
    """Events as (who, the day of November 2026 they begin, how many days)."""
    one = calendar("ana").decode().splitlines()
    made = [
        [f"UID:{n}", f"DTSTART:202611{day:02}T000000Z", f"DURATION:P{days}D", f"SUMMARY:{who}"]
        for n, (who, day, days) in enumerate(events)
    ]
    within = [line for lines in made for line in ("BEGIN:VEVENT", *lines, "END:VEVENT")]
    return "\r\n".join([*one[:3], *within, *one[-1:], ""]).encode()


WEEK = weeks(("ana", 22, 8))


@pytest.mark.parametrize(
    "shrunk",
    [weeks(), weeks(("max", 22, 2)), weeks(("Busy", 22, 8)), weeks(("max", 25, 2))],
    ids=["empty", "less than half", "names nobody we know", "all of today is gone"],
)
def test_a_reading_that_empties_the_week_is_not_believed_alone_for_an_hour(
    configured_with: With, shrunk: bytes
) -> None:
    settings, server = configured_with(), Server(seoc=WEEK)
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.answers["seoc"] = shrunk
    copies = calendars.refresh(T0 + HOUR)
    assert copies is not None
    schedules = config_schedules.schedules(settings, PEOPLE, copies)
    later = config_schedules.schedules(settings, PEOPLE, CalendarRefresh(settings, server).copies)
    for each in (schedules, later):  # after a restart too
        assert "ana" in each.who("seoc", T0 + HOUR)
        assert "ana" in each.who("seoc", T0 + 2 * HOUR - MINUTE)
        assert "ana" not in each.who("seoc", T0 + 2 * HOUR)


def test_both_readings_people_are_called(configured_with: With) -> None:
    settings, server = configured_with(), Server(seoc=WEEK)
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.answers["seoc"] = weeks(("max", 22, 2))
    copies = calendars.refresh(T0 + HOUR)
    assert copies is not None
    schedules = config_schedules.schedules(settings, PEOPLE, copies)
    assert set(schedules.who("seoc", T0 + HOUR)) == {"ana", "max"}
    assert schedules.who("seoc", T0 + 2 * HOUR) == ("max",)


@pytest.mark.parametrize("other", [weeks(("max", 22, 8)), weeks(("max", 22, 5)), weeks(("ana", 22, 4), ("max", 26, 4))])
def test_a_reading_that_only_changes_who_it_is_is_believed_at_once(configured_with: With, other: bytes) -> None:
    settings, server = configured_with(), Server(seoc=WEEK)
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.answers["seoc"] = other
    copies = calendars.refresh(T0 + HOUR)
    assert copies is not None
    assert copies["seoc"] is not None
    assert copies["seoc"].doubted_at is None


def test_a_doubt_is_held_against_what_was_believed_last_and_ends_when_the_week_comes_back(
    configured_with: With,
) -> None:
    settings, server = configured_with(), Server(seoc=WEEK)
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    for minutes, text, is_doubted in (
        (60, weeks(), True),
        (75, weeks(("max", 22, 1)), True),
        (90, WEEK, False),
        (105, weeks(), True),
        (180, weeks(), False),
    ):
        server.answers["seoc"] = text
        calendars.refresh(T0 + minutes * MINUTE)
        schedules = config_schedules.schedules(settings, PEOPLE, calendars.copies)
        doubt = schedules.calendars["seoc"].doubt
        assert bool(doubt and doubt.until > T0 + minutes * MINUTE) is is_doubted, minutes
        assert ("ana" in schedules.who("seoc", T0 + minutes * MINUTE)) is (is_doubted or text == WEEK)


# -- over the network


@pytest.mark.parametrize("to", ["http://127.0.0.1:9/", "http://localhost:9/", "http://10.0.0.1/", "http://[::1]:9/"])
def test_a_calendar_that_leads_to_a_private_address_keeps_its_copy_and_is_told(
    desk: Office, configured_with: With, to: str
) -> None:
    with Provider() as provider:
        provider.answer = calendar("ana")
        calendars = CalendarRefresh(configured_with(seoc=f'ical = "{provider.url}/seoc.ics"'))
        calendars.refresh(T0)
        provider.status, provider.headers = 302, {"Location": to}
        copies = calendars.refresh(T0 + HOUR)
    assert copies is not None
    assert copies["seoc"] is not None
    assert "a private address; write that into the URL" in copies["seoc"].failure
    assert on_call(configured_with(), copies) == ("ana",)


@pytest.mark.parametrize(
    "answer",
    [b"<!DOCTYPE html><html><title>Sign in</title></html>", calendar("max")[:-20], b"", b"x" * (10 * 2**20 + 1)],
    ids=["a sign-in page", "cut off", "nothing", "larger than 10 MiB"],
)
def test_what_comes_instead_of_a_calendar_is_told_at_once_and_the_last_copy_answers(
    desk: Office, configured_with: With, answer: bytes
) -> None:
    settings, server = configured_with(), Server(seoc=calendar("ana"))
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.answers["seoc"] = answer
    desk.now = T0 + HOUR
    calendars.refresh(desk.now)
    assert on_call(settings, calendars.copies) == ("ana",)
    (told,) = look(desk, calendars)
    assert told.subject == "[panicmail] a calendar cannot be read"


@pytest.mark.parametrize("clock", ["19700101T000000Z", "20991231T235959Z", "yesterday"])
def test_the_clock_of_the_calendars_server_decides_nothing(configured_with: With, clock: str) -> None:
    stamps = f"DTSTAMP:{clock}\r\nLAST-MODIFIED:{clock}\r\nCREATED:{clock}\r\nUID:1".encode()
    settings, server = configured_with(), Server(seoc=calendar("ana").replace(b"UID:1", stamps))
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(T0)
    server.answers["seoc"] = calendar("max").replace(b"UID:1", stamps)
    copies = calendars.refresh(T0 + HOUR)
    assert copies is not None
    assert on_call(settings, copies) == ("max",)


def test_it_is_fetched_over_the_network(configured_with: With) -> None:
    with Provider() as provider:
        provider.answer = calendar("ana")
        settings = configured_with(seoc=f'ical = "{provider.url}/seoc.ics"')
        copies = CalendarRefresh(settings).refresh(T0)
        assert copies is not None
        assert on_call(settings, copies) == ("ana",)


def test_a_server_that_hangs_or_never_ends_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calendar_refresh, "FETCH_SECONDS", 0.3)
    with Provider() as provider:
        for path in ("/hang", "/drip"):
            with pytest.raises(Temporary):
                fetched(f"{provider.url}{path}?key=hunter2")


def test_more_than_a_calendar_can_be_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panicmail.oncall.calendar_source.LARGEST", 1000)
    with Provider() as provider, pytest.raises(Permanent, match="longer than 1000 octets"):
        fetched(f"{provider.url}/long?n=2000")


# -- what is told ahead


def look(desk: Office, calendars: CalendarRefresh) -> list[Posted]:
    """The minute's look, by a daemon that has just started; what the operators got by it."""
    before = len(desk.sent("max"))
    ScheduleFaults(desk.store, lambda: desk.settings, calendars).tell_operators()
    desk.settle()
    return desk.sent("max")[before:]


@pytest.fixture
def none(configured_with: With) -> CalendarRefresh:
    """No calendars."""
    return CalendarRefresh(configured_with(seoc='fixed = ["ana"]'), Server())


def rosters_with_gap(start: datetime, hours: float = 1) -> Schedules:
    """Ana always, but for a time that a shift leaves out; Max is the fallback."""
    away = ScheduleOverride(start=T0 - DAY, end=start, person="ana")
    back = ScheduleOverride(start=start + hours * HOUR, end=T0 + 60 * DAY, person="ana")
    return Schedules({"seoc": Schedule(fallback=("max",), overrides=(away, back)), "smoc": Schedule(fixed=("max",))})


def test_a_gap_within_a_week_is_told_with_its_times_and_who_answers(desk: Office, none: CalendarRefresh) -> None:
    desk.settings = replace(desk.settings, schedules=rosters_with_gap(T0 + 6 * DAY))
    (told,) = look(desk, none)
    assert told.subject == "[panicmail] a roster has gaps within a week"
    assert "Detail: gap: seoc, 2026-11-28 02:07Z to 2026-11-28 03:07Z: fallback: nobody was named" in told.text
    assert "Mend: Put somebody on call for each of them" in told.text


def test_a_gap_more_than_a_week_ahead_is_told_when_it_is_a_week_ahead(desk: Office, none: CalendarRefresh) -> None:
    desk.settings = replace(desk.settings, schedules=rosters_with_gap(T0 + 7 * DAY))
    assert look(desk, none) == []
    desk.now += MINUTE
    assert len(look(desk, none)) == 1


def test_gaps_are_told_once_a_day_restarts_or_not(desk: Office, none: CalendarRefresh) -> None:
    desk.settings = replace(desk.settings, schedules=rosters_with_gap(T0 + 3 * DAY))
    told = []
    for _ in range(4 * 24):
        told.append(len(look(desk, none)))
        desk.now += HOUR
    assert told == [1, *[0] * 23, 1, *[0] * 23, 1, *[0] * 23, 1, *[0] * 23], "and no longer when it has passed"


def test_rosters_without_a_fault_are_not_told_of(desk: Office, none: CalendarRefresh) -> None:
    desk.settings = replace(desk.settings, schedules=seoc(shift(0, 12, "ana"), shift(12, 24, "bo")))
    assert look(desk, none) == []


def test_an_entry_of_the_coming_week_that_is_not_understood_is_told_at_once_and_each_once_a_day(
    desk: Office, configured_with: With
) -> None:
    def spoiled(*days: int) -> bytes:
        return weeks(("ana", 22, 8), *(("lunch", day, 1) for day in days)).replace(b"DURATION:P1D", b"DURATION:short")

    settings, server = configured_with(), Server(seoc=spoiled(24))
    calendars = CalendarRefresh(settings, server)

    def read_and_look() -> list[Posted]:
        calendars.refresh(desk.now)
        desk.settings = replace(desk.settings, schedules=config_schedules.schedules(settings, PEOPLE, calendars.copies))
        return look(desk, calendars)

    (told,) = read_and_look()
    assert told.subject == "[panicmail] a calendar has entries that cannot be understood"
    assert 'seoc: "lunch", 2026-11-24 00:00Z to 2026-12-01 00:00Z: its DURATION (short) cannot be read' in told.text
    desk.now += HOUR
    assert read_and_look() == []
    server.answers["seoc"] = spoiled(24, 25)
    desk.now += HOUR
    (new,) = read_and_look()
    assert ("2026-11-25 00:00Z" in new.text, '"lunch", 2026-11-24' in new.text) == (True, False)
    server.answers["seoc"] = WEEK
    desk.now += DAY
    assert not [each for each in read_and_look() if "cannot be understood" in each.subject]


def test_a_reading_that_is_doubted_is_told_at_once(desk: Office, configured_with: With) -> None:
    settings, server = configured_with(), Server(seoc=WEEK)
    calendars = CalendarRefresh(settings, server)
    calendars.refresh(desk.now)
    server.answers["seoc"] = weeks(("max", 22, 1))
    desk.now += HOUR
    calendars.refresh(desk.now)
    desk.settings = replace(desk.settings, schedules=config_schedules.schedules(settings, PEOPLE, calendars.copies))
    told = [each for each in look(desk, calendars) if "lost most" in each.subject]
    assert len(told) == 1
    assert "seoc: 21 h of the coming week have somebody on call, 168 h before; until 2026-11-22 04:07Z the" in " ".join(
        told[0].text.split()
    )


def test_a_name_nobody_has_is_told_by_that_name(desk: Office, configured_with: With) -> None:
    settings = configured_with()
    calendars = CalendarRefresh(settings, Server(seoc=calendar("Zoe", 24)))
    copies = calendars.refresh(T0)
    desk.settings = replace(desk.settings, schedules=config_schedules.schedules(settings, PEOPLE, copies))
    (told,) = look(desk, calendars)
    assert "seoc, 2026-11-24 00:00Z to 2026-11-26 00:00Z: nobody: unknown name Zoe" in told.text


@pytest.mark.parametrize(("every", "after"), [("15m", HOUR), ("12h", DAY), ("6h", DAY)])
def test_a_calendar_not_read_for_four_of_its_intervals_or_a_day_is_told(
    desk: Office, configured_with: With, every: str, after: timedelta
) -> None:
    server = Server(seoc=calendar("ana"))
    calendars = CalendarRefresh(configured_with(seoc=f'ical = "{SEOC}"\nical_refresh = "{every}"'), server)
    calendars.refresh(T0)
    server.answers["seoc"] = Temporary("the server said 503")
    desk.now = T0 + after
    calendars.refresh(desk.now)
    assert look(desk, calendars) == []
    desk.now += MINUTE
    (told,) = look(desk, calendars)
    assert told.subject == "[panicmail] a calendar cannot be read"
    assert "Detail: calendar: seoc, last read 2026-11-22 02:07Z: the server said 503" in told.text
    assert "hunter2" not in told.raw.decode()
    assert look(desk, calendars) == []


def test_one_that_is_away_and_one_that_was_never_read_are_told_with_what_answers_for_each(
    desk: Office, configured_with: With
) -> None:
    server = Server(seoc=calendar("ana"), smoc=Permanent("the server said 404"))
    calendars = CalendarRefresh(configured_with(smoc=f'ical = "{SMOC}"'), server)
    calendars.refresh(T0)
    server.answers["seoc"] = Temporary("the server said 503")
    desk.now = T0 + DAY
    calendars.refresh(desk.now)
    away, never = look(desk, calendars)
    assert "Who is on call is taken from its last good copy" in away.text
    assert ("seoc" in away.text, "smoc" in away.text) == (True, False)
    assert "in all its hours the role's fallback is called" in never.text
    assert ("seoc" in never.text, "smoc" in never.text) == (False, True)


def test_one_that_was_never_read_is_told_at_once_and_one_that_can_be_read_again_is_not(
    desk: Office, configured_with: With
) -> None:
    server = Server(seoc=Permanent("the server said 404"))
    calendars = CalendarRefresh(configured_with(), server)
    assert look(desk, calendars) == [], "nobody asked yet"
    calendars.refresh(T0)
    (told,) = look(desk, calendars)
    assert "seoc, never read: the server said 404" in told.text
    assert told.subject == "[panicmail] a calendar was never read"
    assert "the role's fallback is called" in told.text
    assert "last good copy" not in told.text
    server.answers["seoc"] = calendar("ana")
    calendars.refresh(T0 + MINUTE)
    desk.now = T0 + 2 * DAY
    assert look(desk, calendars) == []
