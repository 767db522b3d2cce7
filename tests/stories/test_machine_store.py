"""The store under any history: two workers, slow ones among them, a clock that is moved, and a small model beside it.

`StoreMachine` drives real stores on a real database: SQLite (the daemon's writer thread, and a command beside it) and
PostgreSQL (two nodes). `Model` says what each call must answer and what must stand in every row afterwards: who may
claim what, whose late word still counts, what waits for what, what an acknowledgement voids. What becomes of an
incident it asks the pure rules themselves, so whatever is stored and read back differently shows at once.

PANICMAIL_FUZZ multiplies the examples: see `tests/examples.py`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from panicmail.errors import StoreFailed
from panicmail.incident import ids, transitions
from panicmail.incident.escalation_policy import Duty
from panicmail.incident.model import (
    Change,
    Effect,
    EffectKind,
    Entry,
    Incident,
    Outcome,
    PageReason,
    State,
    unchanged,
)
from panicmail.incident.push_channel import PAGERDUTY
from panicmail.incident.tasks import LANES, PUSH, PUSHED, RECEIPT_WAITS
from panicmail.incident.transitions import ShiftChange, UnsentReason
from panicmail.incident.transitions.undo import UNDOABLE
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.queries import Conflict
from panicmail.store.rows import OVER, AcceptedMail, DeliveryState, OutboxRow, UnderstoodMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.writer import WriterThread
from tests.cast import MINUTE, POLICY, SECOND, T0, who
from tests.examples import FUZZ, many
from tests.store_rows import MovedClock

pytestmark = pytest.mark.timeout(600 * max(1, FUZZ))  # a failing machine takes its time to shrink

T = TypeVar("T")
Decide = Callable[[Incident, datetime], Change]

LEASE = timedelta(seconds=30)
PENDING = (DeliveryState.QUEUED, DeliveryState.TRYING)
#: Rows that wait until another of their incident is over.
WAITS_FOR = {"files": "issue", "mirror": "issue", "note": "issue", "receipt": "issue", "news": "receipt"}
LANE_OF = {**{do.value: lane for do, lane in LANES.items()}, "note": "gitlab"}
EVERY_LANE = ("gitlab", "page", PUSH, "mail")
#: The phones people have.
CHANNELS = {"ana": ("push-1", "push-2"), "max": (f"{PAGERDUTY}-1",)}

SPANS = st.sampled_from([SECOND, RECEIPT_WAITS, LEASE - timedelta(microseconds=1), LEASE, 5 * MINUTE, 15 * MINUTE])
WAIT = st.sampled_from([timedelta(0), timedelta(0), SECOND, LEASE, 5 * MINUTE])
WORKERS = st.integers(0, 1)
PEOPLE = st.sampled_from(["ana", "max", "bo"])
ANY = st.integers(0, 30)
#: More mails make no history more interesting, only longer.
MAILS = 6


def write(store: Store, work: Callable[[Transaction], T]) -> T:
    return store.write("test", work)


def submit(store: Store, work: Callable[[Transaction], T]) -> Future[T]:
    return store.submit("test", work)


def change(store: Store, incident: Incident, decide: Decide) -> Change | None:
    return store.change("test", incident.id, decide)


# -- what happens to incidents and mails

HOW = "in a test"


def more(person: str) -> Decide:
    entry = Entry(event="thread.more", facts={"text": "\x00 and \U0001f631"})

    def decide(incident: Incident, now: datetime) -> Change:
        mail_id = f"m{now.timestamp()}"
        return transitions.more(
            incident,
            transitions.MoreMail(entry=entry, mail_id=mail_id, human=True, thanks=False, writer=person),
            Duty(POLICY, who, now),
        )

    return decide


def speak(person: str) -> Decide:
    """Whoever has it writes to the reporter; while nobody does, what they write stays inside."""

    def decide(incident: Incident, now: datetime) -> Change:
        mail_id, text, writer = f"m{now.timestamp()}", "\x00 and \U0001f631", incident.holder or person
        if transitions.speaks(incident, writer):
            return transitions.speak(
                incident, transitions.Speech(person=writer, text=text, how=HOW, mail_id=mail_id), POLICY, now
            )
        why = UnsentReason.NOT_YOURS
        return transitions.leave_unsaid(
            incident, writer, transitions.Unsent(why=why, writer=writer, text=text, mail_id=mail_id)
        )

    return decide


def undo(_person: str) -> Decide:
    """By whoever has it; everybody else's page was dropped unsent."""

    def decide(incident: Incident, now: datetime) -> Change:
        person = incident.holder or ""
        facts = {"step_in": 60.0, "acked_before": None, "acked_how": "", "is_first": True, "handed_to": None,
                 "away": None}  # fmt: skip
        kept = Entry(event=UNDOABLE, actor=incident.holder, facts=facts)
        return transitions.undo(
            incident,
            transitions.Undoing(person=person, how=HOW, missed=sorted(incident.paged.keys() - {person})),
            [kept],
            now,
        )

    return decide


def shift(person: str) -> Decide:
    """`person` came on call a second ago."""

    def decide(incident: Incident, now: datetime) -> Change:
        change = ShiftChange(role="seoc", at=now - SECOND, people=(person,))
        return transitions.shift_changed(incident, POLICY, change, [], now)

    return decide


