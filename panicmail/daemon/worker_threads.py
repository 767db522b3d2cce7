"""Threads that wait for work.

Work is announced by lane name after the commit that made it. Of the threads that do one kind of work on the lane one
that sleeps is woken; once it has claimed something it wakes the next one, so that a lane with much to do has all its
threads, and one piece of work does not wake them all to find nothing. Rows written by a command or another node, and
those whose time comes, are found by the tick, which looks at all lanes each second and rings. Every thread looks by
itself as well now and then: an announcement that was lost costs that long at most.

A transaction that makes work claims it for a thread that sleeps, and hands it over once it is committed: nothing is
looked for then. Only where somebody has looked after all that was announced, and found nothing: what waits keeps its
turn, and each thread is handed one piece.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from panicmail.errors import StoreFailed

_log = structlog.get_logger()

#: How often a thread looks for work nobody announced, in seconds. The tick looks for it each second.
LOOK_EVERY = 30.0
#: How long a thread rests after an error it did not expect, in seconds.
REST = 1.0


@dataclass(slots=True, eq=False)
class _Lane:
    """Who waits on a lane, and what they know. Every method is called with its lock held."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0  #: how often it was rung
    looked: int = -1  #: the count after which somebody looked, and found nothing
    asleep: list[SleepingThread] = field(default_factory=list)

    def wake(self, sleepers: Iterable[SleepingThread]) -> None:
        for each in [*sleepers]:
            self.asleep.remove(each)
            each.woken.set()

    def free(self) -> list[SleepingThread]:
        return [each for each in self.asleep if not each.is_reserved]


class SleepingThread:
    """A thread that waits on a lane. Whoever reserved it calls `hand` or `release`; nobody else wakes it until then."""

    def __init__(self, lane: _Lane, group: str, *, takes: bool) -> None:
        self.name = threading.current_thread().name
        self.group = group
        self.takes = takes  #: it can be handed a piece of work
        self.is_reserved = False
        self.piece: Any = None
        self.woken = threading.Event()
        self._lane = lane
        self._reserved_at = 0  #: the count of the lane then

    def reserve(self) -> SleepingThread:
        """Keep it. Called with the lock of its lane held."""
        self.is_reserved, self._reserved_at = True, self._lane.count
        return self

    def hand(self, piece: object) -> None:
        """Wake it with a piece of work that was claimed under its name."""
        with self._lane.lock:
            self.piece, self.is_reserved = piece, False
            self._lane.wake([self])

    def release(self) -> None:
        """There is nothing for it after all: it sleeps on, unless the lane was rung meanwhile."""
        with self._lane.lock:
            self.is_reserved = False
            if self._lane.count != self._reserved_at:
                self._lane.wake([self])

    def sleep(self, timeout: float) -> Any:
        """What it was handed; None when it was woken, or after `timeout` seconds."""
        while not self.woken.wait(timeout):
            with self._lane.lock:
                if not self.is_reserved and not self.woken.is_set():
                    self._lane.asleep.remove(self)
                    return None
            timeout = REST  # what it is reserved for comes any moment
        return self.piece


