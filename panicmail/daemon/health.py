"""Vital signs: does the process live, can it accept a panic, what are its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from panicmail.daemon.worker_threads import WorkerThread
from panicmail.errors import StoreFailed
from panicmail.escalation.reconciler import Gap, GapKind
from panicmail.server.http.metrics import HealthFigures
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

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
