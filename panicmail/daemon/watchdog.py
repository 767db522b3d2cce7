"""The watchdog: a part of panicmail that stopped ends the whole of it, loudly, for a restart.

A thread that died or hangs cannot be mended from inside, and a daemon that lives on with half of its parts would look
healthy while nobody is paged. Everything is on disk, so the restart costs seconds.

A process that was stopped as a whole (SIGSTOP, a suspended machine) is no such case: when the watchdog itself was held
up, every part gets its full time again.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from panicmail.daemon.worker_threads import WorkerThread
from panicmail.errors import StoreFailed
from panicmail.escalation.reconciler import Gap, GapKind
from panicmail.server.http.metrics import HealthFigures
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A part that should come round at once may be silent for so long, in seconds.
WITHIN = 15.0
#: A part that has ended may be ending the daemon in good order; that takes less.
_ENDED_WITHIN = 2.0
_LOOK_EVERY = 1.0
#: The watchdog comes round every second; a longer gap means that the process was stopped.
_STOPPED = 4.0
#: The last words may hang with whatever else hangs; then the end comes without them.
_LAST_WORDS_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class WatchedPart:
    """Something that has to come round again and again."""

    name: str
    came_round_at: Callable[[], float]  #: monotonic, of the last time; -inf when it is dead
    within: float = WITHIN  #: seconds


class Watchdog(threading.Thread):
    """Looks at every part once a second.

    Args:
        bite: Called once with what stopped, from this thread. Must end the process.
    """

    def __init__(self, parts: Sequence[WatchedPart], bite: Callable[[str], None] | None = None) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._parts = tuple(parts)
        self._bite = bite or end_the_process
        self._stopped = threading.Event()
        self._looked_at = self._fair_since = time.monotonic()
        self._ended: dict[str, float] = {}  #: since when a part is known to be dead

    def run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY):
            silent = self.silent(time.monotonic())
            if silent and not self._stopped.is_set():
                self._bite(", ".join(silent))
                return

    def silent(self, now: float) -> list[str]:
        """What has not come round in time, each with its silence in seconds."""
        if now - self._looked_at > _STOPPED:
            self._fair_since = now
        self._looked_at = now
        return [said for part in self._parts if (said := self._said_of(part, now))]

    def _said_of(self, part: WatchedPart, now: float) -> str:
        """What is wrong with a part, in words; "" when nothing is."""
        heard = _ask_when_it_came_round(part)
        if heard == -math.inf:
            ended_at = self._ended.setdefault(part.name, now)
            return f"{part.name} (ended)" if now - ended_at >= _ENDED_WITHIN else ""
        self._ended.pop(part.name, None)
        return f"{part.name} ({now - heard:.0f} s)" if now - max(heard, self._fair_since) > part.within else ""

    def stop(self) -> None:
        self._stopped.set()


def _ask_when_it_came_round(part: WatchedPart) -> float:
    try:
        return part.came_round_at()
    except Exception:  # a part that cannot be asked; and the watchdog must not die of it
        _log.exception("watchdog.cannot_ask", part=part.name)
        return -math.inf


def end_the_process(what: str) -> None:
    """Say what stopped and where every thread stands, and end with exit status 1."""
    try:
        speaker = threading.Thread(target=_speak, args=(what,), name="last words", daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS_WITHIN)
    finally:
        os._exit(1)


def _speak(what: str) -> None:
    _log.critical("watchdog.bit", stopped=what, stacks=stacks(), text="panicmail ends; start it again")
    sys.stderr.flush()


def stacks() -> Mapping[str, list[str]]:
    """Where the threads of each name stand: their innermost calls, innermost first. Places in code, never values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for ident, frame in sys._current_frames().items():
        # Not traceback's summaries: they look at source files, on a disk that may be what hangs.
        places = [f"{at.f_code.co_filename.rpartition('/')[2]}:{line}" for at, line in traceback.walk_stack(frame)]
        found[names.get(ident, str(ident))].append(" < ".join(places[:4]))
    return dict(found)


# -- Vital signs: does the process live, can it accept a panic, what are its figures.

