"""The one thread that writes to SQLite in the daemon.

Jobs that wait together share one transaction, and so one fsync: each runs in its own SAVEPOINT, and its result is
handed out only after the COMMIT. What a job raises is its own; the others in the batch go on.

Mails that are accepted go first, for a sender waits for each. Those that wait share a transaction, and one SAVEPOINT
unless one of them fails; those that come while other jobs run join these after the one at work. After each transaction
of mails alone the others have a turn.

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
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa
import structlog

from panicmail import crashpoints
from panicmail.errors import StoreFailed
from panicmail.store.database import Database

_log = structlog.get_logger()

#: So many jobs share a commit at most: latency stays bounded when thousands wait.
BATCH = 200
#: Transactions that go before all others. Their work may be run twice, the first time in vain.
FIRST = frozenset({"mails.accept"})

Work = Callable[[sa.Connection], Any]


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    work: Work
    future: Future[Any] = field(default_factory=Future)


class _JobQueue:
    """The jobs that wait, for one thread that takes them."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  #: None: look again
        self._first: deque[_Job] = deque()
        self._is_others_turn = False
        self._together = 0  #: so many of the others waited when the commit began
        self._is_ended = False

    def put(self, job: _Job) -> None:
        if job.name not in FIRST:
            self._jobs.put(job)
            return
        self._first.append(job)
        if len(self._first) == 1:  # else the one before it has not been seen yet either
            self._jobs.put(None)

    def end(self) -> None:
        """What is there is the last."""
        self._is_ended = True
        self._jobs.put(None)

    def is_empty(self) -> bool:
        return not self._first and self._jobs.empty()

    def wait(self) -> list[_Job]:
        """The jobs that begin the next commit, once there are any; none at the end."""
        others_turn, self._is_others_turn = self._is_others_turn, False
        while not (self._is_ended and self.is_empty()):
            if self._first and not (others_turn and self._jobs.qsize()):
                self._is_others_turn = True
                return self._taken_first(BATCH)
            if (job := self._jobs.get()) is not None:
                self._together = self._jobs.qsize()
                return [job]
        return []

    def joins(self, jobs: list[_Job], taken: int) -> list[_Job]:
        """What shares the commit of so many, after `jobs`, if anything: who waited when it began, and mails."""
        if taken >= BATCH or jobs[-1].name in FIRST:
            return []
        if self._first:
            return self._taken_first(BATCH - taken)
        job = self._next_of_others() if self._together > 0 else None
        return [] if job is None else [job]

    def rest(self) -> list[_Job]:
        """All that is left."""
        return [*self._taken_first(len(self._first)), *iter(self._next_of_others, None)]

    def _next_of_others(self) -> _Job | None:
        """None when none waits."""
        with suppress(queue.Empty):
            while True:
                self._together -= 1
                if (job := self._jobs.get_nowait()) is not None:
                    return job
        return None

    def _taken_first(self, most: int) -> list[_Job]:
        return [self._first.popleft() for _ in range(min(most, len(self._first)))]


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
        self._jobs = _JobQueue()
        self._dead = False
        self._looked_at = time.monotonic()
        self._rests = False  #: it waits for a job
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, name: str, work: Work) -> Future[Any]:
        """Queue `work`; its future resolves after the COMMIT, or raises."""
        job = _Job(name, work)
        with self._gate:  # nothing is queued once the last one was refused
            if self._dead:
                job.future.set_exception(StoreFailed("the database failed; panicmail is stopping"))
            else:
                self._jobs.put(job)
        return job.future

    def stop(self, within: float) -> bool:
        """Finish what is queued, then end. False when that took longer than `within` seconds."""
        self._jobs.end()
        self._thread.join(within)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._dead

    def _run(self) -> None:
        while not self._dead and (jobs := self._next()):
            self._commit(jobs)
        with self._gate:
            self._dead = True
            for job in self._jobs.rest():
                job.future.set_exception(StoreFailed("panicmail is stopping"))

    def came_round_at(self) -> float:
        """When it last looked for a job or waited for one, in monotonic seconds; -inf once it has ended."""
        if not self.is_alive:
            return -math.inf
        return time.monotonic() if self._rests and self._jobs.is_empty() else self._looked_at

    def _next(self) -> list[_Job]:
        crashpoints.point("writer")
        self._rests = True
        jobs = self._jobs.wait()
        self._looked_at, self._rests = time.monotonic(), False
        return jobs

    def _commit(self, jobs: list[_Job]) -> None:
        """Run `jobs` and those that share their commit."""
        batch: list[_Job] = []
        done: list[tuple[_Job, Any]] = []
        committing = False
        try:
            with self._database.engine.connect() as connection:
                transaction = connection.begin()
                try:
                    while jobs:
                        batch += jobs
                        self._run_some(connection, jobs, done)
                        jobs = self._jobs.joins(jobs, len(batch))
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
            self._fail(batch or jobs, exc, committing=committing)
            return
        self._tell(done)

    def _tell(self, done: list[tuple[_Job, Any]]) -> None:
        try:
            self._committed([result for _, result in done])
        except Exception:  # what is on disk is on disk, and somebody waits to hear it
            _log.exception("store.committed_failed")
        for job, result in done:
            job.future.set_result(result)

    def _run_some(self, connection: sa.Connection, jobs: list[_Job], done: list[tuple[_Job, Any]]) -> None:
        # Whoever asked may have given up before it began; from here on nobody can.
        begun = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        self._looked_at = time.monotonic()
        if len(begun) > 1 and self._run_together(connection, begun, done):
            return
        for job in begun:
            self._looked_at = time.monotonic()
            self._run_one(connection, job, done)

    def _run_together(self, connection: sa.Connection, jobs: list[_Job], done: list[tuple[_Job, Any]]) -> bool:
        """Run them in one savepoint; False, and nothing happened, when one of them failed."""
        driver: Any = connection.connection.driver_connection
        driver.execute("SAVEPOINT jobs")
        try:
            results = [job.work(connection) for job in jobs]
        except Exception:
            driver.execute("ROLLBACK TO jobs")  # it fails where SQLite has undone all of the transaction
            driver.execute("RELEASE jobs")
            return False
        driver.execute("RELEASE jobs")
        done += zip(jobs, results, strict=True)
        return True

    def _run_one(self, connection: sa.Connection, job: _Job, done: list[tuple[_Job, Any]]) -> None:
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

    def _fail(self, batch: list[_Job], exc: Exception, *, committing: bool) -> None:
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


