"""Rows 18 to 21: somebody, or a dead battery, sets the host's clock; an hour that comes twice, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from panicmail.clock import host_clock
from panicmail.errors import Temporary
from panicmail.escalation.restore_guard import ClockGuard
from panicmail.incident.model import State
from panicmail.incident.push_channel import channel
from panicmail.store.watermark import WatermarkFile
from tests.cast import MINUTE, T0
from tests.office import PEOPLE, Office

HOUR = timedelta(hours=1)


class Host:
    """A machine: a wall clock people set, and one that counts since it was started."""

    def __init__(self, wall: datetime) -> None:
        self.wall = wall
        self.boot = 4321.0

    def passes(self, span: timedelta) -> None:
        self.wall += span
        self.boot += span.total_seconds()


class Machine(Office):
    """An office whose time is what `host_clock` makes of a machine's clocks."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.host = host
        self._clock = host_clock(lambda: host.wall, lambda: host.boot)
        self._is_set = False  # an office begins by setting its clock, and this one's host has its own
        super().__init__(folder)
        self._is_set = True
        mark = WatermarkFile(folder / "high_water")
        self._keeper = ClockGuard(self.store, self._clock, mark, wall=lambda: host.wall, boot=lambda: host.boot)
        self._keeper.start()

    @property
    def now(self) -> datetime:
        return self._clock()

    @now.setter
    def now(self, at: datetime) -> None:
        """Let time pass until then; a moment that has passed changes nothing."""
        if self._is_set:
            self.host.passes(max(timedelta(), at - self._clock()))

    def set_clock(self, at: datetime) -> None:
        """Somebody sets the wall clock; the next tick sees it."""
        self.host.wall = at
        self._keeper.check_clock()

    def start_again(self) -> Machine:
        """The daemon, started anew on the same machine and database."""
        self.close()
        again = Machine(self.database.path.parent if self.database.path else Path(), self.host)
        again.relay, again.gitlab = self.relay, self.gitlab
        for lane in again.lanes:
            for name, peer in (("_relay", self.relay), ("_issues", self.gitlab)):
                if hasattr(lane, name):
                    setattr(lane, name, peer)
        return again


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, Host(T0))
    yield machine
    machine.close()


@pytest.mark.row(
    18, "the clock jumps an hour ahead while the SLA runs", "what is due by it, early, once each: no storm"
)
def test_an_hour_ahead_takes_the_overdue_steps_once_for_everybody_and_goes_on_with_the_repeat(machine: Machine) -> None:
    machine.panic()
    machine.wait(minutes=2)
    machine.set_clock(machine.host.wall + HOUR)
    machine.wait(seconds=1)
    assert (len(machine.pages("ana")), len(machine.pages("max"))) == (2, 1)
    assert any("clock" in posted.subject for posted in machine.sent("max")), "the operators do not know"
    machine.wait(minutes=4)
    assert (len(machine.pages("ana")), len(machine.pages("max"))) == (2, 1), "no storm"
    machine.wait(minutes=2)
    assert len(machine.pages("max")) == 2, "the last step repeats"


@pytest.mark.row(18, "the clock jumps an hour ahead and back again", "what came meanwhile escalates after its time")
def test_a_panic_of_a_wrong_hour_escalates_after_fifteen_minutes_once_the_clock_is_put_right(machine: Machine) -> None:
    machine.set_clock(machine.host.wall + HOUR)
    machine.panic()
    machine.set_clock(machine.host.wall - HOUR)
    machine.wait(minutes=14, seconds=58)
    assert machine.pages("max") == []
    machine.wait(seconds=3)
    assert len(machine.pages("max")) == 1


PHONE = "json://phone.example.com/ana"


@pytest.mark.row(18, "the clock jumps an hour ahead and back again", "what no phone took meanwhile is tried at once")
def test_a_push_of_a_wrong_hour_is_tried_at_once_when_the_clock_is_put_right(machine: Machine) -> None:
    ana = replace(PEOPLE["ana"], push=(channel(PHONE),))
    machine.settings = replace(machine.settings, people={**PEOPLE, "ana": ana})
    machine.phones.failures = [Temporary("503")]
    machine.set_clock(machine.host.wall + HOUR)
    machine.panic()
    assert machine.phones.texts(PHONE) == []
    machine.set_clock(machine.host.wall - HOUR)
    machine.wait(seconds=30)
    assert len(machine.phones.texts(PHONE)) == 1


