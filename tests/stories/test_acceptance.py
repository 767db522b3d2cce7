"""How a mail becomes durable: the database, else the spool, else no 250. Each way it can go, in each order."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from panicmail.daemon.calendar_refresh import ScheduleFaults
from panicmail.daemon.periodic import PeriodicJobs
from panicmail.daemon.watchdog import Health
from panicmail.delivery.fallback import FallbackPager
from panicmail.delivery.heartbeat import Heartbeat
from panicmail.errors import StoreFailed
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import ClockGuard, RestoreGuard
from panicmail.escalation.tick import EscalationTick, ShiftHandover
from panicmail.incident import ids
from panicmail.incident.storm_rules import DigestLimits, StormLimits
from panicmail.intake import accept as intake_accept
from panicmail.intake.accept import MailAcceptance
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.daily_list import DailyList
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.mails import Mails
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool, Spooled
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import WatermarkFile
from panicmail.store.writer import WriterThread
from tests.cast import SECOND, T0
from tests.examples import examples
from tests.office import InProcess, Office

T = TypeVar("T")
RAW = b"Subject: Ransom note\r\n\r\nMy files are .locked.\r\n"
#: A busy machine may take so long for what takes a moment, in seconds.
SOON = 30.0
#: Long enough never to be over within a test, in seconds.
FOR_EVER = 60.0


class Way(StrEnum):
    """How the database takes a write."""

    AT_ONCE = "at once"
    REFUSES = "refuses"
    HANGS = "hangs"  #: until the test says how it ends
    UNKNOWN = "unknown"  #: COMMIT came through, its answer did not


@dataclass
class FakeTransaction:
    """What a transaction may do, on mails in memory."""

    kept: dict[str, tuple[AcceptedMail, bytes]]
    told: list[dict[str, Any]]
    now: datetime

    @property
    def mails(self) -> FakeTransaction:
        return self

    @property
    def queue(self) -> FakeTransaction:
        return self

    def add(self, mail: AcceptedMail, raw: bytes) -> None:
        assert mail.id not in self.kept, "the same mail twice"
        self.kept[mail.id] = (mail, bytes(raw))

    def take_in(self, mail: AcceptedMail, raw: bytes) -> bool:
        if mail.id in self.kept:
            return False
        self.add(mail, raw)
        return True

    def tell_operators(self, cause: str, facts: dict[str, Any]) -> None:
        self.told.append({**facts, "cause": cause})


@dataclass
class FakeStore:
    """A database that does as it is told. What it holds is in `mails`, by id."""

    way: Way = Way.AT_ONCE
    mails: dict[str, tuple[AcceptedMail, bytes]] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)  #: to the operators
    poison: set[str] = field(default_factory=set)  #: ids of mails it never takes
    hanging: list[tuple[Callable[[Transaction], Any], Future[Any]]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)

    def submit(self, name: str, work: Callable[[Transaction], T]) -> Future[T]:
        future: Future[T] = Future()
        if self.way is Way.HANGS:
            self.hanging.append((work, future))
        elif self.way is Way.REFUSES:
            future.set_exception(StoreFailed("database is locked"))
        else:
            self.commit(work, future, heard=self.way is Way.AT_ONCE)
        return future

    def commit(self, work: Callable[[Transaction], T], future: Future[T], *, heard: bool = True) -> None:
        try:
            result = work(self._tx())
        except Exception as exc:  # as the writer does it
            future.set_exception(exc)
            return
        if heard:
            future.set_result(result)
        else:
            future.set_exception(StoreFailed("the connection was lost in COMMIT"))

    def answers_late(self, *, heard: bool = True) -> None:
        """Everything that hangs is done after all."""
        while self.hanging:
            self.commit(*self.hanging.pop(0), heard=heard)

    def refuses_late(self) -> None:
        while self.hanging:
            self.hanging.pop(0)[1].set_exception(StoreFailed("the server said nothing for 7 s"))

    def write(self, name: str, work: Callable[[Transaction], T]) -> T:
        self.writes.append(name)
        if self.way is Way.REFUSES:
            raise StoreFailed("database is locked")
        before = dict(self.mails)
        result = work(self._tx())
        if self.poison & (self.mails.keys() - before.keys()):
            self.mails = before
            raise StoreFailed("value too long for type")
        return result

    def _tx(self) -> Transaction:
        return cast(Transaction, FakeTransaction(self.mails, self.told, T0 + SECOND))


class FakeSpool(Spool):
    """A spool on a disk that can be told to fail, or to take its time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fails = False
        self.forgets = True  #: False: the process dies right before a mail is removed
        self.hanging: set[str] = set()  #: ids
        self.go_on = threading.Event()
        self.puts: list[str] = []  #: ids, as they come
        self.over: list[str] = []  #: ids, as they go

    def put(self, mail: AcceptedMail, raw: bytes) -> None:
        self.puts.append(mail.id)
        try:
            if mail.id in self.hanging:
                assert self.go_on.wait(SOON)
            if self.fails:
                raise StoreFailed("no space left on the spool's device")
            super().put(mail, raw)
        finally:
            self.over.append(mail.id)

    def remove(self, spooled: Spooled) -> None:
        if self.forgets:
            super().remove(spooled)