def _as_store_failure(exc: Exception) -> Exception:
    if isinstance(exc, sa.exc.DBAPIError | sqlite3.Error):
        failure = StoreFailed(str(getattr(exc, "orig", exc)))
        failure.__cause__ = exc
        return failure
    return exc


# -- What a transaction claims for threads that have nothing to do.
#
# On the straight way work is born claimed: the transaction that makes it leases it to the thread that will do it,
# which gets it in memory once that is committed, and nobody looks for it in the database. Rows and leases are what
# a restart, or another node, goes by: what was claimed and never handed over is free again when its lease ends, at
# the latest, and at once at the next start on SQLite, or when another node sees this one dead.


class IdleThread(Protocol):
    """A thread that has nothing to do, kept until one of the two is called."""

    @property
    def name(self) -> str: ...

    def hand(self, piece: object) -> None:
        """What was claimed for it is committed."""

    def release(self) -> None:
        """There is nothing for it."""


def nobody(_lane: str) -> IdleThread | None:
    """No thread is idle: all that is made is announced."""
    return None


class HandedWork:
    """What one transaction claimed, and for whom.

    Args:
        idle: Answers a thread of a lane that has nothing to do, and keeps it; None when there is none, or something
            may wait there already: then what is made takes its turn.
        node: Under which name this process claims; None where it has the database to itself.
    """

    def __init__(self, idle: Callable[[str], IdleThread | None] = nobody, node: str | None = None) -> None:
        self._idle, self._node = idle, node
        self._kept: list[IdleThread] = []
        self._given: list[tuple[IdleThread, object]] = []

    def reserve(self, lane: str) -> IdleThread | None:
        """A thread for something that is ready, kept until it is `given` that or the transaction ends."""
        thread = self._idle(lane)
        if thread is not None:
            self._kept.append(thread)
        return thread

    def owner(self, thread: IdleThread) -> str | None:
        """Whose lease it is."""
        return self._node and f"{self._node}/{thread.name}"

    def give(self, thread: IdleThread, piece: object) -> None:
        """This was claimed for it."""
        self._kept.remove(thread)
        self._given.append((thread, piece))

    def committed(self) -> None:
        """All of it is durable: hand it over."""
        for thread, piece in self._given:
            thread.hand(piece)
        self._release(self._kept)

    def undone(self) -> None:
        """Nothing of it happened, or nobody knows."""
        self._release([*self._kept, *(thread for thread, _ in self._given)])

    def _release(self, threads: list[IdleThread]) -> None:
        for thread in threads:
            thread.release()
