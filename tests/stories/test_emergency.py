"""Calling people while the database is away: whom, for what, how often, and in which words."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
import structlog

from panicmail.delivery.fallback import FallbackPager, FallbackWatcher, fallback_pager
from panicmail.delivery.fallback.fallback_pager import AWAY_AFTER, GRACE, REFUSED_EVERY
from panicmail.delivery.fallback.fallback_pages import AGAIN
from panicmail.delivery.fallback.spooled_mail import SpooledPanic
from panicmail.errors import Permanent, StoreFailed, Temporary, Unknown
from panicmail.incident import ids, reply_commands
from panicmail.incident.classify import Report
from panicmail.incident.model import Change, Incident
from panicmail.incident.reply_tokens import Addresses, Purpose
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool
from tests.cast import MINUTE, SECOND, T0, opened
from tests.office import PANIC, PEOPLE, FakeRelay, InProcess, Posted, mail, office_settings

T = TypeVar("T")
SOON = 30.0
HALF = timedelta(seconds=0.5)


class AtOnce(Executor):
    """Does what it is given before it answers. `refuses`: there is no thread to do it in."""

    refuses = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self.refuses:
            raise RuntimeError("can't start new thread")
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass
class Line(FakeRelay):
    """A relay; each call has a connection of its own, which is closed after it."""

    opened: int = 0
    closed: int = 0
    hangs: dict[str, threading.Event] = field(default_factory=dict)  #: recipient -> until when
    unreachable: Exception | None = None  #: raised by the next attempt to connect

    def connect(self) -> Line:
        if self.unreachable is not None:
            failure, self.unreachable = self.unreachable, None
            raise failure
        self.opened += 1
        return self

    def send(self, message: bytes, mail_from: str, recipient: str) -> str:
        if recipient in self.hangs:
            assert self.hangs[recipient].wait(SOON)
        return super().send(message, mail_from, recipient)

    def close(self) -> None:
        self.closed += 1


class Night:
    """An office whose database is away, on a clock the test moves."""

    def __init__(self, folder: Path, callers: Executor | None = None) -> None:
        self.now = T0
        self.folder = folder
        self.settings = in_berlin(office_settings())
        self.relay = Line()
        self.callers = callers or AtOnce()
        self.start()

    def start(self) -> None:
        """As a new process would."""
        self.spool = Spool(self.folder)
        self.spool.open()
        self.emergency = FallbackPager(
            self.spool, lambda: self.settings, InProcess(), self.relay.connect, lambda: self.now, self.callers
        )
        self.fails()

    def spooled(self, raw: bytes | None = None, to: str = PANIC, mail_from: str = "rita@example.com") -> str:
        """A mail the spool took now; its id."""
        raw = raw or mail("My files are .locked, Slack is gone.", subject="Ransom note")
        kept = AcceptedMail(
            id=ids.new_mail_id(),
            accepted_at=self.now,
            mail_from=mail_from,
            recipients=(to,),
            peer="",
            helo="",
            tls="",
            size=len(raw),
        )
        self.spool.put(kept, raw)
        return kept.id

    def pass_time(self, span: timedelta) -> None:
        """The watchman looks twice a second."""
        ends_at = self.now + span
        while self.now < ends_at:
            self.now += HALF
            self.emergency.call_who_is_due()

    def answered(self, *incidents: Incident) -> None:
        """The database answers for the last time."""
        self.emergency.answered(incidents)
        self.fails()

    def fails(self, what: str = "read") -> None:
        """A call of the tick."""
        with contextlib.suppress(StoreFailed), self.emergency.asking(what):
            raise StoreFailed("the server is gone")

    @property
    def called(self) -> list[str]:
        """Who was called, in order."""
        keys = {person.email: key for key, person in PEOPLE.items()}
        return [keys[posted.recipient] for posted in self.relay.sent]

    def to(self, person: str) -> list[Posted]:
        return [posted for posted in self.relay.sent if posted.recipient == PEOPLE[person].email]


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path / "spool")


def in_berlin(settings: RuntimeSettings) -> RuntimeSettings:
    people = {key: replace(person, tz=ZoneInfo("Europe/Berlin")) for key, person in settings.people.items()}
    return replace(settings, people=people)


def on_call(settings: RuntimeSettings, **roles: tuple[str, ...]) -> RuntimeSettings:
    return replace(settings, schedules=Schedules({role: Schedule(people) for role, people in roles.items()}))


def incident(change: Change | None = None) -> Incident:
    return (change or opened()).incident


# -- a mail in the spool


def test_a_mail_that_is_soon_taken_in_calls_nobody(night: Night) -> None:
    night.spooled()
    night.pass_time(GRACE - HALF)
    night.spool.remove(night.spool.waiting()[0])
    night.pass_time(MINUTE)
    assert night.called == []


def test_everybody_of_the_first_and_the_last_step_is_called_once_for_each_mail(night: Night) -> None:
    first = night.spooled()
    night.pass_time(GRACE)
    assert night.called == ["ana", "max"]
    second = night.spooled()
    night.pass_time(MINUTE)
    assert night.called == ["ana", "max", "ana", "max"]
    refs = [posted.subject.split()[1] for posted in night.to("ana")]
    assert refs == [f"{ids.ref(first)}]", f"{ids.ref(second)}]"]
    assert len({posted.message_id for posted in night.relay.sent}) == 4


def test_who_is_on_call_in_two_roles_is_called_once(night: Night) -> None:
    night.settings = on_call(night.settings, seoc=("ana", "bo"), smoc=("bo", "ana"))
    night.spooled()
    night.pass_time(MINUTE)
    assert night.called == ["ana", "bo"]


def test_when_nobody_is_on_call_the_operators_are_called(night: Night) -> None:
    night.settings = on_call(night.settings, seoc=(), smoc=())
    night.spooled()
    night.pass_time(MINUTE)
    assert night.called == ["max"]


def test_a_reply_to_a_call_comes_to_the_incident_the_mail_will_open(night: Night) -> None:
    mail_id = night.spooled()
    night.pass_time(GRACE)
    page = night.to("ana")[0]
    text = night.settings.addresses.token_in(page.reply_to)
    assert text is not None
    token = night.settings.tokens.verify(text, night.settings.people)
    assert token is not None
    assert (token.purpose, token.incident_id, token.person) == (Purpose.ANSWER, ids.incident_id(mail_id), "ana")


def test_a_mail_that_seems_to_come_from_the_future_does_not_wait_for_it(night: Night) -> None:
    night.now = T0 + timedelta(hours=1)  # the clock was wrong when it came, and was put right
    night.spooled()
    night.now = T0
    night.emergency.call_who_is_due()
    assert night.called == ["ana", "max"]


# -- the relay does not take it


@pytest.mark.parametrize("failure", [Temporary("421 later"), Unknown("no answer"), OSError("no descriptor")])
def test_a_call_that_failed_is_made_again_until_it_is_taken_as_the_same_mail_and_nobody_elses(
    night: Night, failure: Exception
) -> None:
    night.relay.refused["ana@example.com"] = failure
    night.spooled()
    night.pass_time(GRACE)
    assert night.called == ["max"]
    night.pass_time(3 * AGAIN)
    assert (night.called, night.relay.opened) == (["max"], 5)
    del night.relay.refused["ana@example.com"]
    night.pass_time(AGAIN - HALF)
    assert night.called == ["max"], "not before its time"
    night.pass_time(MINUTE)
    assert night.called == ["max", "ana"]
    assert night.relay.closed == night.relay.opened


def test_a_relay_that_cannot_even_be_connected_to_is_tried_again(night: Night) -> None:
    night.relay.unreachable = OSError("too many open files")
    night.spooled()
    night.pass_time(GRACE)
    assert night.called == ["max"]
    night.pass_time(AGAIN)
    assert night.called == ["max", "ana"]


def test_when_there_is_no_thread_to_call_in_the_call_is_made_later(tmp_path: Path) -> None:
    callers = AtOnce()
    night = Night(tmp_path / "spool", callers)
    callers.refuses = True
    night.spooled()
    night.pass_time(GRACE)
    callers.refuses = False
    night.pass_time(AGAIN)
    assert night.called == ["ana", "max"]


def test_whom_the_relay_refuses_for_good_is_not_called_again_and_the_others_are(night: Night) -> None:
    night.relay.refused["ana@example.com"] = Permanent("550 no such user")
    night.spooled()
    with structlog.testing.capture_logs() as logged:
        night.pass_time(MINUTE)
    assert (night.called, night.relay.opened) == (["max"], 2)
    assert [line["person"] for line in logged if line["event"] == "emergency.call_refused"] == ["ana"]
    assert night.spool.waiting()[0].called


def test_a_mail_that_was_taken_in_calls_nobody_any_more(night: Night) -> None:
    night.relay.refused["ana@example.com"] = Temporary("421 later")
    night.spooled()
    night.pass_time(GRACE)
    night.spool.remove(night.spool.waiting()[0])
    night.relay.refused.clear()
    night.pass_time(MINUTE)
    assert night.called == ["max"]
    assert list(night.folder.iterdir()) == []
    gc.collect()
    read = [each.spooled.path.parent for each in gc.get_objects() if isinstance(each, SpooledPanic)]
    assert night.folder not in read, "what was read of it is let go"


class Later(Executor):
    """Does what it is given when the test says so."""

    def __init__(self) -> None:
        self.given: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        self.given.append(lambda: fn(*args, **kwargs))
        return Future()


def test_a_mail_that_is_taken_in_between_two_calls_does_not_get_the_second(tmp_path: Path) -> None:
    callers = Later()
    night = Night(tmp_path / "spool", callers)
    night.spooled()
    night.pass_time(GRACE)
    first, second = callers.given
    first()
    night.spool.remove(night.spool.waiting()[0])
    second()
    assert night.called == ["ana"]


def test_a_connection_that_hangs_holds_up_neither_the_look_nor_the_others(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as callers:
        night = Night(tmp_path / "spool", callers)
        hanging = night.relay.hangs["ana@example.com"] = threading.Event()
        night.spooled()
        night.pass_time(GRACE)
        eventually(lambda: (night.called, night.relay.opened) == (["max"], 2), "Max was not called")
        night.pass_time(3 * AGAIN)
        callers.submit(lambda: None).result(SOON)
        assert night.relay.opened == 2, "a call that is under way is not made again"
        hanging.set()
        eventually(lambda: night.spool.waiting()[0].called, "Ana was not called")
    assert night.called == ["max", "ana"]


# -- a restart


def test_after_a_restart_nobody_is_called_again_who_was(night: Night) -> None:
    night.spooled()
    night.pass_time(GRACE)
    night.start()
    night.pass_time(MINUTE)
    assert night.called == ["ana", "max"]


def test_whoever_was_not_reached_before_a_restart_is_called_after_it(night: Night) -> None:
    night.relay.refused["max@example.com"] = Temporary("421 later")
    night.spooled()
    night.pass_time(GRACE)
    night.start()
    night.relay.refused.clear()
    night.pass_time(MINUTE)
    assert night.called == ["ana", "ana", "max"]
    assert len({posted.message_id for posted in night.to("ana")}) == 1, "the same mail once more"


# -- what is no panic


@pytest.mark.parametrize("purpose", [Purpose.ANSWER, Purpose.BOUNCE])
def test_a_mail_to_somebodys_own_token_address_calls_nobody_now_or_after_a_restart(
    night: Night, purpose: Purpose
) -> None:
    night.spooled(to=night.settings.addresses.reply_to(night.settings.tokens.mint(purpose, "abcdefgh23456723", "ana")))
    night.pass_time(MINUTE)
    night.start()
    night.pass_time(MINUTE)
    assert night.called == []
    assert night.spool.waiting()[0].called


@pytest.mark.parametrize(
    "to",
    [
        "panic+anything@example.com",
        "panic+aa-abcdefgh23456723-0-aaaaaaaaaaaaaaaa@example.com",
        "{conversation}",
    ],
)
def test_a_forged_token_and_more_from_a_reporter_are_called_for(night: Night, to: str) -> None:
    conversation = night.settings.tokens.mint(Purpose.CONVERSATION, "abcdefgh23456723")
    night.spooled(to=to.format(conversation=night.settings.addresses.reply_to(conversation)))
    night.pass_time(MINUTE)
    assert night.called == ["ana", "max"]


def test_where_addresses_carry_no_token_an_answer_is_known_by_what_it_answers(night: Night) -> None:
    night.settings = replace(night.settings, addresses=Addresses([PANIC], PANIC, "panic.example.com"))
    night.spooled()
    night.pass_time(GRACE)
    page = night.to("ana")[0]
    night.spooled(mail("ack", sender="ana@example.com", subject=f"Re: {page.subject}", in_reply_to=page.message_id))
    night.pass_time(MINUTE)
    assert night.called == ["ana", "max"]
    receipt = night.settings.addresses.message_id(night.settings.tokens.mint(Purpose.MESSAGE, "abcdefgh23456723"))
    for answered in ("<somebody@else.example>", receipt):
        night.spooled(mail("it spreads", in_reply_to=answered))
    night.pass_time(MINUTE)
    assert night.called == ["ana", "max"] * 3


def test_a_mail_that_goes_round_between_panicmails_calls_nobody(night: Night) -> None:
    night.spooled()
    night.pass_time(GRACE)
    page = night.to("ana")[0].raw
    night.spooled(page)  # Ana's address is another panicmail, whose database is away too
    night.pass_time(MINUTE)
    once_round = night.to("ana")[1].raw
    night.spooled(once_round)
    night.pass_time(MINUTE)
    assert len(night.to("ana")) == 2


# -- what cannot be read


def test_a_mail_that_cannot_be_read_is_called_for_with_what_is_known(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_id = night.spooled()
    (spooled,) = night.spool.waiting()
    kept = spooled.path.read_bytes()
    spooled.path.unlink()
    spooled.path.mkdir()
    night.relay.refused["max@example.com"] = Temporary("421 later")
    night.pass_time(GRACE)
    assert night.to("ana")[0].subject == f"[PANIC {ids.ref(mail_id)}] DATABASE AWAY: (a mail panicmail cannot read)"
    spooled.path.rmdir()
    spooled.path.write_bytes(kept)
    night.relay.refused.clear()
    night.pass_time(AGAIN)
    assert night.to("max")[0].subject.endswith("DATABASE AWAY: Ransom note"), "the next one has the whole of it"


def test_a_reader_that_breaks_costs_nobody_a_call(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_self: InProcess, raw: bytes, mail_from: str) -> Report:
        raise MemoryError

    monkeypatch.setattr(InProcess, "read", read)
    night.spooled()
    night.pass_time(GRACE)
    assert night.called == ["ana", "max"]


def test_a_file_that_is_not_what_was_written_is_told_once_to_operators_and_those_on_call(night: Night) -> None:
    night.spooled()
    night.spool.waiting()[0].path.write_bytes(b"{}\ntorn")
    night.pass_time(MINUTE)
    assert night.called == ["ana", "max"]
    name = night.spool.broken()[0]
    for posted in night.relay.sent:
        assert posted.subject.startswith("[panicmail] ")
        assert f"Detail: file: {name}" in " ".join(posted.text.split())


def test_a_mail_whose_reading_ended_the_process_is_called_for_unread_and_its_neighbour_read(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        """What follows in the process does not happen, as after a kill."""

    def dead(*_arguments: object, **_named: object) -> None:
        raise OSError("the process is dead")

    night.spooled()
    with monkeypatch.context() as patched:

        def deadly(_self: InProcess, raw: bytes, mail_from: str) -> Report:
            patched.setattr(Path, "unlink", dead)
            raise Died

        patched.setattr(InProcess, "read", deadly)
        with pytest.raises(Died):
            night.pass_time(GRACE)
    night.start()
    night.spooled(mail("The other one.", subject="Lost laptop"))
    night.pass_time(MINUTE)
    subjects = sorted(posted.subject.partition("DATABASE AWAY: ")[2] for posted in night.relay.sent)
    assert subjects == ["(a mail panicmail cannot read)"] * 2 + ["Lost laptop"] * 2


# -- what was open


def test_while_the_database_answers_or_is_away_for_a_moment_no_step_is_taken_from_memory(night: Night) -> None:
    for _ in range(3):
        night.answered(incident())
        night.pass_time(AWAY_AFTER - HALF)
    night.answered(incident())
    night.pass_time(5 * MINUTE - HALF - (night.now - T0))
    assert night.called == [], "it was away for long, but nothing was due"


def test_each_step_calls_its_people_when_its_time_comes_and_each_of_them_once(night: Night) -> None:
    night.answered(incident())
    night.pass_time(5 * MINUTE - HALF)
    assert night.called == []
    night.pass_time(HALF)
    assert night.called == ["ana"]
    night.pass_time(10 * MINUTE - HALF)
    assert night.called == ["ana"], "the third step names nobody new"
    night.pass_time(HALF)
    assert night.called == ["ana", "max"]
    night.pass_time(60 * MINUTE)
    assert night.called == ["ana", "max"]


def test_a_step_that_came_due_while_the_database_was_only_slow_is_called_for_when_it_is_away(night: Night) -> None:
    night.now = T0 + 16 * MINUTE
    night.start()
    night.answered(incident())
    night.pass_time(AWAY_AFTER - HALF)
    assert night.called == []
    night.pass_time(HALF)
    assert sorted(night.called) == ["ana", "max"]


def test_what_somebody_acknowledged_before_the_database_went_calls_nobody(night: Night) -> None:
    night.answered(incident())
    night.answered()
    night.pass_time(20 * MINUTE)
    assert night.called == []


def test_a_call_for_a_step_that_failed_is_made_again_and_dropped_when_the_database_answers(night: Night) -> None:
    night.relay.refused["ana@example.com"] = Temporary("421 later")
    night.answered(incident())
    night.pass_time(6 * MINUTE)
    assert night.relay.opened > 5
    tries = night.relay.opened
    night.answered()
    night.relay.refused.clear()
    night.pass_time(MINUTE)
    assert (night.called, night.relay.opened) == ([], tries)


def test_the_next_absence_calls_for_the_next_step_as_another_mail(night: Night) -> None:
    change = opened()
    night.answered(change.incident)
    night.pass_time(6 * MINUTE)
    taken = replace(change.incident, step=1, round=2, next_step_at=T0 + 10 * MINUTE)
    night.answered(taken)
    night.pass_time(5 * MINUTE)
    assert night.called == ["ana", "ana"]
    first, second = (posted.message_id for posted in night.to("ana"))
    real = [night.settings.addresses.message_id(night.settings.tokens.mint(Purpose.MESSAGE, taken.id, "ana", round_))
            for round_ in range(20)]  # fmt: skip
    assert first != second
    assert not {first, second} & set(real), "a mail server that drops repeats must take this one and the next page"


def test_a_step_that_names_nobody_calls_the_operators(night: Night) -> None:
    night.settings = on_call(night.settings, seoc=(), smoc=())
    night.answered(incident())
    night.pass_time(6 * MINUTE)
    assert night.called == ["max"]


def test_a_process_that_was_stopped_does_not_take_its_own_absence_for_the_databases(night: Night) -> None:
    night.answered(incident())
    night.now = T0 + 20 * MINUTE  # SIGSTOP, a suspended machine, a clock put forward
    night.emergency.call_who_is_due()
    night.pass_time(AWAY_AFTER - HALF)
    assert night.called == []
    night.pass_time(HALF)
    assert sorted(night.called) == ["ana", "max"], "and it is away indeed"


# -- away, or only busy


def test_a_tick_that_takes_long_while_the_database_answers_each_of_its_calls_calls_nobody(night: Night) -> None:
    night.now = T0 + 16 * MINUTE
    night.start()
    night.emergency.answered([incident()])
    for _ in range(400):  # steps that came due together
        with night.emergency.asking("write"):
            night.pass_time(HALF)
    night.pass_time(10 * MINUTE)  # the process itself was slow, and asked nothing
    assert night.called == []
    night.fails()
    night.pass_time(AWAY_AFTER)
    assert sorted(night.called) == ["ana", "max"], "and now it is away"


def test_one_call_that_fails_in_a_long_tick_is_no_absence(night: Night) -> None:
    night.now = T0 + 16 * MINUTE
    night.start()
    night.emergency.answered([incident()])
    night.fails("write")
    for _ in range(40):
        with night.emergency.asking("write"):
            night.pass_time(HALF)
    assert night.called == []


def test_a_call_that_gets_no_answer_at_all_is_an_absence(night: Night) -> None:
    night.now = T0 + 16 * MINUTE
    night.start()
    night.emergency.answered([incident()])
    with night.emergency.asking("read"):
        night.pass_time(AWAY_AFTER - HALF)
        assert night.called == []
        night.pass_time(HALF)
    assert sorted(night.called) == ["ana", "max"]


def test_a_database_that_answers_reads_and_takes_no_write_is_away(night: Night) -> None:
    night.now = T0 + 16 * MINUTE
    night.start()
    night.emergency.answered([incident()])
    for _ in range(20):
        with night.emergency.asking("read"):
            pass
        night.fails("write")
        night.pass_time(HALF)
    assert sorted(night.called) == ["ana", "max"]


def test_a_mistake_of_ours_in_the_middle_of_a_call_is_no_absence(night: Night) -> None:
    night.now = T0 + 16 * MINUTE
    night.start()
    night.emergency.answered([incident()])
    for _ in range(40):
        with contextlib.suppress(ZeroDivisionError), night.emergency.asking("write"):
            raise ZeroDivisionError
        night.pass_time(HALF)
    assert night.called == []


# -- not even the spool


def test_that_nothing_is_accepted_is_told_to_operators_and_those_on_call_once_an_hour(night: Night) -> None:
    night.settings = replace(night.settings, operators=("bo", "max"))
    for _ in range(5):
        night.emergency.refused("database is locked; no space left on device")
    night.pass_time(SECOND)
    assert sorted(night.called) == ["ana", "bo", "max"]
    night.now += REFUSED_EVERY - 2 * SECOND
    night.emergency.refused("again")
    night.pass_time(SECOND)
    assert len(night.called) == 3
    night.now += 2 * SECOND
    night.emergency.refused("again")
    night.pass_time(SECOND)
    assert sorted(night.called) == ["ana", "ana", "bo", "bo", "max", "max"]
    assert len({posted.message_id for posted in night.relay.sent}) == 6


def test_the_alarm_that_nothing_is_accepted_is_tried_until_it_is_taken(night: Night) -> None:
    night.relay.refused = dict.fromkeys(["ana@example.com", "max@example.com"], Temporary("421 later"))
    night.emergency.refused("database is locked")
    night.pass_time(MINUTE)
    assert night.called == []
    night.relay.refused.clear()
    night.pass_time(AGAIN)
    assert night.called == ["ana", "max"]


# -- together


def test_hearing_of_the_database_and_looking_at_once_breaks_neither(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as callers:
        night = Night(tmp_path / "spool", callers)
        many = [incident() for _ in range(50)]
        night.answered(*many)
        night.pass_time(AWAY_AFTER)
        stop = threading.Event()

        def tick() -> None:
            while not stop.is_set():
                night.answered(*many)

        ticking = callers.submit(tick)
        night.now += 20 * MINUTE
        for _ in range(200):
            night.emergency.call_who_is_due()
        stop.set()
        assert ticking.exception(SOON) is None


def test_the_watchman_goes_on_looking_whatever_a_look_raises(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback_pager, "LOOK_EVERY", 0.001)
    looks: list[int] = []

    def call_who_is_due() -> None:
        looks.append(1)
        raise RuntimeError("out of order")

    monkeypatch.setattr(night.emergency, "call_who_is_due", call_who_is_due)
    watchman = FallbackWatcher(night.emergency)
    watchman.start()
    eventually(lambda: len(looks) > 3, "it gave up")
    watchman.stop()
    watchman.join(SOON)
    assert not watchman.is_alive()


def eventually(question: Callable[[], object], else_: str) -> None:
    ends_at = time.monotonic() + SOON
    while not question():
        assert time.monotonic() < ends_at, else_
        time.sleep(0.005)


# -- in which words


def text(posted: Posted) -> list[str]:
    assert not list(commands(posted)), "a line of ours would be read as a command"
    return posted.text.splitlines()


def commands(posted: Posted) -> Iterator[str]:
    for line in posted.text.splitlines():
        if not line.startswith("| ") and any(
            reply_commands.read(mark + line).meaning is not reply_commands.Command.NOTHING for mark in ("", "> ", "| ")
        ):
            yield line


def test_the_page_about_a_mail_in_the_spool_says_act_now_and_who_else_knows(night: Night) -> None:
    night.answered()
    night.now += 7 * MINUTE
    mail_id = night.spooled()
    night.pass_time(GRACE)
    page = night.to("max")[0]
    assert page.subject == f"[PANIC {ids.ref(mail_id)}] DATABASE AWAY: Ransom note"
    assert text(page) == [
        "Max: act on this now. Ana (SEOC) is told the same; call each other.",
        "Why: panicmail's database has been away since 03:07 CET, so nothing escalates.",
        "Your reply is kept, and counts once the database is back. Until then panicmail answers nobody.",
        "By Rita Lopez <rita@example.com>, 03:14",
        "Sender: not proved (senders are not checked)",
        "Called at the same time: Ana (SEOC).",
        "Call Ana: +49 151 0",
        "Issue: follows, GitLab has not answered yet",
        "Report (quoted, untrusted):",
        "| My files are .locked, Slack is gone.",
    ]


def test_the_page_to_the_only_one_on_call_says_that_nobody_else_is_called(night: Night) -> None:
    night.settings = on_call(night.settings, seoc=("ana",), smoc=("ana",))
    night.spooled()
    night.pass_time(GRACE)
    assert text(night.to("ana")[0])[0] == "Ana: act on this now. Nobody else is called."


def test_the_page_from_memory_says_whose_turn_it_was_and_that_nobody_knows_who_has_it(night: Night) -> None:
    change = opened()
    night.answered(change.incident)
    night.pass_time(15 * MINUTE)
    ana, max_ = night.to("ana")[0], night.to("max")[0]
    assert ana.subject == f"[PANIC {change.incident.ref}] STATE UNKNOWN: Ransom note on my laptop"
    assert text(ana)[: text(ana).index("Issue: follows, GitLab has not answered yet")] == [
        "Ana: act on this now. Your turn came at 03:12 CET.",
        "Why: panicmail's database has been away since 03:07 CET, so it cannot say who has this.",
        "Your reply is kept, and counts once the database is back.",
        "By Rita Lopez <rita@example.com>, 03:07",
        "Sender: not proved (senders are not checked)",
    ]
    assert text(max_)[: text(max_).index("Issue: follows, GitLab has not answered yet")] == [
        "Max: call Ana (SEOC) now, or act on this yourself. Your turn came at 03:22 CET.",
        "Why: panicmail's database has been away since 03:07 CET, so it cannot say who has this.",
        "Your reply is kept, and counts once the database is back.",
        "By Rita Lopez <rita@example.com>, 03:07",
        "Sender: not proved (senders are not checked)",
        "Call Ana: +49 151 0",
    ]


def test_the_alarm_that_nothing_is_accepted_says_what_it_means_and_what_mends_it(night: Night) -> None:
    night.emergency.refused("database is locked; the spool cannot be written: No space left on device")
    night.pass_time(SECOND)
    alarm = night.to("max")[0]
    assert alarm.subject == "[panicmail] panicmail takes no mail"
    assert text(alarm) == [
        "Operators: panicmail takes no mail, 03:07 CET.",
        "Neither the database nor the emergency spool took a mail. Its sender keeps it and tries again for days.",
        "Mend: Bring the database back, or make room on the disk of the spool. Tell people to telephone until then.",
        "Detail: reason: database is locked; the spool cannot be written: No space left on device",
        "Do not reply to this mail: a reply is taken for a new report.",
    ]
