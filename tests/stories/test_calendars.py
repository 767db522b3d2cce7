"""Calendars: what an iCalendar file says about who is on call, and what answers when it is away or spoiled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panicmail.errors import Temporary
from panicmail.oncall import calendar_cache, calendar_source, ical_parse
from panicmail.oncall.calendar_cache import CachedCalendar
from panicmail.oncall.calendar_source import AHEAD, LARGEST, Feed, ask, consult, refresh
from panicmail.oncall.calendars import LONGEST_NAME, Calendar, CalendarReading, Contact, Naming, Occurrence, resolve
from panicmail.oncall.schedules import Schedule, Schedules
from tests.calendar_texts import (
    DAY,
    HOUR,
    NAMES,
    NOW,
    SINCE,
    UNTIL,
    at,
    calendar,
    day,
    event,
    read,
    times,
)

BERLIN = "X-WR-TIMEZONE:Europe/Berlin"


def schedules(
    text_or_reading: str | CalendarReading, *, naming: Naming = "any", fallback: tuple[str, ...] = ("max",)
) -> Schedules:
    found = text_or_reading if isinstance(text_or_reading, CalendarReading) else read(text_or_reading)
    answers = Calendar(since=found.since, until=found.until, events=resolve(found, NAMES, naming), read_at=NOW)
    return Schedules({"seoc": Schedule(calendar=answers, fallback=fallback)})


# -- events


def test_a_fortnightly_event_comes_back_except_where_it_does_not() -> None:
    first = event(
        "DTSTART;TZID=Europe/Berlin:20261026T090000",
        "DTEND;TZID=Europe/Berlin:20261102T090000",
        "RRULE:FREQ=WEEKLY;INTERVAL=2",
        "EXDATE;TZID=Europe/Berlin:20261207T090000",
        "SUMMARY:ana",
        uid="rota",
    )
    assert times(read(first, since=at("2026-11-01 00:00"), until=at("2026-12-31 00:00"))) == [
        "26 08:00 - 02 08:00 ana",
        "09 08:00 - 16 08:00 ana",
        "23 08:00 - 30 08:00 ana",
        "21 08:00 - 28 08:00 ana",
    ]


def test_one_time_of_a_series_can_be_somebody_elses_or_cancelled() -> None:
    series = day(23, "RRULE:FREQ=DAILY;COUNT=4", uid="rota")
    swapped = day(24, "RECURRENCE-ID:20261124T000000Z", who="bo", uid="rota")
    cancelled = day(25, "RECURRENCE-ID:20261125T000000Z", "STATUS:CANCELLED", uid="rota")
    assert times(read(series, swapped, cancelled)) == [
        "23 00:00 - 24 00:00 ana",
        "24 00:00 - 25 00:00 bo",
        "26 00:00 - 27 00:00 ana",
    ]


@pytest.mark.parametrize(
    ("lines", "head", "expected"),
    [
        (("DTSTART;VALUE=DATE:20261124", "DTEND;VALUE=DATE:20261126"), BERLIN, "23 23:00 - 25 23:00"),
        (("DTSTART;VALUE=DATE:20261124",), "X-WR-TIMEZONE:Asia/Kolkata", "23 18:30 - 24 18:30"),
        (("DTSTART;VALUE=DATE:20261124",), "X-X:1", "24 00:00 - 25 00:00"),
        (("DTSTART:20261124T080000", "DURATION:PT8H"), BERLIN, "24 07:00 - 24 15:00"),
        (("DTSTART:20261124T080000", "DURATION:PT8H"), "X-X:1", "24 08:00 - 24 16:00"),
        (("DTSTART;TZID=W. Europe Standard Time:20261124T080000", "DURATION:PT8H"), "X-X:1", "24 07:00 - 24 15:00"),
        (("DTSTART;TZID=America/New_York:20261124T080000", "DURATION:PT8H"), BERLIN, "24 13:00 - 24 21:00"),
    ],
    ids=["days", "a day", "a day of no zone", "floating", "floating, no zone", "Windows' name", "a zone of its own"],
)  # fmt: skip
def test_times_are_those_of_the_zone_they_name_else_of_the_calendars_else_utc(
    lines: tuple[str, ...], head: str, expected: str
) -> None:
    assert times(read(head, event(*lines, "SUMMARY:ana"))) == [f"{expected} ana"]


def test_a_zone_of_the_files_own_holds_for_that_file_alone() -> None:
    zone = "\n".join(
        ["BEGIN:VTIMEZONE", "TZID:Our Desk", "BEGIN:STANDARD", "DTSTART:19700101T000000", "TZOFFSETFROM:+0300",
         "TZOFFSETTO:+0300", "END:STANDARD", "END:VTIMEZONE"]
    )  # fmt: skip
    theirs = event("DTSTART;TZID=Our Desk:20261124T080000", "DURATION:PT8H", "SUMMARY:ana")
    assert times(calendar_source.read(calendar(zone, theirs), SINCE, UNTIL)) == ["24 05:00 - 24 13:00 ana"]
    lost = calendar_source.read(calendar(theirs), SINCE, UNTIL)
    assert times(lost) == []
    assert [each.why for each in lost.uncounted] == ["it is in a time zone nobody knows (Our Desk)"]


@pytest.mark.parametrize("night", ["2026-10-25", "2027-03-28"])
@pytest.mark.parametrize("handover", ["023000", "083000"])
def test_a_daily_rota_in_a_calendar_has_every_instant_once_on_both_nights(night: str, handover: str) -> None:
    middle = at(f"{night} 12:00")
    since, until = middle - 4 * DAY, middle + 4 * DAY
    rota = [
        event(
            f"DTSTART;TZID=Europe/Berlin:{first}T{handover}",
            f"DTEND;TZID=Europe/Berlin:{first + 1}T{handover}",
            "RRULE:FREQ=DAILY;INTERVAL=2",
            f"SUMMARY:{who}",
        )
        for first, who in ((20260907, "ana"), (20260908, "bo"))
    ]
    found = read(*rota, since=since, until=until)
    spans = schedules(found).spans("seoc", since, until)
    assert not any(span.is_gap or len(span.people) > 1 for span in spans)
    assert {span.people for span in spans} == {("ana",), ("bo",)}


# -- texts that are none, or ask for too much


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html><title>Sign in</title></html>",
        "BEGIN:VCALENDAR\r\n",
        calendar(day(23))[:-20],
        calendar() * 2,
        day(23),
        "\x00" * 1000,
    ],
    ids=[
        "empty",
        "a page",
        "a head",
        "cut off",
        "two",
        "no calendar",
        "NUL",
    ],
)
def test_what_is_no_calendar_is_refused_as_a_whole_and_says_why(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an iCalendar file \("):
        ical_parse.read(text, SINCE, UNTIL)


def test_a_calendar_may_begin_with_a_byte_order_mark_and_be_empty() -> None:
    assert ical_parse.read("\ufeff" + calendar(), SINCE, UNTIL).occurrences == ()


def test_more_events_than_a_rota_can_have_are_refused() -> None:
    minutely = [f"DTSTART:202611{day}T000000Z" for day in (24, 27)]
    with pytest.raises(ValueError, match="more than 5000 events in 32 days"):
        read(*(event(start, "DURATION:PT1M", "RRULE:FREQ=MINUTELY;COUNT=3000", "SUMMARY:ana") for start in minutely))


def test_a_calendar_that_takes_too_long_is_given_up_in_time() -> None:
    with pytest.raises(ValueError, match=r"it takes longer than 0\.01 s to read"):
        calendar_source.read(calendar(day(23)), SINCE, UNTIL, within_seconds=0.01)


def test_a_calendar_of_many_rules_that_never_end_is_given_up_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ical_parse, "ENTRY_SECONDS", 0.1)
    monkeypatch.setattr(ical_parse, "ALL_SECONDS", 0.25)
    never = "RRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"
    with pytest.raises(ValueError, match=r"it takes longer than 0\.25 s to work out"):
        read(*(event("DTSTART:20261124T000000Z", "DURATION:PT1S", never, "SUMMARY:ana") for _ in range(10)))


@given(st.text(max_size=200), st.integers(0, 40))
def test_no_text_makes_the_reader_fail_in_another_way(noise: str, where: int) -> None:
    text = calendar(day(23), day(24, "RRULE:FREQ=WEEKLY"))
    at_line = text.splitlines(keepends=True)
    spoiled = "".join([*at_line[:where], noise, *at_line[where:]])
    try:
        found = ical_parse.read(spoiled, SINCE, UNTIL)
    except ValueError:
        return
    assert all(o.start < o.end for o in found.occurrences)


# -- whom an event names


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("ana", ("ana",)),
        ("ANA REYES", ("ana",)),
        ("On call: Ana Reyes", ("ana",)),
        ("Ana Reyes (SEOC)", ("ana",)),
        ("SEOC ana.reyes@example.com.", ("ana",)),
        ("ana@private.example.net", ("ana",)),
        ("On call: ana.", ("ana",)),
        ("[L1] ana on call", ("ana",)),
        ("bo/ana", ("bo", "ana")),
        ("Ana Reyes & Bo", ("ana", "bo")),
        ("ana, bo and Max Ode", ("ana", "bo", "max")),
        ("Jose\u0301 Nu\u0301n\u0303ez", ("jose",)),
        ("Ana\n Reyes", ("ana",)),
        ("Anastasia", ()),
        ("banana", ()),
        ("ana-maria", ()),
        ("ana@elsewhere.example", ()),
        ("bana.reyes@example.com", ()),
        ("bo@example.com.evil.example", ()),
        ("Reyes", ()),
        ("Max Muster", ()),
        ("Bo Diddley", ()),
        ("Bo On-Call (GoAlert: Security)", ("bo",)),
        ("SEOC max SOC", ("max",)),
        ("Max", ("max",)),
        ("Zoe", ()),
        ("", ()),
    ],
)
def test_a_text_names_people_by_whole_words(text: str, people: tuple[str, ...]) -> None:
    assert NAMES.in_text(text) == people


@pytest.mark.parametrize(
    ("naming", "expected"),
    [("any", ("ana",)), ("summary", ("ana",)), ("attendee", ("bo",)), ("organizer", ("max",))],
)
def test_who_is_meant_stands_where_the_configuration_says(naming: Naming, expected: tuple[str, ...]) -> None:
    text = day(23, "ATTENDEE;CN=Somebody:MAILTO:Bo@example.com", "ORGANIZER:mailto:max@example.com", who="Ana Reyes")
    assert schedules(text, naming=naming).who("seoc", NOW) == expected


def test_without_a_summary_that_names_anybody_the_attendees_are_asked_then_the_organiser() -> None:
    attendee, organizer = "ATTENDEE:mailto:bo@example.com", "ORGANIZER;CN=Ana Reyes:mailto:desk@example.com"
    assert schedules(day(23, attendee, organizer, who="On call")).who("seoc", NOW) == ("bo",)
    assert schedules(day(23, organizer, who="On call")).who("seoc", NOW) == ("ana",)


def test_attendees_who_declined_and_rooms_are_nobody() -> None:
    text = day(
        23,
        "ATTENDEE;PARTSTAT=DECLINED:mailto:ana.reyes@example.com",
        "ATTENDEE;CUTYPE=ROOM;CN=Situation Room:mailto:room@example.com",
        "ATTENDEE;PARTSTAT=ACCEPTED:mailto:bo@example.com",
    )
    (now,) = schedules(text, naming="attendee").spans("seoc", NOW, NOW + HOUR)
    assert (now.people, now.unknown) == (("bo",), ())


def test_two_events_at_once_put_both_on_call_and_who_began_first_is_first() -> None:
    found = read(day(23, who="bo"), event("DTSTART:20261122T220000Z", "DURATION:PT8H", "SUMMARY:ana"))
    assert schedules(found).who("seoc", NOW) == ("ana", "bo")


def test_a_name_nobody_has_is_a_gap_that_tells_the_name() -> None:
    (now,) = schedules(day(23, who="On call: Zoe Park")).spans("seoc", NOW, NOW + HOUR)
    assert (now.people, now.unknown, now.is_gap) == (("max",), ("On call: Zoe Park",), True)
    assert now.source == "fallback: unknown name On call: Zoe Park"


def test_a_strange_name_beside_a_known_one_is_told_and_no_gap() -> None:
    (now,) = schedules(read(day(23), day(23, who="Zoe"))).spans("seoc", NOW, NOW + HOUR)
    assert (now.people, now.unknown, now.is_gap, now.is_faulty) == (("ana",), ("Zoe",), False, True)


def test_an_event_that_names_nobody_at_all_is_told_too() -> None:
    (now,) = schedules(event("DTSTART:20261123T000000Z", "DURATION:P1D")).spans("seoc", NOW, NOW + HOUR)
    assert now.source == "fallback: unknown name (no name)"


def test_a_strange_name_is_one_short_line_without_control_characters() -> None:
    (now,) = schedules(day(23, who="Zoe\\nBcc: x\x1b[2J\u202e" + "e" * 300)).spans("seoc", NOW, NOW + HOUR)
    (name,) = now.unknown
    assert len(name) == LONGEST_NAME
    assert name.isprintable()


def test_between_events_and_beyond_what_was_read_the_fallback_answers_and_says_why() -> None:
    kept = schedules(day(24))
    said = [
        kept.spans("seoc", moment, moment + HOUR)[0].source
        for moment in (at("2026-11-23 12:00"), at("2026-11-24 12:00"), UNTIL, SINCE - HOUR)
    ]
    assert said == [
        "fallback: nobody was named",
        "calendar",
        "fallback: the calendar was not read so far ahead",
        "fallback: the calendar was not read so far back",
    ]
    never = Schedules({"seoc": Schedule(calendar=Calendar(), fallback=("max",))})
    assert never.on_call("seoc", NOW)[0].source == "fallback: the calendar was never read"


# -- the last good copy


class Source:
    """A calendar on somebody's server, and who asked for it."""

    def __init__(self, text: str = "") -> None:
        self.answer: bytes | Exception = text.encode()
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


