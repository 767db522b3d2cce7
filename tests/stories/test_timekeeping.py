"""The clock is put forward, put back, wrong at the start: everybody is still called in real time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from panicmail.clock import EARLIEST, HostClock, host_clock
from panicmail.errors import StoreFailed, Temporary
from panicmail.escalation.reconciler import Reconciler
from panicmail.escalation.restore_guard import ClockGuard
from panicmail.incident.model import State
from panicmail.store.watermark import WatermarkFile
from tests.cast import MINUTE, SECOND, T0
from tests.office import Office, mail

HOUR = timedelta(hours=1)
FORWARD, BACK = "the clock was put forward", "the clock was put back"


class Clocked(Office):
    """An office on a machine whose wall clock can be put forward and back. `wait` lets real time pass.

    On PostgreSQL the wall clock is the database's, and rules; on SQLite panicmail goes by its own `HostClock`.
    """

    def __init__(self, folder: Path, *, url: str | None = None) -> None:
        self.wall, self.boot = T0, 1234.5
        self._begun = T0  #: the wall clock as it would stand, had nobody moved it
        self.high_water = WatermarkFile(folder / "high-water.json")
        self._host: HostClock | None = None
        super().__init__(folder, url=url)
        if self.database.is_sqlite:
            self._host = self._clock()
        self.timekeeper = self._timekeeper()
        self.timekeeper.start()
        self.accounting = Reconciler(self.store, lambda: self.settings)

    @property
    def now(self) -> datetime:
        return self._host() if self._host else self.wall

    @now.setter
    def now(self, at: datetime) -> None:
        span = at - self.now
        self.wall += span
        self.boot += span.total_seconds()

    def _clock(self) -> HostClock:
        return host_clock(lambda: self.wall, lambda: self.boot)

    def _timekeeper(self) -> ClockGuard:
        clock = self._host or (lambda: self.wall)
        return ClockGuard(self.store, clock, self.high_water, wall=lambda: self.wall, boot=lambda: self.boot)

    def put(self, by: timedelta) -> None:
        """Somebody sets the clock."""
        self.wall += by

    def wait(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Real time passes; a look and a tick at least at every second at which something is due, or a minute."""
        end = self.boot + minutes * 60 + seconds
        while self.boot < end:
            due = (self._next_due() - self.now).total_seconds()
            step = min(max(due, 1.0), 60.0, end - self.boot)
            self.boot += step
            self.wall += timedelta(seconds=step)
            self.look()

    def look(self) -> None:
        self.timekeeper.check_clock()
        self.escalation.tick()
        self.settle()

    def restart(self, *, away: timedelta = timedelta(), wall: datetime | None = None, keeps_mark: bool = True) -> None:
        """The process ends, and another one begins."""
        if keeps_mark:
            self.high_water.write(self.store.read(lambda tx: tx.watermark.current()))
        self.boot += away.total_seconds()
        self.wall += away
        if wall is not None:
            self.wall = wall
        if self._host is not None:
            self._host = self._clock()
        self.timekeeper = self._timekeeper()
        self.timekeeper.start()
        self.look()

    def alarms(self) -> list[str]:
        """The subjects of what the operators were told, oldest first."""
        self.settle()
        subjects = [posted.subject for posted in self.sent("max")]
        return [subject.removeprefix("[panicmail] ") for subject in subjects if subject.startswith("[panicmail]")]


@pytest.fixture
def office(database_url: str | None, tmp_path: Path) -> Iterator[Clocked]:
    office = Clocked(tmp_path, url=database_url)
    yield office
    office.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Clocked]:
    office = Clocked(tmp_path)
    yield office
    office.close()


# -- put forward, and back


def test_a_panic_of_a_clock_an_hour_ahead_is_paged_at_once_and_the_smoc_at_the_fifteenth_minute(
    office: Clocked,
) -> None:
    office.put(HOUR)
    office.look()
    office.accept(mail("help"))
    office.put(-HOUR)
    office.look()
    assert len(office.pages("ana")) == 1
    (incident,) = office.incidents()
    assert (incident.accepted_at, incident.sla_at) == (T0, T0 + 15 * MINUTE)
    office.wait(minutes=14, seconds=59)
    assert (len(office.pages("ana")), office.pages("max")) == (3, [])
    office.wait(seconds=1)
    assert len(office.pages("max")) == 1
    assert office.alarms()[:2] == [FORWARD, BACK]


def test_an_incident_that_was_paged_an_hour_ahead_goes_on_in_real_time(office: Clocked) -> None:
    office.put(HOUR)
    office.look()
    incident = office.panic()
    office.wait(minutes=3)
    office.put(-HOUR)
    office.wait(seconds=1)
    now = office.incident(incident)
    assert (now.accepted_at, now.next_step_at, now.paged["ana"].at) == (T0, T0 + 5 * MINUTE, T0)
    assert now.first_sla_at == now.sla_at == T0 + 15 * MINUTE
    (line,) = [line for line in office.lines(incident) if line.event == "clock.put_back"]
    assert line.facts == {"seconds": 3600}
    office.wait(minutes=1, seconds=58)
    assert len(office.pages("ana")) == 1
    office.wait(seconds=1)
    assert len(office.pages("ana")) == 2


