"""The one thread that writes to SQLite: many jobs to a commit, and what happens when the database refuses."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from panicmail.errors import StoreFailed
from panicmail.incident.model import Change
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.writer import BATCH, WriterThread
from tests.cast import opened

PATIENCE = 10.0
BUSY_SECONDS = 0.2


class Desk:
    """A database of one table of numbers, its writer, and how often the writer said the database is broken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(f"sqlite:///{path}", busy_seconds=BUSY_SECONDS)
        with self.database.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE numbers (n INTEGER PRIMARY KEY, filling BLOB)")
        self.broken: list[str] = []
        self.writer = WriterThread(self.database, lambda: self.broken.append(threading.current_thread().name))

    def put(self, n: int, octets: int = 0) -> Future[int]:
        """A job that stores `n` and answers it."""
        return self.writer.submit("test", put(n, octets))

    def stored(self) -> list[int]:
        """What another process sees."""
        with contextlib.closing(sqlite3.connect(self.path)) as other:
            return [n for (n,) in other.execute("SELECT n FROM numbers ORDER BY n")]

    @contextlib.contextmanager
    def held(self, said: list[str] | None = None) -> Iterator[None]:
        """While in here the writer is busy with a job, so what is submitted waits together. `said` gets every statement
        of its transaction from then on."""
        busy, go_on = threading.Event(), threading.Event()

        def job(connection: sa.Connection) -> None:
            if said is not None:
                driver: Any = connection.connection.driver_connection
                driver.set_trace_callback(said.append)
            busy.set()
            assert go_on.wait(PATIENCE)

        job_done = self.writer.submit("test", job)
        assert busy.wait(PATIENCE)
        try:
            yield
        finally:
            go_on.set()
            job_done.exception(PATIENCE)

    def said(self) -> list[str]:
        """Every statement SQLite executes from now on."""
        statements: list[str] = []

        @sa.event.listens_for(self.database.engine, "checkout")
        def _checkout(connection: Any, _record: Any, _proxy: Any) -> None:
            connection.set_trace_callback(statements.append)

        return statements

    def close(self) -> None:
        self.writer.stop(PATIENCE)
        self.database.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "panicmail.db")
    yield desk
    desk.close()


def put(n: int, octets: int = 0) -> Callable[[sa.Connection], int]:
    def job(connection: sa.Connection) -> int:
        connection.exec_driver_sql("INSERT INTO numbers VALUES (?, zeroblob(?))", (n, octets))
        return n

    return job


# -- many to a commit


def test_jobs_that_wait_together_share_one_commit(desk: Desk) -> None:
    with desk.held():
        said = desk.said()
        jobs = [desk.put(n) for n in range(BATCH)]
    assert [job.result(PATIENCE) for job in jobs] == list(range(BATCH))
    assert said.count("COMMIT") == 1
    assert desk.stored() == list(range(BATCH))


def test_when_more_wait_than_a_batch_holds_the_rest_has_the_next_commit(desk: Desk) -> None:
    with desk.held():
        said = desk.said()
        jobs = [desk.put(n) for n in range(2 * BATCH + 1)]
    assert [job.result(PATIENCE) for job in jobs] == list(range(2 * BATCH + 1))
    assert said.count("COMMIT") == 3


def test_a_job_that_raises_leaves_nothing_and_takes_no_other_with_it(desk: Desk) -> None:
    def half_way(connection: sa.Connection) -> None:
        put(2)(connection)
        raise RuntimeError("half way")

    with desk.held():
        before, failing, after = desk.put(1), desk.writer.submit("test", half_way), desk.put(3)
        refused = desk.put(1)
    assert (before.result(PATIENCE), after.result(PATIENCE)) == (1, 3)
    with pytest.raises(RuntimeError, match="half way"):
        failing.result(PATIENCE)
    with pytest.raises(StoreFailed, match="UNIQUE"):
        refused.result(PATIENCE)
    assert desk.stored() == [1, 3]


# -- mails go first