ANA, BO = calendar(day(23), day(24)), calendar(day(23, who="bo"))
URL = "https://calendar.example.com/private-hunter2/basic.ics"


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(role="seoc", source=URL, copy_path=tmp_path / "calendars" / "seoc.json")


def on_call(feed: Feed, copy: CachedCalendar | None, moment: datetime = NOW) -> tuple[str, ...]:
    return Schedules({"seoc": Schedule(calendar=feed.calendar(copy, NAMES))}).who("seoc", moment)


def test_a_calendar_that_was_read_is_kept_and_answers_after_a_restart(feed: Feed) -> None:
    fetch = Source(ANA)
    outcome = refresh(feed, None, fetch, NOW)
    assert (fetch.asked, outcome.failure) == ([URL], "")
    assert on_call(feed, outcome.copy) == ("ana",)
    assert feed.last_copy() == outcome.copy
    assert feed.calendar(feed.last_copy(), NAMES).age(NOW + HOUR) == HOUR
    assert [file.name for file in feed.copy_path.parent.iterdir()] == ["seoc.json"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<html>Sign in</html>", "not an iCalendar file"),
        (ANA[:-20].encode(), "not an iCalendar file"),
        (b"\xff\xfe\x00", "not an iCalendar file"),
        (b"x" * (LARGEST + 1), "larger than 10 MiB"),
        (Temporary("the server said 503"), "the server said 503"),
        (OSError("cannot reach /private-hunter2/basic.ics"), "it could not be fetched (OSError)"),
        (RuntimeError(URL), "it could not be fetched (RuntimeError)"),
    ],
    ids=["a page", "cut off", "octets", "too large", "503", "away", "a fault"],
)
def test_whatever_comes_instead_of_a_calendar_the_last_good_copy_stays_and_says_so(
    feed: Feed, answer: bytes | Exception, why: str
) -> None:
    fetch = Source(ANA)
    first = refresh(feed, None, fetch, NOW).copy
    fetch.answer = answer
    later = NOW + HOUR
    outcome = refresh(feed, first, fetch, later)
    assert why in outcome.failure
    assert "hunter2" not in outcome.failure
    assert on_call(feed, outcome.copy, later) == ("ana",)
    kept = feed.calendar(feed.last_copy(), NAMES)
    assert (kept.age(later), kept.failure) == (HOUR, outcome.failure)
    fetch.answer = BO.encode()
    mended = refresh(feed, feed.last_copy(), fetch, later + HOUR)
    assert on_call(feed, mended.copy, later) == ("bo",)
    assert feed.calendar(mended.copy, NAMES).failure == ""


