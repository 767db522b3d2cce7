"""What time it is.

Nothing below the daemon asks the host: pure rules take `now` as an argument, objects take a `ReaderClock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: Answers the present instant, aware and in UTC.
Clock = Callable[[], datetime]

#: This program was not written before then: a clock that stands earlier is wrong, whoever set it.
EARLIEST = datetime(2026, 11, 1, tzinfo=UTC)


def wall_clock() -> datetime:
    """What the host says, right or wrong."""
    return datetime.now(UTC)


def boot_seconds() -> float:
    """Seconds since the host was started, through suspend; no step of the wall clock changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HostClock:
    """A clock for one host that a step of the wall clock backwards cannot hold up.

    It answers the later of the wall clock and of the wall clock at the first call plus the time since by
    CLOCK_BOOTTIME. So a deadline is due when either says so, whichever is first: early is safer than late
    (design.md 2). It never answers anything before `EARLIEST`, with which a host starts whose clock lost its battery.

    A wall clock that was put forward is followed, and so is the way back from there. What was written in between lies
    ahead of the present then; `clock_guard` brings it back.
    """

    def __init__(self, wall: Clock, boot: Callable[[], float]) -> None:
        self._wall = wall
        self._boot = boot
        self._first, self._began = max(wall(), EARLIEST), boot()

    def __call__(self) -> datetime:
        return max(self._wall(), self._first + self._passed())

    def not_before(self, at: datetime) -> None:
        """Count on from `at` if this clock stands earlier: for when the host's clock is known to be wrong."""
        self._first = max(self._first, at - self._passed())

    def _passed(self) -> timedelta:
        return timedelta(seconds=self._boot() - self._began)


def host_clock(wall: Clock = wall_clock, boot: Callable[[], float] = boot_seconds) -> HostClock:
    """The clock of this host.

    Args:
        wall: The host's wall clock.
        boot: CLOCK_BOOTTIME, in seconds.
    """
    return HostClock(wall, boot)