def keep(desk: Desk, n: int, again: int = 0) -> Future[int]:
    """A mail that is accepted, as far as the writer knows."""
    return desk.writer.submit("mails.accept", put(n, again))


def test_mails_go_before_what_waited_for_longer_and_share_one_transaction_and_one_savepoint(desk: Desk) -> None:
    order: list[int] = []
    said: list[str] = []
    with desk.held(said):
        others = [desk.put(n) for n in range(3)]
        mails = [keep(desk, n) for n in range(100, 150)]
        for job in (*others, *mails):
            job.add_done_callback(lambda done: order.append(done.result()))
    assert [job.result(PATIENCE) for job in (*others, *mails)] == [0, 1, 2, *range(100, 150)]
    assert order == [*range(100, 150), 0, 1, 2]
    with_mails = said[: said.index("COMMIT")]
    assert [text for text in with_mails if not text.startswith("INSERT")] == [
        "RELEASE job",
        "SAVEPOINT jobs",
        "RELEASE jobs",
    ]
    assert desk.stored() == [0, 1, 2, *range(100, 150)]


def test_a_mail_that_fails_takes_no_other_with_it(desk: Desk) -> None:
    with desk.held():
        mails = [keep(desk, n) for n in (1, 2, 2, 3)]
    assert [job.result(PATIENCE) for job in (mails[0], mails[1], mails[3])] == [1, 2, 3]
    refused(mails[2], "UNIQUE")
    assert desk.stored() == [1, 2, 3]


def test_the_others_have_a_turn_however_many_mails_come(desk: Desk) -> None:
    """Each mail that is stored brings the next two."""
    came, last = [0], threading.Event()

    def more(_done: Future[int]) -> None:
        for _ in range(2):
            if not last.is_set() and came[0] < 500:
                came[0] += 1
                keep(desk, 1000 + came[0]).add_done_callback(more)

    with desk.held():
        other = desk.put(1)
        more(other)
    other.result(PATIENCE)
    last.set()
    assert came[0] < 500


def test_a_mail_joins_the_transaction_that_is_at_work_after_its_job(desk: Desk) -> None:
    mails: list[Future[int]] = []

    def brings_one(_connection: sa.Connection) -> None:
        mails.append(keep(desk, 7))

    with desk.held():
        said = desk.said()
        jobs = [desk.writer.submit("test", brings_one), *(desk.put(n) for n in range(3))]
    for job in jobs:
        job.result(PATIENCE)
    assert mails[0].result(PATIENCE) == 7
    inserts = [text for text in said if text.startswith("INSERT")]
    assert "(7," in inserts[0], "before those that waited for longer"


def test_a_result_is_handed_out_only_when_others_can_see_the_row(desk: Desk) -> None:
    seen: list[list[int]] = []
    busy, go_on = threading.Event(), threading.Event()

    def slow(_connection: sa.Connection) -> None:
        busy.set()
        assert go_on.wait(PATIENCE)

    with desk.held():
        first = desk.put(1)
        first.add_done_callback(lambda _done: seen.append(desk.stored()))
        second = desk.writer.submit("test", slow)
    assert busy.wait(PATIENCE), "the first job ran, its commit is still to come"
    assert (first.done(), desk.stored()) == (False, [])
    go_on.set()
    second.result(PATIENCE)
    assert (first.result(PATIENCE), seen) == (1, [[1]])


def test_many_threads_write_through_one_writer(desk: Desk) -> None:
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: desk.put(n).result(PATIENCE), range(400)))
    assert results == desk.stored() == list(range(400))


def accepted(n: int) -> AcceptedMail:
    return AcceptedMail(
        id=f"m{n:025d}",
        accepted_at=opened().incident.accepted_at,
        mail_from=f"{n}@example.com",
        recipients=("panic@example.com",),
        peer="127.0.0.1",
        helo="h",
        tls="",
        size=1,
    )


def _accept(mail: AcceptedMail, tx: Transaction) -> None:
    tx.mails.add(mail, b"x")