def test_a_first_failure_leaves_nothing_and_is_told(feed: Feed) -> None:
    outcome = refresh(feed, None, Source("hello"), NOW)
    assert (outcome.copy, feed.last_copy()) == (None, None)
    assert "not an iCalendar file" in outcome.failure
    assert on_call(feed, outcome.copy) == ()


def test_a_calendar_that_is_away_for_months_is_read_on_from_its_copy(feed: Feed) -> None:
    weekly = calendar(event("DTSTART:20261123T000000Z", "DURATION:P7D", "RRULE:FREQ=WEEKLY", "SUMMARY:ana"))
    fetch = Source(weekly)
    copy = refresh(feed, None, fetch, NOW).copy
    fetch.answer = OSError()
    for month in range(1, 8):
        later = NOW + month * 30 * DAY
        copy = refresh(feed, copy, fetch, later).copy
        assert on_call(feed, copy, later + AHEAD / 2) == ("ana",)
    assert copy is not None
    assert copy.read_at == NOW


def test_a_text_that_did_not_change_is_not_read_again_until_it_must(feed: Feed) -> None:
    copy = refresh(feed, None, Source(ANA), NOW).copy
    assert copy is not None
    again = ask(feed, copy, Source(ANA), NOW + DAY).copy
    assert again is not None
    assert again.reading is copy.reading
    assert (again.read_at, again.tried_at) == (NOW + DAY, NOW + DAY)
    for moment in (NOW + AHEAD / 2, NOW - 3 * DAY):  # half of it is over, or the clock was put back
        moved = ask(feed, copy, Source(ANA), moment).copy
        assert moved is not None
        assert moved.reading.until == moment + AHEAD


