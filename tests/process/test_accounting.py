"""The accounting: every way in which an accepted mail can lack what it is owed is found, and mended or said aloud.

Each gap is made by hand in the database of a panicmail that works; then the reconciler comes by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from panicmail.daemon.watchdog import Health
from panicmail.errors import Permanent, Temporary
from panicmail.escalation import reconciler
from panicmail.escalation.reconciler import Gap, GapKind, Reconciler
from panicmail.incident.escalation_policy import EscalationPolicy, PolicyStep
from panicmail.incident.model import Incident, State
from panicmail.incident.push_channel import channel
from panicmail.incident.tasks import ALL_LANES
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.server.http.backend import LinkBackend
from panicmail.store.outbox import LEASE
from panicmail.store.tables import incidents, mails, outbox, pages, raws, timeline
from tests.cast import MINUTE, SECOND, T0
from tests.office import PEOPLE, Office, mail
from tests.program import world

#: Phones of Ana's.
PHONE, TABLET = "pover://user@token", "ntfys://ana:secret@ntfy.example.com/ana"


class Audited(Office):
    """An office with an accountant."""

    def __init__(self, folder: Path, *, url: str | None = None, **settings: object) -> None:
        super().__init__(folder, url=url, **settings)
        self.accounting = Reconciler(self.store, lambda: self.settings)

    def kinds(self) -> list[GapKind]:
        """Of the gaps the reconciler leaves now."""
        return [gap.kind for gap in self.accounting.reconcile()]

    def told(self, words: str) -> int:
        """How many mails the operators had with these words."""
        self.settle()
        return sum(words in posted.text for posted in self.sent("max"))

    def do(self, *statements: sa.Executable) -> None:
        """What a defect, or a hand in the database, does."""
        with self.database.engine.begin() as connection:
            for statement in statements:
                connection.execute(statement)

    def count(self, query: sa.Select[tuple[Any]]) -> list[Any]:
        with self.database.engine.begin() as connection:
            return list(connection.execute(query).scalars())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Audited]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    office = Audited(tmp_path, url=url)
    yield office
    office.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Audited]:
    """An office on SQLite, for what does not depend on the database."""
    office = Audited(tmp_path)
    yield office
    office.close()


def reached_by(office: Audited, *urls: str) -> None:
    """Ana has these phones from now on."""
    ana = replace(PEOPLE["ana"], push=tuple(map(channel, urls)))
    office.settings = replace(office.settings, people={**PEOPLE, "ana": ana})


# -- nothing is missing


def test_where_everything_works_nothing_is_missing(office: Audited) -> None:
    incident = office.panic()
    assert office.kinds() == []
    office.wait(minutes=16)
    office.reply(office.page("max"), "ack")
    office.wait(minutes=31)
    office.reply(office.page("max"), "resolve")
    assert office.kinds() == []
    assert office.accounting.sweep() == {}
    assert "accounts.repaired" not in office.events(incident)
    assert not [posted for posted in office.sent("max") if posted.subject.startswith("[panicmail]")]


QUICK = EscalationPolicy(
    sla=90 * SECOND,
    steps=(
        PolicyStep(0 * SECOND, ("seoc",)),
        PolicyStep(30 * SECOND, ("seoc",)),
        PolicyStep(90 * SECOND, ("smoc", "seoc")),
    ),
    repeat=30 * SECOND,
    remind_after=60 * SECOND,
)


def live(office: Audited, seconds: int) -> None:
    """Time passes by the second, and at every second the reconciler comes by."""
    for _ in range(seconds):
        office.now += SECOND
        office.escalation.tick()
        office.intake.work()
        assert office.kinds() == []
        office.settle()
        assert office.kinds() == []


def test_work_in_progress_is_never_a_gap(tmp_path: Path) -> None:
    office = Audited(tmp_path, policy=QUICK)
    office.gitlab.failures = [Temporary("connection refused")] * 12
    office.relay.failures = [Temporary("450 later")] * 5
    office.accept(mail("help", message_id="<first@example.com>"))
    assert office.kinds() == []
    live(office, 95)
    office.reply(office.page("ana"), "can't")
    live(office, 35)
    office.reply(office.page("max"), "ack")
    office.reply(office.page("max"), "to bo")
    live(office, 5)
    office.reply(office.page("bo"), "ok")
    live(office, 65)
    office.deliver(mail("one more thing", in_reply_to="<first@example.com>"))
    office.reply(office.page("bo"), "resolve")
    live(office, 5)
    office.reply(office.sent("rita@example.com")[0], "it is back!", sender="rita@example.com")
    live(office, 35)
    office.deliver(b"\x00\xff\xfe", "")
    office.deliver(mail("buy now"), "")
    live(office, 35)
    assert [incident.state for incident in office.incidents()] == [State.OPEN] * 3
    assert office.accounting.sweep() == {}
    office.close()


# -- mails


def test_a_mail_nobody_understands_is_a_gap_after_a_minute_and_panicmail_is_not_ready(office: Audited) -> None:
    health = Health(office.store, lambda: True, lambda: True, gaps=lambda: office.accounting.gaps)
    mail_id = office.accept(mail("help"))
    office.now += MINUTE
    assert office.kinds() == []
    office.now += SECOND
    (gap,) = office.accounting.reconcile()
    assert (gap.kind, gap.mail_id, gap.since_at) == (GapKind.UNREAD, mail_id, T0)
    assert health.unready() == (f"gaps: 1, such as {gap.about}: accepted, and nothing has understood it",)
    assert health.figures().gaps["unread"] == 1
    office.settle()
    assert office.kinds() == []
    assert health.unready() == ()


def test_a_mail_that_is_claimed_again_and_again_is_found_all_the_same(desk: Audited) -> None:
    desk.accept(mail("help"))
    for _ in range(3):
        desk.store.write("test", lambda tx: tx.mails.claim(1, 30 * SECOND))
        desk.now += 30 * SECOND
    assert desk.kinds() == [GapKind.UNREAD]


def without_incident(office: Audited, incident: Incident) -> None:
    rows = [table.delete().where(table.c.incident_id == incident.id) for table in (outbox, pages, timeline)]
    office.do(*rows, incidents.delete().where(incidents.c.id == incident.id))


def test_an_understood_panic_whose_incident_is_gone_is_taken_in_again(office: Audited) -> None:
    incident = office.panic()
    without_incident(office, incident)
    assert office.kinds() == []
    office.settle()
    (again,) = office.incidents()
    assert (again.mail_id, again.accepted_at, len(office.pages("ana"))) == (incident.mail_id, T0, 2)
    assert office.told("something an accepted mail is owed was not there") == 1
    assert office.kinds() == []


def test_a_note_that_belongs_to_nothing_is_taken_in_again(office: Audited) -> None:
    incident = office.panic(message_id="<first@example.com>")
    more = office.deliver(mail("one more thing", in_reply_to="<first@example.com>"))
    office.do(mails.update().where(mails.c.id == more).values(incident_id=None))
    assert office.kinds() == []
    office.settle()
    assert office.count(sa.select(mails.c.incident_id).where(mails.c.id == more)) == [incident.id]
    assert office.kinds() == []


@pytest.mark.parametrize("values", [{"incident_id": None}, {"incident_id": "a" * 16}, {"state": "accepted"}])
def test_a_mail_that_does_not_name_its_incident_is_filed_with_it(office: Audited, values: dict[str, Any]) -> None:
    incident = office.panic()
    office.do(mails.update().values(values))
    assert office.kinds() == []
    assert office.count(sa.select(mails.c.incident_id)) == [incident.id]
    assert office.count(sa.select(mails.c.state)) == ["understood"]
    assert office.events(incident)[-1] == "accounts.repaired"
    office.settle()
    assert (len(office.incidents()), len(office.pages("ana"))) == (1, 1)


# -- issues


def test_an_incident_for_which_no_issue_was_asked_gets_one(office: Audited) -> None:
    office.gitlab.failures = [Temporary("down")] * 1000
    incident = office.panic()
    office.do(outbox.delete().where(outbox.c.do.in_(["issue", "files"])))
    office.gitlab.failures.clear()
    assert office.kinds() == []
    office.wait(seconds=20)
    assert len(office.gitlab.issues) == 1
    assert office.incident(incident).issue_iid == 1
    assert len(office.gitlab.notes) == 1, "what waited for it went on"
    assert office.kinds() == []


@pytest.mark.parametrize("state", ["parked", "failed", "void", "accepted"])
def test_an_issue_that_was_given_up_is_an_alarm(office: Audited, state: str) -> None:
    office.gitlab.failures = [Temporary("down")] * 1000
    office.panic()
    office.do(outbox.update().where(outbox.c.do == "issue").values(state=state))
    assert office.kinds() == [GapKind.ISSUE_GIVEN_UP]
    assert office.told("Open an issue by hand") == 1


def test_gitlab_away_for_an_hour_is_one_alarm_and_panicmail_stays_ready(desk: Audited) -> None:
    health = Health(desk.store, lambda: True, lambda: True, gaps=lambda: desk.accounting.gaps)
    desk.now += timedelta(minutes=50)  # so that the absence does not end with the hour
    desk.gitlab.failures = [Temporary("connection refused")] * 10_000
    began = desk.now
    desk.panic()
    found: list[Gap] = []
    with structlog.testing.capture_logs() as lines:
        for _ in range(9):
            desk.wait(minutes=1)
            found += desk.accounting.reconcile()
    late = [gap for gap in found if gap.kind is GapKind.ISSUE_LATE]
    assert [gap.since_at for gap in late] == [began] * 4, "from the sixth minute on"
    assert [line["kind"] for line in lines if line["event"] == "accounts.gap"] == ["issue_late"]
    assert desk.told("GitLab did not take the issue within minutes") == 1
    assert health.unready() == ()
    desk.gitlab.failures.clear()
    desk.wait(minutes=2)
    assert desk.kinds() == []


# -- pages and steps


def test_pages_that_are_gone_are_sent_again(office: Audited) -> None:
    office.accept(mail("help"))
    office.intake.work()
    office.do(outbox.delete().where(outbox.c.do == "page"))
    assert office.kinds() == []
    office.settle()
    assert len(office.pages("ana")) == 1
    (incident,) = office.incidents()
    assert (incident.round, incident.next_step_at) == (2, T0 + 5 * MINUTE)
    assert "accounts.repaired" in office.events(incident)
    assert office.kinds() == []


def test_an_open_incident_whose_pages_were_all_refused_is_an_alarm_and_the_escalation_goes_on(office: Audited) -> None:
    for address in ("ana@example.com", "max@example.com"):
        office.relay.refused[address] = Permanent("550 no such user")
    incident = office.panic()
    assert office.kinds() == []
    office.now += MINUTE + SECOND
    assert office.kinds() == [GapKind.UNCALLED]
    assert office.accounting.gaps[0].about == incident.ref
    round_ = office.incident(incident).round
    assert office.kinds() == [GapKind.UNCALLED]
    assert office.incident(incident).round == round_, "the reconciler pages nobody where pages are refused"
    del office.relay.refused["max@example.com"]
    office.wait(minutes=4)
    assert office.pages("max")
    assert office.kinds() == []


def test_nobody_on_call_is_an_alarm_that_does_not_hurry_the_escalation(desk: Audited) -> None:
    """Where the operators are nobody either; else they are called, and it is no gap."""
    desk.settings = replace(desk.settings, schedules=Schedules({"seoc": Schedule(()), "smoc": Schedule(())}))
    desk.panic()
    desk.wait(minutes=2)
    assert desk.kinds() == []
    desk.reply(desk.page("max"), "ack")
    desk.settings = replace(desk.settings, operators=())
    incident = desk.panic()
    for _ in range(3):
        desk.wait(minutes=1)
        desk.accounting.reconcile()
    assert desk.kinds() == [GapKind.UNCALLED]
    assert "accounts.repaired" not in desk.events(incident)
    assert desk.incident(incident).round == 1


def test_a_page_that_went_by_mail_and_not_to_the_phone_is_no_gap_nor_the_other_way_round(office: Audited) -> None:
    reached_by(office, PHONE)
    office.phones.refused[PHONE] = Permanent("403 forbidden")
    office.panic()
    office.phones.refused.clear()
    office.relay.refused["ana@example.com"] = Permanent("550 no such user")
    office.panic()
    office.now += 2 * MINUTE
    assert office.kinds() == []


def test_a_page_neither_mail_server_nor_phone_took_is_a_gap(office: Audited) -> None:
    reached_by(office, PHONE)
    office.phones.refused[PHONE] = Permanent("403 forbidden")
    for address in ("ana@example.com", "max@example.com"):
        office.relay.refused[address] = Permanent("550 no such user")
    incident = office.panic()
    office.now += 2 * MINUTE
    (gap,) = office.accounting.reconcile()
    assert (gap.kind, gap.about) == (GapKind.UNCALLED, incident.ref)


def test_a_page_that_was_let_go_calls_nobody_either(office: Audited) -> None:
    """A reload took the phone away that the last page was still to go to."""
    reached_by(office, PHONE)
    office.phones.refused[PHONE] = Temporary("503")
    office.relay.refused["ana@example.com"] = Permanent("550 no such user")
    office.panic()
    reached_by(office)
    office.now += 2 * SECOND
    office.settle()
    office.now += 2 * MINUTE
    assert office.kinds() == [GapKind.UNCALLED]


def unchecked(office: Audited, statement: sa.Executable) -> None:
    """Run a statement the database would refuse."""
    with office.database.engine.begin() as connection:
        if office.database.is_sqlite:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        else:
            connection.exec_driver_sql("ALTER TABLE incidents DROP CONSTRAINT ck_incidents_open_has_a_next_step")
        connection.execute(statement)
        if office.database.is_sqlite:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=OFF")


@pytest.mark.parametrize("next_step_at", [None, T0 + timedelta(days=4000)])
def test_an_open_incident_without_a_step_in_sight_takes_its_next_one_now(office: Audited, next_step_at: Any) -> None:
    incident = office.panic()
    unchecked(office, incidents.update().values(next_step_at=next_step_at))
    assert office.kinds() == []
    assert office.incident(incident).next_step_at == office.now
    office.wait(seconds=1)
    assert len(office.pages("ana")) == 2
    assert office.kinds() == []


def test_a_step_the_tick_does_not_take_is_a_gap_after_half_a_minute(office: Audited) -> None:
    incident = office.panic()
    office.now += 5 * MINUTE + 30 * SECOND
    assert office.kinds() == []
    office.now += SECOND
    (gap,) = office.accounting.reconcile()
    assert (gap.kind, gap.about, gap.since_at, gap.is_grave) == (GapKind.STEP_LATE, incident.ref, T0 + 5 * MINUTE, True)
    office.escalation.tick()
    office.settle()
    assert office.kinds() == []


def test_a_reminder_the_tick_does_not_send_is_a_gap_too(desk: Audited) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.now += 21 * MINUTE
    assert desk.kinds() == [GapKind.STEP_LATE]


def test_after_everything_stood_still_the_others_get_a_round_to_catch_up(desk: Audited) -> None:
    desk.panic()
    desk.accept(mail("and another"))
    assert desk.kinds() == []
    desk.now += timedelta(hours=1)
    assert desk.kinds() == [], "a suspended machine has not yet had its tick"
    desk.now += MINUTE
    assert set(desk.kinds()) == {GapKind.UNREAD, GapKind.STEP_LATE}


# -- the outbox


def test_a_lane_that_stands_still_is_a_gap(office: Audited) -> None:
    for _ in range(3):
        office.accept(mail("help"))
    while office.intake.work():
        pass
    office.now += MINUTE
    assert office.kinds() == []
    office.now += SECOND
    (gap,) = office.accounting.reconcile()
    assert (gap.kind, gap.about, gap.count, gap.is_grave) == (GapKind.LANE_STUCK, "page", 3, True)
    for _ in range(11):
        office.now += MINUTE
        found = office.accounting.reconcile()
    stuck = {gap.about: gap.is_grave for gap in found if gap.kind is GapKind.LANE_STUCK}
    assert stuck == {"page": True, "mail": False, "gitlab": False}


def test_every_lane_is_looked_at() -> None:
    assert set(ALL_LANES) == LEASE.keys() == reconciler.STUCK_AFTER.keys()


def test_a_push_whose_lease_is_over_and_that_nobody_takes_up_is_a_gap_after_five_minutes(office: Audited) -> None:
    """Its thread died over it, and so did the other one: the mail page is out, the phone is silent."""
    reached_by(office, PHONE)
    office.accept(mail("help"))
    office.intake.work()
    (claimed,) = office.store.write("test", lambda tx: tx.outbox.claim("push", 1, LEASE["push"]))
    office.now += 5 * MINUTE
    assert GapKind.LANE_STUCK not in [gap.kind for gap in office.accounting.reconcile() if gap.about == "push"]
    office.now += SECOND
    (gap,) = [gap for gap in office.accounting.reconcile() if gap.about == "push"]
    assert (gap.kind, gap.since_at, gap.count) == (GapKind.LANE_STUCK, claimed.due_at, 1)
    assert not gap.is_grave, "mail goes all the same"
    office.settle()
    assert len(office.phones.texts(PHONE)) == 1
    assert office.kinds() == []


def test_a_provider_that_does_not_answer_for_an_hour_is_no_gap_while_it_is_tried(desk: Audited) -> None:
    reached_by(desk, PHONE)
    desk.phones.refused[PHONE] = Temporary("it cannot be reached")
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    desk.panic("and another")
    for _ in range(60):
        desk.wait(minutes=1)
        assert desk.kinds() == []


def test_what_waits_for_an_issue_does_not_stand_still(desk: Audited) -> None:
    desk.gitlab.failures = [Temporary("down")] * 1000
    desk.panic()
    desk.wait(minutes=15)
    assert set(desk.kinds()) == {GapKind.ISSUE_LATE}


def test_a_row_that_waits_for_a_row_that_is_not_there_waits_no_longer(office: Audited) -> None:
    office.gitlab.failures = [Temporary("down")] * 1000
    incident = office.panic()
    office.do(outbox.update().where(outbox.c.after_id.is_not(None)).values(after_id=999_999))
    assert office.kinds() == []
    office.gitlab.failures.clear()
    office.wait(seconds=20)
    assert len(office.gitlab.notes) == 1, "and still the note came after the issue"
    assert office.events(incident).count("accounts.repaired") == 1


def test_a_push_claimed_for_ever_is_free_again(office: Audited) -> None:
    reached_by(office, PHONE)
    office.accept(mail("help"))
    office.intake.work()
    office.do(outbox.update().where(outbox.c.lane == "push").values(lease_until=T0 + timedelta(days=4000)))
    office.settle()
    assert not office.phones.texts(PHONE)
    assert office.kinds() == []
    office.settle()
    assert len(office.phones.texts(PHONE)) == 1


@pytest.mark.parametrize("table", [mails, outbox])
def test_what_is_claimed_for_ever_is_free_again(office: Audited, table: sa.Table) -> None:
    office.accept(mail("help"))
    if table is outbox:
        office.intake.work()
    office.do(table.update().values(lease_until=T0 + timedelta(days=4000)))
    office.settle()
    assert not office.pages("ana")
    assert office.kinds() == []
    office.settle()
    assert len(office.pages("ana")) == 1


# -- saying so


def test_a_gap_is_told_once_an_hour_and_logged_once(desk: Audited) -> None:
    desk.accept(mail("help"))
    desk.now += 2 * MINUTE
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            assert desk.kinds() == [GapKind.UNREAD]
            desk.now += MINUTE
    assert [line["event"] for line in lines if line["event"].startswith("accounts.")] == ["accounts.gap"]
    next(lane for lane in desk.lanes if lane.name == "mail").work()
    assert [posted.subject for posted in desk.sent("max")] == ["[panicmail] an accepted mail is not understood"]


def test_a_gap_that_cannot_be_mended_stays_one_and_the_others_are_mended(
    desk: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setitem(reconciler._REPAIRS, GapKind.MISFILED, broken)
    desk.accept(mail("help"))
    desk.intake.work()
    desk.do(mails.update().values(incident_id=None), outbox.delete().where(outbox.c.do == "page"))
    assert desk.kinds() == [GapKind.MISFILED]
    assert desk.told("putting it right failed") == 1
    assert len(desk.pages("ana")) == 1


def test_the_metric_names_every_kind(desk: Audited) -> None:
    health = Health(desk.store, lambda: True, lambda: True, gaps=lambda: desk.accounting.gaps)
    desk.accept(mail("help"))
    desk.now += 2 * MINUTE
    desk.accounting.reconcile()
    (figure,) = [f for f in LinkBackend(desk.links, health).figures() if f.name == "accounting_gaps"]
    assert figure.values == {kind.value: int(kind is GapKind.UNREAD) for kind in GapKind}


def test_every_kind_has_its_words_and_its_way_out() -> None:
    from panicmail.mail.compose.operator_alerts import causes

    assert reconciler.WORDS.keys() == set(GapKind)
    assert {f"gap_{kind.value}" for kind in GapKind if kind not in reconciler._REPAIRS} <= causes()


# -- the questions are cheap


def test_no_question_of_the_minute_reads_a_whole_table(desk: Audited) -> None:
    desk.panic()
    asked: list[tuple[str, Sequence[Any]]] = []

    @sa.event.listens_for(desk.database.engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    desk.store.read(lambda tx: reconciler.gaps_in(tx, desk.settings.policies))
    desk.store.read(lambda tx: (tx.future_rows.lead(), tx.watermark.current(), tx.figures.accepted_since(T0)))
    sa.event.remove(desk.database.engine, "before_cursor_execute", note)
    questions = [(statement, values) for statement, values in asked if statement.startswith("SELECT")]
    assert len(questions) > 15
    with desk.database.engine.connect() as connection:
        plans = {
            statement: [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            for statement, values in questions
        }
    whole = [(plan, statement) for statement, plan in plans.items() for step in plan if step.startswith("SCAN ")]
    assert whole == []


# -- the sweep


BREAKS = {
    "an incident is open exactly when it has a next step": "UPDATE incidents SET next_step_at = NULL",
    "an incident that is not over is due at some time": "UPDATE incidents SET due_at = NULL",
    "an incident has its mail and the octets of it": "DELETE FROM raws",
    "what was understood belongs to an incident": "UPDATE mails SET incident_id = NULL",
    "a panic has an incident of its own": "UPDATE incidents SET mail_id = 'nobody'",
    "an incident has an issue or a row that opens it": (
        "DELETE FROM outbox WHERE do = 'issue'; UPDATE incidents SET issue_iid = NULL"
    ),
    "a person is paged once in a round": "UPDATE outbox SET key = 'x', do = 'page', lane = 'page', person = 'ana', "
    "facts = '{\"round\": 1}' WHERE do = 'receipt'",
    "a page knows whether its incident is open": "UPDATE pages SET is_open = NOT is_open",
    "no page is of a round to come": "UPDATE incidents SET round = 0",
    "who acknowledged and how is on record": "UPDATE incidents SET state = 'acked', next_step_at = NULL",
    "when it was resolved is on record": "UPDATE incidents SET state = 'resolved', next_step_at = NULL",
    "what is to be done is about an incident that is there": "UPDATE incidents SET id = 'another'",
}


@pytest.mark.parametrize("invariant", BREAKS)
def test_the_sweep_finds_what_breaks_an_invariant(desk: Audited, invariant: str) -> None:
    desk.panic()
    with desk.database.engine.connect() as connection:
        for statement in ("PRAGMA foreign_keys=OFF", "PRAGMA ignore_check_constraints=ON"):
            connection.connection.cursor().execute(statement)
        for statement in BREAKS[invariant].split("; "):
            connection.exec_driver_sql(statement)
        connection.commit()
        for statement in ("PRAGMA foreign_keys=ON", "PRAGMA ignore_check_constraints=OFF"):
            connection.connection.cursor().execute(statement)
    with structlog.testing.capture_logs() as lines:
        broken = desk.accounting.sweep()
    assert invariant in broken
    (said,) = [line for line in lines if line["event"] == "accounts.swept"]
    assert (said["log_level"], invariant in said["broken"]) == ("error", True)
    assert desk.told("The hourly sweep found rows") == 1


def test_a_person_with_two_phones_is_paged_once_by_each_of_them(office: Audited) -> None:
    reached_by(office, PHONE, TABLET)
    office.panic()
    assert office.accounting.sweep() == {}


def test_the_sweep_counts_what_it_looked_at(office: Audited) -> None:
    office.panic()
    with structlog.testing.capture_logs() as lines:
        assert office.accounting.sweep() == {}
    (said,) = [line for line in lines if line["event"] == "accounts.swept"]
    assert (said["mails"], said["incidents"], said["outbox"] > 3, said["violations"]) == (1, 1, True, 0)
    office.do(raws.delete())
    assert [*office.accounting.sweep()] == ["an incident has its mail and the octets of it"]


# -- the command


def test_the_command_lists_the_gaps_with_exit_status_1_and_says_when_there_are_none(tmp_path: Path) -> None:
    with world(tmp_path) as town:
        office = Audited(tmp_path)
        office.now = datetime.now(UTC) - 10 * MINUTE
        incident = office.panic()
        office.reply(office.page("ana"), "ack")
        none = town.run("incidents", "--gaps")
        assert (none.status, none.err) == (0, "")
        assert none.out == "No gaps: 2 mails accepted in the last 48 h, each accounted for.\n"
        assert town.run("incidents", "--gaps", "--json").json == {"gaps": [], "accepted_in_48_hours": 2}
        office.do(mails.update().where(mails.c.id == incident.mail_id).values(incident_id=None))
        office.close()
        some = town.run("incidents", "--gaps")
        assert some.status == 1
        assert some.out.splitlines()[1].split()[:2] == [incident.ref, "misfiled"]
        listed = town.run("incidents", "--gaps", "--json")
        assert (listed.status, [gap["about"] for gap in listed.json["gaps"]]) == (1, [incident.ref])
        assert town.run("incidents", "--gaps", "--all").status == 2