class Accepting:
    """An acceptance between a store and a spool, and what it told whom."""

    def __init__(self, folder: Path, *, patience: float = FOR_EVER) -> None:
        self.store, self.spool = FakeStore(), FakeSpool(folder)
        self.heard: list[str] = []
        self.refused: list[str] = []
        self.acceptance = MailAcceptance(self.store, self.spool, lambda: T0, self, self.refused.append, patience)
        self._at = T0

    def stored(self) -> None:
        self.heard.append("stored")

    def spooled(self) -> None:
        self.heard.append("spooled")

    def not_stored(self, reason: str) -> None:
        self.heard.append("not stored")

    def accept(self, mail: AcceptedMail | None = None, raw: bytes = RAW) -> Future[str]:
        return self.acceptance.accept(mail or a_mail(), raw)

    def spool_one(self) -> AcceptedMail:
        """A mail that waits in the spool; each is accepted a second after the one before."""
        self._at += SECOND
        mail = a_mail(self._at)
        self.spool.put(mail, RAW)
        return mail

    def is_durable(self, mail: AcceptedMail) -> bool:
        return mail.id in self.store.mails or mail.id in {spooled.mail_id for spooled in self.spool.waiting()}


@pytest.fixture
def accepting(tmp_path: Path) -> Accepting:
    return Accepting(tmp_path / "spool")


@pytest.fixture
def hasty(tmp_path: Path) -> Accepting:
    """One that waits for its database but a moment."""
    return Accepting(tmp_path / "spool", patience=0.02)


def a_mail(at: datetime = T0) -> AcceptedMail:
    return AcceptedMail(
        id=ids.new_mail_id(),
        accepted_at=at,
        mail_from="rita@example.com",
        recipients=("panic@example.com",),
        peer="192.0.2.1",
        helo="laptop",
        tls="",
        size=len(RAW),
    )


def eventually(question: Callable[[], object], else_: str) -> None:
    ends_at = time.monotonic() + SOON
    while not question():
        assert time.monotonic() < ends_at, else_
        time.sleep(0.005)


# -- the database takes it


def test_a_mail_the_database_takes_is_answered_with_its_ref_and_needs_no_spool(accepting: Accepting) -> None:
    mail = a_mail()
    assert accepting.accept(mail).result(SOON) == ids.ref(mail.id)
    kept, raw = accepting.store.mails[mail.id]
    assert (kept.accepted_at, raw) == (T0 + SECOND, RAW), "by the database's clock"
    assert (accepting.heard, accepting.spool.puts) == (["stored"], [])


def test_nobody_is_told_250_before_the_database_has_committed(accepting: Accepting) -> None:
    accepting.store.way = Way.HANGS
    outcome = accepting.accept()
    assert not outcome.done()
    assert accepting.heard == []
    accepting.store.answers_late()
    assert outcome.result(SOON)
    assert accepting.heard == ["stored"]