def test_the_copy_of_another_calendar_answers_for_nobody(feed: Feed) -> None:
    refresh(feed, None, Source(ANA), NOW)
    assert replace(feed, source="https://calendar.example.com/other.ics").last_copy() is None


@pytest.mark.parametrize("spoiled", [b"", b"{", b"[]", b"null", b'{"form": 1}', b"\xff"])
def test_a_copy_that_is_spoiled_is_as_if_there_were_none(feed: Feed, spoiled: bytes) -> None:
    refresh(feed, None, Source(ANA), NOW)
    feed.copy_path.write_bytes(spoiled)
    assert feed.last_copy() is None


def test_a_copy_from_another_form_is_as_if_there_were_none(feed: Feed) -> None:
    refresh(feed, None, Source(ANA), NOW)
    document = json.loads(feed.copy_path.read_text())
    feed.copy_path.write_text(json.dumps({**document, "form": 2}))
    assert feed.last_copy() is None


def test_a_copy_holds_no_url_and_is_for_its_owner_alone(feed: Feed) -> None:
    refresh(feed, None, Source(ANA), NOW)
    assert "hunter2" not in feed.copy_path.read_text()
    assert feed.copy_path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_is_full_halfway_leaves_the_copy_that_is_there(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = refresh(feed, None, Source(ANA), NOW).copy

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = refresh(feed, first, Source(BO), NOW + HOUR)
    assert outcome.failure.startswith("the copy cannot be kept at ")
    assert outcome.failure.endswith("No space left on device")
    assert on_call(feed, outcome.copy) == ("bo",)
    assert feed.last_copy() == first
    assert len(list(feed.copy_path.parent.iterdir())) == 1


def test_a_calendar_in_a_file_is_read_where_it_lies(feed: Feed, tmp_path: Path) -> None:
    file = tmp_path / "seoc.ics"
    here = replace(feed, source=file)
    away = refresh(here, None, Source(), NOW)
    assert away.failure == f"{file}: No such file or directory"
    file.write_text(ANA, newline="")
    assert on_call(here, refresh(here, None, Source(), NOW).copy) == ("ana",)


def test_it_is_time_to_ask_again_after_the_interval_or_when_the_clock_was_put_back(feed: Feed) -> None:
    copy = refresh(feed, None, Source(ANA), NOW).copy
    due: Callable[[timedelta], bool] = lambda passed: feed.is_due(copy, NOW + passed)  # noqa: E731
    assert (due(timedelta(0)), due(timedelta(minutes=14)), due(timedelta(minutes=15))) == (False, False, True)
    assert due(timedelta(minutes=14, seconds=58)), "whoever comes round each minute comes a little early now and then"
    assert due(-HOUR)
    assert feed.is_due(None, NOW)


def test_who_only_looks_reads_files_afresh_and_of_a_url_what_was_kept(feed: Feed, tmp_path: Path) -> None:
    refresh(feed, None, Source(ANA), NOW)
    before = feed.copy_path.read_bytes()
    assert on_call(feed, consult(feed, NOW + DAY, NOW, NOW + DAY).copy) == ("ana",)
    (tmp_path / "seoc.ics").write_text(BO, newline="")
    file = replace(feed, source=tmp_path / "seoc.ics")
    assert on_call(file, consult(file, NOW, NOW, NOW + DAY).copy) == ("bo",)
    assert feed.copy_path.read_bytes() == before


def test_who_looks_beyond_what_was_read_is_answered_from_the_same_text(feed: Feed) -> None:
    weekly = calendar(event("DTSTART:20261123T000000Z", "DURATION:P7D", "RRULE:FREQ=WEEKLY", "SUMMARY:ana"))
    refresh(feed, None, Source(weekly), NOW)
    far = at("2028-05-01 12:00")
    assert on_call(feed, feed.last_copy(), far) == ()
    assert on_call(feed, consult(feed, NOW, far, far + DAY).copy, far) == ("ana",)


def test_an_occurrence_survives_the_disk(tmp_path: Path) -> None:
    one = Occurrence(
        start=NOW,
        end=NOW + HOUR,
        summary="Ana",
        attendees=(Contact("Ana Reyes", "ana@example.com"), Contact("", "")),
        organizer=Contact("Bo", "bo@example.com"),
    )
    kept = CachedCalendar(
        origin="o",
        text="t",
        read_at=NOW,
        tried_at=NOW + HOUR,
        failure="503",
        reading=CalendarReading(
            since=NOW, until=NOW + DAY, occurrences=(one, replace(one, organizer=None)), notes=("a",)
        ),
    )
    calendar_cache.keep(tmp_path / "new" / "x.json", kept)
    assert calendar_cache.load(tmp_path / "new" / "x.json", "o") == kept
