"""Entries of a calendar: what counts, when and for whom; what is left out is told and never guessed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from panicmail.oncall import ical_parse
from panicmail.oncall.calendars import Calendar, CalendarReading, CalendarRules, resolve
from panicmail.oncall.ical_text import decoded
from panicmail.oncall.schedules import Schedule, Schedules
from tests.calendar_texts import NAMES, NOW, SINCE, UNTIL, at, calendar, day, event, read, times

BERLIN = ";TZID=Europe/Berlin"
#: What nothing else may spoil.
ROTA = day(23, who="ana", uid="rota")
OLD = ("DTSTART:20190304T090000Z", "DTEND:20190304T100000Z", "SUMMARY:lunch")
RULE = "RRULE:FREQ=WEEKLY"


def whys(found: CalendarReading) -> list[str]:
    return [each.why for each in found.uncounted]


def week(first: str, last: str, who: str, *more: str, uid: str = "rota", zone: str = BERLIN) -> str:
    """From nine to nine."""
    return event(f"DTSTART{zone}:{first}T090000", f"DTEND{zone}:{last}T090000", f"SUMMARY:{who}", *more, uid=uid)


def source_at(moment: str, *parts: str, rules: CalendarRules | None = None) -> str:
    """Who is on call at an instant, and from which source."""
    found = ical_parse.read(calendar(*parts), SINCE, UNTIL, rules)
    answers = Calendar(
        since=found.since, until=found.until, events=resolve(found, NAMES, "any"), uncounted=found.uncounted
    )
    schedules = Schedules({"seoc": Schedule(calendar=answers, fallback=("max",))})
    return f"{', '.join(schedules.who('seoc', at(moment)))} ({schedules.on_call('seoc', at(moment))[0].source})"


# -- an entry that cannot be understood


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (event("DTSTART:20261124T090000Z", "DTEND:2026-11-24T10:00"), "its DTEND (2026-11-24T10:00) cannot be read"),
        (event("DTSTART:20261124T090000Z", "DURATION:8h"), "its DURATION (8h) cannot be read"),
        (event("DTSTART:20261124T0900Z", "DURATION:PT8H"), "its DTSTART (20261124T0900Z) cannot be read"),
        (event("DTSTART:20261131T090000Z", "DURATION:PT8H"), "its DTSTART (20261131T090000Z) cannot be read"),
        (
            event("DTSTART;VALUE=DATE:20261124", "DTEND:2026-11-24T10:00"),
            "its DTEND (2026-11-24T10:00) cannot be read",
        ),
        (event(f"DTSTART{BERLIN}:20261124T090000", f"DTEND{BERLIN}:2026-11-24T10:00"), "its DTEND (00) cannot be read"),
        (event("SUMMARY:lunch"), "it has no DTSTART"),
        (day(24, "SEQUENCE:first"), "its SEQUENCE (first) is no number"),
        (day(24, RULE, "EXDATE:2026-12-01"), "its EXDATE (2026-12-01) cannot be read"),
        (day(24, RULE, "RDATE:soon"), "its RDATE (SOON) cannot be read"),
        (day(24, "RRULE:FREQ=WEEKLY;BYDAY=XX"), "its RRULE (FREQ=WEEKLY;BYDAY=XX) cannot be worked out"),
        (day(24, "RRULE:WEEKLY"), "its RRULE (WEEKLY) cannot be read"),
        (day(24, "RRULE:FREQ=DAILY;UNTIL=christmas"), "its RRULE (CHRISTMAS) cannot be read"),
        (day(24, "RRULE:FREQ=DAILY;INTERVAL=0"), "it repeats too often for a rota, or its rule takes too long"),
        (day(24, "RRULE:FREQ=SECONDLY"), "it repeats too often for a rota, or its rule takes too long"),
        (day(24, "RRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"), "it repeats too often for a rota, or its rule"),
        (day(24, "DTSTART:20261125T000000Z"), "it has more than one DTSTART"),
        (
            event("DTSTART;TZID=tzone://Microsoft/Custom:20261124T090000", "DURATION:PT1H"),
            "it is in a time zone nobody knows (tzone://Microsoft/Custom)",
        ),
    ],
)  # fmt: skip
def test_one_entry_that_cannot_be_understood_is_told_and_the_rest_counts(
    bad: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ical_parse, "ENTRY_SECONDS", 0.3)
    found = read(bad, ROTA)
    assert "23 00:00 - 24 00:00 ana" in times(found)
    assert len(found.occurrences) == 1
    told = found.uncounted[0]
    assert told.why.startswith(why)
    assert told.is_mistake
    assert told.touches(at("2026-11-24 00:00"), at("2026-12-01 00:00"))
    assert {each.why for each in found.uncounted} == {told.why}


@pytest.mark.parametrize(
    "harmless",
    [
        event(*OLD, "BEGIN:VALARM", "ACTION:DISPLAY", "TRIGGER:soon", "END:VALARM"),
        event(*OLD, "BEGIN:VALARM", "TRIGGER:soon"),
        event(*OLD, "GEO:here", "PRIORITY:high", "DTSTAMP:yesterday", "LAST-MODIFIED:20991231T000000Z", "no colon"),
        "BEGIN:VTODO\nUID:t\nDUE:never\nEND:VTODO",
        "BEGIN:VTODO\nUID:t\nDUE:never",
        "BEGIN:VTIMEZONE\nTZID:Nowhere\nEND:VTIMEZONE",
        "BEGIN:VTIMEZONE\nBEGIN:STANDARD\nDTSTART:never\nEND:VTIMEZONE",
        "END:VEVENT",
        event(*OLD, 'ATTENDEE;CN="Ana: mailto:ana@example.com', "ORGANIZER;CN=Desk: main:mailto:desk@example.com"),
    ],
)
def test_what_nobody_needs_may_be_as_wrong_as_it_likes(harmless: str) -> None:
    found = read(harmless, ROTA)
    assert times(found) == ["23 00:00 - 24 00:00 ana"]
    assert (found.uncounted, found.notes) == ((), ())


def test_a_rota_with_a_bad_reminder_counts() -> None:
    assert times(read(day(23, "BEGIN:VALARM", "TRIGGER:soon", "END:VALARM"))) == ["23 00:00 - 24 00:00 ana"]


def test_an_entry_without_its_end_is_told_and_what_follows_counts() -> None:
    cut = day(24, who="bo").removesuffix("END:VEVENT")
    found = read(cut + ROTA)
    assert times(found) == ["23 00:00 - 24 00:00 ana"]
    assert whys(found) == ["its END:VEVENT is missing"]


def test_a_mistake_of_another_time_is_a_note_and_touches_no_day_of_now() -> None:
    found = read(event("DTSTART:20190304T090000Z", "DTEND:soon", "SUMMARY:lunch"), ROTA)
    assert found.uncounted == ()
    assert found.notes == (
        (
            'an entry of another time cannot be understood: "lunch", 2019-03-04 09:00Z to 2019-03-11 09:00Z: '
            "its DTEND (SOON) cannot be read"
        ),
    )


@pytest.mark.parametrize(
    ("octets", "summary"),
    [
        ("SUMMARY:Jos\u00e9".encode("cp1252"), "José"),
        ("SUMMARY:Jos\u00e9".encode(), "José"),
        (b"SUMMARY:Jos\xc3\r\n \xa9", "José"),
    ],
    ids=["Windows-1252", "UTF-8", "folded within a character"],
)
def test_a_name_is_read_however_its_octets_are_written(octets: bytes, summary: str) -> None:
    raw = calendar(event("DTSTART:20261124T080000Z", "DURATION:PT8H", "X-X:1")).encode().replace(b"X-X:1", octets)
    found = ical_parse.read(decoded(raw), SINCE, UNTIL)
    assert [each.summary for each in found.occurrences] == [summary]


# -- when


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (f"DTSTART{BERLIN}:20261124T230000", f"DTEND{BERLIN}:20261124T070000"),
        ("DTSTART:20261124T230000Z", "DTEND:20261124T070000Z"),
        ("DTSTART:20261124T230000Z", "DTEND:20261124T230000Z"),
        ("DTSTART:20261124T230000Z", "DURATION:PT0S"),
        ("DTSTART:20261124T230000Z", "DURATION:-PT8H"),
        ("DTSTART:20261124T230000Z", "X-X:1"),
        ("DTSTART;VALUE=DATE:20261124", "DTEND;VALUE=DATE:20261123"),
        (f"DTSTART{BERLIN}:20261124T230000", "DTEND:20261124T220000Z"),
    ],
)
@pytest.mark.parametrize("rule", ["RRULE:FREQ=DAILY;COUNT=5", "X-X:1"])
def test_what_does_not_end_after_it_starts_is_never_turned_round(start: str, end: str, rule: str) -> None:
    found = read(event(start, end, rule, "SUMMARY:ana"))
    assert found.occurrences == ()
    assert all("which is not after its start" in why for why in whys(found))
    assert all(each.is_mistake for each in found.uncounted)
    assert len(found.uncounted) == (5 if "COUNT" in rule else 1)


def test_a_day_that_ends_on_itself_is_one_day() -> None:
    one = event("DTSTART;VALUE=DATE:20261124", "DTEND;VALUE=DATE:20261124", "SUMMARY:ana")
    assert times(read(one)) == ["24 00:00 - 25 00:00 ana"]


@pytest.mark.parametrize(
    "zone",
    ["W. Europe Standard Time", '"W. Europe Standard Time"', "w. europe standard time", "europe/berlin",
     '"Europe/Berlin"', "/example.org/20050126_1/Europe/Berlin", " Europe/Berlin "],
)  # fmt: skip
def test_a_zone_is_known_by_every_name_programs_write(zone: str) -> None:
    for parts in (
        [event(f"DTSTART;TZID={zone}:20261124T080000", "DURATION:PT8H", "SUMMARY:ana")],
        [f"X-WR-TIMEZONE:{zone}", event("DTSTART:20261124T080000", "DURATION:PT8H", "SUMMARY:ana")],
    ):
        found = read(*parts)
        assert (times(found), found.uncounted) == (["24 07:00 - 24 15:00 ana"], ())


@pytest.mark.parametrize(
    "zone", ["W. Europe Standard Time", "europe/berlin", "", '""', "Local", '"Europe/Berlin"', "?"]
)
def test_the_calendars_zone_may_be_any_word_where_every_event_is_in_utc(zone: str) -> None:
    found = read(f"X-WR-TIMEZONE:{zone}", day(23, "RRULE:FREQ=WEEKLY;UNTIL=20261124T000000Z"))
    assert (times(found), found.uncounted, found.notes) == (["23 00:00 - 24 00:00 ana"], (), ())


@pytest.mark.parametrize(
    "lines",
    [("DTSTART:20261124T080000", "DURATION:PT8H"), ("DTSTART;VALUE=DATE:20261124",)],
    ids=["floating", "a day"],
)
def test_a_time_of_a_calendars_zone_that_nobody_knows_does_not_count_until_one_is_configured(lines: list[str]) -> None:
    parts = ("X-WR-TIMEZONE:Local", event(*lines, "SUMMARY:ana"))
    assert whys(read(*parts)) == ["its times name no zone, and nobody knows the calendar's (Local)"]
    found = ical_parse.read(calendar(*parts), SINCE, UNTIL, CalendarRules("Asia/Kolkata"))
    assert len(found.occurrences) == 1
    assert found.notes == ("whole days and times without a zone are those of Asia/Kolkata (ical_tz)",)


ONLY_ZONE = "\n".join(
    ["BEGIN:VTIMEZONE", "TZID:Our Desk", "BEGIN:STANDARD", "DTSTART:19700101T000000", "TZOFFSETFROM:+0300",
     "TZOFFSETTO:+0300", "END:STANDARD", "END:VTIMEZONE"]
)  # fmt: skip


@pytest.mark.parametrize(
    ("head", "configured", "begins", "why"),
    [
        ("X-X:1", "", "24 00:00", "UTC (neither the calendar nor ical_tz names a zone)"),
        ("X-WR-TIMEZONE:Europe/Berlin", "", "23 23:00", "Europe/Berlin (X-WR-TIMEZONE)"),
        ("TIMEZONE-ID:Europe/Berlin", "", "23 23:00", "Europe/Berlin (TIMEZONE-ID)"),
        (ONLY_ZONE, "", "23 21:00", "Our Desk (the only zone in the file)"),
        (f"X-WR-TIMEZONE:our desk\n{ONLY_ZONE}", "", "23 21:00", "our desk (X-WR-TIMEZONE)"),
        (ONLY_ZONE.replace("Our Desk", "Odd\nX-LIC-LOCATION:Europe/Berlin"), "", "23 23:00", "Odd (the only zone"),
        ("X-WR-TIMEZONE:Europe/Berlin", "Asia/Kolkata", "23 18:30", "Asia/Kolkata (ical_tz)"),
    ],
)
def test_whole_days_are_of_the_configured_zone_else_the_calendars_and_it_is_said(
    head: str, configured: str, begins: str, why: str
) -> None:
    text = calendar(head, event("DTSTART;VALUE=DATE:20261124", "SUMMARY:ana"))
    found = ical_parse.read(text, SINCE, UNTIL, CalendarRules(configured))
    assert times(found)[0].startswith(begins)
    assert found.notes[0].startswith(f"whole days and times without a zone are those of {why}")


@pytest.mark.parametrize(
    ("start", "until", "number"),
    [
        (f"DTSTART{BERLIN}:20261123T090000", "20261125", 3),
        (f"DTSTART{BERLIN}:20261123T090000", "20261125T080000Z", 3),
        (f"DTSTART{BERLIN}:20261123T090000", "20261125T090000", 3),
        (f"DTSTART{BERLIN}:20261123T090000", "20261125T085959", 2),
        ("DTSTART;VALUE=DATE:20261123", "20261125", 3),
        ("DTSTART;VALUE=DATE:20261123", "20261124T230000Z", 3),
        ("DTSTART:20261123T090000Z", "20261125", 3),
    ],
)
def test_until_ends_a_series_as_it_is_meant_whatever_its_form(start: str, until: str, number: int) -> None:
    found = read("X-WR-TIMEZONE:Europe/Berlin", event(start, f"RRULE:FREQ=DAILY;UNTIL={until}", "DURATION:PT8H"))
    assert len(found.occurrences) == number


def test_utc_stays_utc_when_the_calendars_clock_is_put_forward() -> None:
    utc = event("DTSTART:20260301T080000Z", "DURATION:PT8H", "RRULE:FREQ=WEEKLY;COUNT=8", "SUMMARY:ana")
    found = read("X-WR-TIMEZONE:Europe/Berlin", utc, since=at("2026-03-01 00:00"), until=at("2026-05-01 00:00"))
    assert {f"{each.start:%H:%M}" for each in found.occurrences} == {"08:00"}


# -- which of several


WEEKS = [("20261123", "20261130", "ana"), ("20261130", "20261207", "bo"), ("20261207", "20261214", "ana")]
IN_TURN = ["23 08:00 - 30 08:00 ana", "30 08:00 - 07 08:00 bo", "07 08:00 - 14 08:00 ana"]


def test_events_of_one_uid_each_count() -> None:
    assert times(read(*(week(*each) for each in WEEKS))) == IN_TURN
    only = [week(*each, f"RECURRENCE-ID{BERLIN}:{each[0]}T090000") for each in WEEKS]
    assert times(read(*only)) == IN_TURN, "an export of single occurrences"
    inner = week("20261124", "20261125", "bo")
    assert times(read(week("20261123", "20261130", "ana"), inner)) == [IN_TURN[0], "24 08:00 - 25 08:00 bo"]


def test_a_series_cut_in_two_under_one_uid_counts_twice() -> None:
    rule = "RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=2"
    found = read(week(*WEEKS[0], rule), week(*WEEKS[1], rule, "SEQUENCE:1"))
    assert times(found) == [*IN_TURN, "14 08:00 - 21 08:00 bo"]


def test_of_two_versions_of_an_entry_the_newer_counts_in_either_order() -> None:
    old, new = week(*WEEKS[0], "SEQUENCE:1"), week("20261123", "20261130", "bo", "SEQUENCE:2")
    for parts in ((old, new), (new, old)):
        found = read(*parts)
        assert times(found) == ["23 08:00 - 30 08:00 bo"]
        assert whys(found) == ["a newer version of it is in the calendar"]
    cancelled = week(*WEEKS[0], "SEQUENCE:2", "STATUS:CANCELLED")
    assert times(read(old, cancelled)) == []


@pytest.mark.parametrize(
    "named",
    ["RECURRENCE-ID;VALUE=DATE:20261130", f"RECURRENCE-ID{BERLIN}:20261130T090000", "RECURRENCE-ID:20261130T080000Z",
     "RECURRENCE-ID:20261130T090000", "RECURRENCE-ID;TZID=America/New_York:20261130T030000"],
)  # fmt: skip
def test_a_time_of_a_series_is_replaced_however_it_is_named(named: str) -> None:
    found = read(week(*WEEKS[0], "RRULE:FREQ=WEEKLY;COUNT=3"), week(*WEEKS[1], named))
    assert times(found) == IN_TURN


@pytest.mark.parametrize("named", [f"RECURRENCE-ID{BERLIN}:20261124T000000", "RECURRENCE-ID:20261123T230000Z"])
def test_a_day_of_a_series_is_replaced_by_its_midnight_too(named: str) -> None:
    days = event("DTSTART;VALUE=DATE:20261123", "RRULE:FREQ=DAILY;COUNT=2", "SUMMARY:ana", uid="rota")
    swap = event("DTSTART;VALUE=DATE:20261124", named, "SUMMARY:bo", uid="rota")
    found = read("X-WR-TIMEZONE:Europe/Berlin", days, swap)
    assert times(found) == ["22 23:00 - 23 23:00 ana", "23 23:00 - 24 23:00 bo"]


def test_of_two_swaps_of_one_time_the_newer_counts() -> None:
    named = "RECURRENCE-ID;VALUE=DATE:20261130"
    older = week("20261130", "20261207", "max", named, "SEQUENCE:1")
    newer = week("20261202", "20261207", "bo", named, "SEQUENCE:2")
    found = read(week(*WEEKS[0], "RRULE:FREQ=WEEKLY;COUNT=3"), newer, older)
    assert times(found) == [IN_TURN[0], "02 08:00 - 07 08:00 bo", IN_TURN[2]]


def test_a_swap_from_there_on_moves_and_gives_away_all_that_follow() -> None:
    onwards = event(
        "RECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:20261130T090000",
        f"DTSTART{BERLIN}:20261130T100000", f"DTEND{BERLIN}:20261207T100000", "SUMMARY:bo", uid="rota",
    )  # fmt: skip
    found = read(week(*WEEKS[0], "RRULE:FREQ=WEEKLY;COUNT=3"), onwards)
    assert times(found) == [IN_TURN[0], "30 09:00 - 07 09:00 bo", "07 09:00 - 14 09:00 bo"]


@pytest.mark.parametrize(
    "swap",
    [
        week("20261130", "20261207", "bo", f"RECURRENCE-ID{BERLIN}:20261130T090000", zone=";TZID=Customized Time Zone"),
        week("20261130", "20261207", "bo", "RECURRENCE-ID;TZID=?:20261130T090000", zone=";TZID=?"),
        week("20261130", "20261207", "bo", "RECURRENCE-ID;TZID=?:20261130T030000"),
        week("20261130", "20261207", "bo", "RECURRENCE-ID:next week"),
        week("20261207", "20261130", "bo", "RECURRENCE-ID;VALUE=DATE:20261130"),
        week("20261130", "20261207", "bo", "RECURRENCE-ID;VALUE=DATE:20261130", "STATUS:CANCELLED"),
        week("20261130", "20261207", "bo on vacation", "RECURRENCE-ID;VALUE=DATE:20261130"),
        event("RECURRENCE-ID;VALUE=DATE:20261130", "SUMMARY:bo", uid="rota"),
    ],
)
def test_a_swap_that_does_not_count_leaves_a_gap_and_not_the_one_who_was_replaced(swap: str) -> None:
    parts = (week(*WEEKS[0], RULE), swap)
    assert source_at("2026-12-02 12:00", *parts).startswith('max (fallback: "bo')
    assert source_at("2026-12-09 12:00", *parts) == "ana (calendar)"


# -- what counts


@pytest.mark.parametrize("free", ["TRANSP:TRANSPARENT", "X-MICROSOFT-CDO-BUSYSTATUS:FREE"])
def test_an_entry_marked_as_free_counts_unless_it_is_configured_otherwise(free: str) -> None:
    assert source_at("2026-11-23 12:00", day(23, free)) == "ana (calendar)"
    ignored = source_at("2026-11-23 12:00", day(23, free), rules=CalendarRules(free="ignore"))
    assert ignored == 'max (fallback: "ana" does not count: it is marked as free, and ical_free is "ignore")'


@pytest.mark.parametrize(
    "lines",
    [
        ("SUMMARY:Bo out of office", "X-MICROSOFT-CDO-BUSYSTATUS:OOF"),
        ("SUMMARY:Bo", "X-MICROSOFT-CDO-INTENDEDSTATUS:OOF"),
        ("SUMMARY:Vacation: Bo",),
        ("SUMMARY:security vacation shift: Bo",),
        ("SUMMARY:Bo (PTO)",),
        ("SUMMARY:Bo - annual leave",),
        ("SUMMARY:Bo off",),
        ("SUMMARY:Holiday Bo",),
        ("SUMMARY:Urlaub Bo",),
        ("SUMMARY:Bo en congés",),
        ("SUMMARY:Bo", "CATEGORIES:Vacation"),
        ("SUMMARY:Out of office", "ATTENDEE:mailto:bo@example.com"),
        ("SUMMARY:Bo", "STATUS:cancelled"),
        ("SUMMARY:On call", "ATTENDEE;PARTSTAT=DECLINED:mailto:bo@example.com", "ORGANIZER:mailto:max@example.com"),
        ("SUMMARY:Bo", "ATTENDEE;PARTSTAT=DECLINED:mailto:bo@example.com"),
        ("SUMMARY:Bo", "ATTENDEE;PARTSTAT=DELEGATED:mailto:bo@example.com"),
    ],
)
def test_who_is_away_is_not_on_call_and_the_gap_says_why(lines: tuple[str, ...]) -> None:
    away = event("DTSTART:20261123T000000Z", "DTEND:20261124T000000Z", *lines)
    assert source_at("2026-11-23 12:00", away, ROTA) == "ana (calendar)", "beside the rota"
    assert source_at("2026-11-23 12:00", away).startswith("max (fallback: "), "alone"
    assert "does not count" in source_at("2026-11-23 12:00", away)


@pytest.mark.parametrize(
    "lines",
    [
        ("SUMMARY:Holiday on-call: Ana Reyes",),
        ("SUMMARY:Christmas holidays shift ana",),
        ("SUMMARY:ana", "STATUS:TENTATIVE"),
        ("SUMMARY:ana", "X-MICROSOFT-CDO-BUSYSTATUS:TENTATIVE"),
        ("SUMMARY:ana", "X-MICROSOFT-CDO-BUSYSTATUS:BUSY", "X-MICROSOFT-CDO-INTENDEDSTATUS:OOF"),
        ("SUMMARY:Off-hours on call: Ana Reyes",),
        ("SUMMARY:ana", "CLASS:PRIVATE"),
        ("SUMMARY:On call", "ATTENDEE;PARTSTAT=NEEDS-ACTION:mailto:ana.reyes@example.com"),
        ("SUMMARY:On call", "ATTENDEE;ROLE=NON-PARTICIPANT:mailto:bo@example.com", "ATTENDEE:ana.reyes@example.com"),
        ("SUMMARY:ana", "ATTENDEE;PARTSTAT=DECLINED:mailto:bo@example.com"),
        ("SUMMARY:On call", "ATTENDEE;CN=Reyes, Ana; SEOC:mailto:ana.reyes@example.com"),
    ],
)
def test_these_count(lines: tuple[str, ...]) -> None:
    assert source_at("2026-11-23 12:00", event("DTSTART:20261123T000000Z", "DURATION:P1D", *lines)) == "ana (calendar)"


def test_a_cancelled_entry_is_no_mistake_however_it_is_written() -> None:
    found = read(event("DTSTART:20261123T000000Z", "DTEND:20261123T000000Z", "STATUS:CANCELLED", "SUMMARY:ana"))
    assert [(each.why, each.is_mistake) for each in found.uncounted] == [("it is cancelled", False)]


def test_the_first_time_of_each_mistake_is_told() -> None:
    night = event("DTSTART:20261123T230000Z", "DTEND:20261123T070000Z", "RRULE:FREQ=DAILY;COUNT=5", "SUMMARY:ana")
    found = read(night, day(24, "STATUS:CANCELLED"))
    answers = Calendar(since=found.since, until=found.until, uncounted=found.uncounted)
    (told,) = answers.mistakes(NOW, NOW + timedelta(days=7))
    assert str(told).startswith('"ana", 2026-11-23 23:00Z to 2026-11-24 07:00Z: it ends at 2026-11-23 07:00')
    assert len(answers.left_out(NOW, NOW + timedelta(days=7))) == 2