#: Figures count so far and no farther, so that asking for them costs the same however much waits.
COUNTED_TO = 1000
#: A tick that reached the database is due every second; without one for so many seconds the process does not live.
TICK_WITHIN = 15.0


class Health:
    """Answers for /healthz, /readyz and /metrics.

    Args:
        accepting: Whether the listeners are bound and open.
        can_write: Whether the store's writer still works.
        in_spool: How many mails wait in the emergency spool.
        gaps: What the accounting found missing.
    """

    def __init__(
        self,
        store: Store,
        accepting: Callable[[], bool],
        can_write: Callable[[], bool],
        in_spool: Callable[[], int] = lambda: 0,
        gaps: Callable[[], Sequence[Gap]] = tuple,
    ) -> None:
        self._store = store
        self._accepting = accepting
        self._can_write = can_write
        self._in_spool = in_spool
        self._gaps = gaps
        self._came_round_at = self._ticked_at = time.monotonic()
        self._workers: Sequence[WorkerThread] = ()
        self._refused = ""
        self.accepted = 0  #: mails answered 250 since the start

    def watch(self, workers: Sequence[WorkerThread]) -> None:
        self._workers = workers

    def came_round(self) -> None:
        """The tick came on, whatever the database said."""
        self._came_round_at = time.monotonic()

    def ticked(self) -> None:
        """A tick went through to the database and back."""
        self._ticked_at = time.monotonic()

    def stored(self) -> None:
        """A mail was made durable."""
        self.accepted += 1
        self._refused = ""

    def spooled(self) -> None:
        """A mail was made durable without the database."""
        self.accepted += 1
        self._refused = ""

    def not_stored(self, reason: str) -> None:
        """A mail could not be made durable: not ready until one can. A full disk shows only in a real write."""
        self._refused = reason

    def is_alive(self) -> bool:
        """Whether the tick ticks. A database that is away is no reason to end the process: mails are still taken."""
        return time.monotonic() - self._came_round_at < TICK_WITHIN

    def unready(self) -> tuple[str, ...]:
        """Why a panic could not be accepted or paged now; () when it can."""
        reasons = []
        if not self._accepting():
            reasons.append("the SMTP listener is closed")
        if not self._can_write():
            reasons.append("the database writer has stopped")
        if time.monotonic() - self._ticked_at >= TICK_WITHIN:
            reasons.append(f"no tick reached the database for {TICK_WITHIN:.0f} s")
        if dead := [worker.name for worker in self._workers if not worker.is_alive()]:
            reasons.append(f"threads ended: {', '.join(dead)}")
        if self._refused:
            reasons.append(f"the last mail could not be stored: {self._refused}")
        if waiting := self._in_spool():
            reasons.append(f"mails wait in the spool for the database: {waiting}")
        if grave := [f"{gap.about}: {gap.missing}" for gap in self._gaps() if gap.is_grave]:
            reasons.append(f"gaps: {len(grave)}, such as {grave[0]}")
        try:
            self._store.now()
        except StoreFailed as exc:
            reasons.append(f"the database does not answer: {exc}")
        return tuple(reasons)

    def figures(self) -> HealthFigures:
        """The numbers of this moment.

        Raises:
            StoreFailed: The database does not answer.
        """
        return self._store.read(self._count)

    def _count(self, tx: Transaction) -> HealthFigures:
        waiting = tx.figures.waiting(COUNTED_TO)
        oldest_at = tx.figures.open_since()
        return HealthFigures(
            incidents=waiting["incidents"],
            mails=waiting["mails"],
            outbox=waiting["outbox"],
            open_seconds_max=max(0.0, (tx.now - oldest_at).total_seconds()) if oldest_at else 0.0,
            breached_open=tx.figures.late_open(COUNTED_TO),
            mails_accepted=self.accepted,
            gaps={kind.value: sum(gap.kind is kind for gap in self._gaps()) for kind in GapKind},
            barred={"gitlab": 0, "relay": 0, **dict.fromkeys(tx.adapters.barred(), 1)},
        )
