"""What every lane does: claim a row, try it, and write down what came of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog

from panicmail import crashpoints
from panicmail.delivery import outcomes, page_bundles
from panicmail.delivery.page_bundles import PageBundle
from panicmail.errors import Blocked, Permanent, StoreFailed, Temporary, Unknown
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.blocked_adapters import adapter_of
from panicmail.store.outbox import LEASE
from panicmail.store.rows import DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: The wait after the first failed attempt, doubled with each further one up to the lane's longest.
FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = {
    "page": timedelta(seconds=15),
    "push": timedelta(seconds=15),
    "mail": timedelta(seconds=60),
    "gitlab": timedelta(seconds=60),
}
#: The first tries towards GitLab, some five minutes of them, are at most this far apart.
GITLAB_SOON = timedelta(seconds=8)
GITLAB_SOON_TRIES = 40


class OutboxWorker:
    """Claims rows of one lane and carries them out. One per thread.

    The transaction that ends one row claims the next: nothing is begun for that alone while there is more to do.
    `claimed` is called when it has found something to carry out: there may be more.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._store = store
        self.claimed: Callable[[], None] = lambda: None
        self._next: list[OutboxRow] | None = None  #: what the last transaction claimed; None: it did not look

    def work(self) -> bool:
        """Claim one row and carry it out; False when there is none that can be."""
        claimed = self._next or self._claim()
        for task in claimed:
            self.take(task)
        return bool(claimed)

    def _claim(self) -> list[OutboxRow]:
        if not self._store.read(lambda tx: tx.outbox.is_due(self.name)):
            return []
        claimed = self._store.write(f"{self.name}.claim", self._claim_next)
        if claimed:
            self.claimed()
        return claimed

    def _claim_next(self, tx: Transaction) -> list[OutboxRow]:
        return tx.outbox.claim(self.name, 1, LEASE[self.name])

    def take(self, task: OutboxRow) -> bool:
        """Carry out a row that is claimed for this thread; False when there was no other as it ended."""
        self._next = None
        self._try(task)
        return self._next is None or bool(self._next)

    def _end(self, name: str, work: Callable[[Transaction], object]) -> None:
        """Write down what came of a row, and claim the next one."""

        def ending(tx: Transaction) -> list[OutboxRow]:
            work(tx)
            return self._next or self._claim_next(tx)

        self._next = self._store.write(name, ending)

    def _try(self, task: OutboxRow) -> None:
        try:
            self._carry_out(task)
        except Exception as exc:  # ours or a library's: the row stays, the others go on
            self._failed(task, exc)

    def _failed(self, task: OutboxRow, why: Exception) -> None:
        """Write down that this attempt came to nothing."""
        if isinstance(why, Blocked):
            self._barred(task, why)
        elif isinstance(why, Permanent):
            self._refused(task, str(why))
        elif isinstance(why, Temporary):
            self._put_off(task, str(why), sure=not isinstance(why, Unknown), retry_after=why.retry_after)
        else:
            about = self._about(task)
            _log.error("dispatch.failed", **about, lane=self.name, do=task.do, attempt=task.attempt, exc_info=why)
            self._put_off(task, f"panicmail failed: {type(why).__name__}", sure=False)

    def _bundle(self, task: OutboxRow, settings: RuntimeSettings) -> None:
        """Carry out one of many pages to its person with the others, or let it wait for them."""
        bundle = self._store.write(f"{self.name}.claim", lambda tx: page_bundles.gather(tx, settings, task))
        if bundle is None:
            return
        try:
            if len(bundle.tasks) > 1:
                self._carry_out_together(bundle, settings)
            else:
                self._carry_out_alone(task, settings)
        except Exception:  # the next one does not wait for it
            self._store.write("outbox.put_off", lambda tx: tx.digests.let_the_next_go(bundle.digest))
            raise

    def _carry_out_together(self, bundle: PageBundle, settings: RuntimeSettings) -> None:
        """Send one message for all of a bundle, and write down for each what came of it."""
        crashpoints.point(f"{self.name}.sending")
        try:
            answer = self._send_bundle(bundle, settings)
        except Exception as exc:
            for task in bundle.tasks[1:]:
                self._failed(task, exc)
            raise
        crashpoints.point(f"{self.name}.sent")

        def settle(tx: Transaction) -> None:
            for task in bundle.tasks:
                outcomes.sent(tx, task, answer)

        self._end(f"{self.name}.settle", settle)
        incidents = [task.incident_id for task in bundle.tasks]
        _log.info("digest.sent", lane=self.name, incidents=incidents, person=bundle.digest.person, answer=answer)

    def _send_bundle(self, bundle: PageBundle, settings: RuntimeSettings) -> str:
        """Send one message about several pages; what the other side answered."""
        raise NotImplementedError

    def _carry_out_alone(self, task: OutboxRow, settings: RuntimeSettings) -> None:
        """Carry out one row by itself."""
        raise NotImplementedError

    def _carry_out(self, task: OutboxRow) -> None:
        raise NotImplementedError

    def _refused(self, task: OutboxRow, answer: str) -> None:
        raise NotImplementedError

    def _barred(self, task: OutboxRow, why: Blocked) -> None:
        """Nothing gets through there, whatever it is: the row waits until something does, and the others behind it."""
        about, answer, adapter = self._about(task), str(why), adapter_of(task)

        def work(tx: Transaction) -> None:
            if tx.adapters.park(task, answer):
                cause, facts = f"{adapter.partition('/')[0]}_barred", self._barred_facts(tx, task)
                tx.queue.tell_operators(cause, {**facts, "answer": answer}, incident_id=task.incident_id)

        self._end("outbox.put_off", work)
        _log.error("adapter.barred", **about, adapter=adapter, do=task.do, attempt=task.attempt, reason=answer)

    def _barred_facts(self, tx: Transaction, task: OutboxRow) -> dict[str, Any]:
        """What else the operators are told of it."""
        return {}

    def _put_off(self, task: OutboxRow, answer: str, *, sure: bool, retry_after: float | None = None) -> None:
        wait = timedelta(seconds=retry_after) if retry_after is not None else self._wait(task)
        _log.warning(
            "dispatch.put_off",
            **self._about(task),
            lane=self.name,
            do=task.do,
            attempt=task.attempt,
            seconds=wait.total_seconds(),
            reason=answer,
        )
        self._end("outbox.put_off", lambda tx: tx.outbox.put_off(task, tx.now + wait, answer, sure=sure))

    def _about(self, task: OutboxRow) -> dict[str, str | None]:
        """Which incident and whom a row is about, for the log."""
        ref = None
        if task.incident_id is not None:
            incident_id = task.incident_id
            with suppress(StoreFailed):  # a line without it is better than none
                incident = self._store.read(lambda tx: tx.incidents.get(incident_id))
                ref = incident.ref if incident else None
        return {"ref": ref, "person": task.person}

    def _wait(self, task: OutboxRow) -> timedelta:
        longest = LONGEST_WAIT[self.name]
        if self.name == "gitlab" and task.attempt <= GITLAB_SOON_TRIES:
            longest = GITLAB_SOON
        wait = min(FIRST_WAIT * float(2 ** min(task.attempt - 1, 16)), longest)
        return wait * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, keeps no secret

    def _settle(self, task: OutboxRow, state: DeliveryState, answer: str) -> None:
        self._end(f"{self.name}.settle", lambda tx: tx.outbox.settle(task, state, answer))
