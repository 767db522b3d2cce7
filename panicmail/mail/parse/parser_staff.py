"""Which children there are to read mails, and who of them is free.

Who has been busy for `SLOW` counts no more, and a fresh child is started in its place, up to `MOST` in all.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from panicmail.mail.parse.parser_process import ParserBroken, ParserProcess

_log = structlog.get_logger()

#: Children that are ready or busy for a moment only, and those there are at most, slow ones included.
READY, MOST = 2, 6
_STARTS_WITHIN = 20.0  #: seconds for a child to be ready; a loaded host takes its time
_LONGEST_REST = 30.0


class ParserStaff:
    """The children. Every method may be called from any thread.

    Args:
        size: How many children that are not slow, from 1 to `MOST`.
        command: What to start instead of our own child; it must speak the frames of `worker`.
    """

    def __init__(self, size: int, command: Sequence[str] | None) -> None:
        self.size = min(max(1, size), MOST)
        self._command = list(command or (sys.executable, "-s", "-P", "-m", "panicmail.mail.parse.worker"))
        self._stopping = threading.Event()
        self._changed = threading.Condition()  # for all that follows
        self._alive: set[ParserProcess] = set()  #: those that were ready once, until they are reaped
        self._free: deque[ParserProcess] = deque()
        self._busy: set[ParserProcess] = set()  #: for less than `SLOW`
        self._slow: set[ParserProcess] = set()  #: busy for longer
        self._leaving: set[ParserProcess] = set()
        self._starting: set[threading.Thread] = set()
        self._greeted: set[ParserProcess] = set()  #: those that are being started
        self._queue: deque[object] = deque()  #: who waits for a free one, the first first
        self._complete_at = time.monotonic()

    def start(self) -> None:
        """Start the children and wait until they are ready, for 20 s at most; late ones join when they are."""
        self._fill()
        until = time.monotonic() + _STARTS_WITHIN
        for thread in self._hiring():
            thread.join(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        """End every child. Calls under way get their fallback."""
        with self._changed:
            self._stopping.set()
            alive = [*self._alive, *self._greeted]
            free = [self._free.popleft() for _ in range(len(self._free))]
            self._changed.notify_all()
        for child in alive:
            child.kill()
        for thread in self._hiring():
            thread.join(5)
        for child in free:
            self._bury(child)

    def complete_at(self) -> float:
        """When there were last as many children as there should be, in monotonic seconds. A thread that starts one
        counts as one."""
        with self._changed:
            if self._stopping.is_set() or not self._wants_one():
                self._complete_at = time.monotonic()
            return self._complete_at

    def take(self, give_up_at: float, *, hopes: bool) -> ParserProcess:
        """A free child; who came first is first.

        Args:
            hopes: Wait even while somebody reads slowly and none is free.

        Raises:
            ParserBroken: None was free in time.
        """
        me = object()
        with self._changed:
            self._queue.append(me)
            try:
                while not self._stopping.is_set():
                    left = give_up_at - time.monotonic()
                    if self._free and self._queue[0] is me:
                        child = self._free.popleft()
                        if child.is_alive():
                            self._busy.add(child)
                            return child
                        self.dismiss(child, "died", 0)
                    elif left <= 0 or (self._slow and not self._free and not hopes):
                        raise ParserBroken("no reader was free")
                    else:
                        self._changed.wait(left)
                raise ParserBroken("stopping")
            finally:
                self._queue.remove(me)
                self._changed.notify_all()

    def give_back(self, child: ParserProcess) -> None:
        """It is free again. One too many stays while any is slow: it would soon be started again."""
        with self._changed:
            for children in (self._busy, self._slow):
                children.discard(child)
            is_spare = not self._slow and self._counted() > self.size
            if not (is_spare or self._stopping.is_set()):
                self._free.append(child)
                self._changed.notify_all()
                return
        self.dismiss(child, "spare", 0)

    def count_no_more(self, child: ParserProcess) -> None:
        """It reads slowly: the next mail gets another one."""
        with self._changed:
            self._busy.discard(child)
            self._slow.add(child)
            self._changed.notify_all()
        self._fill()

    def _counted(self) -> int:
        return len(self._alive) - len(self._slow) - len(self._leaving) + len(self._starting)

    def _wants_one(self) -> bool:
        return self._counted() < self.size and len(self._alive) + len(self._starting) < MOST

    def _fill(self) -> None:
        """Start children in the background until there are as many as there should be."""
        with self._changed:
            while self._wants_one() and not self._stopping.is_set():
                thread = _begun(self._hire_one, "reader-start")
                if thread is None:
                    return
                self._starting.add(thread)  # which cannot have ended: it needs the lock we hold

    def _hire_one(self) -> None:
        child, rest = None, 0.5
        try:
            while child is None and not self._stopping.is_set():
                try:
                    child = self._started()
                except (ParserBroken, OSError, ValueError) as error:
                    if not self._stopping.is_set():  # else `stop` ended it
                        _log.error("reader.failed", why=str(error)[:200])
                    self._stopping.wait(rest)
                    rest = min(2 * rest, _LONGEST_REST)
        finally:
            with self._changed:
                self._starting.discard(threading.current_thread())
                if child is not None:
                    self._alive.add(child)
                    self._greeted.discard(child)
            if child is not None:
                self.give_back(child)

    def _started(self) -> ParserProcess:
        child = ParserProcess(self._command)
        with self._changed:
            self._greeted.add(child)
        try:
            if self._stopping.is_set():  # `stop` may have looked before we were listed
                raise ParserBroken("stopping")
            child.greet(time.monotonic() + _STARTS_WITHIN)
        except (ParserBroken, ValueError):
            child.kill()
            self._bury(child)
            raise
        _log.info("reader.started", pid=child.pid)
        return child

    def dismiss(self, child: ParserProcess, why: str, size: int) -> None:
        """Have done with a child, and have another one in its place; whoever asks does not wait for either."""
        child.kill()
        say = _log.info if why == "spare" else _log.warning
        say("reader.killed", pid=child.pid, why=why, octets=size)
        with self._changed:
            for children in (self._busy, self._slow):
                children.discard(child)
            self._leaving.add(child)
            self._changed.notify_all()
        if _begun(lambda: self._bury(child), "reader-end") is None:
            self._bury(child)
        self._fill()

    def _bury(self, dead: ParserProcess) -> None:
        dead.reap()
        with self._changed:
            for children in (self._alive, self._leaving, self._greeted):
                children.discard(dead)
        self._fill()

    def _hiring(self) -> list[threading.Thread]:
        with self._changed:
            return list(self._starting)


def _begun(work: Callable[[], None], name: str) -> threading.Thread | None:
    """A thread that does `work`; None when the host has none to give."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        _log.error("reader.failed", why=str(error))
        return None
    return thread