# -- the spool takes it


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (Way.REFUSES, "database is locked"),
        (Way.HANGS, "the database does not answer"),
        (Way.UNKNOWN, "the connection was lost in COMMIT"),
    ],
)
def test_what_the_database_does_not_take_is_in_the_spool_before_the_answer(
    tmp_path: Path, way: Way, reason: str
) -> None:
    accepting = Accepting(tmp_path / "spool", patience=0.02 if way is Way.HANGS else FOR_EVER)
    accepting.store.way, mail = way, a_mail()
    there: list[bool] = []
    with structlog.testing.capture_logs() as logged:
        outcome = accepting.accept(mail)
        outcome.add_done_callback(lambda _: there.append(accepting.is_durable(mail)))
        assert outcome.result(SOON) == ids.ref(mail.id)
        eventually(lambda: accepting.heard, "nobody heard of it")
    assert (there, accepting.heard, accepting.refused) == ([True], ["spooled"], [])
    assert [line["reason"] for line in logged if line["event"] == "mail.spooled"] == [reason]
    found = accepting.spool.read(accepting.spool.waiting()[0])
    assert found is not None
    assert (found[0].accepted_at, found[1]) == (T0, RAW), "by the host's clock"


def test_a_database_that_cannot_even_be_asked_is_one_that_refused(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(_name: str, _work: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(accepting.store, "submit", submit)
    assert accepting.accept().result(SOON)
    assert len(accepting.spool.waiting()) == 1


def test_whoever_waits_cannot_call_the_mail_off(accepting: Accepting) -> None:
    accepting.store.way, mail = Way.HANGS, a_mail()
    outcome = accepting.accept(mail)
    assert not outcome.cancel()
    accepting.store.answers_late()
    assert outcome.result(SOON)
    assert mail.id in accepting.store.mails


def test_a_write_that_was_called_off_is_one_that_failed(accepting: Accepting) -> None:
    accepting.store.way, mail = Way.HANGS, a_mail()
    outcome = accepting.accept(mail)
    assert accepting.store.hanging[0][1].cancel()
    assert outcome.result(SOON)
    assert accepting.is_durable(mail)


def test_one_mail_on_a_disk_that_hangs_does_not_hold_up_the_next(accepting: Accepting) -> None:
    accepting.store.way, slow = Way.REFUSES, a_mail()
    accepting.spool.hanging.add(slow.id)
    waiting = accepting.accept(slow)
    assert accepting.accept().result(SOON)
    assert not waiting.done()
    accepting.spool.go_on.set()
    assert waiting.result(SOON)


# -- how long a sender waits


def test_after_one_who_waited_in_vain_everybody_waits_but_little_until_the_database_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_accept, "LITTLE_PATIENCE", 0.01)
    accepting = Accepting(tmp_path / "spool", patience=1.5)
    accepting.store.way = Way.HANGS
    began = time.monotonic()
    first = accepting.accept()
    time.sleep(1.0)
    second = accepting.accept()
    first.result(SOON)
    assert time.monotonic() - began >= 1.5
    second.result(0.8)  # with the first: its own patience would be over only a second later
    accepting.accept().result(1.0)
    accepting.store.answers_late()
    accepting.store.way = Way.AT_ONCE
    accepting.accept().result(SOON)
    accepting.store.way = Way.HANGS
    with pytest.raises(TimeoutError):
        accepting.accept().result(0.3)


def test_a_database_that_answers_in_time_never_costs_anybody_their_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_accept, "LITTLE_PATIENCE", 0.0)
    accepting = Accepting(tmp_path / "spool", patience=0.6)
    accepting.accept().result(SOON)
    time.sleep(0.7)
    accepting.store.way = Way.HANGS
    with pytest.raises(TimeoutError):
        accepting.accept().result(0.2)


