"""What time it is.

Nothing below `daemon.py` asks the host: pure rules take `now` as an argument, objects take a `Clock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: Answers the present instant, aware and in UTC.
Clock = Callable[[], datetime]


def _wall() -> datetime:
    return datetime.now(UTC)


def _boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def host_clock(wall: Clock = _wall, boot: Callable[[], float] = _boot_seconds) -> Clock:
    """A clock for one host that a step of the wall clock backwards cannot hold up.

    It answers the later of the wall clock and of the wall clock at the first call plus the time since by
    CLOCK_BOOTTIME, which goes on through suspend. So a deadline is due when either says so, whichever is first:
    early is safer than late (design.md 2).

    Known limit: what was accepted while the wall clock stood too far ahead keeps its times when it is put back.

    Args:
        wall: The host's wall clock.
        boot: CLOCK_BOOTTIME, in seconds.
    """
    first, began = wall(), boot()

    def now() -> datetime:
        passed = timedelta(seconds=boot() - began)
        return max(wall(), first + passed)

    return now