def test_a_page_that_could_not_be_sent_an_hour_ahead_does_not_wait_for_that_hour(office: Clocked) -> None:
    office.put(HOUR)
    office.look()
    office.relay.failures = [Temporary("450 later")] * 3
    office.accept(mail("help"))
    office.settle()
    assert not office.pages("ana")
    office.relay.failures.clear()
    office.put(-HOUR)
    office.wait(seconds=2)
    assert len(office.pages("ana")) == 1


def test_what_is_due_when_the_clock_is_put_forward_is_taken_once(office: Clocked) -> None:
    incident = office.panic()
    office.put(HOUR)
    office.look()
    assert (len(office.pages("ana")), len(office.pages("max"))) == (2, 1), "one page each for all the missed steps"
    assert office.alarms() == [FORWARD]
    office.wait(minutes=4)
    assert (len(office.pages("ana")), len(office.pages("max"))) == (2, 1)
    office.put(-HOUR)
    office.wait(seconds=59)
    assert (len(office.pages("ana")), len(office.pages("max"))) == (2, 1)
    office.wait(seconds=1)
    assert (len(office.pages("ana")), len(office.pages("max"))) == (3, 2), "the repeat, five minutes after the last"
    assert office.incident(incident).accepted_at == T0, "what was right is left alone"


def test_the_reminder_of_an_acknowledgement_an_hour_ahead_comes_in_real_time(office: Clocked) -> None:
    office.put(HOUR)
    office.look()
    incident = office.panic()
    office.reply(office.page("ana"), "ack")
    office.put(-HOUR)
    office.look()
    assert office.incident(incident).first_acked_at == T0
    office.wait(minutes=19, seconds=59)
    assert len(office.pages("ana")) == 1
    office.wait(seconds=1)
    assert len(office.pages("ana")) == 2


def test_an_incident_to_which_nothing_happened_meanwhile_keeps_its_times(desk: Clocked) -> None:
    incident = desk.panic()
    desk.put(4 * MINUTE)
    desk.look()
    desk.put(-4 * MINUTE)
    desk.look()
    assert desk.incident(incident) == incident
    assert "clock.put_back" not in desk.events(incident)


def test_a_follow_up_an_hour_ahead_goes_to_the_manager_ten_minutes_later_in_real_time(desk: Clocked) -> None:
    incident = desk.panic(message_id="<first@example.com>")
    desk.reply(desk.page("ana"), "ack")
    desk.put(HOUR)
    desk.look()
    desk.deliver(mail("it is spreading", in_reply_to="<first@example.com>"))
    assert desk.incident(incident).remind_at == T0 + HOUR + 10 * MINUTE
    desk.put(-HOUR)
    desk.look()
    assert desk.incident(incident).remind_at == T0 + 10 * MINUTE


def test_what_was_claimed_an_hour_ahead_and_never_finished_is_free_in_time(desk: Clocked) -> None:
    desk.put(HOUR)
    desk.look()
    desk.accept(mail("help"))
    desk.intake.work()
    desk.store.write("test", lambda tx: tx.outbox.claim("page", 1, MINUTE))
    desk.put(-HOUR)
    desk.look()
    assert not desk.pages("ana")
    desk.wait(minutes=1)
    assert len(desk.pages("ana")) == 1


def test_a_mail_claimed_before_the_clock_was_put_back_and_understood_after_is_put_right_within_a_minute(
    desk: Clocked,
) -> None:
    desk.put(HOUR)
    desk.look()
    desk.accept(mail("help"))
    (claimed,) = desk.store.write("test", lambda tx: tx.mails.claim(1, 30 * SECOND))
    desk.put(-HOUR)
    desk.look()
    desk.intake.understand(claimed)
    desk.settle()
    (incident,) = desk.incidents()
    assert incident.accepted_at > desk.now
    desk.wait(minutes=1)
    assert desk.incident(incident).accepted_at <= T0 + MINUTE
    desk.wait(minutes=15)
    assert len(desk.pages("max")) == 1


def test_two_nodes_that_see_it_bring_it_back_once(office: Clocked) -> None:
    other = office._timekeeper()
    other.start()
    office.put(HOUR)
    other.check_clock()
    office.look()
    incident = office.panic()
    office.wait(minutes=1)
    other.check_clock()
    office.put(-HOUR)
    office.look()
    other.check_clock()
    assert office.incident(incident).next_step_at == T0 + 5 * MINUTE
    assert office.events(incident).count("clock.put_back") == 1


