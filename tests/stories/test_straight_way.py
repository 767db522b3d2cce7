"""The straight way of a panic: claimed as it is made, handed over in memory, written down in few transactions."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from jinja2 import Environment

from panicmail.daemon.worker_threads import WorkerThread, WorkSignal
from panicmail.errors import Blocked, StoreFailed
from panicmail.incident import ids
from panicmail.incident.classify import Report
from panicmail.mail.compose import catalogue
from panicmail.store.mails import LARGE, LEASE
from panicmail.store.rows import AcceptedMail, ClaimedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.writer import WriterThread
from tests.cast import T0
from tests.office import PANIC, FakeRelay, InProcess, Office, mail

T = TypeVar("T")
PATIENCE = 30.0
#: What begins and ends transactions, and is not counted as a statement.
FRAME = re.compile(r"BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE")
#: How many threads each lane has here, as in the daemon.
THREADS = {"mails": 8, "page": 2, "push": 2, "mail": 1, "gitlab": 4}


class CountedStore(Store):
    """Remembers what it was asked to do."""

    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self.written: list[str] = []
        self.reads = 0

    def submit(self, name: str, work: Callable[[Transaction], T]) -> Future[T]:
        self.written.append(name)
        return super().submit(name, work)

    def read(self, work: Callable[[Transaction], T]) -> T:
        self.reads += 1
        return super().read(work)


class Shift:
    """An office whose lanes have threads that sleep, and a writer."""

    def __init__(self, folder: Path) -> None:
        self.desk, self.path = Office(folder), folder / "panicmail.db"
        self.bell = WorkSignal()
        self.writer = WriterThread(self.desk.database, lambda: None)
        settings = self.desk.settings
        self.store = CountedStore(
            self.desk.database, writer=self.writer, woken=self.bell.ring, idle=self.bell.reserve,
            operators=lambda: settings.operators, channels=settings.channels,
        )  # fmt: skip
        self.desk.work_with(self.store)
        self.workers: list[WorkerThread] = []
        self.statements: list[str] = []
        self.asked: list[tuple[int, str]] = []  #: by which connection
        self.read_in: list[list[str]] = []
        sa.event.listen(self.desk.database.engine, "checkout", self._trace)

    def _trace(self, connection: Any, *_: Any) -> None:
        connection.set_trace_callback(partial(self._note, id(connection)))

    def _note(self, connection: int, statement: str) -> None:
        self.statements.append(statement)
        self.asked.append((connection, statement))

    def pictures(self) -> list[list[str]]:
        """What each transaction that only read has asked."""
        begun: dict[int, list[str]] = {}
        for connection, statement in self.asked:
            if FRAME.match(statement):
                begun[connection] = []
                if statement == "BEGIN":
                    self.read_in.append(begun[connection])
            elif connection in begun:
                begun[connection].append(statement)
        return self.read_in

    def begin(self) -> None:
        self.intake = self.desk.intake
        self.intake.claimed = lambda: self.bell.ring(["mails"])
        lanes = {lane.name: lane for lane in self.desk.lanes}
        for name, count in THREADS.items():
            does: Any = self.intake if name == "mails" else lanes[name]
            for number in range(count if name == "mails" else 1):  # one worker is for one thread
                self.workers.append(WorkerThread(f"{name}-{number}", name, self.bell, does.work, take=does.take))
        for worker in self.workers:
            worker.start()
        self.rest()

    def rest(self) -> None:
        """Until everybody has looked, found nothing, and sleeps."""
        wanted = Counter(worker.name.partition("-")[0] for worker in self.workers)
        until(lambda: all(self._rests(lane, count) for lane, count in wanted.items()))

    def _rests(self, name: str, count: int) -> bool:
        lane = self.bell._lanes[name]
        with lane.lock:
            return len(lane.free()) == count and lane.looked == lane.count

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as looking:  # beside what is counted
            return looking.execute(query).fetchall()

    def over(self) -> int:
        """How many rows of the outbox are carried out."""
        return int(self.rows("SELECT count(*) FROM outbox WHERE state = 'accepted'")[0][0])

    def accept(self, raw: bytes, mail_from: str = "rita@example.com") -> str:
        return self.desk.accept(raw, mail_from)

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join(PATIENCE)
            assert not worker.is_alive()
        assert self.writer.stop(PATIENCE)
        self.desk.close()


def until(holds: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.005)


@pytest.fixture
def shift(tmp_path: Path) -> Iterator[Shift]:
    with closing(Shift(tmp_path)) as shift:
        yield shift


def test_a_panic_at_rest_is_carried_through_in_few_transactions_and_statements(shift: Shift) -> None:
    """A count, so that no busy machine can fail it: what is looked up twice, or claimed apart, shows here."""
    shift.begin()
    shift.accept(mail("warm", subject="The first one"))
    until(lambda: shift.over() == 5)
    shift.rest()
    shift.store.written.clear()
    shift.store.reads = 0
    shift.statements.clear()
    shift.accept(mail("My files are .locked", sender="bo.jones@example.com"), "bo.jones@example.com")
    until(lambda: shift.over() == 10)
    shift.rest()
    asked = [each for each in shift.statements if not FRAME.match(each)]
    assert sorted(shift.store.written) == [
        "gitlab.settle", "gitlab.settle", "gitlab.settle", "mail.settle", "mails.accept", "mails.understand",
        "page.settle",
    ]  # fmt: skip
    twice = [list(set(of)) for of in shift.pictures() if len(set(of)) < len(of)]
    assert twice == [], "what a message says is looked up once"
    assert (shift.store.reads <= 10, len(asked) <= 100) == (True, True), (shift.store.reads, len(asked), asked)


def test_what_is_handed_over_was_leased_and_its_attempt_counted_before(shift: Shift) -> None:
    held = threading.Event()

    class HeldRelay(FakeRelay):
        def send(self, message: bytes, mail_from: str, recipient: str) -> str:
            assert held.wait(PATIENCE)
            return super().send(message, mail_from, recipient)

    shift.desk.relay = HeldRelay()
    shift.desk.work_with(shift.store)
    shift.begin()
    mail_id = shift.accept(mail("x"))
    until(lambda: shift.rows("SELECT count(*) FROM outbox WHERE do = 'issue' AND state = 'accepted'") == [(1,)])
    page = "SELECT state, attempt, lease_until > queued_at FROM outbox WHERE do = 'page'"
    assert shift.rows(page) == [("trying", 1, 1)]
    assert shift.rows(f"SELECT attempts FROM mails WHERE id = '{mail_id}'") == [(1,)]
    held.set()
    until(lambda: len(shift.desk.pages("ana")) == 1)


def test_who_has_nothing_to_do_is_handed_one_piece_and_all_else_waits_its_turn(shift: Shift) -> None:
    shift.begin()
    going, reading = threading.Event(), threading.Semaphore(0)

    class Slow(InProcess):
        def read(self, raw: bytes, mail_from: str) -> Report:
            reading.release()
            assert going.wait(PATIENCE)
            return super().read(raw, mail_from)

    shift.intake._readers = Slow()
    for number in range(THREADS["mails"] + 3):
        shift.accept(mail(f"flood {number}", sender="eve@evil.example"), "eve@evil.example")
    shift.accept(mail("Ransom note"))
    for _ in range(THREADS["mails"]):
        assert reading.acquire(timeout=PATIENCE)
    waiting = "SELECT mail_from, attempts FROM mails WHERE lease_until IS NULL ORDER BY turn"
    assert shift.rows(waiting) == [("rita@example.com", 0), *[("eve@evil.example", 0)] * 3]
    going.set()
    until(lambda: len(shift.desk.incidents()) == THREADS["mails"] + 4)


def test_a_thread_is_kept_for_nothing_that_was_not_committed(shift: Shift) -> None:
    shift.begin()

    def fails(tx: Transaction) -> None:
        tx.mails.add(accepted("lost"), b"Subject: x\r\n\r\nx")
        raise StoreFailed("the disk is full")

    for _ in range(2 * THREADS["mails"]):
        with pytest.raises(StoreFailed):
            shift.store.write("mails.accept", fails)
    shift.rest()
    shift.accept(mail("x"))
    until(lambda: len(shift.desk.pages("ana")) == 1)
    assert "mails.claim" not in shift.store.written


def test_a_large_mail_is_handed_to_nobody_in_memory(shift: Shift) -> None:
    shift.begin()
    shift.accept(mail("x" * 70 + "\n" + "y" * LARGE))
    until(lambda: len(shift.desk.pages("ana")) == 1)
    assert shift.store.written.count("mails.claim") == 1


def test_a_mail_that_is_handed_over_while_a_suspect_is_in_hand_is_left_alone(tmp_path: Path) -> None:
    with closing(Office(tmp_path)) as desk:
        suspect = desk.accept(mail("suspect"))
        desk.store.write("mails.claim", lambda tx: tx.mails.claim(1, LEASE))
        desk.now += 2 * LEASE
        beside: list[object] = []

        class Beside(InProcess):
            def read(self, raw: bytes, mail_from: str) -> Report:
                if not beside:
                    desk.accept(mail("newer"))
                    (newer,) = desk.store.write("mails.claim", lambda tx: tx.mails.claim(1, LEASE))
                    beside.extend([newer.id, desk.intake.take(ClaimedMail(newer, raw))])
                return super().read(raw, mail_from)

        desk.intake._readers = Beside()
        assert desk.intake.work()
        assert beside[1] is None
        assert desk.store.read(lambda tx: tx.mails.is_waiting(str(beside[0])))
        assert not desk.store.read(lambda tx: tx.mails.is_waiting(suspect))
        assert desk.intake.work(), "and at once when it is done"


def test_nothing_is_handed_to_a_lane_in_which_something_may_wait() -> None:
    bell, taken = WorkSignal(), list[str]()
    looked: list[bool | None] = [False]

    def take(piece: str) -> bool:
        taken.append(piece)
        return False

    worker = WorkerThread("page-0", "page", bell, lambda: looked[0], take=take)
    worker.start()
    until(lambda: bell._lanes["page"].looked == 0)
    bell._lanes["page"].count += 1  # it was rung, and nobody has looked yet
    assert bell.reserve("page") is None
    looked[0] = None  # there is something that must not be begun now
    bell.ring(["page"])
    until(lambda: len(bell._lanes["page"].asleep) == 1 and bell.count("page") == 2)
    assert bell.reserve("page") is None
    looked[0] = False
    bell.ring(["page"])
    until(lambda: bell._lanes["page"].looked == 3)
    kept = bell.reserve("page")
    assert kept is not None
    assert bell.reserve("page") is None, "it is kept already"
    bell.ring(["page"])
    kept.hand("a page")
    until(lambda: taken == ["a page"])
    worker.stop()
    worker.join(PATIENCE)
    assert not worker.is_alive()


def test_a_thread_that_is_handed_something_after_it_was_asked_to_stop_does_it_and_ends() -> None:
    bell, taken = WorkSignal(), list[str]()
    worker = WorkerThread("page-0", "page", bell, lambda: False, take=taken.append)
    worker.start()
    until(lambda: bell._lanes["page"].looked == 0)
    kept = bell.reserve("page")
    assert kept is not None
    worker.stop()
    kept.hand("a page")
    worker.join(PATIENCE / 2)
    assert (worker.is_alive(), taken) == (False, ["a page"])


def test_a_row_whose_adapter_lets_nothing_through_is_handed_to_nobody(shift: Shift) -> None:
    addresses = ["ana@example.com", "max@example.com", "rita@example.com"]
    shift.desk.relay.refused.update(dict.fromkeys(addresses, Blocked("wrong password")))
    shift.begin()
    shift.accept(mail("first"))
    until(lambda: shift.rows("SELECT count(*) > 0 FROM outbox WHERE barred = 'relay' AND do = 'page'") == [(1,)])
    shift.accept(mail("second"))
    until(lambda: len(shift.desk.incidents()) == 2 and len(shift.desk.gitlab.notes) == 2)
    tried = "SELECT attempt FROM outbox WHERE do = 'page' ORDER BY id"
    assert shift.rows(tried) == [(1,), (0,)]


def test_the_first_page_and_receipt_after_a_start_compile_no_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue._environment.cache_clear()
    catalogue.compile_first.cache_clear()
    with closing(Office(tmp_path)) as desk:
        compiled: list[str | None] = []
        compile_source = Environment.compile

        def watched(self: Environment, source: Any, name: str | None = None, *more: Any, **others: Any) -> Any:
            compiled.append(name)
            return compile_source(self, source, name, *more, **others)

        monkeypatch.setattr(Environment, "compile", watched)
        desk.deliver(mail("Everything is .locked."))
        desk.settle()
        assert desk.sent("ana@example.com")
        assert desk.sent("rita@example.com")
    assert [name for name in compiled if str(name).startswith(("page/", "reporter/"))] == []


def accepted(name: str) -> AcceptedMail:
    return AcceptedMail(
        id=ids.new_mail_id(), accepted_at=T0, mail_from=f"{name}@example.com", recipients=(PANIC,), peer="127.0.0.1",
        helo="client", tls="", size=10,
    )  # fmt: skip
