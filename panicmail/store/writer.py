"""The one thread that writes to SQLite in the daemon.

Jobs that wait together share one transaction, and so one fsync: each runs in its own SAVEPOINT, and its result is
handed out only after the COMMIT. What a job raises is its own; the others in the batch go on.

A failed COMMIT fails every job of the batch, and nothing of it happened. When the disk is merely full or the file
locked SQLite has rolled back cleanly and the daemon goes on refusing (451) until there is room. Any other failed
COMMIT (an I/O error, an fsync that failed) means that what is on disk is not known: `broken` is called, the daemon
ends, and the next start reads what is really there. An fsync is never tried again.
"""

from __future__ import annotations

import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import structlog

from panicmail import crashpoints
from panicmail.errors import StoreFailed
from panicmail.store.database import Database

_log = structlog.get_logger()

#: So many jobs share a commit at most: latency stays bounded when thousands wait.
BATCH = 200

Work = Callable[[sa.Connection], Any]


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    work: Work
    future: Future[Any]


class WriterThread:
    """Runs write jobs in order, many to a commit.

    Args:
        broken: Called once, from the writer thread, when the database can no longer be trusted. Must not block.
        committed: Called after each COMMIT with the results of the batch, before anybody hears one.
    """

    def __init__(
        self,
        database: Database,
        broken: Callable[[], None],
        committed: Callable[[Sequence[Any]], None] = lambda results: None,
    ) -> None:
        self._database = database
        self._broken = broken
        self._committed = committed
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._dead = False
        self._looked_at = time.monotonic()
        self._rests = False  #: it waits for a job
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, name: str, work: Work) -> Future[Any]:
        """Queue `work`; its future resolves after the COMMIT, or raises."""
        future: Future[Any] = Future()
        with self._gate:  # nothing is queued once the last one was refused
            if self._dead:
                future.set_exception(StoreFailed("the database failed; panicmail is stopping"))
            else:
                self._jobs.put(_Job(name, work, future))
        return future

    def stop(self, within: float) -> bool:
        """Finish what is queued, then end. False when that took longer than `within` seconds."""
        self._jobs.put(None)
        self._thread.join(within)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._dead

    def _run(self) -> None:
        while (first := self._next()) is not None:
            batch, last = self._take(first)
            self._commit(batch)
            if last or self._dead:
                break
        with self._gate:
            self._dead = True
            self._refuse_rest()

    def came_round_at(self) -> float:
        """When it last looked for a job or waited for one, in monotonic seconds; -inf once it has ended."""
        if not self.is_alive:
            return -math.inf
        return time.monotonic() if self._rests and self._jobs.empty() else self._looked_at

    def _next(self) -> _Job | None:
        """The next job; None at the end."""
        crashpoints.point("writer")
        self._rests = True
        job = self._jobs.get()
        self._looked_at, self._rests = time.monotonic(), False
        return job

    def _take(self, first: _Job) -> tuple[list[_Job], bool]:
        """The jobs waiting now, and whether the end was among them."""
        batch = [first]
        while len(batch) < BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _commit(self, batch: list[_Job]) -> None:
        done: list[tuple[_Job, Any]] = []
        committing = False
        try:
            with self._database.engine.connect() as connection:
                transaction = connection.begin()
                try:
                    for job in batch:
                        self._looked_at = time.monotonic()
                        self._run_one(connection, job, done)
                    committing = True
                    for job, _ in done:
                        crashpoints.point(f"{job.name}.commit")
                    transaction.commit()
                    for job, _ in done:
                        crashpoints.point(f"{job.name}.committed")
                except BaseException:
                    transaction.close()
                    raise
        except Exception as exc:  # whatever it was, nobody in the batch may believe it was stored
            self._fail(done, batch, exc, committing=committing)
            return
        try:
            self._committed([result for _, result in done])
        except Exception:  # what is on disk is on disk, and somebody waits to hear it
            _log.exception("store.committed_failed")
        for job, result in done:
            job.future.set_result(result)

    def _run_one(self, connection: sa.Connection, job: _Job, done: list[tuple[_Job, Any]]) -> None:
        if not job.future.set_running_or_notify_cancel():
            return  # whoever asked gave up before it began; from here on nobody can
        # By the driver: SQLAlchemy's own savepoints cost as much as a mail that is accepted in one.
        driver: Any = connection.connection.driver_connection
        driver.execute("SAVEPOINT job")
        try:
            result = job.work(connection)
        except Exception as exc:  # the job's own failure goes to the job's owner; the batch goes on
            try:
                driver.execute("ROLLBACK TO job")
                driver.execute("RELEASE job")
            except sqlite3.Error:
                # A full disk or an I/O error: SQLite has undone the whole transaction by itself, and with it the batch.
                raise exc from None
            job.future.set_exception(_as_store_failure(exc))
            return
        driver.execute("RELEASE job")
        done.append((job, result))

    def _fail(self, done: list[tuple[_Job, Any]], batch: list[_Job], exc: Exception, *, committing: bool) -> None:
        failure = _as_store_failure(exc)
        text = str(getattr(exc, "orig", exc))
        trusted = not committing or "full" in text or "locked" in text
        _log.error("store.write_failed", jobs=len(batch), committing=committing, reason=text, going_on=trusted)
        for job in batch:
            if not job.future.done():
                job.future.set_exception(failure)
        if not trusted:
            self._dead = True
            self._broken()

    def _refuse_rest(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job.future.set_exception(StoreFailed("panicmail is stopping"))


def _as_store_failure(exc: Exception) -> Exception:
    if isinstance(exc, sa.exc.DBAPIError | sqlite3.Error):
        failure = StoreFailed(str(getattr(exc, "orig", exc)))
        failure.__cause__ = exc
        return failure
    return exc
