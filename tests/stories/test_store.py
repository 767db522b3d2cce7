"""The contract of the store: one suite, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from panicmail.errors import StoreFailed
from panicmail.incident import ids, transitions
from panicmail.incident.escalation_policy import SAME_MAIL_WITHIN, Duty
from panicmail.incident.model import Entry, Incident, Outcome, Owed, State, unchanged
from panicmail.incident.tasks import Task
from panicmail.store import migrate, schema_revision
from panicmail.store.database import Database
from panicmail.store.rows import AcceptedMail, DeliveryState, OutboxRow, UnderstoodMail
from panicmail.store.tables import Instant, incidents, mails, outbox, pages
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from tests.cast import MINUTE, POLICY, SECOND, T0, who
from tests.store_rows import MovedClock, accept

LEASE = timedelta(seconds=30)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path, clock: MovedClock) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'panicmail.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    database = Database(url, clock=clock)
    migrate.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    store = Store(database, operators=lambda: ["max"])
    yield store
    store.close()


def panic(store: Store, **kwargs: bool) -> Incident:
    """An accepted mail that was understood as a panic."""
    mail = accept(store)

    def work(tx: Transaction) -> Incident:
        fresh = transitions.new(
            id=ids.incident_id(mail.id),
            ref=tx.incidents.free_ref(mail.id),
            mail_id=mail.id,
            accepted_at=mail.accepted_at,
            policy=POLICY,
            reporter_address="rita@example.com",
        )
        receipt = kwargs.get("receipt", True)
        change = transitions.open_panic(fresh, Duty(POLICY, who, tx.now), receipt=receipt, entry_facts={})
        incident = tx.incidents.add(change)
        tx.mails.understood(
            mail.id, UnderstoodMail(shape="panic", incident_id=incident.id, digest="d", message_id="<m@x>", report="{}")
        )
        return incident

    return store.write("test", work)


def claim(store: Store, lane: str = "page", limit: int = 10) -> list[str]:
    return [task.key.partition("/")[2] for task in store.write("test", lambda tx: tx.outbox.claim(lane, limit, LEASE))]


# -- tables


def test_the_migrations_make_exactly_the_tables_the_program_knows(database: Database) -> None:
    migrate.check(database)


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    migrate.upgrade(database)


def test_a_database_of_a_newer_panicmail_is_refused(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreFailed, match="newer"):
        migrate.upgrade(database)


def test_a_database_of_the_version_before_is_brought_up_to_date_with_what_it_holds(
    database: Database, store: Store
) -> None:
    incident = panic(store)
    migrate.downgrade(database, "0001")
    with pytest.raises(StoreFailed, match=r"no such column|does not exist"):
        claim(store)
    migrate.upgrade(database)
    migrate.check(database)
    assert claim(store) == ["page/1/ana"]
    assert store.read(lambda tx: tx.incidents.get(incident.id)) == incident


def test_an_incident_from_before_issues_could_be_moved_is_in_the_configured_project(
    database: Database, store: Store
) -> None:
    incident = panic(store)
    store.write("test", lambda tx: tx.incidents.issue_opened(incident, 41, "https://gitlab.example.com/-/issues/41"))
    migrate.downgrade(database, "0007")
    migrate.upgrade(database)
    migrate.check(database)
    kept = store.read(lambda tx: tx.incidents.get(incident.id))
    assert kept is not None
    assert (kept.issue_iid, kept.issue_project) == (41, None)


def test_what_was_closed_lately_and_whose_issue_it_is_is_found_in_a_database_of_the_version_before(
    database: Database, store: Store
) -> None:
    incident = panic(store)
    store.write("test", lambda tx: tx.incidents.issue_opened(incident, 41, "https://gitlab.example.com/-/issues/41"))
    migrate.downgrade(database, "0009")
    migrate.upgrade(database)
    migrate.check(database)
    found = store.read(
        lambda tx: (tx.search.incidents_of_issues([41]), tx.search.incidents_after(State.RESOLVED, None, 9))
    )
    assert ([each.id for each in found[0]], found[1]) == ([incident.id], [])


def test_pages_of_the_version_before_are_in_their_table_and_say_the_same(database: Database, store: Store) -> None:
    taken, refused, waiting = panic(store), panic(store), panic(store)
    for key, state in ((taken.id, DeliveryState.ACCEPTED), (refused.id, DeliveryState.FAILED)):
        tasks = store.write("test", lambda tx: tx.outbox.claim("page", 9, LEASE))
        (task,) = [task for task in tasks if task.incident_id == key]
        store.write("test", lambda tx, t=task, s=state: tx.outbox.settle(t, s, "so it said"))  # type: ignore[misc]
        for other in tasks:
            if other.id != task.id:
                store.write("test", lambda tx, t=other: tx.outbox.put_off(t, tx.now, "", sure=True))  # type: ignore[misc]

    def written() -> tuple[object, object]:
        columns = [c for c in pages.c if c.name != "id"]
        rows = store.read(lambda tx: sorted(map(str, tx.connection.execute(sa.select(*columns)).all())))
        return rows, store.read(lambda tx: [tx.incidents.get(i.id) for i in (taken, refused, waiting)])

    before = written()
    migrate.downgrade(database, "0013")
    migrate.upgrade(database)
    migrate.check(database)
    assert written() == before
    undelivered = store.read(lambda tx: tx.pages.undelivered(timedelta(minutes=-1)))
    assert sorted(task.incident_id for task in undelivered if task.incident_id) == sorted([refused.id, waiting.id])


def test_the_newest_revision_is_the_one_its_files_are_named_after(database: Database) -> None:
    assert schema_revision.newest() == migrate.head()
    assert schema_revision.is_current(database)
    migrate.downgrade(database, "0018")
    assert not schema_revision.is_current(database)
    migrate.downgrade(database, "base")
    assert not schema_revision.is_current(database)


def test_a_database_without_tables_is_not_current(tmp_path: Path) -> None:
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'new.db'}")) as empty:
        assert not schema_revision.is_current(empty)


def test_what_waited_before_adapters_could_be_barred_is_carried_out_as_ever(database: Database, store: Store) -> None:
    incident = panic(store)
    tell = {"what": "answer", "channel": "push-1", "words": "a NUL \0"}
    told = Task(incident_id=incident.id, lane="push", do="tell", key="x/k", person="ana", facts=tell)
    store.write("tests", lambda tx: tx.queue.add([told]))
    migrate.downgrade(database, "0011")
    migrate.upgrade(database)
    migrate.check(database)
    assert claim(store, "push") == ["k"]
    adapters = store.read(lambda tx: tx.connection.execute(sa.select(outbox.c.lane, outbox.c.adapter)).all())
    assert {(lane, adapter) for lane, adapter in adapters} >= {("page", "relay"), ("push", "push/ana/push-1")}
    assert claim(store) == ["page/1/ana"]


@pytest.mark.parametrize(
    ("remind", "reminded", "answer", "worked", "owed", "due", "words"),
    [
        (21, False, None, None, Owed.WORK, 21, None),
        (31, True, None, None, Owed.ANSWER, 31, None),
        (31, True, 25, None, Owed.ANSWER, 25, 15),
        (25, True, 31, None, Owed.ANSWER, 25, 21),
        (21, False, 25, None, Owed.ANSWER, 25, 15),
        (None, False, 25, 3, Owed.ANSWER, 25, 15),
        (None, False, None, 3, Owed.STATUS, 3, None),
        (None, False, None, None, Owed.STATUS, 1, None),
    ],
)
def test_what_was_held_before_there_was_one_clock_is_on_it_and_none_is_silent_for_good(
    database: Database, store: Store, remind: int | None, reminded: bool, answer: int | None, worked: int | None,
    owed: Owed, due: int, words: int | None,
) -> None:  # fmt: skip
    def at(minute: int | None) -> datetime | None:
        return None if minute is None else T0 + minute * MINUTE

    incident = panic(store)
    store.change("test", incident.id, lambda i, now: transitions.acknowledge(i, "ana", "", POLICY, T0 + MINUTE))
    open_one = panic(store)
    migrate.downgrade(database, "0012")
    old = {"remind": at(remind), "reminded": reminded, "answer": at(answer), "worked": at(worked), "id": incident.id}
    values = ("remind_at = :remind", "reminded = :reminded", "answer_at = :answer", "worked_at = :worked")
    update = sa.text(f"UPDATE incidents SET {', '.join(values)} WHERE id = :id").bindparams(
        *(sa.bindparam(name, type_=Instant()) for name in ("remind", "answer", "worked"))
    )
    with database.writing() as connection:
        connection.execute(update, old)
    migrate.upgrade(database)
    migrate.check(database)
    kept = store.read(lambda tx: tx.incidents.get(incident.id))
    assert kept is not None
    assert (kept.owed, kept.remind_at, kept.words_at) == (owed, at(due), at(words))
    assert store.read(lambda tx: tx.incidents.get(open_one.id)) == open_one


def test_mails_of_the_version_before_are_understood_as_ever_and_none_is_read_again(
    database: Database, store: Store
) -> None:
    mail = accept(store)
    migrate.downgrade(database, "0005")
    migrate.upgrade(database)
    migrate.check(database)
    waits = store.write("test", lambda tx: tx.readings.claim_reading(timedelta(minutes=1), understood=True))
    assert waits is None
    claimed = store.write("test", lambda tx: tx.mails.claim(5, timedelta(minutes=1)))
    assert [(each.id, each.readings, each.again_at) for each in claimed] == [(mail.id, 0, None)]


def test_a_naive_instant_is_refused_before_it_is_stored() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        Instant().process_bind_param(datetime(2026, 11, 22), None)  # noqa: DTZ001


def test_the_database_itself_refuses_an_open_incident_without_a_next_step(store: Store, database: Database) -> None:
    incident = panic(store)
    with pytest.raises(sa.exc.IntegrityError), database.engine.begin() as connection:
        connection.execute(incidents.update().where(incidents.c.id == incident.id).values(next_step_at=None))


# -- mails


@pytest.mark.parametrize("size", [0, 1, 12_800, 65_535, 65_536, 65_537, 5_000_000])
def test_a_mail_comes_back_octet_for_octet(store: Store, size: int) -> None:
    raw = (bytes(range(256)) * (size // 256 + 1))[:size]
    mail = accept(store, raw)
    assert store.read(lambda tx: tx.mails.raw(mail.id)) == raw
    for most in (0, 1, 4096, 65_537, 10**7):
        assert store.read(lambda tx, most=most: tx.mails.raw(mail.id, most)) == raw[:most]  # type: ignore[misc]
    assert store.read(lambda tx: tx.mails.get(mail.id)) == mail


def test_a_mail_is_claimed_by_one_and_again_only_when_the_lease_is_over(store: Store, clock: MovedClock) -> None:
    mail = accept(store)

    def take() -> list[str]:
        return [m.id for m in store.write("test", lambda tx: tx.mails.claim(5, LEASE))]

    assert (take(), take()) == ([mail.id], [])
    clock.at += LEASE
    assert take() == [mail.id]


def test_a_mail_from_a_host_whose_clock_is_ahead_is_taken_in_as_accepted_now(store: Store) -> None:
    mail = accept(store)

    def take_in(spooled: AcceptedMail) -> tuple[bool, AcceptedMail | None]:
        return store.write("mails.take_in", lambda tx: (tx.mails.take_in(spooled, b"x"), tx.mails.get(spooled.id)))

    for turn, mail_id, ahead, accepted_at in ((1, "early", -MINUTE, T0 - MINUTE), (2, "late", MINUTE, T0)):
        spooled = replace(mail, id=mail_id, accepted_at=T0 + ahead)
        stored = replace(spooled, accepted_at=accepted_at, turn=turn)
        assert (take_in(spooled), take_in(spooled)) == ((True, stored), (False, stored))


def test_an_understood_mail_is_never_claimed_again(store: Store, clock: MovedClock) -> None:
    incident = panic(store)
    clock.at += timedelta(days=1)
    assert store.write("test", lambda tx: tx.mails.claim(5, LEASE)) == []
    assert not store.read(lambda tx: tx.mails.is_waiting(incident.mail_id))


def test_the_same_mail_is_found_within_48_hours_while_its_incident_is_unresolved(
    store: Store, clock: MovedClock
) -> None:
    incident = panic(store)
    clock.at += SAME_MAIL_WITHIN - SECOND
    again = accept(store)

    def same(mail: AcceptedMail) -> str | None:
        return store.write("test", lambda tx: tx.mails.same(mail, "d", SAME_MAIL_WITHIN))

    assert same(again) == incident.id
    store.change("test", incident.id, lambda i, now: transitions.acknowledge(i, "ana", "", POLICY, now))
    store.change("test", incident.id, lambda i, now: transitions.resolve(i, "ana", "", POLICY, now))
    assert same(again) is None


def test_the_same_mail_after_48_hours_is_another(store: Store, clock: MovedClock) -> None:
    panic(store)
    clock.at += SAME_MAIL_WITHIN
    again = accept(store)
    assert store.write("test", lambda tx: tx.mails.same(again, "d", SAME_MAIL_WITHIN)) is None


def test_a_mail_two_nodes_understand_at_once_is_understood_once(store: Store) -> None:
    """Both find it waiting; the slower one starts over, and what it wrote so far is undone."""
    incident, mail = panic(store), accept(store)
    both = threading.Barrier(2)

    def understand(name: str) -> None:
        def work(tx: Transaction) -> None:
            if not tx.mails.is_waiting(mail.id):
                return
            with contextlib.suppress(threading.BrokenBarrierError):  # on SQLite one waits for the other's COMMIT
                both.wait(0.5)
            tx.timeline.add(incident, Entry(event="mail.resent", actor=name))
            tx.mails.understood(
                mail.id, UnderstoodMail(shape="same", incident_id=incident.id, digest="d", message_id=None, report="{}")
            )

        store.write("mails.understand", work)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(understand, ("a", "b")))
    lines = store.read(lambda tx: tx.timeline.of_incident(incident.id))
    assert [line.event for line in lines].count("mail.resent") == 1


# -- incidents


def test_an_incident_comes_back_as_it_was_stored(store: Store) -> None:
    incident = panic(store)
    assert store.read(lambda tx: tx.incidents.get(incident.id)) == incident
    assert store.read(lambda tx: tx.incidents.by_ref(f"[{incident.ref.lower()}]")) == incident


def test_a_change_raises_the_version_and_a_note_does_not(store: Store) -> None:
    incident = panic(store)
    store.change("test", incident.id, lambda i, now: unchanged(i, Outcome.NOTED, Entry(event="mail.resent")))
    assert store.read(lambda tx: tx.incidents.get(incident.id)) == incident
    store.change("test", incident.id, lambda i, now: transitions.acknowledge(i, "ana", "", POLICY, now))
    after = store.read(lambda tx: tx.incidents.get(incident.id))
    assert after is not None
    assert (after.version, after.state) == (1, State.ACKED)


def test_of_many_racing_acknowledgements_exactly_one_wins(store: Store) -> None:
    incident = panic(store)
    start = threading.Barrier(8)

    def race(n: int) -> Outcome:
        start.wait()
        person = "ana" if n % 2 else "max"
        change = store.change("test", incident.id, lambda i, now: transitions.acknowledge(i, person, "", POLICY, now))
        assert change is not None
        return change.outcome

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(race, range(8)))
    assert sorted(outcomes) == [Outcome.ALREADY] * 7 + [Outcome.DONE]
    lines = store.read(lambda tx: tx.timeline.of_incident(incident.id))
    assert [line.event for line in lines].count("incident.acked") == 1


def test_what_is_due_is_found_at_its_instant_not_before(store: Store, clock: MovedClock) -> None:
    incident = panic(store)

    def due() -> list[str]:
        return [i.id for i in store.read(lambda tx: tx.search.due_incidents())]

    clock.at = T0 + 5 * MINUTE - timedelta(microseconds=1)
    assert due() == []
    clock.at = T0 + 5 * MINUTE
    assert due() == [incident.id]


def test_a_taken_ref_is_lengthened(store: Store) -> None:
    incident = panic(store)
    longer = store.read(lambda tx: tx.incidents.free_ref(incident.mail_id))
    assert longer.startswith(incident.ref)
    assert len(longer) == len(incident.ref) + 1


def test_a_work_that_raises_leaves_nothing_behind(store: Store) -> None:
    def work(tx: Transaction) -> None:
        accepted = AcceptedMail(
            id="x" * 26, accepted_at=tx.now, mail_from="", recipients=(), peer="", helo="", tls="", size=0
        )
        tx.mails.add(accepted, b"")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        store.write("test", work)
    assert store.read(lambda tx: tx.mails.get("x" * 26)) is None


# -- the outbox


def test_a_panic_queues_its_page_at_once_and_the_files_wait_for_the_issue(store: Store) -> None:
    panic(store)
    assert claim(store, "page") == ["page/1/ana"]
    assert claim(store, "gitlab") == ["issue"]
    assert claim(store, "mail") == [], "the receipt waits for the issue's link"


def test_the_receipt_goes_without_the_link_after_ten_seconds(store: Store, clock: MovedClock) -> None:
    panic(store)
    clock.at += timedelta(seconds=10)
    assert claim(store, "mail") == ["receipt"]


def test_what_waited_for_the_issue_is_free_once_it_is_there(store: Store) -> None:
    incident = panic(store)
    (task,) = store.write("test", lambda tx: tx.outbox.claim("gitlab", 5, LEASE))

    def open_issue(tx: Transaction) -> None:
        assert tx.outbox.settle(task, DeliveryState.ACCEPTED, "url")
        tx.incidents.issue_opened(incident, 7, "url")

    store.write("test", open_issue)
    assert claim(store, "mail") == ["receipt"]
    assert claim(store, "gitlab")[0] == "files"
    stored = store.read(lambda tx: tx.incidents.get(incident.id))
    assert stored is not None
    assert (stored.issue_iid, stored.version) == (7, 0)


def test_two_claimers_never_get_the_same_row(store: Store) -> None:
    for _ in range(10):
        panic(store)
    start = threading.Barrier(4)

    def take(_n: int) -> list[str]:
        start.wait()
        return [t.key for _ in range(10) for t in store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))]

    with ThreadPoolExecutor(4) as pool:
        claimed = [key for keys in pool.map(take, range(4)) for key in keys]
    assert len(claimed) == len(set(claimed)) == 10


def test_an_attempt_whose_lease_ran_out_no_longer_counts(store: Store, clock: MovedClock) -> None:
    panic(store)
    (slow,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    clock.at += LEASE
    (fast,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    assert (slow.attempt, fast.attempt) == (1, 2)
    assert fast.unsure_at == T0, "the second attempt is told that the first may have had its effect"
    assert not store.write("test", lambda tx: tx.outbox.settle(slow, DeliveryState.FAILED, "late"))
    assert store.write("test", lambda tx: tx.outbox.settle(fast, DeliveryState.ACCEPTED, "250"))


def test_a_claim_is_ones_own_until_its_lease_ends_another_attempt_is_made_or_the_row_is_over(
    store: Store, clock: MovedClock
) -> None:
    panic(store)

    def is_mine(task: OutboxRow) -> bool:
        return store.read(lambda tx: tx.outbox.is_mine(task))

    (first,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    assert is_mine(first)
    clock.at += LEASE
    assert not is_mine(first), "its lease is over: somebody else may begin any moment"
    (second,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    assert (is_mine(first), is_mine(second)) == (False, True)
    store.write("test", lambda tx: tx.outbox.settle(second, DeliveryState.ACCEPTED, "250"))
    assert not is_mine(second)


def test_a_thread_that_asks_for_work_again_first_gets_what_it_left_behind(database: Database) -> None:
    """It could not write down what came of it, or never heard that it was claimed: nobody is working on it."""
    with contextlib.closing(Store(database, node=lambda: "7")) as ours:
        panic(ours)
        assert claim(ours) == ["page/1/ana"]
        assert claim(ours) == ["page/1/ana"]
        mail = accept(ours)
        for _ in range(2):
            assert [m.id for m in ours.write("test", lambda tx: tx.mails.claim(1, LEASE))] == [mail.id]
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(claim, ours).result() == [], "another thread of the same node does not"


def test_a_claim_bears_the_name_of_its_node_and_thread_until_it_is_given_up(
    database: Database, clock: MovedClock
) -> None:
    def holders() -> set[str | None]:
        with database.reading() as connection:
            held = sa.union_all(sa.select(mails.c.lease_by), sa.select(outbox.c.lease_by))
            return set(connection.execute(held).scalars()) - {None}

    with contextlib.closing(Store(database, node=lambda: "7")) as ours:
        panic(ours)
        accept(ours)
        mine = {f"7/{threading.current_thread().name}"}
        ours.write("test", lambda tx: tx.mails.claim(1, LEASE))
        assert holders() == mine
        ours.write("test", lambda tx: tx.release_leases())
        assert holders() == set()
        (task,) = ours.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
        assert holders() == mine
        ours.write("test", lambda tx: tx.outbox.put_off(task, tx.now, "450", sure=True))
        assert holders() == set()
        (task,) = ours.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
        ours.write("test", lambda tx: tx.outbox.settle(task, DeliveryState.ACCEPTED, "250"))
        assert holders() == set()


def test_a_put_off_row_comes_back_at_its_time(store: Store, clock: MovedClock) -> None:
    panic(store)
    (task,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    store.write("test", lambda tx: tx.outbox.put_off(task, tx.now + 5 * SECOND, "450", sure=True))
    assert claim(store) == []
    clock.at += 5 * SECOND
    (again,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    assert (again.attempt, again.unsure_at) == (2, None)


def test_an_acknowledgement_voids_the_pages_not_sent_yet_but_not_the_one_in_flight(
    store: Store, clock: MovedClock
) -> None:
    incident = panic(store)
    (flying,) = store.write("test", lambda tx: tx.outbox.claim("page", 1, LEASE))
    clock.at += 5 * MINUTE
    store.change("test", incident.id, lambda i, now: transitions.pass_time(i, Duty(POLICY, who, now)))
    clock.at = T0 + SECOND
    store.change("test", incident.id, lambda i, now: transitions.acknowledge(i, "ana", "", POLICY, now))
    states_now = {t.key.partition("/")[2]: t.state for t in store.read(lambda tx: tx.outbox.of_incident(incident.id))}
    assert states_now["page/2/ana"] is DeliveryState.VOID
    assert states_now["page/1/ana"] is DeliveryState.TRYING
    assert store.write("test", lambda tx: tx.outbox.settle(flying, DeliveryState.ACCEPTED, "250"))


def test_an_effect_with_a_key_that_was_used_is_not_queued_twice(store: Store) -> None:
    incident = panic(store)
    for _ in range(3):
        store.write("test", lambda tx: tx.queue.tell(incident, "ana", "answer/m1", {"what": "answer"}))
    tells = [t for t in store.read(lambda tx: tx.outbox.of_incident(incident.id)) if t.do == "tell"]
    assert len(tells) == 1


def test_the_operators_are_told_once_per_cause_and_hour(store: Store, clock: MovedClock) -> None:
    for _ in range(3):
        store.write("test", lambda tx: tx.queue.tell_operators("gitlab_refused", {}))
        clock.at += MINUTE
    assert len(claim(store, "mail")) == 1
    clock.at = T0 + timedelta(hours=1)
    store.write("test", lambda tx: tx.queue.tell_operators("gitlab_refused", {}))
    store.write("test", lambda tx: tx.queue.tell_operators("page_refused", {}))
    again = claim(store, "mail")
    assert {key.split("/")[0] for key in again} == {"gitlab_refused", "page_refused"}
    assert len(again) == 3, "the first one again, its lease being over, and two new ones"


def test_a_reporter_without_a_receipt_gets_no_news(store: Store) -> None:
    incident = panic(store, receipt=False)
    store.change("test", incident.id, lambda i, now: transitions.acknowledge(i, "ana", "", POLICY, now))
    assert "news" not in {t.do for t in store.read(lambda tx: tx.outbox.of_incident(incident.id))}


def test_released_leases_are_free_at_once(store: Store) -> None:
    panic(store)
    assert claim(store) == ["page/1/ana"]
    store.write("test", lambda tx: tx.release_leases())
    assert claim(store) == ["page/1/ana"]


def test_who_is_woken_is_told_after_the_commit_not_before(database: Database) -> None:
    seen: list[tuple[set[str], int]] = []

    def woken(lanes: set[str]) -> None:
        seen.append((lanes, waking.read(lambda tx: tx.figures.totals()["mails"]["accepted"])))

    waking = Store(database, woken=woken)
    accept(waking)
    assert seen == [({"mails"}, 1)]
    waking.close()


def test_text_with_every_odd_character_is_stored_and_comes_back(store: Store) -> None:
    incident = panic(store)
    odd = "\x00 \x1b[2J \u202e ééé 🎉 \\u0000 \ud800"
    store.write("test", lambda tx: tx.timeline.add(incident, Entry(event="thread.more", facts={"text": odd})))
    assert store.read(lambda tx: tx.timeline.of_incident(incident.id))[-1].facts["text"] == odd


def test_what_no_database_can_hold_in_a_column_of_text_does_not_hold_up_a_mail(store: Store) -> None:
    """A NUL in a HELO, which PostgreSQL refuses: every copy of that mail would be refused for ever."""
    mail = AcceptedMail(
        id="m",
        accepted_at=T0,
        mail_from="ri\0ta@example.com",
        recipients=("a\0@example.com",),
        peer="",
        helo="a\0b\ud800",
        tls="",
        size=1,
    )
    store.write("test", lambda tx: tx.mails.add(mail, b"x"))
    stored = store.read(lambda tx: tx.mails.get("m"))
    assert stored is not None
    assert (stored.mail_from, stored.helo) == ("ri\ufffdta@example.com", "a\ufffdb\ufffd")
    assert stored.recipients == mail.recipients
