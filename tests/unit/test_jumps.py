"""The rule by which times written on a clock that stood ahead are brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.incident import clock_steps, transitions
from panicmail.incident.clock_steps import ClockReading
from panicmail.incident.escalation_policy import BusinessHours, Duty
from panicmail.incident.model import Entry, Incident, State
from tests.cast import MINUTE, POLICY, SECOND, T0, opened, who

HOUR = timedelta(hours=1)
Event = Callable[[Incident, datetime], Incident]


def ack(incident: Incident, now: datetime) -> Incident:
    return transitions.acknowledge(incident, "ana", "", POLICY, now).incident


def more(incident: Incident, now: datetime) -> Incident:
    entry = Entry(event="thread.more", facts={"text": "x"})
    return transitions.more(
        incident, transitions.MoreMail(entry=entry, mail_id="m", human=True, thanks=False), Duty(POLICY, who, now)
    ).incident


#: It is never night: what waits for the morning waits for a wall clock, whatever that says.
ALWAYS = BusinessHours(frozenset(range(7)), time(0), time(23, 59), ZoneInfo("UTC"))

EVENTS: dict[str, Event] = {
    "time": lambda i, now: transitions.pass_time(i, Duty(POLICY, who, now), ALWAYS).incident,
    "ack": ack,
    "decline": lambda i, now: transitions.decline(i, "ana", "", "no", Duty(POLICY, who, now)).incident,
    "escalate": lambda i, now: transitions.escalate(i, "max", "", Duty(POLICY, who, now)).incident,
    "offer": lambda i, now: transitions.hand_over(i, "ana", "bo", "", now).incident,
    "work": lambda i, now: transitions.sign_of_work(i, "ana", POLICY, now).incident,
    "more": more,
    "reopen": lambda i, now: more(transitions.resolve(ack(i, now), "ana", "", POLICY, now).incident, now),
}


def lived(story: Sequence[tuple[int, str]], start: datetime) -> Incident:
    incident = replace(opened(at=start).incident, id="i", ref="R", mail_id="m")
    for seconds, event in story:
        incident = EVENTS[event](incident, start + timedelta(seconds=seconds))
    return incident


stories = st.lists(st.tuples(st.integers(0, 1800), st.sampled_from([*EVENTS])), max_size=8).map(sorted)


@settings(deadline=None)
@given(stories)
def test_a_life_on_a_clock_an_hour_ahead_reads_as_if_the_clock_had_been_right(story: list[tuple[int, str]]) -> None:
    now = T0 + timedelta(seconds=story[-1][0] if story else 0)
    right = lived(story, T0)
    back = clock_steps.brought_back(lived(story, T0 + HOUR), HOUR, now, touched=False)
    waits = {name: at and max(at, now) for name in ("next_step_at", "remind_at")
             if (at := getattr(right, name)) is not None}  # fmt: skip
    # Only an incident that is still to be seen to is ever brought back, so `resolved_at` is of no account.
    assert back == replace(right, **waits)
    assert (back.state is State.OPEN) == (back.next_step_at is not None)


@settings(deadline=None)
@given(stories)
def test_what_was_brought_back_is_not_brought_back_again(story: list[tuple[int, str]]) -> None:
    now = T0 + timedelta(seconds=story[-1][0] if story else 0)
    back = clock_steps.brought_back(lived(story, T0 + HOUR), HOUR, now, touched=False)
    assert clock_steps.brought_back(back, HOUR, now, touched=False) == back


@settings(deadline=None)
@given(stories)
def test_an_incident_of_a_right_clock_stays_as_it_is(story: list[tuple[int, str]]) -> None:
    now = T0 + timedelta(seconds=story[-1][0] if story else 0)
    incident = lived(story, T0)
    assert clock_steps.brought_back(incident, HOUR, now, touched=False) is incident


def test_nothing_is_ever_brought_back_into_the_future() -> None:
    ahead = opened(at=T0 + 2 * HOUR).incident
    back = clock_steps.brought_back(ahead, HOUR, T0, touched=False)
    assert (back.accepted_at, back.opened_at, back.steps_from_at) == (T0, T0, T0)


def test_an_sla_that_was_promised_at_the_reopening_moves_with_it_and_the_first_one_stays() -> None:
    closed = transitions.resolve(ack(opened().incident, T0), "ana", "", POLICY, T0).incident
    reopened = more(closed, T0 + HOUR + MINUTE)
    back = clock_steps.brought_back(reopened, HOUR, T0 + MINUTE, touched=False)
    assert (back.sla_at, back.first_sla_at) == (T0 + 16 * MINUTE, T0 + 15 * MINUTE)
    assert (back.accepted_at, back.opened_at) == (T0, T0 + MINUTE)


# -- whether it jumped


@pytest.mark.parametrize(
    ("now", "before", "after", "found"),
    [
        (T0 + SECOND, 1.0, 1.0, timedelta()),
        (T0 + HOUR, 3600.0, 3600.0, timedelta()),
        (T0 + HOUR + SECOND, 1.0, 1.0, HOUR),
        (T0 - HOUR + SECOND, 1.0, 1.0, -HOUR),
        (T0 + 6 * SECOND, 1.0, 1.0, timedelta()),
        (T0 - 4 * SECOND, 1.0, 1.0, timedelta()),
        (T0 + SECOND, 1.0, 31.0, timedelta()),
        (T0 + 31 * SECOND, 1.0, 31.0, timedelta()),
        (T0 + 31 * SECOND + HOUR, 1.0, 31.0, HOUR),
    ],
    ids=["a second", "an hour's sleep", "forward", "back", "a little ahead", "a little back", "a slow answer, early",
         "a slow answer, late", "a slow answer and forward"],
)  # fmt: skip
def test_a_jump_is_what_the_seconds_since_the_start_of_the_host_do_not_explain(
    now: datetime, before: float, after: float, found: timedelta
) -> None:
    assert clock_steps.clock_jump(ClockReading(T0, 0.0, 0.0), ClockReading(now, before, after)) == found
