"""What the poll asks GitLab: one list request, and what that names; and that nothing is lost for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from panicmail.errors import Permanent, StoreFailed, Temporary
from panicmail.gitlab.client import GitLabProject
from panicmail.gitlab.issue_values import IssueAct, IssueActivity, IssueDestination, IssueReopening
from panicmail.gitlab.issues import Issues
from panicmail.incident.model import Incident, State
from panicmail.incident.reply_commands import Command
from panicmail.response.gitlab_activity import AWAY_AFTER, ActivityPoll
from panicmail.response.issue_queue import AT_ONCE
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.store.tables import incidents
from tests.many_rows import add_many
from tests.office import Office

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Watched:
    """Incidents whose issues lie in a sandbox, and the poll that asks it. One clock for all, `ahead` apart."""

    def __init__(self, desk: Office, gitlab: SandboxGitLab) -> None:
        self.desk, self.gitlab = desk, gitlab
        self.issues = Issues(GitLabProject(gitlab.url, str(gitlab.project_id), gitlab.token), ["security-incident"])
        self.signs = self.another_node()

    def another_node(self) -> ActivityPoll:
        return ActivityPoll(self.desk.store, lambda: self.desk.settings, self.issues)

    def open(self, count: int) -> Incident:
        """So many incidents that are open, with issues 1, 2 ...; answers the first."""
        first = self.desk.panic()
        if count > 1:
            add_many(self.desk.database, first.mail_id, count - 1)
        self.due(first, self.desk.now + timedelta(days=99))
        for n in range(count):
            wanted = {"title": f"[panic] {n}", "issue_type": "incident", "confidential": True}
            self.gitlab.instance.open_issue(self.gitlab.instance.owner, {**wanted, "labels": ["security-incident"]})
        return first

    def due(self, incident: Incident, at: datetime) -> None:
        """Its next step is then."""
        with self.desk.database.engine.begin() as connection:
            connection.execute(sa.update(incidents).where(incidents.c.id == incident.id).values(next_step_at=at))

    def poll(self, after: timedelta = timedelta(seconds=61)) -> list[str]:
        """The requests of a poll that long after the one before."""
        self.desk.now += after
        before = len(self.gitlab.requests)
        self.signs.poll()
        return [f"{one.method} {one.path}" for one in self.gitlab.requests[before:]]

    def settled(self) -> None:
        """Everything was read, and nothing is owed."""
        while len(self.poll()) != 1:
            pass

    def holders(self) -> dict[int, str | None]:
        found = self.desk.store.read(lambda tx: tx.search.incidents_of_issues(range(1, 1000)))
        return {incident.issue_iid or 0: incident.holder for incident in found if incident.holder}


@pytest.fixture
def ahead() -> timedelta:
    """How much later than ours GitLab's clock stands."""
    return timedelta()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> Iterator[Watched]:
    with closing(Office(tmp_path)) as desk, SandboxGitLab(clock=lambda: desk.now + ahead) as gitlab:
        for module in ("client", "issue_history"):
            monkeypatch.setattr(f"panicmail.gitlab.{module}.wall_clock", lambda: desk.now)
        watched = Watched(desk, gitlab)
        yield watched
        watched.issues.close()


# -- what it costs


