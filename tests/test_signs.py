"""Signs of work in GitLab: what counts as one, and what a lost answer or a closed issue comes to."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from panicmail.errors import Permanent, Spam, Temporary, Unknown
from panicmail.gitlab.draft import Draft
from panicmail.gitlab.issues import Act, Activity, Issues
from panicmail.incident import Incident, State
from panicmail.sandbox.gitlab import SandboxGitLab
from tests.office import Office

SECOND = timedelta(seconds=1)


def did(desk: Office, username: str, *, at: datetime | None = None, what: str = "commented") -> None:
    """Somebody did something on issue 1, and the poll saw it."""
    desk.gitlab.happened[1] = Activity(None, None, (Act(username, at or desk.now, what),))
    poll(desk)


def closed(desk: Office, username: str) -> None:
    desk.gitlab.happened[1] = Activity(desk.now, username, ())
    poll(desk)


def poll(desk: Office) -> None:
    desk.now += timedelta(seconds=61)
    desk.signs.poll()
    desk.settle()


def later(desk: Office) -> Incident:
    """A panic, half a minute after its first page."""
    incident = desk.panic()
    desk.wait(seconds=30)
    return incident


# -- what acknowledges


@pytest.mark.parametrize("what", ["commented", "worked", "labelled"])
def test_work_of_somebody_paged_after_her_page_acknowledges(desk: Office, what: str) -> None:
    incident = later(desk)
    did(desk, "ANA", what=what)
    now = desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana")
    assert "in GitLab" in now.acked_how
    assert "Clock stopped" in desk.sent("ana")[-1].subject, "and she is told that it counted"


def test_work_of_somebody_not_paged_never_acknowledges(desk: Office) -> None:
    incident = later(desk)
    for username in ("max", "mallory", "panicmail-bot", ""):
        did(desk, username)
    assert desk.incident(incident).state is State.OPEN


def test_work_from_before_her_page_is_no_evidence(desk: Office) -> None:
    incident = later(desk)
    did(desk, "ana", at=incident.paged["ana"].at)
    assert desk.incident(incident).state is State.OPEN


def test_what_she_writes_after_she_said_no_is_no_acknowledgement(desk: Office) -> None:
    incident = later(desk)
    desk.reply(desk.page("ana"), "no")
    did(desk, "ana")
    assert desk.incident(incident).state is State.OPEN


def test_work_from_before_it_was_opened_again_is_no_evidence(desk: Office) -> None:
    incident = later(desk)
    did(desk, "ana")
    worked_at = desk.now
    desk.reply(desk.page("ana"), "escalate")
    did(desk, "ana", at=worked_at)
    assert desk.incident(incident).state is State.OPEN


def test_a_comment_of_the_holder_ends_the_reminders_and_of_anybody_else_does_not(desk: Office) -> None:
    incident = later(desk)
    desk.reply(desk.page("ana"), "ack")
    desk.wait(seconds=5)
    did(desk, "max")
    assert desk.incident(incident).remind_at is not None
    did(desk, "ana")
    assert desk.incident(incident).remind_at is None


def test_an_old_comment_does_not_disarm_a_follow_up_that_came_after_it(desk: Office) -> None:
    later(desk)
    desk.reply(desk.page("ana"), "ack")
    desk.wait(seconds=5)
    did(desk, "ana")
    desk.reply(desk.sent("rita@example.com")[0], "it spread", sender="rita@example.com")
    poll(desk)
    desk.wait(minutes=10)
    assert desk.pages("max")


# -- a closed issue


def test_an_issue_closed_by_somebody_paged_acknowledges(desk: Office) -> None:
    incident = later(desk)
    closed(desk, "ana")
    poll(desk)
    now = desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana"), "one closing counts once"


def test_an_issue_closed_by_a_stranger_leaves_it_open_and_those_paged_are_told_once(desk: Office) -> None:
    incident = later(desk)
    closed(desk, "mallory")
    before = len(desk.sent("ana"))
    poll(desk)
    poll(desk)
    assert desk.incident(incident).state is State.OPEN
    assert len(desk.sent("ana")) == before
    assert desk.events(incident).count("issue.closed_by_other") == 1


def test_a_closed_issue_resolves_an_acknowledged_incident(desk: Office) -> None:
    incident = later(desk)
    desk.reply(desk.page("ana"), "ack")
    closed(desk, "somebody")
    assert desk.incident(incident).state is State.RESOLVED


def test_an_issue_closed_before_it_was_opened_again_does_not_close_it_again(desk: Office) -> None:
    incident = later(desk)
    desk.reply(desk.page("ana"), "ack")
    closed(desk, "ana")
    desk.wait(seconds=5)
    desk.reply(desk.sent("rita@example.com")[0], "it is back!", sender="rita@example.com")
    desk.reply(desk.page("ana"), "ack")
    poll(desk)
    assert desk.incident(incident).state is State.ACKED


# -- how often


def test_far_from_its_next_step_an_incident_is_asked_about_once_a_minute_and_near_it_each_time(desk: Office) -> None:
    desk.panic()
    for _ in range(6):
        desk.signs.poll()
        desk.now += 10 * SECOND
    assert desk.gitlab.asked == 1
    desk.now += timedelta(minutes=3)
    desk.signs.poll()
    desk.signs.poll()
    assert desk.gitlab.asked == 3


def test_a_gitlab_that_is_away_costs_nothing_but_the_signs(desk: Office) -> None:
    incident = later(desk)
    desk.gitlab.activity_failures = [Temporary("down"), Permanent("401")]
    poll(desk)
    poll(desk)
    did(desk, "ana")
    assert desk.incident(incident).holder == "ana"


# -- twins, spam, mirror


def test_of_two_issues_made_by_a_lost_answer_the_younger_is_closed(desk: Office) -> None:
    late: list[Draft] = []

    def create_late(draft: Draft) -> None:
        late.append(draft)
        raise Unknown("read timed out")

    create = desk.gitlab.create
    desk.gitlab.create = create_late  # type: ignore[assignment,method-assign]
    incident = desk.panic()
    desk.gitlab.create = create  # type: ignore[method-assign]
    desk.wait(seconds=15)
    assert len(desk.gitlab.issues) == 1
    desk.gitlab.issues += late  # GitLab finishes the first request only now
    desk.wait(seconds=60)
    assert desk.gitlab.closed == [2]
    assert desk.incident(incident).issue_iid == 1
    assert any("issue was there twice" in posted.text for posted in desk.sent("max"))


def test_a_report_taken_for_spam_is_opened_with_neutral_words(desk: Office) -> None:
    desk.gitlab.failures = [Spam("GitLab answered 400: spam detected")]
    incident = desk.panic(text="cheap watches, no: my files are .locked")
    (issue,) = desk.gitlab.issues
    assert issue.title == f"[panic] {incident.ref}"
    assert "cheap watches" not in issue.description
    assert any("spam" in posted.text for posted in desk.sent("max"))
    assert desk.gitlab.uploads, "the raw message is there all the same"


def test_states_are_mirrored_and_a_gitlab_that_cannot_is_left_in_peace(desk: Office) -> None:
    desk.panic()
    desk.reply(desk.page("ana"), "ack")
    assert desk.gitlab.mirrored == [(1, "ACKNOWLEDGED", "Acknowledged: Ana Reyes")]
    desk.gitlab.mirror_failures = [Permanent("no such field")]
    desk.reply(desk.page("ana"), "resolve")
    desk.wait(minutes=5)
    assert len(desk.gitlab.mirrored) == 1


# -- over HTTP, as GitLab keeps it


def test_activity_reads_comments_system_notes_labels_and_closing_and_leaves_out_our_own() -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(gitlab.url, gitlab.project, gitlab.token, ["security-incident"])
        draft = Draft(title="[panic] x", description="x", labels=("security-incident",), assignee_username="ana")
        iid = issues.create(draft).iid
        issues.note(iid, "ours", "marker", look=False)
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        time.sleep(0.01)
        gitlab.comment(iid, "ana", "looking")
        gitlab.assign(iid, "max", "max")
        gitlab.label(iid, "bo", "severity::1")
        seen = issues.activity(iid, since)
        assert {"ana", "max", "bo"} == {act.username for act in seen.acts}
        assert [act.what for act in seen.acts if act.username == "ana"] == ["commented"]
        assert (seen.closed_at, seen.closed_by) == (None, None)
        gitlab.close(iid, "ana")
        seen = issues.activity(iid, since)
        assert seen.closed_at is not None
        assert seen.closed_by == "ana"
        issues.close()


@pytest.mark.parametrize("said", [{"message": {"base": ["spam detected"]}}, {"needs_captcha_response": True}])
def test_a_spam_refusal_is_told_from_any_other_by_its_words(said: dict[str, object]) -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(gitlab.url, gitlab.project, gitlab.token, [])
        draft = Draft(title="t", description="d", labels=(), assignee_username=None)
        gitlab.fault("status", status=400, body=said, match="POST .*/issues$")
        with pytest.raises(Spam):
            issues.create(draft)
        gitlab.fault("status", status=400, body={"message": {"title": ["is too long"]}}, match="POST .*/issues$")
        with pytest.raises(Permanent) as refused:
            issues.create(draft)
        assert not isinstance(refused.value, Spam)
        issues.close()


def test_twins_are_found_oldest_first_and_closed_with_a_word() -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(gitlab.url, gitlab.project, gitlab.token, [])
        draft = Draft(title="t", description="text\n\n`panicmail:abc`", labels=(), assignee_username=None)
        first, second = issues.create(draft), issues.create(draft)
        other = issues.create(Draft(title="t", description="`panicmail:abd`", labels=(), assignee_username=None))
        made_at = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        assert [twin.iid for twin in issues.twins("panicmail:abc", made_at)] == [first.iid, second.iid]
        issues.close_twin(second.iid, first.iid)
        assert [issue["state"] for issue in gitlab.issues] == ["opened", "closed", "opened"]
        assert any("same panic as issue" in note["body"] for note in gitlab.notes_of(second.iid))
        assert other.iid == 3
        issues.close()
