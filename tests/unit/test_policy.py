"""The escalation policy: what is due when, and who it names."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panicmail.incident.escalation_policy import EscalationPolicy, PolicyStep
from tests.cast import MINUTE, POLICY, SECOND, T0, who


def policy_of(*steps: tuple[int, str]) -> EscalationPolicy:
    return replace(POLICY, steps=tuple(PolicyStep(minute * MINUTE, tuple(roles.split())) for minute, roles in steps))


POLICIES = st.lists(st.integers(0, 3600), max_size=5).map(
    lambda seconds: replace(POLICY, steps=tuple(PolicyStep(s * SECOND, ("seoc",)) for s in [0, *sorted(seconds)]))
)


@pytest.mark.parametrize(("taken", "minute"), [(-1, 0), (0, 5), (1, 10), (2, 15)])
def test_after_a_step_comes_the_next_one_at_its_own_time_however_late_it_was(taken: int, minute: int) -> None:
    assert POLICY.after_step(T0, taken, T0 + 47 * SECOND) == T0 + minute * MINUTE


@pytest.mark.parametrize("taken", [3, 4])
def test_after_the_last_step_comes_its_repeat_counted_from_now(taken: int) -> None:
    assert POLICY.after_step(T0, taken, T0 + 17 * MINUTE) == T0 + 22 * MINUTE


def test_a_policy_of_one_step_repeats_it() -> None:
    assert policy_of((0, "seoc")).after_step(T0, 0, T0) == T0 + 5 * MINUTE


@pytest.mark.parametrize(
    ("taken", "at", "steps"),
    [
        (-1, timedelta(0), [0]),
        (0, 5 * MINUTE - timedelta(microseconds=1), []),
        (0, 5 * MINUTE, [1]),
        (0, 12 * MINUTE, [1, 2]),
        (0, 60 * MINUTE, [1, 2, 3]),
        (2, 5 * MINUTE, []),
        (3, 60 * MINUTE, []),
    ],
)
def test_overdue_are_the_steps_not_taken_whose_time_has_come(taken: int, at: timedelta, steps: list[int]) -> None:
    assert list(POLICY.overdue(T0, taken, T0 + at)) == steps


@settings(deadline=None)
@given(POLICIES, st.integers(-1, 6), st.integers(-10, 4000))
def test_overdue_begins_after_the_taken_step_has_no_gap_and_never_holds_a_step_still_to_come(
    policy: EscalationPolicy, taken: int, second: int
) -> None:
    now = T0 + second * SECOND
    steps = list(policy.overdue(T0, taken, now))
    assert steps == [n for n in range(taken + 1, policy.last + 1) if policy.step_at(T0, n) <= now]
    assert steps == list(range(taken + 1, taken + 1 + len(steps)))


@pytest.mark.parametrize(
    ("policy", "roles"),
    [
        (POLICY, ("smoc",)),
        (policy_of((0, "seoc")), ("seoc",)),
        (policy_of((0, "seoc"), (5, "seoc engineers")), ("engineers",)),
        (policy_of((0, "seoc smoc"), (5, "smoc")), ("smoc",)),
        (policy_of((0, "seoc"), (5, "smoc"), (9, "seoc")), ("seoc",)),
    ],
)
def test_the_managers_are_whom_the_last_step_adds_to_the_first_else_whom_it_pages(
    policy: EscalationPolicy, roles: tuple[str, ...]
) -> None:
    assert policy.managers == roles


def test_each_person_is_named_once_by_the_first_role_that_has_them() -> None:
    assert list(POLICY.people(("engineers", "nobody", "seoc", "smoc"), who).items()) == [
        ("bo", "engineers"),
        ("ana", "engineers"),
        ("max", "smoc"),
    ]
    assert POLICY.people(("nobody", "unheard of"), who) == {}


@pytest.mark.parametrize(
    ("sla_minutes", "grace", "undelivered"),
    [(60, 300, 60), (15, 300, 60), (6, 120, 60), (4, 80, 60), (2, 40, 30), (1, 20, 15)],
)
def test_the_spans_of_a_short_sla_are_parts_of_it(sla_minutes: int, grace: int, undelivered: int) -> None:
    policy = replace(POLICY, sla=sla_minutes * MINUTE)
    assert (policy.reopen_grace, policy.undelivered_after) == (grace * SECOND, undelivered * SECOND)
