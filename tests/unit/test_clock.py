"""The host's clock, which a step of the wall clock backwards cannot hold up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from panicmail.clock import EARLIEST, host_clock
from tests.cast import MINUTE, T0

HOUR = timedelta(hours=1)


class Host:
    """A machine with a wall clock people set and one that counts since it was started."""

    def __init__(self) -> None:
        self.wall = T0
        self.boot = 1234.5

    def passes(self, span: timedelta) -> None:
        self.wall += span
        self.boot += span.total_seconds()


@pytest.fixture
def host() -> Host:
    return Host()


def test_it_follows_the_wall_clock(host: Host) -> None:
    clock = host_clock(lambda: host.wall, lambda: host.boot)
    assert clock() == T0
    host.passes(5 * MINUTE)
    assert clock() == T0 + 5 * MINUTE


def test_a_wall_clock_put_back_an_hour_does_not_hold_it_up(host: Host) -> None:
    clock = host_clock(lambda: host.wall, lambda: host.boot)
    host.passes(5 * MINUTE)
    host.wall -= HOUR
    assert clock() == T0 + 5 * MINUTE
    host.passes(10 * MINUTE)
    assert clock() == T0 + 15 * MINUTE


def test_a_wall_clock_put_forward_is_followed_at_once(host: Host) -> None:
    clock = host_clock(lambda: host.wall, lambda: host.boot)
    host.wall += HOUR
    assert clock() == T0 + HOUR


def test_the_hosts_own_clocks_give_the_present_in_utc() -> None:
    before = datetime.now(UTC)
    read = host_clock()()
    assert before <= read <= datetime.now(UTC) + timedelta(seconds=1)
    assert read.tzinfo is UTC


def test_a_clock_without_battery_starts_no_earlier_than_this_program(host: Host) -> None:
    host.wall = datetime(1970, 1, 1, tzinfo=UTC)
    clock = host_clock(lambda: host.wall, lambda: host.boot)
    assert clock() == EARLIEST
    host.passes(5 * MINUTE)
    assert clock() == EARLIEST + 5 * MINUTE
    host.wall = T0
    assert clock() == T0, "set right, it is followed"


def test_it_counts_on_from_an_instant_that_is_known_to_have_been(host: Host) -> None:
    host.wall = datetime(1970, 1, 1, tzinfo=UTC)
    clock = host_clock(lambda: host.wall, lambda: host.boot)
    host.passes(5 * MINUTE)
    clock.not_before(T0)
    assert clock() == T0
    host.passes(MINUTE)
    clock.not_before(T0)
    assert clock() == T0 + MINUTE, "it never goes back"


def test_the_program_was_written_after_its_earliest_instant() -> None:
    assert T0 - timedelta(days=60) < EARLIEST < T0
