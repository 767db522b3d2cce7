"""Transactions over one database, from any thread: the only way to change what panicmail knows.

On PostgreSQL a work is run again when another transaction was in the way (a changed incident, a deadlock, a key just
written, a lock that took too long): PostgreSQL has then undone all of it. It is never run again after a lost
connection, because whether the COMMIT came through is not known. The caller gets `StoreFailed`, and nothing is lost or
done twice, whichever it was:

    a mail is accepted    not answered 250; it comes again, from its sender or the spool, and joins the first one
    a row is claimed      under this thread's name, which takes it up again when it next asks for work
    an effect is settled  the row is still claimed, and carried out again: one more copy, under the same name
    time, acts            read again what is there, and find it done
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from panicmail import crashpoints
from panicmail.errors import StoreFailed
from panicmail.incident.model import Change, Incident
from panicmail.store.database import Database
from panicmail.store.queries import Conflict, TransactionContext
from panicmail.store.transaction import Transaction
from panicmail.store.writer import HandedWork, IdleThread, WriterThread, nobody

_log = structlog.get_logger()
T = TypeVar("T")

#: So often a work is run when another node was faster, and for so many seconds: somebody waits for it.
TRIES, TRIES_SECONDS = 8, 5.0

#: So many incidents are changed together.
TOGETHER = 50

#: A context for one call to the database, "read" or "write".
Asking = Callable[[str], AbstractContextManager[None]]


class Store:
    """Transactions over one database.

    Args:
        writer: The writer thread of the daemon on SQLite. None: each write is a transaction of its own, as commands
            and PostgreSQL want it.
        operators: Answers who hears that panicmail needs help.
        channels: Answers the ids of a person's push channels.
        woken: Called after a commit with the lanes that got work.
        node: Answers which node claims; None where one daemon has the database to itself.
        committed: As of `WriterThread`, where there is none.
        idle: As of `HandedWork`.
    """

    def __init__(
        self,
        database: Database,
        *,
        writer: WriterThread | None = None,
        operators: Callable[[], Sequence[str]] = tuple,
        channels: Callable[[str], Sequence[str]] = lambda person: (),
        woken: Callable[[set[str]], None] = lambda lanes: None,
        node: Callable[[], str | None] = lambda: None,
        committed: Callable[[Sequence[Any]], None] = lambda results: None,
        idle: Callable[[str], IdleThread | None] = nobody,
    ) -> None:
        self._database = database
        self._writer = writer
        self._idle = idle
        self._operators = operators
        self._channels = channels
        self._woken = woken
        self._node = node
        self._told = committed
        self._asking: Asking = lambda _what: nullcontext()
        self._pool = None if writer else ThreadPoolExecutor(8, thread_name_prefix="store")

    def watched_by(self, asking: Asking) -> Store:
        """This store, which puts each `write` and `read` into a context of `asking`: who calls is told how it went."""
        watched = copy.copy(self)
        watched._asking = asking
        return watched

    def write(self, name: str, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction. What it wrote is durable when this returns.

        Args:
            name: What the transaction is called: see `crashpoints.TRANSACTIONS`.

        Raises:
            StoreFailed: The database did not take it; nothing of it happened.
        """
        with self._asking("write"):
            if self._writer is not None:
                return self.submit(name, work).result()
            return self._write_here(name, work)

    def submit(self, name: str, work: Callable[[Transaction], T]) -> Future[T]:
        """As `write`, without waiting: the future resolves after the commit."""
        if self._writer is None:
            assert self._pool is not None  # noqa: S101 - one of the two is always there
            return self._pool.submit(self._write_here, name, work)
        after: list[Transaction] = []

        def run(connection: sa.Connection) -> T:
            self._ended(after, is_committed=False)  # the writer undid it, for another's fault
            after.clear()
            after.append(self._tx(connection))
            return _worked(after[-1], work)

        future: Future[T] = self._writer.submit(name, run)
        future.add_done_callback(lambda done: self._ended(after, is_committed=done.exception() is None))
        return future

    def _write_here(self, name: str, work: Callable[[Transaction], T]) -> T:
        give_up_at = time.monotonic() + TRIES_SECONDS
        for left in reversed(range(TRIES)):
            after: list[Transaction] = []
            try:
                with self._database.writing() as connection:
                    after.append(self._tx(connection))
                    result = _worked(after[-1], work)
                    crashpoints.point(f"{name}.commit")
                crashpoints.point(f"{name}.committed")
            except BaseException as exc:
                self._ended(after, is_committed=False)
                if not isinstance(exc, Conflict | StoreFailed):
                    raise
                if not left or time.monotonic() > give_up_at or not _is_worth_another_try(exc):
                    raise exc if isinstance(exc, StoreFailed) else StoreFailed(f"{exc} changes too fast") from exc
                continue
            self._told([result])
            self._ended(after, is_committed=True)
            return result
        raise AssertionError("unreachable")

    def _ended(self, transactions: list[Transaction], *, is_committed: bool) -> None:
        for context in (tx.context for tx in transactions):
            if not is_committed:
                context.handed.undone()
                continue
            context.handed.committed()
            for event, facts in context.logged:
                _log.info(event, **facts)
            for event, facts in context.alarmed:
                _log.warning(event, **facts)
            if context.woken:
                self._woken(context.woken)

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which only reads, on one consistent picture."""
        with self._asking("read"), self._database.reading() as connection:
            return work(self._tx(connection, known={}))

    def _tx(self, connection: sa.Connection, known: dict[Any, Any] | None = None) -> Transaction:
        return Transaction(
            TransactionContext(
                connection=connection,
                now=self._database.now(connection),
                is_sqlite=self._database.is_sqlite,
                operators=self._operators(),
                channels=self._channels,
                owner=self._owner(),
                handed=HandedWork(self._idle, self._node()),
                known=known,
            )
        )

    def _owner(self) -> str | None:
        """The node and thread a claim is for: each thread does one thing at a time."""
        node = self._node()
        return node and f"{node}/{threading.current_thread().name}"

    def now(self) -> datetime:
        return self.read(lambda tx: tx.now)

    def change(self, name: str, incident_id: str, decide: Callable[[Incident, datetime], Change]) -> Change | None:
        """Read an incident, decide, store the change: one transaction. None when there is no such incident."""
        return self.write(name, _changing(incident_id, decide))

    def change_many(
        self, name: str, incident_ids: Sequence[str], decide: Callable[[Incident, datetime], Change]
    ) -> Iterator[Future[Change | None]]:
        """As `change` for each of them, some at a time: those share a commit, or run side by side.

        Yields:
            What came of each, in their order; done, and perhaps with an exception.
        """
        shares = self._writer is not None or not self._database.is_sqlite
        for at in range(0, len(incident_ids), TOGETHER if shares else 1):
            some = incident_ids[at : at + (TOGETHER if shares else 1)]
            started = [self.submit(name, _changing(each, decide)) for each in some]
            with suppress(Exception), self._asking("write"):  # each tells its own; who watches hears of the first
                for each in started:
                    each.result()
            yield from started

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def _worked(tx: Transaction, work: Callable[[Transaction], T]) -> T:
    """Do `work`, and claim what it made ready for those who have nothing to do."""
    result = work(tx)
    tx.hand_over()
    return result


def _changing(
    incident_id: str, decide: Callable[[Incident, datetime], Change]
) -> Callable[[Transaction], Change | None]:
    def work(tx: Transaction) -> Change | None:
        incident = tx.incidents.get(incident_id)
        if incident is None:
            return None
        change = decide(incident, tx.now)
        tx.incidents.apply(incident, change)
        return change

    return work


#: PostgreSQL's codes for a transaction that another one got in the way of: deadlock, serialization, lock time-out,
#: a key somebody else has just written.
_IN_THE_WAY = frozenset({"40P01", "40001", "55P03", "23505"})


def _is_worth_another_try(exc: Exception) -> bool:
    if isinstance(exc, Conflict):
        return True
    return getattr(getattr(exc.__cause__, "orig", None), "sqlstate", None) in _IN_THE_WAY
