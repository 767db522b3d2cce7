"""Threads that wait for work.

Work is announced by lane name after the commit that made it; a thread that sleeps on the lane wakes at once. Every
thread also looks by itself once a second, so that rows written by a command or another node are found, and an
announcement lost to a crash costs a second.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import structlog

from panicmail.errors import StoreFailed

_log = structlog.get_logger()

#: How often a thread looks for work nobody announced, in seconds.
LOOK_EVERY = 1.0
#: How long a thread rests after an error it did not expect, in seconds.
REST = 1.0


class WorkSignal:
    """Wakes the threads that wait on a lane."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._rung: dict[str, threading.Condition] = {}
        self._count: defaultdict[str, int] = defaultdict(int)

    def ring(self, lanes: Iterable[str]) -> None:
        for lane in lanes:
            rung = self._condition(lane)
            with rung:
                self._count[lane] += 1
                rung.notify_all()

    def count(self, lane: str) -> int:
        """How often `lane` was rung; taken before looking for work, so that no ring is missed."""
        return self._count[lane]

    def wait(self, lane: str, seen: int, timeout: float) -> None:
        """Until `lane` was rung since `seen`, or `timeout` seconds."""
        rung = self._condition(lane)
        with rung:
            rung.wait_for(lambda: self._count[lane] != seen, timeout)

    def _condition(self, lane: str) -> threading.Condition:
        """The one condition of `lane`; threads that meet on a lane nobody used yet must not each make their own."""
        with self._making:
            return self._rung.setdefault(lane, threading.Condition())


class WorkerThread(threading.Thread):
    """A thread that calls `work` while it answers True (there was something), and else waits on `lane`.

    An exception from `work` is logged and the thread goes on: the row it was about is leased and comes again.

    `within`: how long one call of `work` may take at most, in seconds.
    """

    def __init__(self, name: str, lane: str, bell: WorkSignal, work: Callable[[], bool], within: float = 0.0) -> None:
        super().__init__(name=name, daemon=True)
        self._lane = lane
        self._bell = bell
        self._work = work
        self._stopped = threading.Event()
        self.within = within
        self.looked_at = time.monotonic()  #: when it last came round; a hanging thread's stands still

    def run(self) -> None:
        while not self._stopped.is_set():
            seen = self._bell.count(self._lane)
            self.looked_at = time.monotonic()
            if not self._try_work():
                self._bell.wait(self._lane, seen, LOOK_EVERY)

    def _try_work(self) -> bool:
        try:
            return self._work()
        except StoreFailed as exc:  # it comes back, and the row with it
            _log.error("worker.failed", worker=self.name, reason=str(exc))
        except Exception:  # one bad row must not end the lane; its lease brings it back
            _log.exception("worker.failed", worker=self.name)
        self._stopped.wait(REST)
        return False

    def came_round_at(self) -> float:
        """When it last looked for work, in monotonic seconds; -inf once it has ended."""
        return self.looked_at if self.is_alive() else -math.inf

    def stop(self) -> None:
        """Ask it to end after what it is doing; `ring` its lane to wake it."""
        self._stopped.set()
        self._bell.ring([self._lane])