def test_a_jump_made_while_the_database_is_away_is_seen_when_it_is_back(
    desk: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> datetime:
        raise StoreFailed("away")

    desk.put(HOUR)
    desk.look()
    incident = desk.panic()
    with monkeypatch.context() as during:
        during.setattr(desk.store, "now", away)
        desk.put(-HOUR)
        with pytest.raises(StoreFailed):
            desk.timekeeper.check_clock()
    desk.look()
    assert desk.incident(incident).next_step_at == T0 + 5 * MINUTE


@pytest.mark.parametrize("by", [3 * SECOND, -3 * SECOND])
def test_a_clock_put_right_by_a_few_seconds_is_not_worth_a_word(desk: Clocked, by: timedelta) -> None:
    desk.wait(minutes=1)
    desk.put(by)
    desk.wait(minutes=1)
    assert desk.alarms() == []


def test_a_machine_that_slept_for_an_hour_did_not_move_its_clock(desk: Clocked) -> None:
    desk.panic()
    desk.now += HOUR
    desk.look()
    assert desk.alarms() == []
    assert len(desk.pages("max")) == 1


def test_a_clock_that_moves_leaves_no_gap_behind(office: Clocked) -> None:
    office.put(HOUR)
    office.look()
    office.panic()
    office.put(-HOUR)
    for _ in range(20):
        office.wait(minutes=1)
        assert office.accounting.reconcile() == ()


# -- put back, and not followed


def test_a_wall_clock_put_back_behind_the_start_changes_nothing_and_the_operators_hear(desk: Clocked) -> None:
    incident = desk.panic()
    desk.put(-HOUR)
    desk.wait(minutes=2)
    assert desk.alarms() == ["two clocks differ"]
    assert desk.incident(incident) == incident
    desk.wait(minutes=13)
    assert len(desk.pages("max")) == 1


# -- at the start


@pytest.mark.parametrize("keeps_mark", [True, False])
def test_a_clock_put_back_while_panicmail_was_away_is_found_at_the_start(office: Clocked, keeps_mark: bool) -> None:
    office.put(HOUR)
    office.look()
    incident = office.panic()
    office.put(-HOUR)
    office.restart(keeps_mark=keeps_mark)
    assert office.alarms() == [FORWARD, BACK]
    assert office.incident(incident).next_step_at == T0 + 5 * MINUTE
    office.restart(keeps_mark=keeps_mark)
    assert office.incident(incident).next_step_at == T0 + 5 * MINUTE, "once"
    office.wait(minutes=15)
    assert len(office.pages("max")) == 1


def test_a_clock_that_lost_its_battery_counts_on_from_the_last_instant_known(desk: Clocked) -> None:
    incident = desk.panic()
    desk.wait(minutes=2)
    desk.restart(away=30 * SECOND, wall=datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC))
    assert desk.now == T0 + 2 * MINUTE
    assert desk.alarms() == ["the machine's clock is wrong"]
    assert desk.incident(incident) == incident, "nothing is written anew by a clock that is wrong"
    desk.wait(minutes=3)
    assert len(desk.pages("ana")) == 2
    desk.panic(subject="another")
    assert len(desk.pages("ana")) == 3
    desk.wall = T0 + 5 * MINUTE + 30 * SECOND
    desk.look()
    assert (desk.pages("max"), desk.incident(incident).breached_at) == ([], None)
    desk.wait(minutes=9, seconds=30)
    assert len(desk.pages("max")) == 1, "at the fifteenth minute of real time"


def test_a_new_host_with_a_clock_without_battery_never_writes_1970(tmp_path: Path) -> None:
    office = Clocked(tmp_path)
    office.restart(wall=datetime(1970, 1, 1, tzinfo=UTC), keeps_mark=False)
    office.panic()
    (incident,) = office.incidents()
    assert incident.accepted_at >= EARLIEST
    office.wait(minutes=15)
    assert len(office.pages("max")) == 1
    office.close()


@pytest.mark.postgres
def test_a_database_whose_clock_stands_in_1970_still_calls_people_in_time(tmp_path: Path, postgres_url: str) -> None:
    office = Clocked(tmp_path, url=postgres_url)
    office.panic()
    office.wait(minutes=2)
    office.restart(wall=datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC))
    assert set(office.alarms()) == {"the machine's clock is wrong", BACK}
    office.wait(minutes=2, seconds=59)
    assert len(office.pages("ana")) == 1
    office.wait(seconds=1)
    assert len(office.pages("ana")) == 2
    office.wait(minutes=10)
    assert len(office.pages("max")) == 1
    office.close()


def test_a_clock_in_2038_takes_what_is_due_once_and_is_brought_back_when_it_is_right_again(desk: Clocked) -> None:
    incident = desk.panic()
    desk.restart(wall=datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC))
    assert desk.alarms() == [FORWARD]
    assert (len(desk.pages("ana")), len(desk.pages("max"))) == (2, 1)
    desk.wait(minutes=1)
    desk.wall = T0 + 2 * MINUTE
    desk.wait(minutes=1)
    assert desk.alarms() == [FORWARD, "two clocks differ"], "this process counts on from 2038, and says so"
    desk.restart()
    assert desk.alarms()[2:] == [BACK]
    right = desk.incident(incident)
    assert right.next_step_at is not None
    assert desk.now <= right.next_step_at <= desk.now + 5 * MINUTE
    assert right.state is State.OPEN
    new = desk.panic(subject="another")
    assert new.accepted_at == desk.now < T0 + HOUR