@pytest.mark.parametrize("count", [5, 200])
def test_a_poll_is_one_request_and_what_the_updated_issues_need_however_many_are_open(
    watched: Watched, count: int
) -> None:
    watched.open(count)
    watched.settled()
    (only,) = watched.poll()
    assert "/issues?" in only
    assert "updated_after=" in only
    touched = [1, count // 2, count]
    for iid in touched:
        watched.gitlab.people.comment(iid, "ana", "looking")
    asked = watched.poll()
    assert len(asked) == 1 + 3 * 3, "the issue, its notes and its changes of labels"
    assert watched.holders() == dict.fromkeys(touched, "ana")
    assert len(watched.poll(71 * SECOND)) == 1 + 3 * 3, "once more: a touch within a minute shows no date"
    assert len(watched.poll()) == 1


def test_issues_that_are_not_ours_cost_nothing(watched: Watched) -> None:
    watched.open(2)
    watched.gitlab.instance.open_issue(watched.gitlab.instance.owner, {"title": "not ours"})
    watched.settled()
    watched.gitlab.people.comment(3, "ana", "this is something else")
    assert len(watched.poll()) == 1


def test_after_a_start_everything_is_read_once_in_portions(watched: Watched) -> None:
    watched.open(120)
    watched.desk.now += timedelta(days=1)
    reads = [sum("label_events" in request for request in watched.poll(10 * SECOND)) for _ in range(5)]
    assert reads == [AT_ONCE, AT_ONCE, 20, 0, 0]


def test_near_its_next_step_an_incident_is_asked_for_itself_once_for_each_step(watched: Watched) -> None:
    first = watched.open(3)
    watched.desk.now += timedelta(hours=2)
    watched.settled()
    watched.due(first, watched.desk.now + timedelta(seconds=50))
    asked = [len(watched.poll(10 * SECOND)) for _ in range(4)]
    assert asked == [4, 1, 1, 1]
    watched.gitlab.people.comment(1, "ana", "on it")
    watched.poll(5 * SECOND)
    assert watched.holders() == {1: "ana"}, "and seen before it"


def test_incidents_that_are_over_ride_on_the_same_list(watched: Watched) -> None:
    first = watched.open(3)
    watched.desk.act(first, "ana", Command.YES)
    watched.desk.now += SECOND
    watched.gitlab.people.close(1, "ana")
    watched.poll()
    assert watched.desk.incident(first).state is State.RESOLVED
    watched.settled()
    watched.desk.now += timedelta(hours=20)
    assert len(watched.poll()) == 1
    watched.gitlab.people.reopen(1, "ana")
    watched.poll()
    assert watched.desk.incident(first).state is State.OPEN


# -- what moves no date


def test_a_comment_within_a_minute_of_the_last_update_is_seen_though_it_dates_nothing(watched: Watched) -> None:
    watched.open(2)
    watched.settled()
    watched.gitlab.people.comment(1, "max", "who has it?")
    watched.poll()
    watched.desk.now += timedelta(minutes=5)
    watched.gitlab.people.comment(1, "max", "anybody?")
    watched.poll(20 * SECOND)
    watched.desk.now += 20 * SECOND
    dated = watched.gitlab.issues[0]["updated_at"]
    watched.gitlab.people.comment(1, "ana", "I am")
    assert watched.gitlab.issues[0]["updated_at"] == dated
    for _ in range(6):
        watched.poll(10 * SECOND)
    assert watched.holders() == {1: "ana"}


def test_a_date_that_somebody_set_far_ahead_hides_nothing(watched: Watched) -> None:
    watched.open(2)
    watched.gitlab.instance.issue(2).updated_at = datetime(2099, 1, 1, tzinfo=UTC)
    watched.settled()
    watched.gitlab.people.close(1, "ana")
    watched.poll()
    assert watched.holders() == {1: "ana"}
    watched.gitlab.people.close(2, "ana")
    watched.poll()
    assert watched.holders() == {1: "ana", 2: "ana"}


def test_a_deleted_issue_is_asked_for_once_and_once_more_before_its_next_step(watched: Watched) -> None:
    first = watched.open(1)
    watched.settled()
    del watched.gitlab.instance.issues[1]
    assert len(watched.poll()) == 1
    fresh = watched.another_node()
    for signs, costs in ((fresh, [2, 1, 1]), (watched.signs, [1])):
        watched.signs = signs
        assert [len(watched.poll()) for _ in costs] == costs
    watched.due(first, watched.desk.now + timedelta(seconds=100))
    assert [len(watched.poll(20 * SECOND)) for _ in range(3)] == [0, 2, 1]


# -- nothing is lost


@pytest.mark.parametrize("ahead", [timedelta(hours=2), -timedelta(hours=2), -timedelta(minutes=5)])
def test_the_list_is_asked_by_gitlabs_clock(watched: Watched) -> None:
    watched.open(2)
    watched.settled()
    for iid in (1, 2):
        watched.desk.now += 20 * SECOND
        watched.gitlab.people.comment(iid, "ana", "on it")
        asked = watched.poll()
        assert len(asked) >= 4
    assert watched.holders() == {1: "ana", 2: "ana"}
    watched.settled()


@pytest.mark.parametrize("away", [MINUTE, timedelta(hours=30)])
def test_what_happened_while_the_list_failed_is_seen_when_it_is_answered(watched: Watched, away: timedelta) -> None:
    watched.open(3)
    watched.settled()
    watched.gitlab.fault("status", status=502, times=None, match="updated_after")
    watched.desk.now += MINUTE
    watched.gitlab.people.comment(2, "ana", "on it")
    assert len(watched.poll(away)) == 1
    watched.gitlab.clear_faults()
    watched.poll(10 * SECOND)
    assert watched.holders() == {2: "ana"}


def test_a_reading_that_failed_is_done_again_in_the_next_poll_and_keeps_no_other_waiting(watched: Watched) -> None:
    watched.open(AT_ONCE + 5)
    watched.settled()
    for iid in range(1, AT_ONCE + 6):
        watched.gitlab.people.comment(iid, "ana", "on it")
    watched.gitlab.fault("status", status=500, times=AWAY_AFTER, match=r"GET .*/issues/\d+$")
    assert len(watched.poll()) == 1 + AWAY_AFTER
    watched.gitlab.fault("status", status=500, times=None, match=r"GET .*/issues/[1234]$")
    watched.poll(10 * SECOND)
    watched.poll(10 * SECOND)
    assert watched.holders().keys() == {*range(5, AT_ONCE + 6)}
    watched.gitlab.clear_faults()
    watched.poll(10 * SECOND)
    assert len(watched.holders()) == AT_ONCE + 5


def test_a_token_that_ended_costs_a_few_requests_and_no_sign(watched: Watched) -> None:
    watched.open(20)
    watched.settled()
    watched.gitlab.set_token(revoked=True)
    for iid in range(1, 21):
        watched.gitlab.people.comment(iid, "ana", "on it")
    assert [len(watched.poll()) for _ in range(3)] == [1, 1, 1]
    watched.gitlab.set_token(revoked=False)
    watched.poll(10 * SECOND)
    assert len(watched.holders()) == 20


def test_a_new_process_sees_what_was_done_long_before_it_began(watched: Watched) -> None:
    watched.open(3)
    watched.settled()
    watched.gitlab.people.comment(3, "ana", "on it")
    watched.desk.now += timedelta(hours=5)
    watched.signs = watched.another_node()
    watched.poll()
    assert watched.holders() == {3: "ana"}


@pytest.mark.parametrize("many", [100, 101, 250, 1100])
@pytest.mark.parametrize("apart", [timedelta(milliseconds=3), timedelta()])
def test_every_updated_issue_is_listed_a_hundred_at_a_time(watched: Watched, many: int, apart: timedelta) -> None:
    gitlab, desk = watched.gitlab, watched.desk
    begins = desk.now
    for n in range(many):
        gitlab.instance.open_issue(gitlab.instance.owner, {"title": str(n)})
        desk.now += apart
    desk.now += timedelta(hours=1)
    before, since = len(gitlab.requests), begins
    found: set[int] = set()
    for _ in range(2 if many > 1000 else 1):
        changes = watched.issues.changed(since)
        found |= changes.updated_at.keys()
        since = changes.resume_at
    assert found == {*range(1, many + 1)}
    assert since == desk.now - timedelta(minutes=2), "it was read to its end"
    assert len(gitlab.requests) - before <= (many // 100 + 1 if many < 1000 else 22)


# -- in memory: what one process does not hear of


def acted(desk: Office, username: str = "ana", iid: int = 1) -> None:
    desk.gitlab.happened[iid] = IssueActivity(None, None, (IssueAct(username, desk.now, "commented"),))


def quiet(desk: Office) -> Incident:
    """An incident whose issue was read, a minute after its page; nothing is owed."""
    incident = desk.panic()
    for seconds in (0, 75):
        desk.now += seconds * SECOND
        desk.signs.poll()
    return incident


def test_an_issue_moved_by_a_webhooks_look_is_read_where_it_is_now_and_listed_there(desk: Office) -> None:
    incident = quiet(desk)
    place = IssueDestination(how="moved", place="o/other#7", project="43", iid=7, url="https://gitlab.example.com/7")
    desk.gitlab.happened[1] = IssueActivity(desk.now, "bo", (), place)
    there = desk.gitlab.in_project("43")
    ActivityPoll(desk.store, lambda: desk.settings, desk.gitlab).read_issue(1, "by webhook")
    desk.now += 61 * SECOND
    desk.signs.poll()
    assert (there.asked, there.listed) == (1, 1)
    there.happened[7] = IssueActivity(None, None, (IssueAct("ana", desk.now, "commented"),))
    desk.now += 61 * SECOND
    desk.signs.poll()
    assert desk.incident(incident).holder == "ana"


@pytest.mark.parametrize("failure", [Temporary("down"), Permanent("400")])
def test_a_list_that_failed_is_asked_in_the_next_poll(desk: Office, failure: Exception) -> None:
    incident = quiet(desk)
    desk.gitlab.list_failures = [failure]
    acted(desk)
    desk.now += 61 * SECOND
    desk.signs.poll()
    assert desk.incident(incident).state is State.OPEN
    desk.now += 10 * SECOND
    desk.signs.poll()
    assert desk.incident(incident).holder == "ana"


def test_what_the_database_did_not_take_is_read_again(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    incident = quiet(desk)
    acted(desk)
    desk.now += 61 * SECOND
    with monkeypatch.context() as patched:

        def away(name: str, work: object) -> None:
            raise StoreFailed("away")

        patched.setattr(desk.store, "write", away)
        with pytest.raises(StoreFailed):
            desk.signs.poll()
    desk.now += 10 * SECOND
    desk.signs.poll()
    assert desk.incident(incident).holder == "ana"


def test_a_username_that_is_configured_later_counts_before_the_next_step(desk: Office) -> None:
    incident = quiet(desk)
    acted(desk, "ana.reyes")
    for _ in range(2):
        desk.now += 15 * SECOND
        desk.signs.poll()
    renamed = replace(desk.settings.people["ana"], gitlab="ana.reyes")
    desk.settings = replace(desk.settings, people={**desk.settings.people, "ana": renamed})
    due = desk.incident(incident).next_step_at
    assert due is not None
    desk.now = due - 30 * SECOND
    desk.signs.poll()
    assert desk.incident(incident).holder == "ana"


def test_every_node_lists_for_itself_and_a_sign_counts_once(office: Office) -> None:
    others = [ActivityPoll(office.store, lambda: office.settings, office.gitlab) for _ in range(2)]
    incident = quiet(office)
    acted(office)
    office.now += 61 * SECOND
    for signs in (office.signs, *others):
        signs.poll()
    assert office.incident(incident).holder == "ana"
    assert office.events(incident).count("incident.acked") == 1
    office.gitlab.happened[1] = IssueActivity(office.now, "ana", ())
    office.now += 75 * SECOND
    for signs in (*others, office.signs):
        signs.poll()
    assert office.incident(incident).state is State.RESOLVED
    office.gitlab.reopened[1] = IssueReopening(office.now + SECOND, "ana")
    office.now += 75 * SECOND
    for signs in (*others, office.signs):
        signs.poll()
    assert office.events(incident).count("incident.reopened") == 1
