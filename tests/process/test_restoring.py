"""The database is put back from an old copy: it is noticed, nobody is paged in masses, and nothing is dropped."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa
import structlog

from panicmail.errors import Temporary
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import RestoreGuard
from panicmail.incident import transitions
from panicmail.incident.model import Incident, Outcome, Owed, State
from panicmail.store import migrate
from panicmail.store.database import Database
from panicmail.store.rows import AcceptedMail
from panicmail.store.tables import incidents, mails, outbox, pages, raws, timeline
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import WatermarkFile
from panicmail.store.writer import WriterThread
from tests.cast import MINUTE, POLICY, SECOND, T0, opened
from tests.office import Office, mail, office_settings
from tests.program import world

T = TypeVar("T")
HOUR = timedelta(hours=1)


class Kept(Office):
    """An office that keeps a mark beside its database."""

    def __init__(self, folder: Path, *, url: str | None = None) -> None:
        super().__init__(folder, url=url)
        self.high_water = WatermarkFile(folder / "high-water.json")
        self.restoring = RestoreGuard(self.store, lambda: self.settings, self.high_water)
        self.accounting = Reconciler(self.store, lambda: self.settings)

    def alarms(self) -> list[str]:
        """The texts of what the operators were told."""
        self.settle()
        return [posted.text for posted in self.sent("max") if posted.subject.startswith("[panicmail]")]


@pytest.fixture
def office(database_url: str | None, tmp_path: Path) -> Iterator[Kept]:
    office = Kept(tmp_path, url=database_url)
    yield office
    office.close()


def forget(office: Kept, incident: Incident) -> None:
    """What an older copy does not have: one panic, whole."""
    with office.database.engine.begin() as connection:
        for table in (outbox, pages, timeline):
            connection.execute(table.delete().where(table.c.incident_id == incident.id))
        connection.execute(incidents.delete().where(incidents.c.id == incident.id))
        connection.execute(raws.delete().where(raws.c.mail_id == incident.mail_id))
        connection.execute(mails.delete().where(mails.c.id == incident.mail_id))


def old_copy(office: Kept, lost: Incident) -> bool:
    """The daemon is stopped for a moment, its database put back from before `lost`, and started."""
    office.restoring.remember()
    forget(office, lost)
    office.now += MINUTE
    return RestoreGuard(office.store, lambda: office.settings, office.high_water).start()


# -- noticing


def test_a_database_that_kept_pace_is_no_old_copy(office: Kept) -> None:
    assert not office.restoring.start()
    incident = office.panic()
    office.restoring.remember()
    office.wait(minutes=1)
    office.restoring.remember()
    assert not office.restoring.start()
    assert "steps.held" not in office.events(incident)
    assert office.alarms() == []


def test_the_mark_names_the_newest_mail_and_line(office: Kept) -> None:
    office.panic()
    office.now += SECOND
    newest = office.panic()
    office.restoring.remember()
    mark = office.high_water.read()
    assert mark is not None
    assert (mark.at, mark.mail_id, mark.ref, mark.accepted_at) == (office.now, newest.mail_id, newest.ref, office.now)
    assert mark.line_id == max(line.id for line in office.lines(newest))


def test_a_copy_from_before_the_last_mail_or_the_last_line_is_an_old_one(office: Kept) -> None:
    incident = office.panic()
    office.restoring.remember()
    with office.database.engine.begin() as connection:
        newest = sa.select(sa.func.max(timeline.c.id)).scalar_subquery()
        connection.execute(timeline.delete().where(timeline.c.id == newest))
    assert RestoreGuard(office.store, lambda: office.settings, office.high_water).start()
    assert old_copy(office, incident)
    assert not office.restoring.start(), "the mark goes on from where the copy is"


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"at": "yesterday"}', '{"at": 1, "line_id": 2}'])
def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path, kept: str) -> None:
    path = tmp_path / "high-water.json"
    path.write_text(kept)
    with structlog.testing.capture_logs() as lines:
        assert WatermarkFile(path).read() is None
    assert [line["event"] for line in lines] == ["high_water.unreadable"]


def test_a_folder_that_cannot_be_written_stops_nothing(office: Kept, tmp_path: Path) -> None:
    restoring = RestoreGuard(office.store, lambda: office.settings, WatermarkFile(tmp_path / "nowhere" / "mark"))
    with structlog.testing.capture_logs() as lines:
        restoring.remember()
    assert [line["event"] for line in lines] == ["high_water.failed"]


# -- the mark of what was accepted


def accepted(office: Kept, mail_id: str) -> AcceptedMail:
    kept = office.store.read(lambda tx: tx.mails.get(mail_id))
    assert kept is not None
    return kept


def test_a_copy_from_before_the_last_second_is_an_old_one(office: Kept) -> None:
    """A minute may pass until the mark is looked up again."""
    office.restoring.remember()
    office.now += SECOND
    newest = accepted(office, office.accept(mail("help")))
    office.restoring.accepted([newest])
    mark = office.high_water.read()
    assert mark is not None
    assert (mark.mail_id, mark.accepted_at, mark.at) == (newest.id, office.now, office.now)
    with office.database.engine.begin() as connection:
        connection.execute(raws.delete())
        connection.execute(mails.delete())
    assert RestoreGuard(office.store, lambda: office.settings, office.high_water).start()


def test_the_mark_names_the_newest_however_late_an_older_one_is_heard_of(office: Kept) -> None:
    """As on PostgreSQL, where several are committed at once."""
    office.restoring.remember()
    older, newer = (accepted(office, office.accept(mail(text))) for text in ("one", "two"))
    newer = replace(newer, accepted_at=office.now + SECOND)
    office.restoring.accepted([newer, older])
    office.restoring.accepted([older])
    office.restoring.accepted([])
    mark = office.high_water.read()
    assert mark is not None
    assert mark.mail_id == newer.id


def test_a_mail_accepted_while_the_mark_is_looked_up_stays_its_newest(
    office: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.restoring.remember()
    looked_up = office.store.read

    def meanwhile(work: Callable[[Transaction], T]) -> T:
        found = looked_up(work)
        monkeypatch.undo()
        office.now += SECOND
        late.append(accepted(office, office.accept(mail("help"))))
        office.restoring.accepted(late)
        return found

    late: list[AcceptedMail] = []
    monkeypatch.setattr(office.store, "read", meanwhile)
    office.restoring.remember()
    mark = office.high_water.read()
    assert mark is not None
    assert [mark.mail_id] == [each.id for each in late]
    assert not RestoreGuard(office.store, lambda: office.settings, office.high_water).start()


def test_a_250_is_given_when_its_mark_is_written_and_none_is_written_for_what_was_not_committed(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'panicmail.db'}", clock=lambda: T0)
    migrate.upgrade(database)
    high_water, futures = WatermarkFile(tmp_path / "mark"), list[Future[AcceptedMail]]()
    marked: list[tuple[int, int]] = []

    def committed(results: Sequence[object]) -> None:
        restoring.accepted([result for result in results if isinstance(result, AcceptedMail)])
        marked.append((len(results), sum(future.done() for future in futures)))

    writer = WriterThread(database, lambda: None, committed)
    store = Store(database, writer=writer)
    restoring = RestoreGuard(store, office_settings, high_water)
    busy, go_on = threading.Event(), threading.Event()

    def hold_up(_tx: Transaction) -> None:
        busy.set()
        go_on.wait(30)

    store.submit("test", hold_up)
    assert busy.wait(30)
    futures += [store.submit("mails.accept", partial(keep, number)) for number in range(3)]
    go_on.set()
    with pytest.raises(RuntimeError):
        futures[2].result(10)
    assert [future.result(10).id for future in futures[:2]] == ["mail0", "mail1"]
    assert marked == [(3, 1)], "one mark for both, which join what is at work, before either was heard of"
    mark = high_water.read()
    assert mark is not None
    assert mark.mail_id == "mail1"
    assert writer.stop(10)
    store.close()
    database.close()


def keep(number: int, tx: Transaction) -> AcceptedMail:
    got = AcceptedMail(
        id=f"mail{number}", accepted_at=tx.now, mail_from="", recipients=(), peer="", helo="", tls="", size=1
    )
    tx.mails.add(got, b"x")
    if number == 2:
        raise RuntimeError("it cannot be stored")
    return got


def test_a_mark_that_cannot_be_written_costs_no_250(tmp_path: Path) -> None:
    office = Kept(tmp_path)
    restoring = RestoreGuard(office.store, lambda: office.settings, WatermarkFile(tmp_path / "nowhere" / "mark"))
    newest = accepted(office, office.accept(mail("help")))
    with structlog.testing.capture_logs() as lines:
        restoring.accepted([newest])
    assert [line["event"] for line in lines] == ["high_water.failed"]
    office.close()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_daemon_whose_database_was_put_back_from_before_its_last_panic_says_so(tmp_path: Path, how: str) -> None:
    with world(tmp_path, expects=["database.old_copy"]) as town:
        town.start()
        town.panic("kept")
        town.settled()
        with closing(sqlite3.connect(town.database)) as live, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            live.backup(copy)
        lost = town.panic("in the minute that is lost")
        if how == "killed":
            town.program.kill()
        else:
            assert town.stop() == 0
        for name in ("panicmail.db", "panicmail.db-wal", "panicmail.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "copy.db").rename(town.database)
        town.start()
        _, facts = town.program.wait_for("database.old_copy")
        assert lost in facts["last known mail"]


# -- holding back


def test_the_operators_get_one_mail_with_what_is_unresolved_and_what_is_missing(office: Kept) -> None:
    kept, acked = office.panic(subject="one"), office.panic(subject="two")
    office.reply(office.page("ana"), "ack")
    office.now += SECOND
    lost = office.panic()
    assert old_copy(office, lost)
    (told,) = office.alarms()
    assert f"{kept.ref}, open, accepted 2026-11-22 02:07 UTC" in told
    assert f"{acked.ref}, acked, accepted 2026-11-22 02:07 UTC, ana has it" in told
    assert f"last known mail: {lost.ref}, accepted 2026-11-22 02:07 UTC" in told


def test_nobody_is_paged_for_one_sla_and_then_the_steps_go_on(office: Kept) -> None:
    incident, lost = office.panic(), office.panic()
    before = {posted.message_id for posted in office.relay.sent}
    office.relay.sent.clear()
    assert old_copy(office, lost)
    for _ in range(14):
        office.wait(minutes=1)
        assert office.accounting.reconcile() == ()
    assert not [posted for posted in office.relay.sent if posted.is_page]
    held = office.incident(incident)
    assert (held.state, held.breached_at, held.next_step_at) == (State.OPEN, None, T0 + 16 * MINUTE)
    assert "steps.held" in office.events(incident)
    office.wait(minutes=1)
    assert len(office.pages("ana")) == len(office.pages("max")) == 1, "one page each for all the steps held back"
    assert not {posted.message_id for posted in office.relay.sent if posted.is_page} & before
    assert office.accounting.reconcile() == ()
    assert office.accounting.sweep() == {}


def test_a_page_that_waits_in_the_copy_is_not_sent_and_one_of_the_held_step_is(office: Kept) -> None:
    for _ in range(2):
        office.now += SECOND
        office.accept(mail("help"))
        office.intake.work()
    lost, _kept = office.incidents()
    assert old_copy(office, lost)
    office.wait(minutes=14)
    assert not office.pages("ana")
    office.wait(minutes=2)
    assert len(office.pages("ana")) == 1


def test_an_issue_that_waits_in_the_copy_is_looked_for_before_it_is_made(office: Kept) -> None:
    office.gitlab.failures = [Temporary("down")] * 1000
    office.panic()
    with office.database.engine.begin() as connection:
        untried = {"unsure_at": None, "attempt": 0, "state": "queued"}
        connection.execute(outbox.update().where(outbox.c.do == "issue").values(untried))
    lost = office.panic()
    assert old_copy(office, lost)
    office.gitlab.failures.clear()
    office.wait(seconds=20)
    assert (office.gitlab.looks, len(office.gitlab.issues)) == (1, 1)


def test_a_reminder_is_held_back_too(office: Kept) -> None:
    incident = office.panic()
    office.reply(office.page("ana"), "ack")
    lost = office.panic()
    pages = len(office.pages("ana"))
    office.now += 19 * MINUTE
    assert old_copy(office, lost)
    office.wait(minutes=14, seconds=59)
    assert len(office.pages("ana")) == pages
    office.wait(seconds=1)
    assert len(office.pages("ana")) == pages + 1
    assert office.incident(incident).owed is Owed.ANSWER


def test_what_another_node_held_back_is_not_held_back_again(office: Kept) -> None:
    incident, lost = office.panic(), office.panic()
    office.restoring.remember()
    mark = office.high_water.read()
    assert mark is not None
    assert old_copy(office, lost)
    office.wait(minutes=5)
    held = office.incident(incident)
    office.high_water.write(mark)
    assert RestoreGuard(office.store, lambda: office.settings, office.high_water).start()
    assert office.incident(incident) == held
    assert office.events(incident).count("steps.held") == 1


def test_a_file_of_sqlite_copied_back_is_noticed(tmp_path: Path) -> None:
    office = Kept(tmp_path)
    incident = office.panic()
    office.restoring.remember()
    office.close()
    shutil.copy(tmp_path / "panicmail.db", tmp_path / "copy.db")
    office = Kept(tmp_path)
    office.now = T0 + MINUTE
    lost = office.panic()
    office.restoring.remember()
    office.close()
    for name in ("panicmail.db-wal", "panicmail.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "panicmail.db")
    office = Kept(tmp_path)
    office.now = T0 + HOUR
    assert office.restoring.start()
    (told,) = office.alarms()
    assert incident.ref in told
    assert lost.ref in told
    assert office.incident(incident).next_step_at == T0 + HOUR + 15 * MINUTE
    office.close()


# -- while it runs


def test_a_database_that_loses_something_while_panicmail_runs_is_an_alarm_and_paging_goes_on(office: Kept) -> None:
    incident, lost = office.panic(), office.panic()
    office.restoring.remember()
    forget(office, lost)
    office.restoring.remember()
    (told,) = office.alarms()
    assert lost.ref in told
    assert office.incident(incident) == incident
    office.restoring.remember()
    assert len(office.alarms()) == 1


# -- the rule


def test_holding_back_leaves_what_is_later_and_what_is_over() -> None:
    incident = opened().incident
    held = transitions.hold_back(incident, T0 + MINUTE, "").incident
    assert (held.next_step_at, held.sla_at) == (incident.next_step_at, incident.sla_at)
    resolved = replace(incident, state=State.RESOLVED, next_step_at=None, resolved_at=T0)
    change = transitions.hold_back(resolved, T0 + HOUR, "")
    assert (change.incident, change.outcome, change.entries) == (resolved, Outcome.CLOSED, ())


def test_a_breach_on_record_stays_and_one_to_come_waits() -> None:
    incident = opened().incident
    assert transitions.hold_back(incident, T0 + HOUR, "").incident.sla_at == T0 + HOUR
    breached = replace(incident, breached_at=T0 + 15 * MINUTE)
    assert transitions.hold_back(breached, T0 + HOUR, "").incident.sla_at == incident.sla_at
    acked = transitions.acknowledge(incident, "ana", "", POLICY, T0).incident
    held = transitions.hold_back(acked, T0 + HOUR, "").incident
    assert (held.remind_at, held.next_step_at) == (T0 + HOUR, None)