DECIDE: dict[str, Callable[[str], Decide]] = {
    "yes": lambda p: lambda i, now: transitions.acknowledge(i, p, HOW, POLICY, now),
    "no": lambda p: lambda i, now: transitions.decline(i, p, HOW, "no", Duty(POLICY, who, now)),
    "escalate": lambda p: lambda i, now: transitions.escalate(i, p, HOW, Duty(POLICY, who, now)),
    "resolve": lambda p: lambda i, now: transitions.resolve(i, p, HOW, POLICY, now),
    "work": lambda p: lambda i, now: transitions.sign_of_work(i, p, POLICY, now),
    "closed": lambda p: (
        lambda i, now: transitions.issue_closed(
            i, transitions.IssueClosing(by=p, closed_at=now.isoformat()), POLICY, now
        )
    ),
    "reopened": lambda p: (
        lambda i, now: transitions.issue_reopened(i, p, Duty(POLICY, who, now), reopened_at=now, counts=p != "cy")
    ),
    "offer": lambda p: lambda i, now: transitions.hand_over(i, p, "cy", HOW, now),
    "away": lambda p: lambda i, now: transitions.unreachable(i, p, "out of office", Duty(POLICY, who, now)),
    "note": lambda p: lambda i, now: unchanged(i, Outcome.NOTED, Entry(event="mail.resent", actor=p)),
    "time": lambda p: lambda i, now: transitions.pass_time(i, Duty(POLICY, who, now)),
    "more": more,
    "speak": speak,
    "undo": undo,
    "shift": shift,
}
WORDS = st.sampled_from(sorted(DECIDE))


def pushed(do: EffectKind, key: str, person: str | None, word: object = None) -> set[str]:
    """The keys of what goes to that person's phones beside the row `key`."""
    channels = CHANNELS.get(person or "", ()) if do in PUSHED and word != PageReason.STATUS else ()
    return {f"{key}/{name}" for name in channels if do is not EffectKind.TELL or not name.startswith(PAGERDUTY)}


def overtaken(decide: Decide, hurry: list[Callable[[], None]]) -> Decide:
    """`decide`, but what is in `hurry` is done meanwhile, the first time."""

    def deciding(read: Incident, now: datetime) -> Change:
        while hurry:
            hurry.pop()()
        return decide(read, now)

    return deciding


def opened(tx: Transaction, mail: AcceptedMail, *, receipt: bool) -> Change:
    fresh = transitions.new(
        id=ids.incident_id(mail.id),
        ref=tx.incidents.free_ref(mail.id),
        mail_id=mail.id,
        policy=POLICY,
        accepted_at=mail.accepted_at,
        reporter_address="rita@example.com",
    )
    return transitions.open_panic(fresh, Duty(POLICY, who, tx.now), receipt=receipt, entry_facts={})


def understand(
    tx: Transaction,
    mail: AcceptedMail,
    into: Incident | None,
    *,
    receipt: bool,
    hurry: Sequence[Callable[[], None]] = (),
) -> Change | None:
    """As intake does it: None when another has understood it. `hurry` is done between looking and writing."""
    if not tx.mails.is_waiting(mail.id):
        return None
    for done in hurry:
        done()
    made = more("")(into, tx.now) if into else opened(tx, mail, receipt=receipt)
    if into:
        tx.incidents.apply(into, made)
    else:
        tx.incidents.add(made)
    tx.mails.understood(mail.id, UnderstoodMail(digest=mail.id, incident_id=made.incident.id, **filed(into)))
    return made


def filed(into: Incident | None) -> dict[str, Any]:
    return {"shape": "more" if into else "panic", "message_id": "<m@x>", "report": "{}"}


def adding(mail: AcceptedMail, *, fails: bool) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        tx.mails.add(mail, b"x")
        if fails:
            raise RuntimeError("half way")

    return work


def word_of(task: OutboxRow, state: DeliveryState, tx: Transaction, *, off: bool, at: datetime) -> bool:
    return tx.outbox.put_off(task, at, "late", sure=True) if off else tx.outbox.settle(task, state, "late")


def _is_mine(task: OutboxRow, tx: Transaction) -> bool:
    return tx.outbox.is_mine(task)


# -- the model


@dataclass
class Letter:
    """An accepted mail as it must stand in the store."""

    mail: AcceptedMail
    raw: bytes
    lease_until: datetime | None = None
    lease_by: str | None = None

    @property
    def waits(self) -> bool:
        return self.mail.shape is None


@dataclass
class Row:
    """A row of the outbox as it must stand in the store."""

    task: OutboxRow
    after: str | None  #: key of the row that must be over first
    until: datetime | None  #: but it is waited for no longer than this
    lease_until: datetime | None = None
    lease_by: str | None = None


@dataclass
class Worker:
    """A thread with a store, and what it has claimed and not settled: it may be slow, and speak up much later."""

    name: str | None  #: under which it claims; None: the store does not tell one from the other
    store: Store
    mails: list[AcceptedMail] = field(default_factory=list)
    tasks: list[OutboxRow] = field(default_factory=list)