class WorkSignal:
    """Wakes threads that wait on a lane: of each group, threads that do the same work, one."""

    def __init__(self) -> None:
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    def ring(self, lanes: Iterable[str]) -> None:
        for name in lanes:
            lane = self._lanes[name]
            with lane.lock:
                lane.count += 1
                lane.wake({each.group: each for each in lane.free()}.values())

    def wake_all(self, name: str) -> None:
        """As `ring`, for all who wait on the lane."""
        lane = self._lanes[name]
        with lane.lock:
            lane.count += 1
            lane.wake(lane.free())

    def count(self, lane: str) -> int:
        """How often `lane` was rung; taken before looking for work, so that no ring is missed."""
        return self._lanes[lane].count

    def wait(self, lane: str, seen: int, timeout: float, group: str = "") -> None:
        """Until `lane` was rung since `seen` and this thread is the one of its group that was woken, or `timeout`
        seconds."""
        self._wait(lane, seen, timeout, SleepingThread(self._lanes[lane], group, takes=False))

    def wait_to_take(self, lane: str, seen: int, timeout: float, *, in_vain: bool) -> Any:
        """As `wait`, for a thread that takes what it is handed: answers that, or None.

        Args:
            in_vain: It has looked since `seen`, and there was nothing that waits.
        """
        sleeper = SleepingThread(self._lanes[lane], "", takes=True)
        return self._wait(lane, seen, timeout, sleeper, in_vain=in_vain)

    def _wait(self, name: str, seen: int, timeout: float, sleeper: SleepingThread, *, in_vain: bool = False) -> Any:
        lane = self._lanes[name]
        with lane.lock:
            if lane.count != seen:
                return None
            if in_vain:
                lane.looked = seen
            lane.asleep.append(sleeper)
        return sleeper.sleep(timeout)

    def reserve(self, name: str) -> SleepingThread | None:
        """A thread that can be handed what a transaction is about to make; None when what it makes is to be announced,
        because nobody sleeps or something may wait already."""
        lane = self._lanes[name]
        with lane.lock:
            takers = [each for each in lane.free() if each.takes] if lane.looked == lane.count else []
            if takers:
                return takers[-1].reserve()
            lane.looked = -1  # what is left to be announced goes before what comes after it
            return None


class WorkerThread(threading.Thread):
    """A thread that calls `work` while it answers True (there was something), and else waits on `lane`.

    Threads whose names differ in the number at their end alone are a group.

    An exception from `work` is logged and the thread goes on: the row it was about is leased and comes again.

    Args:
        work: None: there is something that must not be begun now.
        within: How long one call may take at most, in seconds.
        take: Does what was handed over, and answers as `work`. None: this thread looks for all it does.
    """

    def __init__(
        self,
        name: str,
        lane: str,
        bell: WorkSignal,
        work: Callable[[], bool | None],
        within: float = 0.0,
        take: Callable[[Any], bool | None] | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._lane = lane
        self._group = name.rstrip("0123456789")
        self._bell = bell
        self._work, self._take = work, take
        self._stopped = threading.Event()
        self.within = within
        self.looked_at = time.monotonic()  #: when it last came round; a hanging thread's stands still
        self._sleeps = False

    def run(self) -> None:
        piece: Any = None
        while piece is not None or not self._stopped.is_set():
            seen = self._bell.count(self._lane)
            self.looked_at = time.monotonic()
            left = self._try_work(piece)
            piece = None if left or self._stopped.is_set() else self._sleep(seen, in_vain=left is False)

    def _sleep(self, seen: int, *, in_vain: bool) -> Any:
        self._sleeps = True
        try:
            if self._take is None:
                return self._bell.wait(self._lane, seen, LOOK_EVERY, self._group)
            return self._bell.wait_to_take(self._lane, seen, LOOK_EVERY, in_vain=in_vain)
        finally:
            self._sleeps = False

    def _try_work(self, piece: Any) -> bool | None:
        try:
            return self._work() if piece is None or self._take is None else self._take(piece)
        except StoreFailed as exc:  # it comes back, and the row with it
            _log.error("worker.failed", worker=self.name, reason=str(exc))
        except Exception:  # one bad row must not end the lane; its lease brings it back
            _log.exception("worker.failed", worker=self.name)
        self._stopped.wait(REST)
        return None

    def came_round_at(self) -> float:
        """When it last looked for work, or slept for want of it, in monotonic seconds; -inf once it has ended."""
        if not self.is_alive():
            return -math.inf
        return time.monotonic() if self._sleeps else self.looked_at

    def stop(self) -> None:
        """Ask it to end after what it is doing."""
        self._stopped.set()
        self._bell.wake_all(self._lane)
