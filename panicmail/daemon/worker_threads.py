"""Threads that wait for work.

Work is announced by lane name after the commit that made it. Of the threads that do one kind of work on the lane one
that sleeps is woken; once it has claimed something it wakes the next one, so that a lane with much to do has all its
threads, and one piece of work does not wake them all to find nothing. Rows written by a command or another node, and
those whose time comes, are found by the tick, which looks at all lanes each second and rings. Every thread looks by
itself as well now and then: an announcement that was lost costs that long at most.
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
LOOK_EVERY = 5.0
#: How long a thread rests after an error it did not expect, in seconds.
REST = 1.0


class WorkSignal:
    """Wakes threads that wait on a lane: of each group, threads that do the same work, one."""

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._rung: dict[tuple[str, str], threading.Condition] = {}
        self._count: defaultdict[str, int] = defaultdict(int)

    def ring(self, lanes: Iterable[str]) -> None:
        for lane in lanes:
            for rung in self._announce(lane):
                with rung:
                    rung.notify()

    def wake_all(self, lane: str) -> None:
        """As `ring`, for all who wait on the lane."""
        for rung in self._announce(lane):
            with rung:
                rung.notify_all()

    def _announce(self, lane: str) -> list[threading.Condition]:
        with self._making:
            self._count[lane] += 1
            return [rung for (of, _), rung in self._rung.items() if of == lane]

    def count(self, lane: str) -> int:
        """How often `lane` was rung; taken before looking for work, so that no ring is missed."""
        return self._count[lane]

    def wait(self, lane: str, seen: int, timeout: float, group: str = "") -> None:
        """Until `lane` was rung since `seen` and this thread is the one of its group that was woken, or `timeout`
        seconds."""
        with self._making:  # threads that meet here must not each make their own
            rung = self._rung.setdefault((lane, group), threading.Condition())
        with rung:
            rung.wait_for(lambda: self._count[lane] != seen, timeout)


class WorkerThread(threading.Thread):
    """A thread that calls `work` while it answers True (there was something), and else waits on `lane`.

    Threads whose names differ in the number at their end alone are a group.

    An exception from `work` is logged and the thread goes on: the row it was about is leased and comes again.

    `within`: how long one call of `work` may take at most, in seconds.
    """

    def __init__(self, name: str, lane: str, bell: WorkSignal, work: Callable[[], bool], within: float = 0.0) -> None:
        super().__init__(name=name, daemon=True)
        self._lane = lane
        self._group = name.rstrip("0123456789")
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
                self._bell.wait(self._lane, seen, LOOK_EVERY, self._group)

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
        """Ask it to end after what it is doing."""
        self._stopped.set()
        self._bell.wake_all(self._lane)