@pytest.mark.row(19, "the clock jumps an hour back while the SLA runs", "the deadline comes when it would have come")
def test_an_hour_back_holds_up_neither_step_nor_page(machine: Machine) -> None:
    incident = machine.panic()
    machine.wait(minutes=2)
    machine.set_clock(machine.host.wall - HOUR)
    machine.wait(minutes=12, seconds=59)
    assert machine.pages("max") == []
    machine.wait(seconds=2)
    assert len(machine.pages("max")) == 1
    assert machine.incident(incident).breached_at is not None
    second = machine.panic(subject="meanwhile")
    assert second.accepted_at > incident.accepted_at, "the order of things stays"


@pytest.mark.row(
    20, "the clock stands at 1970 at the start", "paged at once, escalated on time; no storm when it is set"
)
def test_a_host_whose_battery_is_dead_pages_on_time_and_catches_up_when_its_clock_is_set(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Host(datetime(1970, 1, 1, 0, 1, tzinfo=UTC)))
    machine.panic()
    assert len(machine.pages("ana")) == 1
    machine.wait(minutes=14, seconds=59)
    assert machine.pages("max") == []
    machine.wait(seconds=2)
    assert len(machine.pages("max")) == 1, "fifteen minutes are fifteen minutes in any year"
    machine.set_clock(T0)
    machine.wait(seconds=1)
    assert len(machine.pages("max")) <= 2, "no storm when it is set"
    machine.close()


@pytest.mark.row(20, "the clock stands at 1970 after a restart", "what was open is not held up for 56 years")
def test_what_was_open_before_a_restart_at_1970_is_escalated_all_the_same(machine: Machine) -> None:
    machine.panic()
    machine.wait(minutes=2)
    machine.host.wall = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    machine.host.boot = 20.0
    again = machine.start_again()
    again.wait(minutes=16)
    assert again.pages("max"), "the SMOC was never called"
    again.close()


@pytest.mark.row(20, "the clock stands at 2038 and is put right", "what came meanwhile escalates in this year")
def test_a_panic_of_2038_escalates_in_this_year_after_a_restart(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Host(datetime(2038, 1, 19, 3, 0, tzinfo=UTC)))
    machine.panic()
    machine.wait(minutes=2)
    machine.host.wall = T0
    again = machine.start_again()
    again.wait(minutes=16)
    assert again.pages("max"), "the SMOC waits for 2038"
    again.close()


#: The nights in which the clocks of Berlin go forward and back, some minutes before they do.
NIGHTS = {
    "an hour that does not come": datetime(2027, 3, 28, 0, 52, tzinfo=UTC),
    "an hour that comes twice": datetime(2027, 10, 31, 0, 52, tzinfo=UTC),
}


@pytest.mark.row(21, "daylight saving begins or ends while the SLA runs", "fifteen minutes are fifteen minutes")
@pytest.mark.parametrize("night", NIGHTS)
def test_the_smoc_is_called_after_fifteen_minutes_on_a_night_the_clocks_change(tmp_path: Path, night: str) -> None:
    machine = Machine(tmp_path, Host(NIGHTS[night]))
    berlin = {key: replace(person, tz=ZoneInfo("Europe/Berlin")) for key, person in PEOPLE.items()}
    machine.settings = replace(machine.settings, people=berlin)
    incident = machine.panic()
    machine.wait(minutes=14, seconds=59)
    assert machine.pages("max") == []
    assert len(machine.pages("ana")) == 3
    machine.wait(seconds=1)
    assert len(machine.pages("max")) == 1
    machine.reply(machine.page("max"), "ack")
    assert machine.incident(incident).state is State.ACKED
    assert machine.incident(incident).acked_at == NIGHTS[night] + 15 * MINUTE
    machine.close()


@pytest.mark.row(21, "an hour that comes twice", "the page says which of the two is meant")
def test_the_hour_that_comes_twice_is_told_with_its_zone(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Host(NIGHTS["an hour that comes twice"]))
    berlin = {key: replace(person, tz=ZoneInfo("Europe/Berlin")) for key, person in PEOPLE.items()}
    machine.settings = replace(machine.settings, people=berlin)
    machine.panic()
    assert "by 02:07 CET" in machine.page("ana").text, machine.page("ana").text.splitlines()[0]
    machine.close()