@dataclass
class Model:
    """What must stand in the store."""

    clock: MovedClock
    letters: dict[str, Letter] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)  #: keys of pages of which nobody asks whether they reach somebody

    @property
    def now(self) -> datetime:
        return self.clock.at

    def in_order(self) -> list[Row]:
        return sorted(self.rows.values(), key=lambda row: row.task.id)

    # who may have what

    def is_free(self, held: Letter | Row) -> bool:
        return held.lease_until is None or held.lease_until <= self.now

    def may_claim(self, held: Letter | Row, by: Worker) -> bool:
        return self.is_free(held) or (by.name is not None and held.lease_by == by.name)

    def lease(self, held: Letter | Row, by: Worker) -> None:
        held.lease_until, held.lease_by = self.now + LEASE, by.name

    def waiting_mails(self, by: Worker) -> list[Letter]:
        free = [letter for letter in self.letters.values() if letter.waits and self.may_claim(letter, by)]
        return sorted(free, key=lambda letter: (letter.mail.turn, letter.mail.accepted_at, letter.mail.id))

    def ready_rows(self, lane: str, by: Worker) -> list[Row]:
        rows = [row for row in self.in_order() if row.task.lane == lane and row.task.state in PENDING]
        rows.sort(key=lambda row: (row.task.priority, row.task.id))
        return [r for r in rows if r.task.due_at <= self.now and self.may_claim(r, by) and not self.must_wait(r)]

    def must_wait(self, row: Row) -> bool:
        if row.after is None or self.rows[row.after].task.state in OVER:
            return False
        return row.until is None or row.until > self.now

    def counts(self, task: OutboxRow) -> bool:
        """Whether the word of this attempt still counts: no other was made since, and nothing ended the row."""
        now = self.rows[task.key].task
        return (now.attempt, now.state) == (task.attempt, DeliveryState.TRYING)

    # what a change brings with it

    def expect(self, before: Incident | None, made: Change, stored: Iterable[OutboxRow]) -> None:
        """The incident, its voided pages, and exactly the rows the change asks for."""
        after = made.incident
        if before is not None and after != before:
            after = replace(after, version=before.version + 1)
        self.incidents[after.id] = after
        if made.void_pages:
            self._void(after.id)
            self.decided.update(task.key for task in self.pages_of(after.id))
        mirrors = self._mirrors(after, before.version) if before and before.state is not after.state else set()
        self.adopt(stored, mirrors.union(self.keys(after, made.effects)), notes=notes(made))
        gone = after.away.keys() - (before.away.keys() if before else ())
        self.decided.update(task.key for task in self.pages_of(after.id) if task.person in gone)

    def pages_of(self, incident_id: str | None) -> list[OutboxRow]:
        tasks = (row.task for row in self.in_order())
        return [task for task in tasks if task.do == EffectKind.PAGE and task.incident_id == incident_id]

    def page_ended(self, page: OutboxRow) -> None:
        """One that was taken decides for those before it; one that was not asks again about those on their way."""
        theirs = [task for task in self.pages_of(page.incident_id) if task.person == page.person]
        if page.state is DeliveryState.ACCEPTED:
            self.decided.update(task.key for task in theirs if task.facts["round"] <= page.facts["round"])
        elif page.state is DeliveryState.FAILED:
            self.decided.difference_update(task.key for task in theirs if task.state in PENDING)

    def _mirrors(self, incident: Incident, version: int) -> set[str]:
        """In GitLab, and in PagerDuty of whoever was paged by it."""
        key = f"{incident.id}/mirror/{version}"
        channels = (name for person in incident.paged for name in CHANNELS.get(person, ()))
        return {key, *(f"{key}/{name}" for name in channels if name.startswith(PAGERDUTY))}

    def _void(self, incident_id: str) -> None:
        for row in self.rows.values():
            task = row.task
            if (
                (task.incident_id, task.do) == (incident_id, EffectKind.PAGE)
                and task.state in PENDING
                and self.is_free(row)
            ):
                row.task = replace(task, state=DeliveryState.VOID, done_at=self.now)

    def keys(self, incident: Incident, effects: Iterable[Effect]) -> Iterator[str]:
        """Of the rows these ask for. News want a receipt, an earlier one or that of the same change."""
        has_receipt = f"{incident.id}/receipt" in self.rows
        for effect in effects:
            has_receipt = has_receipt or effect.do is EffectKind.RECEIPT
            key, person = f"{incident.id}/{effect.key}", effect.person
            if effect.do is EffectKind.OPERATORS:
                key, person = f"operators/{effect.facts['cause']}/{self.now:%Y%m%d%H}/max", "max"
            if effect.do is not EffectKind.NEWS or has_receipt:
                yield from {key, *pushed(effect.do, key, person, effect.facts.get("word"))}

    def adopt(self, stored: Iterable[OutboxRow], keys: set[str], *, notes: int) -> None:
        """Take up the rows that are new, which must be those asked for and no others."""
        new = [task for task in stored if task.key not in self.rows]
        assert sum(task.do == "note" for task in new) == notes
        assert {task.key for task in new if task.do != "note"} == keys - self.rows.keys()
        for task in new:
            assert (task.state, task.attempt, task.queued_at) == (DeliveryState.QUEUED, 0, self.now)
            is_push = "channel" in task.facts
            assert task.lane == (PUSH if is_push else LANE_OF[task.do])
            waits = task.do in WAITS_FOR and not is_push
            after = f"{task.incident_id}/{WAITS_FOR[task.do]}" if waits else None
            self.rows[task.key] = Row(task, after, self.now + RECEIPT_WAITS if task.do == "receipt" else None)

    # what is true whatever happened

    def no_accepted_mail_disappears_or_changes(self, tx: Transaction) -> None:
        for letter in self.letters.values():
            assert (tx.mails.get(letter.mail.id), tx.mails.raw(letter.mail.id)) == (letter.mail, letter.raw)

    def every_incident_is_there_once_as_the_rules_left_it(self, tx: Transaction) -> None:
        stored = tx.search.list_incidents()
        assert {incident.id: incident for incident in stored} == self.incidents
        assert len({incident.mail_id for incident in stored}) == len({i.ref for i in stored}) == len(stored)

    def every_row_stands_as_the_last_word_that_counts_left_it(self, tx: Transaction) -> None:
        stored = [task for incident_id in self.incidents for task in tx.outbox.of_incident(incident_id)]
        assert {task.key: task for task in stored} == {key: row.task for key, row in self.rows.items()}
        assert len({task.key for task in stored}) == len(stored)

    def the_figures_count_what_is_there(self, tx: Transaction) -> None:
        figures = tx.figures.totals()
        waiting = sum(letter.waits for letter in self.letters.values())
        mails = {"accepted": waiting, "understood": len(self.letters) - waiting}
        assert figures["mails"] == {state: n for state, n in mails.items() if n}
        assert sum(figures["outbox"].values()) == len(self.rows)

    def pages_nobody_took_are_seen(self, tx: Transaction) -> None:
        pages = [row.task for row in self.in_order() if row.task.do == EffectKind.PAGE]
        stale = [task for task in pages if task.state is DeliveryState.FAILED
                 or (task.state in PENDING and task.queued_at <= self.now - MINUTE)]  # fmt: skip
        assert tx.pages.undelivered(MINUTE) == [task for task in stale if task.key not in self.decided]