@pytest.mark.parametrize("number", [2, 40])
def test_mails_that_wait_together_are_two_statements_each_in_one_transaction(tmp_path: Path, number: int) -> None:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}")
    migrate.upgrade(database)
    writer = WriterThread(database, broken=lambda: None)
    store = Store(database, writer=writer)
    said: list[str] = []
    busy, go_on = threading.Event(), threading.Event()

    def hold_up(tx: Transaction) -> None:
        driver: Any = tx.connection.connection.driver_connection
        driver.set_trace_callback(said.append)
        busy.set()
        assert go_on.wait(PATIENCE)

    jobs: list[Future[None]] = [store.submit("test", hold_up)]
    assert busy.wait(PATIENCE)
    jobs += [store.submit("mails.accept", partial(_accept, accepted(n))) for n in range(number)]
    go_on.set()
    for job in jobs:
        job.result(PATIENCE)
    with contextlib.closing(sqlite3.connect(tmp_path / "panicmail.db")) as other:
        stored = other.execute(
            "SELECT count(*) FROM mails JOIN raws ON mail_id = id WHERE state = 'accepted'"
        ).fetchone()
    assert writer.stop(PATIENCE)
    store.close()
    database.close()
    assert stored == (number,)
    assert [text.split()[0] for text in said] == [
        "RELEASE",
        "SAVEPOINT",
        *["INSERT"] * (2 * number),
        "RELEASE",
        "COMMIT",
    ]


# -- the database refuses


def refused(job: Future[int], why: str) -> None:
    with pytest.raises(StoreFailed, match=why):
        job.result(PATIENCE)


def test_a_locked_database_fails_what_waits_and_the_writer_goes_on_afterwards(desk: Desk) -> None:
    with contextlib.closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(desk.put(1), "database is locked")
        refused(desk.put(2), "database is locked")
        other.execute("ROLLBACK")
    assert desk.put(3).result(PATIENCE) == 3
    assert (desk.stored(), desk.broken, desk.writer.is_alive) == ([3], [], True)


class SmallDisk:
    """Lets the database grow to so many pages; more are a full disk. Holds from the next transaction on."""

    def __init__(self, engine: sa.Engine, pages: int) -> None:
        self.pages = pages
        sa.event.listen(engine, "checkout", self._checkout)

    def _checkout(self, connection: Any, _record: Any, _proxy: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={self.pages}")


def test_a_full_disk_fails_what_does_not_fit_and_there_is_writing_again_when_there_is_room(desk: Desk) -> None:
    disk = SmallDisk(desk.database.engine, pages=20)
    with desk.held():
        jobs = [desk.put(1), desk.put(2, octets=1_000_000), desk.put(3)]
    refused(jobs[1], "database or disk is full")
    promised = [job.result() for job in jobs if job.exception(PATIENCE) is None]
    assert desk.stored() == promised, "what got its result is there, and nothing else"
    assert (desk.broken, desk.writer.is_alive) == ([], True)
    assert desk.put(4).result(PATIENCE) == 4, "a small one still fits"
    disk.pages = 1_000_000
    assert desk.put(5, octets=1_000_000).result(PATIENCE) == 5
    assert desk.stored() == [*promised, 4, 5]


class FailingCommits:
    """Makes COMMIT fail as scripted: a text fails it so, None lets it pass."""

    def __init__(self, engine: sa.Engine, *script: str | None) -> None:
        self._script = list(script)
        sa.event.listen(engine, "commit", self._commit)

    def _commit(self, _connection: sa.Connection) -> None:
        if self._script and (text := self._script.pop(0)):
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError(text))


@pytest.mark.parametrize("why", ["database or disk is full", "database is locked"])
def test_a_commit_without_room_or_lock_fails_its_whole_batch_and_the_next_one_is_taken(desk: Desk, why: str) -> None:
    FailingCommits(desk.database.engine, None, why)
    with desk.held():
        jobs = [desk.put(n) for n in range(3)]
    for job in jobs:
        refused(job, why)
    assert (desk.stored(), desk.broken, desk.writer.is_alive) == ([], [], True)
    assert desk.put(7).result(PATIENCE) == 7
    assert desk.stored() == [7]


