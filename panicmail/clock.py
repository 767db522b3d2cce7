"""What time it is.

Nothing below `daemon.py` asks the host: pure rules take `now` as an argument, objects take a `Clock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: Answers the present instant, aware and in UTC.
Clock = Callable[[], datetime]


def host_clock() -> Clock:
    """A clock for one host that a step of the wall clock backwards cannot hold up.

    It answers the later of the wall clock and of the wall clock at the first call plus the time since by
    CLOCK_BOOTTIME, which goes on through suspend. So a deadline is due when either says so, whichever is first:
    early is safer than late (design.md 2).
    """
    wall = datetime.now(UTC)
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)

    def now() -> datetime:
        passed = timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME) - boot)
        return max(datetime.now(UTC), wall + passed)

    return now