def notes(made: Change) -> int:
    return sum(entry.note for entry in made.entries)


# -- databases, an empty one for each example


class Home(Protocol):
    """Makes databases with the tables of the program, and takes them away."""

    def build(self) -> str: ...
    def clear(self, url: str) -> None: ...


class SqliteHome:
    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, count()
        self._template = folder / "template.db"
        tables_in(f"sqlite:///{self._template}")

    def build(self) -> str:
        path = self._folder / f"{next(self._numbers)}.db"
        shutil.copy(self._template, path)
        return f"sqlite:///{path}"

    def clear(self, url: str) -> None:
        for file in self._folder.glob(f"{Path(url).name}*"):
            file.unlink()


class PostgresHome:
    def __init__(self, url: str) -> None:
        self._url, self._numbers = url, count()
        self._template = database_in(url)
        tables_in(url)

    def build(self) -> str:
        name = f"{self._template}_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return self._url.replace(f"/{self._template}", f"/{name}")

    def clear(self, url: str) -> None:
        self._run(f"DROP DATABASE {database_in(url)} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        import psycopg
        from psycopg.sql import SQL

        with psycopg.connect(self._url.replace(f"/{self._template}", "/postgres"), autocommit=True) as connection:
            connection.execute(SQL(statement))


def database_in(url: str) -> str:
    found = re.search(r"/(pm_\w+)", url)
    assert found
    return found[1]


def tables_in(url: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    database.close()


# -- the machine


class StoreMachine(RuleBasedStateMachine):
    """The histories. A rule that finds nothing to work on makes it first. `home` makes the databases."""

    home: Home

    def __init__(self) -> None:
        super().__init__()
        self._url = self.home.build()
        self._close = contextlib.ExitStack()
        self.clock = MovedClock()
        self.model = Model(self.clock)
        self.snapshots: list[Incident] = []
        self.mail_numbers, self.iids, self.nodes = count(1), count(1), count(1)
        self._start()

    def _start(self) -> None:
        databases = [Database(self._url, clock=self.clock) for _ in range(2)]
        self.is_sqlite = databases[0].is_sqlite
        self.workers = [self._worker(database, number) for number, database in enumerate(databases)]

    def _worker(self, database: Database, number: int) -> Worker:
        """On SQLite the first is the daemon with its writer thread, the second a command beside it."""
        self._close.callback(database.close)
        writer = WriterThread(database, broken=lambda: None) if self.is_sqlite and number == 0 else None
        if writer:
            self._close.callback(lambda: writer.stop(10))
        node = None if self.is_sqlite else str(next(self.nodes))
        store = Store(
            database,
            writer=writer,
            operators=lambda: ["max"],
            channels=lambda person: CHANNELS.get(person, ()),
            node=lambda: node,
        )
        self._close.callback(store.close)
        return Worker(node and f"{node}/MainThread", store)

    def teardown(self) -> None:
        self._close.close()
        self.home.clear(self._url)

    def _store(self, worker: int) -> Store:
        return self.workers[worker].store

    def _incident(self, which: int) -> Incident:
        return list(self.model.incidents.values())[which % len(self.model.incidents)]

    def _rows_of(self, incident: Incident) -> list[OutboxRow]:
        return self._store(1).read(lambda tx: tx.outbox.of_incident(incident.id))

    @initialize(receipts=st.lists(st.booleans(), min_size=1, max_size=2))
    def some_panics(self, receipts: list[bool]) -> None:
        for receipt in receipts:
            self.a_mail_comes_in(0, 30, b"help", spooled=False)
            self._claim_mails(0, 1)
            self._understand(0, None, receipt=receipt)

    @rule(span=SPANS)
    def time_passes(self, span: timedelta) -> None:
        self.clock.at += span

    @rule()
    def everything_is_started_anew(self) -> None:
        """What was claimed and not settled is anybody's, on SQLite at once, on PostgreSQL when its lease is over."""
        self._claim(1, "page", 1)
        self._close.close()
        self._start()
        if self.is_sqlite:
            write(self._store(0), lambda tx: tx.release_leases())
            for letter in self.model.letters.values():
                letter.lease_until = None
            for row in self.model.rows.values():
                row.lease_until = None
        self._claim(0, "page", 1)

    # -- mails

    @rule(worker=WORKERS, which=ANY, raw=st.binary(max_size=40), spooled=st.booleans())
    def a_mail_comes_in(self, worker: int, which: int, raw: bytes, spooled: bool) -> None:
        """`spooled`: out of the spool; it may be in the database already, the answer to its COMMIT lost."""
        known = list(self.model.letters.values())
        if len(known) > MAILS:
            return
        mail = known[which].mail if spooled and which < len(known) else self._mail(raw)
        if spooled:
            taken = write(self._store(worker), lambda tx: tx.mails.take_in(mail, raw))
            assert taken == (mail.id not in self.model.letters)
        else:
            write(self._store(worker), lambda tx: tx.mails.add(mail, raw))
        self._is_kept(mail, raw)

    def _is_kept(self, mail: AcceptedMail, raw: bytes) -> None:
        """A mail came in; whose turn it is follows from what waited then, of which two nodes may see each its own."""
        stored = self._store(1).read(lambda tx: tx.mails.get(mail.id))
        assert stored is not None
        self.model.letters.setdefault(mail.id, Letter(replace(mail, turn=stored.turn), raw))

    def _mail(self, raw: bytes) -> AcceptedMail:
        number = next(self.mail_numbers)
        return AcceptedMail(
            id=f"mail{number:022}"[::-1],
            accepted_at=self.clock.at,
            mail_from="rita@example.com",
            peer="::1",
            recipients=("panic@example.com",),
            helo="client",
            tls="",
            size=len(raw),
        )

    @rule(worker=WORKERS, bad=st.integers(0, 2))
    def mails_accepted_together_share_a_commit_but_not_a_failure(self, worker: int, bad: int) -> None:
        """Three at once, of which one fails midway."""
        if len(self.model.letters) > MAILS:
            return
        mails = [self._mail(b"x") for _ in range(3)]
        futures = [submit(self._store(worker), adding(mail, fails=n == bad)) for n, mail in enumerate(mails)]
        for number, (mail, future) in enumerate(zip(mails, futures, strict=True)):
            if number == bad:
                with pytest.raises(RuntimeError, match="half way"):
                    future.result(10)
            else:
                future.result(10)
                self._is_kept(mail, b"x")

    @rule(wait=WAIT, worker=WORKERS, limit=st.integers(1, 3))
    def mails_are_claimed(self, wait: timedelta, worker: int, limit: int) -> None:
        self.clock.at += wait
        self._claim_mails(worker, limit)

    def _claim_mails(self, worker: int, limit: int) -> None:
        by = self.workers[worker]
        expected = self.model.waiting_mails(by)[:limit]
        claimed = write(by.store, lambda tx: tx.mails.claim(limit, LEASE))
        for letter in expected:
            letter.mail = replace(letter.mail, attempts=letter.mail.attempts + 1)
            self.model.lease(letter, by)
        assert claimed == [letter.mail for letter in expected]
        by.mails += claimed

    @rule(wait=WAIT, which=ANY, panic=st.booleans(), receipt=st.booleans())
    def a_claimed_mail_is_understood(self, wait: timedelta, which: int, panic: bool, receipt: bool) -> None:
        """As intake does it; perhaps long after the lease, when another has understood it already."""
        self.clock.at += wait
        if (worker := self._reader(which)) is not None:
            self._understand(worker, None if panic else self._incident(which), receipt=receipt)

    def _reader(self, which: int) -> int | None:
        """A worker that has claimed a mail, perhaps long ago."""
        if not any(worker.mails for worker in self.workers):
            self.a_mail_comes_in(which % 2, 30, b"more", spooled=False)
            self._claim_mails(which % 2, 2)
        return next((n for n in (which % 2, 1 - which % 2) if self.workers[n].mails), None)

    def _understand(self, worker: int, into: Incident | None, *, receipt: bool) -> None:
        mail = self.workers[worker].mails.pop(0)
        waits = self.model.letters[mail.id].waits
        made = write(self._store(worker), lambda tx: understand(tx, mail, into, receipt=receipt))
        assert (made is not None) == waits, "a mail is understood once"
        if made is not None:
            self._is_understood(mail, into, made)

    def _is_understood(self, mail: AcceptedMail, into: Incident | None, made: Change) -> None:
        letter = self.model.letters[mail.id]
        letter.mail, letter.lease_until = replace(letter.mail, incident_id=made.incident.id, **filed(into)), None
        self.model.expect(into, made, self._rows_of(made.incident))

    @rule(worker=WORKERS, panics=st.tuples(st.booleans(), st.booleans()), which=ANY)
    def a_slow_reader_is_overtaken(self, worker: int, panics: tuple[bool, bool], which: int) -> None:
        """Two workers understand the same mail, one after the other: the second does nothing."""
        self.clock.at += LEASE
        self.a_mail_comes_in(worker, 30, b"more", spooled=False)
        self._claim_mails(worker, 9)
        self.clock.at += LEASE
        self._claim_mails(1 - worker, 9)
        for by, panic in zip((1 - worker, worker), panics, strict=True):
            while self.workers[by].mails:
                self._understand(by, None if panic else self._incident(which), receipt=True)

    @rule(worker=WORKERS, which=ANY)
    def a_mail_opens_one_incident_only(self, worker: int, which: int) -> None:
        mail = self.model.letters[self._incident(which).mail_id].mail
        with pytest.raises(StoreFailed):
            write(self._store(worker), lambda tx: tx.incidents.add(opened(tx, mail, receipt=True)))

    # -- incidents

    @rule(wait=WAIT, worker=WORKERS, which=ANY, person=PEOPLE, word=WORDS)
    def something_happens(self, wait: timedelta, worker: int, which: int, person: str, word: str) -> None:
        self.clock.at += wait
        self._change(worker, self._incident(which), DECIDE[word](person))

    @rule(wait=WAIT, worker=WORKERS, which=ANY, person=PEOPLE, word=st.sampled_from(["undo", "speak", "shift"]))
    def something_follows_an_acknowledgement(
        self, wait: timedelta, worker: int, which: int, person: str, word: str
    ) -> None:
        self._change(worker, self._incident(which), DECIDE["yes"](person))
        self.clock.at += wait
        self._change(1 - worker, self._incident(which), DECIDE[word](person))

    def _change(self, worker: int, before: Incident, decide: Decide) -> None:
        expected = decide(before, self.clock.at)
        assert change(self._store(worker), before, decide) == expected
        self.model.expect(before, expected, self._rows_of(before))

    @rule(wait=WAIT, worker=WORKERS)
    def the_clock_ticks(self, wait: timedelta, worker: int) -> None:
        self.clock.at += wait
        due = [i for i in self.model.incidents.values() if transitions.is_due(i, self.clock.at)]
        found = self._store(worker).read(lambda tx: tx.search.due_incidents())
        assert {i.id for i in found} == {i.id for i in due}, "the statement knows what is due as the rules do"
        assert [i.sla_at for i in found] == sorted(i.sla_at for i in due), "most overdue first"
        for incident in found:
            self._change(worker, incident, DECIDE["time"](""))

    @rule(which=ANY)
    def somebody_looks_at_an_incident(self, which: int) -> None:
        self.snapshots.append(self._incident(which))

    @rule(worker=WORKERS, which=ANY, person=PEOPLE)
    def a_change_of_what_was_seen_then_counts_only_if_nothing_changed_since(
        self, worker: int, which: int, person: str
    ) -> None:
        if not self.snapshots:
            self.somebody_looks_at_an_incident(which)
            self._change(worker, self._incident(which), DECIDE["escalate"](person))
        seen = self.snapshots.pop(which % len(self.snapshots))
        taken, now = transitions.take(seen, person, HOW, POLICY, self.clock.at), self.model.incidents[seen.id]
        if taken.incident == seen:
            return
        if seen.version == now.version:
            write(self._store(worker), lambda tx: tx.incidents.apply(seen, taken))
            # An issue is no change of state, and stays.
            after = replace(taken.incident, issue_iid=now.issue_iid, issue_url=now.issue_url)
            self.model.expect(seen, replace(taken, incident=after), self._rows_of(seen))
        else:
            with pytest.raises((Conflict, StoreFailed)):
                write(self._store(worker), lambda tx: tx.incidents.apply(seen, taken))

    @rule(worker=WORKERS, which=ANY)
    def a_work_that_fails_leaves_nothing_behind(self, worker: int, which: int) -> None:
        incident = self._incident(which)

        def work(tx: Transaction) -> None:
            tx.incidents.apply(incident, transitions.take(incident, "bo", "", POLICY, tx.now))
            tx.queue.tell(incident, "bo", f"half/{next(self.iids)}", {})
            raise RuntimeError("half way")

        with pytest.raises(RuntimeError, match="half way"):
            write(self._store(worker), work)

    @rule(worker=WORKERS, which=ANY, person=PEOPLE, key=st.integers(0, 1))
    def the_same_is_told_once(self, worker: int, which: int, person: str, key: int) -> None:
        incident = self._incident(which)
        write(self._store(worker), lambda tx: tx.queue.tell(incident, person, f"k{key}", {"what": "answer"}))
        told = f"{incident.id}/tell/k{key}/{person}"
        self.model.adopt(self._rows_of(incident), {told, *pushed(EffectKind.TELL, told, person)}, notes=0)

    # -- the outbox

    @rule(wait=WAIT, worker=WORKERS, lane=st.sampled_from(EVERY_LANE), limit=st.integers(1, 4))
    def rows_are_claimed(self, wait: timedelta, worker: int, lane: str, limit: int) -> None:
        self.clock.at += wait
        self._claim(worker, lane, limit)

    def _claim(self, worker: int, lane: str, limit: int) -> list[OutboxRow]:
        by, other = self.workers[worker], self.workers[1 - worker]
        ready = self.model.ready_rows(lane, by)[:limit]
        claimed = write(by.store, lambda tx: tx.outbox.claim(lane, limit, LEASE))
        assert claimed == [replace(r.task, state=DeliveryState.TRYING, attempt=r.task.attempt + 1) for r in ready]
        for row, task in zip(ready, claimed, strict=True):
            has_it = any(held.id == task.id and self.model.counts(held) for held in other.tasks)
            assert not has_it or self.model.is_free(row), "within a lease one of them has it"
            row.task = replace(task, unsure_at=self.clock.at)
            self.model.lease(row, by)
        by.tasks += claimed
        return claimed

    def _held(self, which: int) -> tuple[Worker, OutboxRow, Row] | None:
        """Something one of them claimed once, perhaps long ago."""
        if not any(worker.tasks for worker in self.workers):
            for lane in EVERY_LANE:
                self._claim(which % 2, lane, 2)
        held = [(worker, task) for worker in self.workers for task in worker.tasks]
        worker, task = held[which % len(held)] if held else (None, None)
        return (worker, task, self.model.rows[task.key]) if worker and task else None

    @rule(wait=WAIT, which=ANY, state=st.sampled_from(OVER))
    def what_came_of_a_claimed_row_is_written(self, wait: timedelta, which: int, state: DeliveryState) -> None:
        self.clock.at += wait
        if (held := self._held(which)) is None:
            return
        worker, task, row = held
        counts, iid = self.model.counts(task), next(self.iids)
        is_issue = task.do == EffectKind.ISSUE and state is DeliveryState.ACCEPTED

        def work(tx: Transaction) -> bool:
            settled = tx.outbox.settle(task, state, "answer")
            if settled and is_issue:
                tx.incidents.issue_opened(
                    self.model.incidents[str(task.incident_id)], iid, "url", twin_possible=iid % 2 == 0
                )
            return settled

        assert write(worker.store, work) == counts, "late words of an old attempt do not count"
        worker.tasks.remove(task)
        if counts:
            row.task, row.lease_until = replace(row.task, state=state, done_at=self.clock.at, answer="answer"), None
            if task.do == EffectKind.PAGE:
                self.model.page_ended(row.task)
            if is_issue:
                self._issue_is_open(str(task.incident_id), iid)

    def _issue_is_open(self, incident_id: str, iid: int) -> None:
        incident = replace(self.model.incidents[incident_id], issue_iid=iid, issue_url="url")
        self.model.incidents[incident_id] = incident
        keys = {f"{incident_id}/twins/{n}" for n in range(2)} if iid % 2 == 0 else set()
        receipt = self.model.rows.get(f"{incident_id}/receipt")
        if receipt and receipt.task.state is not DeliveryState.QUEUED:
            keys.add(f"{incident_id}/news/issue")
        self.model.adopt(self._rows_of(incident), keys, notes=0)

    @rule(wait=WAIT, which=ANY, span=SPANS, sure=st.booleans())
    def a_claimed_row_is_put_off(self, wait: timedelta, which: int, span: timedelta, sure: bool) -> None:
        self.clock.at += wait
        if (held := self._held(which)) is None:
            return
        worker, task, row = held
        until, counts = self.clock.at + span, self.model.counts(task)
        done = write(worker.store, lambda tx: tx.outbox.put_off(task, until, "450", sure=sure))
        assert done == counts, "late words of an old attempt do not count"
        worker.tasks.remove(task)
        if counts:
            unsure_at = task.unsure_at if sure else row.task.unsure_at
            row.task, row.lease_until = replace(row.task, due_at=until, answer="450", unsure_at=unsure_at), None

    @rule(
        worker=WORKERS, lane=st.sampled_from(["page", PUSH, "gitlab"]), state=st.sampled_from(OVER), off=st.booleans()
    )
    def a_slow_worker_is_overtaken_and_speaks_up_late(
        self, worker: int, lane: str, state: DeliveryState, off: bool
    ) -> None:
        slow, fast = self.workers[worker], self.workers[1 - worker]
        claimed = self._claim(worker, lane, 2)
        self.clock.at += LEASE
        assert not any(slow.store.read(partial(_is_mine, task)) for task in claimed), "its lease is over at its instant"
        again = {task.id for task in self._claim(1 - worker, lane, 40)}
        for task in claimed:
            assert task.id in again, "its lease was over"
            late = write(slow.store, partial(word_of, task, state, off=off, at=self.clock.at))
            has_it = [fast.store.read(partial(_is_mine, held)) for held in fast.tasks if held.id == task.id]
            assert (late, has_it[-1]) == (False, True), "the word of the slow one changes nothing"
            slow.tasks.remove(task)

    @rule(wait=WAIT, which=ANY)
    def a_worker_asks_whether_it_still_has_it(self, wait: timedelta, which: int) -> None:
        self.clock.at += wait
        if (held := self._held(which)) is None:
            return
        worker, task, row = held
        has_it = self.model.counts(task) and not self.model.is_free(row)
        assert worker.store.read(lambda tx: tx.outbox.is_mine(task)) == has_it

    @rule(worker=WORKERS)
    def a_worker_dies_over_its_work(self, worker: int) -> None:
        self.workers[worker].tasks.clear()
        self.workers[worker].mails.clear()

    # -- the end of a night

    @rule(worker=WORKERS)
    def whatever_was_begun_comes_to_an_end(self, worker: int) -> None:
        """The other worker is gone, this one goes on: every mail is understood and every row is carried out."""
        if len(self.model.rows) < 20:
            return  # too early: there is hardly anything to end
        self.a_worker_dies_over_its_work(0)
        self.a_worker_dies_over_its_work(1)
        self.clock.at += 5 * MINUTE
        while self.model.waiting_mails(self.workers[worker]):
            self._claim_mails(worker, 2)
            while self.workers[worker].mails:
                self._understand(worker, None, receipt=True)
        for _ in range(4):  # notes wait for the issue, and ten minutes after it its twin is looked for
            for lane in EVERY_LANE:
                self._carry_out(worker, lane)
            self.clock.at += 10 * MINUTE
        assert all(row.task.state in OVER for row in self.model.rows.values())

    def _carry_out(self, worker: int, lane: str) -> None:
        while self._claim(worker, lane, 40):
            while self.workers[worker].tasks:
                self.what_came_of_a_claimed_row_is_written(timedelta(0), 0, DeliveryState.ACCEPTED)

    @invariant()
    def everything_stands_as_the_model_says(self) -> None:
        self._store(1).read(self._look)

    def _look(self, tx: Transaction) -> None:
        self.model.no_accepted_mail_disappears_or_changes(tx)
        self.model.every_incident_is_there_once_as_the_rules_left_it(tx)
        self.model.every_row_stands_as_the_last_word_that_counts_left_it(tx)
        self.model.the_figures_count_what_is_there(tx)
        self.model.pages_nobody_took_are_seen(tx)


class Nodes(StoreMachine):
    """Two nodes on one PostgreSQL: one transaction begins before another is over."""

    @rule(panics=st.tuples(st.booleans(), st.booleans()), which=ANY)
    def two_nodes_understand_a_mail_at_once(self, panics: tuple[bool, bool], which: int) -> None:
        """Its lease was over before the first was done; the second is faster, and the first does nothing."""
        if (worker := self._reader(which)) is None:
            return
        mail = self.workers[worker].mails.pop(0)
        mine, theirs = (None if panic else self._incident(which) for panic in panics)
        hurry = [lambda: self._understand_here(1 - worker, mail, theirs)]
        if self.model.letters[mail.id].waits:
            work = lambda tx: understand(tx, mail, mine, receipt=True, hurry=hurry)  # noqa: E731
            assert write(self._store(worker), work) is None, "a mail is understood once"

    def _understand_here(self, worker: int, mail: AcceptedMail, into: Incident | None) -> None:
        made = write(self._store(worker), lambda tx: understand(tx, mail, into, receipt=True))
        if made is not None:  # the slower one is run again, and hurries again: to no effect
            self._is_understood(mail, into, made)

    @rule(worker=WORKERS, which=ANY, mine=WORDS, theirs=WORDS, person=PEOPLE)
    def another_node_is_faster(self, worker: int, which: int, mine: str, theirs: str, person: str) -> None:
        """It changes the incident after this one has read it and before it writes."""
        read, decide = self._incident(which), DECIDE[mine](person)
        hurry = [lambda: self._change(1 - worker, read, DECIDE[theirs]("max"))]
        made = change(self._store(worker), read, overtaken(decide, hurry))
        if (first := decide(read, self.clock.at)).incident == read:  # it wrote nothing: it may as well have come first
            assert made == first
            self.model.adopt(self._rows_of(read), set(self.model.keys(read, first.effects)), notes=notes(first))
            return
        now = self.model.incidents[read.id]
        assert made == decide(now, self.clock.at), "it was decided anew on what was there then"
        self.model.expect(now, made, self._rows_of(now))


def run(machine: type[StoreMachine], home: Home, examples: int) -> None:
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {"home": home}),
        settings=settings(
            max_examples=many(examples),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_sqlite_keeps_its_promises_under_any_history(tmp_path: Path) -> None:
    run(StoreMachine, SqliteHome(tmp_path), 16)


@pytest.mark.postgres
def test_postgresql_keeps_its_promises_under_any_history(postgres_url: str) -> None:
    run(Nodes, PostgresHome(postgres_url), 8)


# -- what the machine found, each by itself


@contextlib.contextmanager
def opened_store(url: str) -> Iterator[Store]:
    tables_in(url)
    with (
        contextlib.closing(Database(url, clock=MovedClock())) as database,
        contextlib.closing(Store(database, operators=lambda: ["max"])) as store,
    ):
        yield store


def letter(number: int) -> AcceptedMail:
    return AcceptedMail(
        id=f"mail{number:022}", accepted_at=T0, mail_from="", recipients=(), peer="", helo="", tls="", size=1
    )


@pytest.mark.postgres
@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_mails_are_claimed_than_were_asked_for(postgres_url: str, limit: int) -> None:
    with opened_store(postgres_url) as store:
        for number in range(4):
            write(store, partial(_accepted, letter(number)))
        assert len(write(store, lambda tx: tx.mails.claim(limit, LEASE))) == limit


def _accepted(mail: AcceptedMail, tx: Transaction) -> None:
    tx.mails.add(mail, b"x")


@pytest.mark.postgres
def test_an_issue_is_not_lost_to_another_nodes_change(postgres_url: str) -> None:
    with opened_store(postgres_url) as one, opened_store(postgres_url) as another:
        mail = letter(1)
        write(one, partial(_accepted, mail))
        incident = write(one, lambda tx: tx.incidents.add(opened(tx, mail, receipt=True)))
        hurry = [lambda: write(another, lambda tx: tx.incidents.issue_opened(incident, 7, "url"))]
        change(one, incident, overtaken(DECIDE["yes"]("ana"), hurry))
        stored = one.read(lambda tx: tx.incidents.get(incident.id))
        assert stored
        assert (stored.state, stored.issue_iid) == (State.ACKED, 7)
