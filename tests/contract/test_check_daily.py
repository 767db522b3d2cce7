"""The daily re-check: what the operators are told, how often, and when it is mended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from panicmail.check.certificate_checks import judge
from panicmail.check.daily_check import DailyCheck
from panicmail.check.database_checks import KnownFindings
from panicmail.check.result import CheckVerdict, Group, Row
from panicmail.mail.compose.operator_alerts import alarm_words, causes
from panicmail.oncall import runtime_settings
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay
from tests.office import Office, Posted
from tests.site import Site

HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
CHECKED = "[panicmail] "


class Desk(Office):
    """An office whose daily check sees what it is told to see."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: Sequence[Row] = ()
        self.looks = 0
        self.daily = self.another("node-a")

    def another(self, host: str) -> DailyCheck:
        """A daily check of a process that was just started."""
        return DailyCheck(self.store, lambda: self.settings, _no_config, host=host, check_again=self._check_again)

    def _check_again(self, known: KnownFindings, now: datetime) -> Sequence[Row]:
        self.looks += 1
        return self.rows

    def run(self, *, after: timedelta = timedelta()) -> list[str]:
        """What the operators are told by a run that comes so much later."""
        self.now += after
        before = len(self.told())
        self.daily.run(self.now)
        self.settle()
        return [posted.subject.removeprefix(CHECKED) for posted in self.told()[before:]]

    def told(self) -> list[Posted]:
        return [posted for posted in self.sent("max") if posted.subject.startswith(CHECKED)]


def _no_config() -> NoReturn:
    raise AssertionError("nothing real is tried here")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


GOOD = Group.GITLAB.ok("token", "ends in a year").told_as("check_token")
ENDING = Group.GITLAB.warning("token", "ends 2026-12-01", "make a new one").told_as("check_token")
ENDED = Group.GITLAB.failed("token", "ended", "make a new one").told_as("check_token")
FULL = Group.STORE.failed("disk", "full", "make room").told_as("check_disk")
ROOM = Group.STORE.ok("disk", "room").told_as("check_disk")
AWAY = Group.RELAY.failed("relay answers", "no answer", "see it").told_as("check_relay").passes()
THERE = Group.RELAY.ok("relay answers", "there").told_as("check_relay")

TOKEN, DISK, RELAY, MENDED = (alarm_words(c).what for c in ("check_token", "check_disk", "check_relay", "check_mended"))


def test_what_is_wrong_is_told_at_once_then_once_a_day_while_it_lasts_and_once_when_it_is_mended(desk: Desk) -> None:
    desk.rows = [ENDING]
    assert desk.run() == [TOKEN]
    assert [desk.run(after=HOUR) for _ in range(23)] == [[]] * 23
    assert desk.run(after=HOUR) == [TOKEN]
    desk.rows = [GOOD]
    assert desk.run(after=HOUR) == [MENDED]
    assert desk.run(after=HOUR) == []


def test_the_mail_says_what_was_found_what_it_means_and_the_mend(desk: Desk) -> None:
    desk.rows = [ENDING]
    desk.run()
    text = desk.told()[0].text
    assert "From that day on no incident gets an issue." in text
    assert "Detail: found: token: ends 2026-12-01" in text
    assert "Detail: mend: make a new one" in text


def test_while_all_is_well_it_looks_once_a_day_and_else_at_every_run(desk: Desk) -> None:
    desk.rows = [GOOD]
    for _ in range(24):
        desk.run(after=HOUR)
    assert desk.looks == 1
    desk.rows = [ENDING]
    desk.run(after=HOUR)
    assert desk.looks == 2
    desk.run(after=HOUR)
    assert desk.looks == 3


def test_of_two_channels_of_one_person_each_is_told(desk: Desk) -> None:
    row = Group.PEOPLE.ok("ana push", "is understood").told_as("check_push").of("ana")
    broken = replace(row, verdict=CheckVerdict.WARNING, found="refused the last push", mend="see it", channel="push-1")
    desk.rows = [broken, replace(row, channel="push-2")]
    assert desk.run() == [alarm_words("check_push").what]
    assert "Detail: found: ana push: refused the last push" in desk.told()[0].text
    desk.rows = [replace(row, channel="push-1"), replace(row, channel="push-2")]
    assert desk.run(after=HOUR) == [MENDED]
    assert "Detail: mended: ana push, wrong since 2026-11-22: refused the last push" in desk.told()[-1].text