def test_a_database_that_takes_in_what_was_spooled_is_waited_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_accept, "LITTLE_PATIENCE", 0.0)
    accepting = Accepting(tmp_path / "spool", patience=0.6)
    accepting.store.way = Way.HANGS
    accepting.accept().result(SOON)
    accepting.store.way = Way.AT_ONCE
    assert accepting.acceptance.take_in() == 1
    accepting.store.way = Way.HANGS
    with pytest.raises(TimeoutError):
        accepting.accept().result(0.2)


def test_a_mail_is_not_made_to_wait_for_the_one_before_it(accepting: Accepting) -> None:
    accepting.store.way = Way.HANGS
    first = accepting.accept()
    accepting.store.way = Way.REFUSES
    assert accepting.accept().result(SOON)
    assert not first.done()


# -- neither takes it


@pytest.mark.parametrize(("way", "reason"), [(Way.REFUSES, "locked"), (Way.HANGS, "does not answer")])
def test_what_neither_takes_is_refused_with_both_reasons_and_somebody_is_called(
    tmp_path: Path, way: Way, reason: str
) -> None:
    accepting = Accepting(tmp_path / "spool", patience=0.02 if way is Way.HANGS else FOR_EVER)
    accepting.store.way, accepting.spool.fails = way, True
    with pytest.raises(StoreFailed, match=f"{reason}; no space left"):
        accepting.accept().result(SOON)
    eventually(lambda: accepting.heard, "nobody heard")
    assert accepting.heard == ["not stored"]
    assert [reason in told and "no space left" in told for told in accepting.refused] == [True]


@pytest.mark.parametrize("failure", [MemoryError(), ValueError("of ours"), OSError(5, "Input/output error")])
def test_whatever_breaks_the_spool_the_sender_hears_that_the_mail_was_not_taken(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def put(_mail: AcceptedMail, _raw: bytes) -> None:
        raise failure

    accepting.store.way = Way.REFUSES
    monkeypatch.setattr(accepting.spool, "put", put)
    with pytest.raises(StoreFailed):
        accepting.accept().result(SOON)


def test_somebody_who_cannot_be_told_costs_nobody_an_answer(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of order")

    for name in ("stored", "spooled", "not_stored"):
        monkeypatch.setattr(accepting, name, fail)
    accepting.store.way = Way.REFUSES
    for _ in range(5):  # more than there are threads to lose
        assert accepting.accept().result(SOON)
    accepting.spool.fails = True
    for _ in range(5):
        with pytest.raises(StoreFailed):
            accepting.accept().result(SOON)
    eventually(lambda: len(accepting.refused) == 5, "nor the operators a call")


# -- once only


def test_a_mail_whose_commit_nobody_heard_of_is_in_the_database_once(accepting: Accepting) -> None:
    accepting.store.way, mail = Way.UNKNOWN, a_mail()
    accepting.accept(mail).result(SOON)
    assert mail.id in accepting.store.mails
    accepting.store.way = Way.AT_ONCE
    assert accepting.acceptance.take_in() == 1
    assert (list(accepting.store.mails), accepting.spool.waiting()) == ([mail.id], [])


def test_a_database_that_comes_to_it_after_the_spool_leaves_it_to_the_spool(hasty: Accepting) -> None:
    hasty.store.way, mail = Way.HANGS, a_mail()
    hasty.accept(mail).result(SOON)
    hasty.store.answers_late()
    assert hasty.store.mails == {}
    hasty.store.way = Way.AT_ONCE
    hasty.acceptance.take_in()
    assert hasty.store.mails[mail.id][0].accepted_at == T0
    eventually(lambda: hasty.heard == ["spooled"], "it did not go through the spool")


def test_a_database_that_was_in_the_middle_of_it_when_the_spool_took_it_has_it_once(hasty: Accepting) -> None:
    hasty.store.way, mail = Way.HANGS, a_mail()
    hasty.spool.hanging.add(mail.id)
    outcome = hasty.accept(mail)
    eventually(lambda: hasty.spool.puts, "the spool was not asked")
    hasty.store.answers_late()
    assert outcome.result(SOON) == ids.ref(mail.id)
    hasty.spool.go_on.set()
    eventually(hasty.spool.waiting, "it was not put into the spool")
    hasty.store.way = Way.AT_ONCE
    hasty.acceptance.take_in()
    assert (list(hasty.store.mails), hasty.spool.waiting(), hasty.heard) == ([mail.id], [], ["stored"])


def test_a_refusal_of_the_spool_that_comes_after_the_databases_yes_changes_nothing(hasty: Accepting) -> None:
    hasty.store.way, mail = Way.HANGS, a_mail()
    hasty.spool.hanging.add(mail.id)
    outcome = hasty.accept(mail)
    eventually(lambda: hasty.spool.puts, "the spool was not asked")
    hasty.store.answers_late()
    assert outcome.result(SOON)
    hasty.spool.fails = True
    hasty.spool.go_on.set()
    eventually(lambda: hasty.spool.over, "the spool did not answer")
    hasty.store.way = Way.REFUSES
    hasty.spool.fails = False
    assert hasty.accept().result(SOON), "the spool's threads go on"
    assert ("not stored" in hasty.heard, hasty.refused) == (False, [])


#: What can happen to a mail, in some order: its patience ends at any time.
HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(Way),  # how the database takes it
        st.booleans(),  # whether the spool is slow
        st.booleans(),  # whether the spool fails
        st.sampled_from(["answers_late", "unheard", "refuses_late", "never"]),  # how a hang ends
        st.sampled_from([0.0, 0.001, 0.004]),  # and when, in seconds
    ),
    min_size=1,
    max_size=6,
)


