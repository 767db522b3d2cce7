"""Business hours: six hours on business days, over nights, weekends and the change of clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from panicmail.incident.escalation_policy import BusinessHours

OFFICE = BusinessHours(frozenset(range(5)), time(9), time(17), ZoneInfo("Europe/Berlin"))
HOUR = timedelta(hours=1)

instants = st.integers(0, 2 * 365 * 86_400).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
spans = st.timedeltas(timedelta(seconds=1), timedelta(days=5))


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def test_six_hours_from_friday_afternoon_end_on_monday() -> None:
    assert OFFICE.after(berlin("2026-11-20T15:00"), 6 * HOUR) == berlin("2026-11-23T13:00")


def test_what_comes_on_a_saturday_night_counts_from_monday_morning() -> None:
    assert OFFICE.after(berlin("2026-11-21T23:30"), 6 * HOUR) == berlin("2026-11-23T15:00")


def test_no_span_at_night_ends_when_it_opens() -> None:
    assert OFFICE.after(berlin("2026-11-24T03:00"), timedelta()) == berlin("2026-11-24T09:00")


def test_a_span_that_ends_at_closing_time_ends_at_closing_time() -> None:
    assert OFFICE.after(berlin("2026-11-24T09:00"), 8 * HOUR) == berlin("2026-11-24T17:00")


def test_over_the_change_of_clocks_the_wall_keeps_its_hours() -> None:
    assert OFFICE.after(berlin("2026-10-23T16:00"), 2 * HOUR) == berlin("2026-10-26T10:00")


@given(instants, spans, spans)
def test_two_spans_one_after_the_other_are_their_sum(start: datetime, one: timedelta, other: timedelta) -> None:
    assert OFFICE.after(OFFICE.after(start, one), other) == OFFICE.after(start, one + other)


@given(instants, spans)
def test_before_undoes_after(start: datetime, span: timedelta) -> None:
    end = OFFICE.after(start, span)
    assert OFFICE.after(OFFICE.before(end, span), span) == end


@given(instants, spans)
def test_open_time_never_passes_faster_than_time(start: datetime, span: timedelta) -> None:
    assert OFFICE.after(start, span) - start >= span