def test_what_gets_worse_is_told_anew(desk: Desk) -> None:
    desk.rows = [ENDING]
    desk.run()
    desk.rows = [ENDED]
    assert desk.run(after=HOUR) == [TOKEN]
    assert desk.run(after=HOUR) == []


def test_a_certificate_that_ends_is_told_with_21_days_left_with_7_and_each_day_from_the_last_one_on(desk: Desk) -> None:
    ends_at = desk.now + 30 * DAY
    told: list[int] = []
    while desk.now <= ends_at + DAY:
        row = judge(Group.DOOR, "tls", ends_at, desk.now, "renew it")
        desk.rows = [row]
        if desk.run():
            told.append((ends_at - desk.now).days)
        desk.now += HOUR
    assert told == [21, 7, 1, 0, -1]
    desk.rows = [judge(Group.DOOR, "tls", desk.now + 90 * DAY, desk.now, "")]
    assert desk.run() == [MENDED]


def test_what_may_pass_by_itself_is_told_when_it_is_so_twice(desk: Desk) -> None:
    desk.rows = [AWAY]
    assert desk.run() == []
    desk.rows = [THERE]
    assert desk.run(after=HOUR) == []
    desk.rows = [AWAY]
    assert desk.run(after=DAY) == []
    assert desk.run(after=HOUR) == [RELAY]


def test_several_of_one_sort_share_a_mail(desk: Desk) -> None:
    refused = [Group.PEOPLE.failed(f"{who} mail", "refused", "mend").told_as("check_relay") for who in ("ana", "bo")]
    desk.rows = [*refused, ENDING]
    assert sorted(desk.run()) == sorted([RELAY, TOKEN])
    assert "bo mail: refused" in next(posted.text for posted in desk.told() if RELAY in posted.subject)


def test_a_restart_and_a_second_node_tell_nothing_anew(desk: Desk) -> None:
    desk.rows = [ENDING]
    desk.run()
    desk.daily = desk.another("node-b")
    assert desk.run(after=HOUR) == []
    desk.rows = [GOOD]
    assert desk.run(after=HOUR) == [MENDED]


def test_the_disk_of_one_host_is_not_mended_by_the_room_on_another(desk: Desk) -> None:
    desk.rows = [FULL]
    assert desk.run() == [DISK]
    first, desk.daily, desk.rows = desk.daily, desk.another("node-b"), [ROOM]
    assert desk.run(after=HOUR) == []
    desk.daily = first
    assert desk.run(after=HOUR) == [MENDED]


def test_what_could_not_be_looked_at_is_not_mended_and_what_is_gone_is_forgotten(desk: Desk) -> None:
    desk.rows = [ENDING]
    desk.run()
    desk.rows = [AWAY]  # and no word about the token
    assert MENDED not in desk.run(after=HOUR)
    assert [finding.name for finding in desk.store.read(lambda tx: tx.findings.all())] == ["check_token/token"]
    desk.run(after=timedelta(days=7))
    assert "check_token/token" not in [f.name for f in desk.store.read(lambda tx: tx.findings.all())]


def test_a_choice_of_the_configuration_is_never_told(tmp_path: Path) -> None:
    """Real things are tried: what is merely a warning of a choice (no web address, one disk) is not among the rows."""
    with SandboxGitLab() as gitlab, SandboxRelay() as relay:
        site = Site(tmp_path, gitlab, relay)
        config = site.config()
        office = Office(tmp_path)
        office.settings = runtime_settings.from_config(config, [("a", b"k" * 32)])
        daily = DailyCheck(office.store, lambda: office.settings, lambda: config)
        gitlab.set_token(expires_on=(datetime.now(UTC) + timedelta(days=10)).date())
        relay.rule("ana@", "reject")
        with capture_logs() as lines:
            daily.run(datetime.now(UTC))
        office.settle()
        looked = next(line for line in lines if line["event"] == "check.looked")
        assert looked["wrong"] == ["check_outside/from outside", "check_relay/ana mail", "check_token/token"]
        subjects = sorted(posted.subject.removeprefix(CHECKED) for posted in office.sent("max"))
        assert subjects == sorted([alarm_words("check_outside").what, RELAY, TOKEN])
        office.close()


def test_every_cause_a_row_can_have_is_in_words(tmp_path: Path) -> None:
    with SandboxGitLab() as gitlab, SandboxRelay() as relay:
        rows = Site(tmp_path, gitlab, relay).rows()
    told = {row.cause for row in rows.values() if row.cause}
    assert told <= causes()
    assert {"check_token", "check_relay", "check_roster", "check_clock", "check_disk", "check_roles"} <= told