@examples(60)
@given(happenings=HAPPENINGS)
def test_whatever_happens_in_whatever_order_a_250_is_durable_and_every_mail_is_in_once(
    happenings: list[tuple[Way, bool, bool, str, float]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    accepting = Accepting(tmp_path_factory.mktemp("accepting") / "spool", patience=0.003)
    answered: dict[str, list[bool]] = {}
    outcomes = []
    for way, slow, fails, ending, after in happenings:
        mail = a_mail()
        accepting.store.way, accepting.spool.fails = way, fails
        if slow:
            accepting.spool.hanging.add(mail.id)
        outcome = accepting.accept(mail)
        outcome.add_done_callback(_note_durability(accepting, mail, answered.setdefault(mail.id, [])))
        outcomes.append(outcome)
        time.sleep(after)
        _end(accepting.store, ending)
    with structlog.testing.capture_logs() as logged:
        accepting.spool.go_on.set()
        failures = [outcome.exception(SOON) for outcome in outcomes]
        accepting.store.way = Way.AT_ONCE
        accepting.store.answers_late()
        eventually(lambda: len(accepting.spool.over) == len(accepting.spool.puts), "the spool has not ended")
    assert "mail.rescue_failed" not in [line["event"] for line in logged]
    assert all(failure is None or isinstance(failure, StoreFailed) for failure in failures)
    eventually(lambda: all(answered.values()), "somebody was never answered")
    assert all(told == [True] for told in answered.values()), "250 for what is not durable"
    eventually(lambda: len(accepting.heard) == len(outcomes), "not everybody heard")
    assert (
        accepting.heard.count("not stored")
        == len(accepting.refused)
        == sum(failure is not None for failure in failures)
    )
    assert len(set(accepting.spool.puts)) == len(accepting.spool.puts), "a mail went into the spool twice"
    eventually(lambda: not accepting.acceptance.take_in() and not accepting.spool.waiting(), "the spool is not emptied")
    promised = {mail_id for mail_id, failure in zip(answered, failures, strict=True) if failure is None}
    assert promised <= accepting.store.mails.keys()


def _note_durability(accepting: Accepting, mail: AcceptedMail, told: list[bool]) -> Callable[[Future[str]], None]:
    return lambda outcome: told.append(outcome.exception() is not None or accepting.is_durable(mail))


def _end(store: FakeStore, ending: str) -> None:
    if ending == "refuses_late":
        store.refuses_late()
    elif ending != "never":
        store.answers_late(heard=ending == "answers_late")


# -- what it keeps in memory


class Octets(bytearray):
    """A mail that can be seen to go."""


@pytest.mark.parametrize("fails", [False, True])
def test_the_octets_are_let_go_with_the_answer_even_while_the_database_still_hangs(
    hasty: Accepting, fails: bool
) -> None:
    hasty.store.way, hasty.spool.fails = Way.HANGS, fails
    raw = Octets(RAW)
    there = weakref.ref(raw)
    outcome = hasty.acceptance.accept(a_mail(), cast(bytes, raw))
    del raw
    outcome.exception(SOON)
    assert len(hasty.store.hanging) == 1
    eventually(lambda: there() is None, "somebody holds a mail that is over")


def test_the_octets_of_a_stored_mail_do_not_wait_for_those_of_an_earlier_one(accepting: Accepting) -> None:
    accepting.store.way = Way.HANGS
    accepting.accept()
    accepting.store.way = Way.AT_ONCE
    raw = Octets(RAW)
    there = weakref.ref(raw)
    outcome = accepting.acceptance.accept(a_mail(), cast(bytes, raw))
    del raw
    outcome.result(SOON)
    eventually(lambda: there() is None, "somebody holds a mail that is over")


# -- into the database, later


def test_what_waits_is_taken_in_oldest_first_with_its_instant_and_a_sign_of_life_for_each(accepting: Accepting) -> None:
    mails = [accepting.spool_one() for _ in range(3)]
    signs: list[int] = []
    assert accepting.acceptance.take_in(lambda: signs.append(len(accepting.store.mails))) == 3
    assert [kept for kept, _ in accepting.store.mails.values()] == mails
    assert signs == [1, 2, 3]
    assert (accepting.acceptance.take_in(), accepting.spool.waiting()) == (0, [])


def test_a_mail_stored_right_before_a_crash_is_taken_in_again_and_there_once(accepting: Accepting) -> None:
    mail = accepting.spool_one()
    accepting.spool.forgets = False
    assert accepting.acceptance.take_in() == 1
    assert len(accepting.spool.waiting()) == 1
    again = Spool(accepting.spool.folder)
    again.open()
    second = MailAcceptance(accepting.store, again, lambda: T0, accepting, accepting.refused.append)
    assert second.take_in() == 1
    assert (list(accepting.store.mails), again.waiting()) == ([mail.id], [])


def test_while_the_database_is_away_everything_stays_and_keeps_its_order(accepting: Accepting) -> None:
    mails = [accepting.spool_one() for _ in range(3)]
    accepting.store.way = Way.REFUSES
    for _ in range(5):
        with pytest.raises(StoreFailed, match="locked"):
            accepting.acceptance.take_in()
    assert len(accepting.spool.waiting()) == 3
    accepting.store.way = Way.AT_ONCE
    accepting.acceptance.take_in()
    assert [kept.id for kept, _ in accepting.store.mails.values()] == [mail.id for mail in mails]
    assert accepting.store.told == []


def test_mails_the_database_never_takes_hold_up_no_other_and_the_operators_hear_of_them(
    accepting: Accepting,
) -> None:
    bad = [accepting.spool_one() for _ in range(2 * intake_accept.ROUND_FAILURES)]
    good = [accepting.spool_one() for _ in range(2)]
    accepting.store.poison = {mail.id for mail in bad}
    with structlog.testing.capture_logs() as logged:
        assert accepting.acceptance.take_in() == 0
        assert len(accepting.store.told) == intake_accept.ROUND_FAILURES, "a round has an end"
        assert sum(accepting.acceptance.take_in() for _ in range(3)) == 2
    assert [kept.id for kept, _ in accepting.store.mails.values()] == [mail.id for mail in good]
    assert {told["mail"] for told in accepting.store.told} == accepting.store.poison
    assert {told["cause"] for told in accepting.store.told} == {"mail_stuck"}
    said = [line["mail"] for line in logged if line["event"] == "mail.stuck"]
    assert sorted(said) == sorted(accepting.store.poison), "once for each"
    accepting.store.poison.clear()
    assert sum(accepting.acceptance.take_in() for _ in range(2)) == len(bad)


def test_what_cannot_be_read_from_the_spool_holds_up_no_mail(accepting: Accepting) -> None:
    torn, unreadable, good = (accepting.spool_one() for _ in range(3))
    paths = {spooled.mail_id: spooled.path for spooled in accepting.spool.waiting()}
    paths[torn.id].write_bytes(b"{}")
    paths[unreadable.id].unlink()
    paths[unreadable.id].mkdir()
    assert accepting.acceptance.take_in() == 1
    assert list(accepting.store.mails) == [good.id]
    assert len(accepting.spool.broken()) == 1


def test_one_round_ends_in_time_for_the_policys_steps_however_many_wait(
    accepting: Accepting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        accepting.spool_one()
    monkeypatch.setattr(intake_accept, "ROUND_SECONDS", 0.0)
    assert [accepting.acceptance.take_in() for _ in range(4)] == [1, 1, 1, 0]


# -- with the real database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}", clock=lambda: T0, busy_seconds=0.2)
    migrate.upgrade(database)
    with closing(database):
        yield database


def test_a_locked_file_costs_a_wait_and_a_spool_and_then_the_mail_is_there_with_its_instant(
    accepting: Accepting, database: Database
) -> None:
    writer = WriterThread(database, lambda: None)
    earlier = T0 - timedelta(minutes=5)
    store = Store(database, writer=writer)
    real = MailAcceptance(store, accepting.spool, lambda: earlier, accepting, accepting.refused.append, patience=SOON)
    mail = a_mail()
    with database.writing():
        assert real.accept(mail, RAW).result(SOON) == ids.ref(mail.id)
        eventually(lambda: accepting.heard == ["spooled"], "it did not go through the spool")
        with pytest.raises(StoreFailed, match="locked"):
            real.take_in()
    assert real.take_in() == 1
    kept = store.read(lambda tx: tx.mails.get(mail.id))
    assert kept is not None
    assert kept.accepted_at == earlier
    assert store.read(lambda tx: tx.figures.totals())["mails"] == {"accepted": 1}
    assert writer.stop(SOON)


def test_mails_the_writer_had_not_come_to_when_it_was_stopped_are_in_the_database_or_the_spool(
    accepting: Accepting, database: Database
) -> None:
    writer = WriterThread(database, lambda: None)
    store = Store(database, writer=writer)
    real = MailAcceptance(store, accepting.spool, lambda: T0, accepting, accepting.refused.append)
    busy, go_on = threading.Event(), threading.Event()

    def hold_up(_tx: Transaction) -> None:
        busy.set()
        assert go_on.wait(SOON)

    store.submit("tick.alarm", hold_up)
    assert busy.wait(SOON)
    assert not writer.stop(0.0)
    late = a_mail()
    outcome = real.accept(late, RAW)
    go_on.set()
    assert outcome.result(SOON)
    after = a_mail()
    assert real.accept(after, RAW).result(SOON)
    stored = store.read(lambda tx: [tx.mails.get(each.id) for each in (late, after)])
    assert stored[0] or accepting.is_durable(late)
    assert stored[1] or accepting.is_durable(after)


# -- and the escalation meanwhile


def test_a_mail_that_can_never_be_taken_in_does_not_keep_the_policy_from_escalating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_mails: Mails, mail: AcceptedMail, _raw: bytes) -> bool:
        raise ValueError(mail.helo)

    monkeypatch.setattr(Mails, "take_in", never)
    office = Office(tmp_path)
    accepting = Accepting(tmp_path / "spool")
    duties = duties_of(office, accepting, WatermarkFile(tmp_path / "panicmail.mark"))
    incident = office.panic()
    accepting.spool_one()
    office.now += timedelta(minutes=5)
    with structlog.testing.capture_logs() as logged:
        duties.empty()
        duties.tick()
    assert "mail.stuck" in [line["event"] for line in logged]
    office.settle()
    assert [page.subject.split()[2:4] for page in office.pages("ana")] == [["Ransom", "note"], ["STILL", "OPEN:"]]
    assert office.incident(incident).step == 1
    assert "[panicmail]" in [alarm.subject[:11] for alarm in office.sent("max")]
    office.close()


def test_a_mail_that_was_not_moved_for_a_moment_is_not_told_as_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had the database locked let go of it right then."""
    refusals, real = [StoreFailed("database is locked")], Mails.take_in

    def locked_once(mails: Mails, mail: AcceptedMail, raw: bytes) -> bool:
        if refusals:
            raise refusals.pop()
        return real(mails, mail, raw)

    monkeypatch.setattr(Mails, "take_in", locked_once)
    office, accepting = Office(tmp_path), Accepting(tmp_path / "spool")
    duties = duties_of(office, accepting, WatermarkFile(tmp_path / "panicmail.mark"))
    accepting.spool_one()
    with structlog.testing.capture_logs() as logged:
        duties.empty()
    assert {"mail.taken_in", "mail.stuck"} & {line["event"] for line in logged} == {"mail.taken_in"}
    office.close()


def test_deadlines_that_come_due_at_once_bring_nobody_a_page_that_says_the_database_is_away(tmp_path: Path) -> None:
    """Each step takes a second here; the database answers every one."""
    office = Office(tmp_path, storm=StormLimits(0), digest=DigestLimits(0))
    accepting = Accepting(tmp_path / "spool")
    duties = duties_of(office, accepting, WatermarkFile(tmp_path / "panicmail.mark"))
    duties.tick()
    for number in range(40):
        office.panic(subject=f"Panic {number}")
    duties.tick()
    looks: list[float] = []

    def came_round() -> None:
        office.now += timedelta(seconds=1)
        duties.emergency.call_who_is_due()  # NoRelay says whom it calls
        looks.append(1)

    duties.health = SimpleNamespace(came_round=came_round, ticked=lambda: None)  # type: ignore[assignment]
    office.now += timedelta(minutes=6)
    with structlog.testing.capture_logs() as logged:
        duties.tick()
    assert len(looks) > 40
    assert "emergency.calls" not in [line["event"] for line in logged]
    assert {incident.round for incident in office.incidents()} == {2}, "each step was taken"
    office.close()


def duties_of(office: Office, accepting: Accepting, mark: WatermarkFile) -> PeriodicJobs:
    """The tick over this office and that spool."""

    def settings() -> RuntimeSettings:
        return office.settings

    def clock() -> datetime:
        return office.now

    emergency = FallbackPager(accepting.spool, settings, InProcess(), NoRelay, clock)
    watched = office.store.watched_by(emergency.asking)
    return PeriodicJobs(
        store=watched,
        acceptance=MailAcceptance(office.store, accepting.spool, clock, accepting, accepting.refused.append),
        timekeeper=ClockGuard(watched, clock, mark, wall=clock),
        escalation=EscalationTick(watched, settings),
        signs=office.signs,
        accounting=Reconciler(office.store, settings),
        restoring=RestoreGuard(office.store, settings, mark),
        emergency=emergency,
        health=Health(office.store, lambda: True, lambda: True),
        heartbeat=Heartbeat("", "tick"),
        handover=ShiftHandover(office.store, settings),
        daily_list=DailyList(office.store, settings),
        roster_faults=ScheduleFaults(office.store, settings, SimpleNamespace(unread=lambda now: [])),  # type: ignore[arg-type]
        daily=SimpleNamespace(run=lambda now: None),  # type: ignore[arg-type]
        ring=lambda lanes: None,
    )


class NoRelay:
    """Nobody is called in these tests."""

    def send(self, message: bytes, mail_from: str, recipient: str) -> str:
        raise AssertionError(recipient)

    def close(self) -> None:
        raise AssertionError