def test_a_commit_that_fails_otherwise_fails_all_and_ends_the_daemon_once(desk: Desk) -> None:
    FailingCommits(desk.database.engine, None, None, "disk I/O error", "disk I/O error")
    assert desk.put(1).result(PATIENCE) == 1
    with desk.held():
        jobs = [desk.put(n) for n in range(2, BATCH + 5)]
    refused(jobs[0], "disk I/O error")
    refused(jobs[BATCH - 1], "disk I/O error")
    for job in jobs[BATCH:]:
        refused(job, "stopping")
    refused(desk.put(1000), "stopping")
    assert (desk.stored(), desk.broken, desk.writer.is_alive) == ([1], ["writer"], False)


def test_a_disk_that_takes_no_more_octets_in_the_middle_of_a_commit_ends_the_daemon_and_loses_no_promise(
    desk: Desk,
) -> None:
    assert desk.put(1).result(PATIENCE) == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        refused(desk.put(2, octets=500_000), "disk I/O error")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (desk.stored(), desk.broken) == ([1], ["writer"])


# -- the end


def test_stop_finishes_what_is_queued(desk: Desk) -> None:
    with desk.held():
        jobs = [desk.put(n) for n in range(BATCH + 20)]
    assert desk.writer.stop(PATIENCE)
    assert [job.result(0) for job in jobs] == desk.stored() == list(range(BATCH + 20))
    refused(desk.put(999), "stopping")
    assert (desk.broken, desk.writer.is_alive) == ([], False)


def test_stop_says_when_it_took_too_long(desk: Desk) -> None:
    with desk.held():
        assert not desk.writer.stop(0.05)
    assert desk.writer.stop(PATIENCE)


def test_a_caller_who_gives_up_does_not_end_the_writer(desk: Desk) -> None:
    with desk.held():
        given_up, other = desk.put(1), desk.put(2)
        given_up.cancel()
    assert other.result(1) == 2
    assert desk.put(3).result(1) == 3


# -- the settings are really on


def test_every_connection_is_durable_and_holds_foreign_keys(desk: Desk) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    connections = [desk.database.engine.raw_connection() for _ in range(3)]
    for connection in connections:
        cursor = connection.cursor()
        settings = [cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
        assert settings == ["wal", 2, 1, 1000 * BUSY_SECONDS]
    for connection in connections:
        connection.close()


def test_a_write_begins_with_the_lock_and_a_read_without(desk: Desk) -> None:
    said = desk.said()
    with desk.database.writing() as connection:
        connection.exec_driver_sql("SELECT 1")
    with desk.database.reading() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert [text for text in said if text.startswith("BEGIN")] == ["BEGIN IMMEDIATE", "BEGIN"]


@pytest.mark.parametrize("with_writer", [True, False], ids=["daemon", "command"])
def test_increments_of_racing_threads_are_never_lost(tmp_path: Path, with_writer: bool) -> None:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}")
    migrate.upgrade(database)
    writer = WriterThread(database, broken=lambda: None) if with_writer else None
    store = Store(database, writer=writer)
    change = opened()
    incident = change.incident
    mail = AcceptedMail(
        id=incident.mail_id,
        accepted_at=incident.accepted_at,
        mail_from="",
        recipients=(),
        peer="",
        helo="",
        tls="",
        size=0,
    )

    def begin(tx: Transaction) -> None:
        tx.mails.add(mail, b"")
        tx.incidents.add(change)

    def increments(_n: int) -> None:
        for _ in range(50):
            store.change("test", incident.id, lambda i, _now: Change(incident=replace(i, round=i.round + 1)))

    store.write("test", begin)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increments, range(4)))
    after = store.read(lambda tx: tx.incidents.get(incident.id))
    if writer:
        assert writer.stop(PATIENCE)
    store.close()
    database.close()
    assert after is not None
    assert (after.round - incident.round, after.version - incident.version) == (200, 200)
