"""Signs of work in GitLab: what counts as one, and what a lost answer or a closed issue comes to."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from panicmail.errors import Permanent, Spam, Temporary, Unknown
from panicmail.gitlab.client import GitLabProject, clock_ahead, correction
from panicmail.gitlab.description import IssueDraft
from panicmail.gitlab.issue_values import IssueAct, IssueActivity, IssueDestination, IssueExposure, IssueReopening
from panicmail.gitlab.issues import Issues
from panicmail.incident.model import Incident, Owed, State
from panicmail.oncall.schedules import Schedule, Schedules
from panicmail.sandbox.gitlab_server import SandboxGitLab
from tests.office import Office

SECOND = timedelta(seconds=1)


def did(desk: Office, username: str, *, at: datetime | None = None, what: str = "commented") -> None:
    """Somebody did something on issue 1, and the poll saw it."""
    desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct(username, at or desk.now, what),))
    poll(desk)


def closed(desk: Office, username: str) -> None:
    desk.gitlab.happened[1] = IssueActivity(desk.now, username, ())
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
def test_work_of_somebody_paged_after_their_page_acknowledges(desk: Office, what: str) -> None:
    incident = later(desk)
    did(desk, "ANA", what=what)
    now = desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana")
    assert "in GitLab" in now.acked_how
    assert "Clock stopped" in desk.sent("ana")[-1].subject, "and Ana is told that it counted"


def test_work_of_somebody_not_paged_never_acknowledges(desk: Office) -> None:
    incident = later(desk)
    for username in ("max", "mallory", "panicmail-bot", ""):
        did(desk, username)
    assert desk.incident(incident).state is State.OPEN


def test_work_from_before_the_page_is_no_evidence(desk: Office) -> None:
    incident = later(desk)
    did(desk, "ana", at=incident.paged["ana"].at)
    assert desk.incident(incident).state is State.OPEN


def test_what_somebody_writes_after_they_said_no_is_no_acknowledgement(desk: Office) -> None:
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
    assert desk.incident(incident).owed is Owed.WORK
    did(desk, "ana")
    assert desk.incident(incident).owed is Owed.STATUS


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


# -- opened again in GitLab


def over(desk: Office, *, in_gitlab: bool = True) -> Incident:
    """An incident Ana had and closed, half a minute ago."""
    incident = later(desk)
    desk.reply(desk.page("ana"), "ack")
    if in_gitlab:
        closed(desk, "ana")
    else:
        desk.reply(desk.page("ana"), "resolve")
    desk.gitlab.happened.clear()
    desk.wait(seconds=30)
    assert desk.incident(incident).state is State.RESOLVED
    return incident


def reopened(desk: Office, username: str | None, *, at: datetime | None = None, dated: bool = True) -> None:
    desk.gitlab.reopened[1] = IssueReopening((at or desk.now) if dated else None, username)
    poll(desk)


@pytest.mark.parametrize("in_gitlab", [True, False])
def test_an_issue_opened_again_by_somebody_paged_opens_the_incident_its_last_holder_first(
    desk: Office, in_gitlab: bool
) -> None:
    desk.settings = replace(
        desk.settings, schedules=Schedules({"seoc": Schedule(("ana", "bo")), "smoc": Schedule(("max",))})
    )
    incident = over(desk, in_gitlab=in_gitlab)
    before = len(desk.pages("bo"))
    reopened(desk, "Ana")
    now = desk.incident(incident)
    assert (now.state, now.holder) == (State.OPEN, "ana")
    page = desk.page("ana")
    assert "OPEN AGAIN" in page.subject
    assert "Why: it was over, and you opened its issue again in GitLab. You had it last." in page.text
    assert len(desk.pages("bo")) == before
    desk.wait(minutes=5)
    assert len(desk.pages("bo")) == before + 1, "after five minutes the SEOC"
    assert "open again as urgent" in desk.sent("rita@example.com")[-1].text
    assert any("Ana Reyes opened this issue again" in text for _, text, _ in desk.gitlab.notes)


@pytest.mark.parametrize("opener", ["max", "mallory"])
def test_an_issue_opened_again_by_somebody_not_paged_is_told_to_the_last_holder_once(desk: Office, opener: str) -> None:
    incident = over(desk)
    pages, before = len(desk.pages("ana")), len(desk.sent("ana"))
    reopened(desk, opener)
    poll(desk)
    assert desk.incident(incident).state is State.RESOLVED
    (told,) = desk.sent("ana")[before:]
    assert "The issue was opened again, nobody is called" in told.subject
    assert "A new mail to panic@example.com starts anew" in told.text
    assert len(desk.pages("ana")) == pages
    reopened(desk, opener, at=desk.now)
    assert len(desk.sent("ana")) == before + 2, "another opening is told as well"


def test_later_than_a_day_an_issue_opened_again_is_told_and_nobody_is_paged(desk: Office) -> None:
    incident = over(desk)
    pages = len(desk.pages("ana"))
    desk.now += timedelta(hours=25)
    desk.gitlab.reopened[1] = IssueReopening(desk.now, "ana")
    for _ in range(2):
        desk.signs.read_issue(1, "by webhook")
        desk.settle()
    assert desk.incident(incident).state is State.RESOLVED
    assert len(desk.pages("ana")) == pages
    assert [posted.subject for posted in desk.sent("ana")].count(desk.sent("ana")[-1].subject) == 1
    assert "opened again, nobody is called" in desk.sent("ana")[-1].subject


def test_an_opening_that_gitlab_was_too_late_to_tell_counts_by_when_it_was_done(desk: Office) -> None:
    incident = over(desk)
    opened_at = desk.now + timedelta(hours=23, minutes=50)
    desk.now = opened_at + timedelta(minutes=20)
    reopened(desk, "ana", at=opened_at)
    assert desk.incident(incident).state is State.OPEN


def test_an_open_issue_opens_what_closing_it_had_ended_even_if_gitlab_does_not_say_who_opened_it(desk: Office) -> None:
    incident = over(desk)
    reopened(desk, None, dated=False)
    assert desk.incident(incident).state is State.OPEN
    assert "somebody in GitLab opened its issue again" in desk.page("ana").text


def test_an_issue_that_stayed_open_when_its_incident_ended_opens_nothing(desk: Office) -> None:
    incident = over(desk, in_gitlab=False)
    before = len(desk.relay.sent)
    reopened(desk, None, dated=False)
    reopened(desk, "ana", at=desk.now - timedelta(hours=1))
    assert desk.incident(incident).state is State.RESOLVED
    assert len(desk.relay.sent) == before


def test_closed_again_after_it_was_opened_again_it_is_over_again(desk: Office) -> None:
    incident = over(desk)
    reopened(desk, "ana")
    desk.reply(desk.page("ana"), "ack")
    desk.wait(seconds=5)
    desk.gitlab.reopened.clear()
    closed(desk, "ana")
    assert desk.incident(incident).state is State.RESOLVED
    poll(desk)
    assert desk.incident(incident).state is State.RESOLVED


def test_the_issue_of_what_was_closed_more_than_a_day_ago_costs_gitlab_no_question(desk: Office) -> None:
    over(desk)
    desk.now += timedelta(hours=26)
    asked = desk.gitlab.asked
    poll(desk)
    assert desk.gitlab.asked == asked


@pytest.mark.parametrize("keeps_events", [True, False])
def test_an_issue_closed_and_opened_again_within_one_millisecond_is_open_again(keeps_events: bool) -> None:
    at = datetime.now(UTC)
    with SandboxGitLab(clock=lambda: at) as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        iid = issues.create(IssueDraft(title="t", description="d", labels=(), assignee_username=None)).iid
        gitlab.people.close(iid, "bo")
        gitlab.people.reopen(iid, "ana")
        if not keeps_events:
            gitlab.instance.issue(iid).events.clear()
        found = issues.reopening(iid, at - timedelta(minutes=1))
        assert found is not None
        assert found.by == "ana"
        issues.close()


@pytest.mark.parametrize("keeps_events", [True, False])
def test_gitlab_says_who_opened_an_issue_again(keeps_events: bool) -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        iid = issues.create(IssueDraft(title="t", description="d", labels=(), assignee_username=None)).iid
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        assert issues.reopening(iid, since) == IssueReopening(None, None), "it is open, and was never closed"
        gitlab.people.comment(iid, "bo", "reopened")  # a comment proves nothing
        gitlab.people.close(iid, "bo")
        assert issues.reopening(iid, since) is None
        gitlab.people.reopen(iid, "ana")
        if not keeps_events:
            gitlab.instance.issue(iid).events.clear()
        found = issues.reopening(iid, since)
        assert found is not None
        assert found.at is not None
        assert found.by == "ana"
        assert issues.reopening(iid, found.at) is None
        issues.close()


# -- no longer confidential, typed or labelled


def exposed(desk: Office, username: str | None = "bo", *, dated: bool = True, lacking: tuple[str, ...] = ()) -> None:
    """Issue 1 is not confidential, and the poll saw it."""
    seen = IssueExposure(desk.now if dated else None, username)
    desk.gitlab.happened[1] = IssueActivity(None, None, (), exposure=seen, lacking=lacking)
    poll(desk)


def confidential(desk: Office, *lacking: str) -> None:
    desk.gitlab.happened[1] = IssueActivity(None, None, (), lacking=lacking)
    poll(desk)


def heard_of(desk: Office, who: str, words: str) -> int:
    return len([posted for posted in desk.sent(who) if words in posted.subject])


@pytest.mark.parametrize("is_held", [True, False])
def test_confidentiality_is_put_back_once_and_whom_it_concerns_and_the_operators_hear(
    desk: Office, is_held: bool
) -> None:
    incident = later(desk)
    if is_held:
        desk.reply(desk.page("ana"), "ack")
    exposed(desk)
    assert desk.gitlab.confided == [1]
    told = desk.sent("ana")[-1]
    assert "The issue was not confidential" in told.subject
    assert "Bo Low switched its confidential flag off" in told.text
    assert heard_of(desk, "max", "a report was open to others") == 1
    assert desk.incident(incident).state is (State.ACKED if is_held else State.OPEN)
    confidential(desk)
    assert desk.gitlab.confided == [1]


@pytest.mark.parametrize("dated", [True, False])
def test_confidentiality_taken_off_a_second_time_stands_and_is_told_once(desk: Office, dated: bool) -> None:
    later(desk)
    desk.reply(desk.page("ana"), "ack")
    exposed(desk, dated=dated)
    confidential(desk)
    exposed(desk, "mallory", dated=dated)
    poll(desk)
    poll(desk)
    assert desk.gitlab.confided == [1]
    assert heard_of(desk, "ana", "The issue was not confidential") == 2
    assert "mallory switched its confidential flag off" in desk.sent("ana")[-1].text
    assert "it stays off" in desk.sent("ana")[-1].text


def test_while_gitlab_has_not_put_it_back_it_is_not_taken_for_a_second_time(desk: Office) -> None:
    later(desk)
    desk.reply(desk.page("ana"), "ack")
    confide, away = desk.gitlab.confide, [Temporary("down")] * 3

    def fails(iid: int) -> None:
        if away:
            raise away.pop()
        confide(iid)

    desk.gitlab.confide = fails  # type: ignore[method-assign]
    exposed(desk)
    exposed(desk)
    desk.wait(minutes=10)
    assert desk.gitlab.confided == [1]
    assert heard_of(desk, "ana", "The issue was not confidential") == 1


def test_after_the_end_nothing_is_put_back(desk: Office) -> None:
    incident = later(desk)
    desk.reply(desk.page("ana"), "ack")
    confide, away = desk.gitlab.confide, [Temporary("down")]

    def fails(iid: int) -> None:
        if away:
            raise away.pop()
        confide(iid)

    desk.gitlab.confide = fails  # type: ignore[method-assign]
    exposed(desk)
    desk.reply(desk.page("ana"), "resolve")
    before = heard_of(desk, "ana", "The issue was not confidential")
    exposed(desk)
    desk.wait(minutes=10)
    assert desk.gitlab.confided == []
    assert heard_of(desk, "ana", "The issue was not confidential") == before
    assert desk.incident(incident).state is State.RESOLVED


def test_a_type_or_a_label_taken_off_is_told_once_and_again_when_it_happens_again(desk: Office) -> None:
    later(desk)
    desk.reply(desk.page("ana"), "ack")
    for _ in range(2):
        confidential(desk, "type (it is issue)", "label security-incident")
    assert heard_of(desk, "ana", "The issue was changed") == 1
    assert "type (it is issue) and label security-incident" in desk.sent("ana")[-1].text
    confidential(desk)
    assert heard_of(desk, "ana", "The issue was changed") == 1
    confidential(desk, "label security-incident")
    assert heard_of(desk, "ana", "The issue was changed") == 2
    assert heard_of(desk, "max", "open to others") == 0
    assert desk.gitlab.confided == []


def test_what_gitlab_never_gave_the_issue_is_not_told_as_taken_off(desk: Office) -> None:
    opened = desk.gitlab._opened
    desk.gitlab._opened = lambda iid: replace(opened(iid), dropped=("label x",))  # type: ignore[method-assign]
    later(desk)
    confidential(desk, "label x")
    assert heard_of(desk, "ana", "The issue was changed") == 0


def test_gitlab_says_that_an_issue_is_not_confidential_by_whom_and_what_it_lacks() -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), ["security-incident"])
        draft = IssueDraft(title="t", description="d", labels=("security-incident",), assignee_username=None)
        iid = issues.create(draft).iid
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        gitlab.people.comment(iid, "bo", "made the issue visible to everyone")  # a comment proves nothing
        seen = issues.activity(iid, since)
        assert (seen.exposure, seen.lacking) == (None, ())
        ana = gitlab.instance.user("ana")
        gitlab.instance.edit_issue(ana, iid, {"confidential": False, "issue_type": "issue", "labels": []})
        seen = issues.activity(iid, since)
        assert seen.exposure is not None
        assert (seen.exposure.by, seen.exposure.at is not None) == ("ana", True)
        assert seen.lacking == ("type (it is issue)", "label security-incident")
        issues.confide(iid)
        assert issues.activity(iid, since).exposure is None
        issues.close()


# -- how often


def test_far_from_its_next_step_an_issue_is_read_when_it_was_updated_and_near_it_for_itself(desk: Office) -> None:
    desk.panic()
    for _ in range(6):
        desk.signs.poll()
        desk.now += 10 * SECOND
    assert (desk.gitlab.asked, desk.gitlab.listed) == (1, 1)
    desk.now += timedelta(minutes=3)
    desk.signs.poll()
    desk.signs.poll()
    assert (desk.gitlab.asked, desk.gitlab.listed) == (2, 3), "near a step the list is asked each time"


def test_a_gitlab_that_is_away_costs_nothing_but_the_signs(desk: Office) -> None:
    incident = later(desk)
    desk.gitlab.activity_failures = [Temporary("down"), Permanent("401")]
    poll(desk)
    poll(desk)
    did(desk, "ana")
    assert desk.incident(incident).holder == "ana"


# -- twins, spam, mirror


def test_of_two_issues_made_by_a_lost_answer_the_younger_is_closed(desk: Office) -> None:
    late: list[IssueDraft] = []

    def create_late(draft: IssueDraft) -> None:
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
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), ["security-incident"])
        draft = IssueDraft(title="[panic] x", description="x", labels=("security-incident",), assignee_username="ana")
        iid = issues.create(draft).iid
        issues.note(iid, "ours", "marker", look=False)
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        time.sleep(0.01)
        gitlab.people.comment(iid, "ana", "looking")
        gitlab.people.assign(iid, "max", "max")
        gitlab.people.label(iid, "bo", "severity::1")
        seen = issues.activity(iid, since)
        assert {"ana", "max", "bo"} == {act.username for act in seen.acts}
        assert [act.what for act in seen.acts if act.username == "ana"] == ["commented"]
        assert (seen.closed_at, seen.closed_by) == (None, None)
        gitlab.people.close(iid, "ana")
        seen = issues.activity(iid, since)
        assert seen.closed_at is not None
        assert seen.closed_by == "ana"
        issues.close()


@pytest.mark.parametrize("said", [{"message": {"base": ["spam detected"]}}, {"needs_captcha_response": True}])
def test_a_spam_refusal_is_told_from_any_other_by_its_words(said: dict[str, object]) -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        draft = IssueDraft(title="t", description="d", labels=(), assignee_username=None)
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
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        draft = IssueDraft(title="t", description="text\n\n`panicmail:abc`", labels=(), assignee_username=None)
        first, second = issues.create(draft), issues.create(draft)
        other = issues.create(IssueDraft(title="t", description="`panicmail:abd`", labels=(), assignee_username=None))
        made_at = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        assert [twin.iid for twin in issues.twins("panicmail:abc", made_at)] == [first.iid, second.iid]
        issues.close_twin(second.iid, first.iid)
        assert [issue["state"] for issue in gitlab.issues] == ["opened", "closed", "opened"]
        assert any("same panic as issue" in note["body"] for note in gitlab.notes_of(second.iid))
        assert other.iid == 3
        issues.close()


# -- closed because it went elsewhere


def moved(to: str = "43") -> IssueDestination:
    return IssueDestination(
        how="moved", place="security/other#7", project=to, iid=7, url="https://gitlab.example.com/o/-/issues/7"
    )


GONE = [
    moved(),
    IssueDestination(how="moved", place="security/hidden#3"),
    IssueDestination(how="moved"),
    IssueDestination(how="duplicate", place="#12"),
    IssueDestination(how="promoted", place="&4"),
]


@pytest.mark.parametrize("elsewhere", GONE, ids=lambda one: f"{one.how} {one.place}")
@pytest.mark.parametrize("is_held", [False, True])
def test_an_issue_that_went_elsewhere_ends_nothing_and_whom_it_concerns_hears_where_once(
    desk: Office, elsewhere: IssueDestination, is_held: bool
) -> None:
    incident = later(desk)
    if is_held:
        desk.reply(desk.page("ana"), "ack")
    went(desk, elsewhere)
    poll(desk)
    now = desk.incident(incident)
    assert now.state is (State.ACKED if is_held else State.OPEN)
    assert (now.next_step_at is None) == is_held, "the clock runs on"
    told = [posted for posted in desk.sent("ana") if "the issue was" in posted.subject.lower()]
    assert len(told) == 1
    assert (elsewhere.place or "GitLab does not say") in told[0].text
    assert f"{incident.ref} is not over" in told[0].text
    assert not [posted for posted in desk.sent("rita@example.com") if "closed" in posted.text]
    heard = [posted for posted in desk.sent("max") if "moved out of sight" in posted.subject]
    assert bool(heard) == (elsewhere.how == "moved" and elsewhere.project is None)


def test_a_moved_issue_is_followed_by_notes_files_links_and_signs_of_work(desk: Office) -> None:
    incident = later(desk)
    went(desk, moved())
    there = desk.gitlab.in_project("43")
    assert any("was moved" in text for _, text, _ in there.notes), "told where it is now"
    here = len(desk.gitlab.notes)
    desk.reply(desk.sent("rita@example.com")[0], "and the server too", sender="rita@example.com")
    assert any("and the server too" in text for iid, text, _ in there.notes if iid == 7)
    assert len(desk.gitlab.notes) == here
    assert "https://gitlab.example.com/o/-/issues/7" in desk.sent("ana")[-1].text
    there.happened[7] = IssueActivity(None, None, (IssueAct("ana", desk.now, "commented"),))
    poll(desk)
    assert desk.incident(incident).holder == "ana"
    there.happened[7] = IssueActivity(desk.now, "ana", ())
    poll(desk)
    assert desk.incident(incident).state is State.RESOLVED, "there it can be closed"


def test_a_moved_issue_that_is_not_confidential_there_is_made_so_and_the_holder_hears(desk: Office) -> None:
    later(desk)
    desk.reply(desk.page("ana"), "ack")
    went(desk, replace(moved(), is_confidential=False))
    assert desk.gitlab.in_project("43").confided == [7]
    assert "NOT confidential" in desk.sent("ana")[-1].text


def test_whoever_was_paged_and_moves_the_issue_is_at_work(desk: Office) -> None:
    incident = later(desk)
    act = IssueAct("ana", desk.now, "worked")
    desk.gitlab.happened[1] = IssueActivity(desk.now, "ana", (act,), moved())
    poll(desk)
    now = desk.incident(incident)
    assert (now.state, now.holder, now.issue_iid) == (State.ACKED, "ana", 7)


def test_an_issue_moved_while_it_was_closed_here_is_followed_when_it_is_opened_again(desk: Office) -> None:
    incident = later(desk)
    desk.reply(desk.page("ana"), "ack")
    desk.reply(desk.page("ana"), "resolve")
    moved_at = desk.now
    desk.wait(seconds=30)
    desk.reply(desk.sent("rita@example.com")[0], "it is back!", sender="rita@example.com")
    desk.gitlab.happened[1] = IssueActivity(moved_at, "bo", (), moved())
    poll(desk)
    assert desk.incident(incident).issue_project == "43"


def went(desk: Office, elsewhere: IssueDestination) -> None:
    desk.gitlab.happened[1] = IssueActivity(desk.now, "mallory", (), elsewhere)
    poll(desk)


def test_gitlab_says_where_an_issue_was_moved_and_it_can_be_worked_on_there() -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        iid = issues.create(IssueDraft(title="t", description="d", labels=(), assignee_username=None)).iid
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        gitlab.people.comment(iid, "ana", "moved to nowhere/at-all#1")  # a comment proves nothing
        there = gitlab.people.move(iid, "bo", "security/elsewhere")
        seen = issues.activity(iid, since)
        assert seen.closed_by == "bo"
        assert seen.elsewhere == IssueDestination(
            how="moved", place="security/elsewhere#1", project=str(there["project_id"]), iid=1, url=there["web_url"]
        )
        other = issues.in_project(str(there["project_id"]))
        other.note(1, "we go on here", "marker", look=True)
        other.upload("a.txt", b"x")
        other.confide(1)
        assert issues.activity(iid, since).elsewhere is not None
        assert other.activity(1, since).closed_at is None
        issues.close()


@pytest.mark.parametrize(
    "said", ["moved to security/elsewhere#1", "moved to elsewhere#1", "moved to {url}/security/elsewhere/-/issues/1"]
)
def test_whatever_way_gitlab_names_the_new_place_it_is_found(said: str) -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        iid = issues.create(IssueDraft(title="t", description="d", labels=(), assignee_username=None)).iid
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        gitlab.people.move(iid, "bo", "security/elsewhere")
        note = next(one for one in gitlab.instance.issue(iid).notes if one.body.startswith("moved to"))
        note.body = said.format(url=gitlab.url)
        elsewhere = issues.activity(iid, since).elsewhere
        assert elsewhere is not None
        assert (elsewhere.place, elsewhere.iid) == ("security/elsewhere#1", 1)
        note.body = "moved to security/incidents#1"  # not the one GitLab says it went to
        elsewhere = issues.activity(iid, since).elsewhere
        assert elsewhere is not None
        assert elsewhere.project is None
        issues.close()


@pytest.mark.parametrize("how", ["hidden", "duplicate", "promoted", "closed"])
def test_gitlab_says_why_an_issue_was_closed(how: str) -> None:
    with SandboxGitLab() as gitlab:
        issues = Issues(GitLabProject(gitlab.url, gitlab.project, gitlab.token), [])
        draft = IssueDraft(title="t", description="d", labels=(), assignee_username=None)
        iid, twin = issues.create(draft).iid, issues.create(draft).iid
        since = datetime.fromisoformat(gitlab.issues[0]["created_at"])
        if how == "hidden":
            gitlab.people.move(iid, "bo", "board/secret", is_seen=False)
        elif how == "duplicate":
            gitlab.people.duplicate(iid, "bo", twin)
        elif how == "promoted":
            gitlab.people.promote(iid, "bo", 9)
        else:
            gitlab.people.close(iid, "bo")
        places = {
            "hidden": ("moved", "board/secret#1"),
            "duplicate": ("duplicate", "#2"),
            "promoted": ("promoted", "&9"),
        }
        seen = issues.activity(iid, since).elsewhere
        assert (seen and (seen.how, seen.place)) == places.get(how)
        assert seen is None or seen.project is None
        gitlab.people.reopen(iid, "bo")
        assert issues.activity(iid, since).elsewhere is None
        issues.close()


# -- clocks apart


def did_apart(desk: Office, at: datetime, ahead: timedelta) -> None:
    """Ana commented at `at`, by our clock, in a GitLab whose clock is `ahead` of ours."""
    desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct("ana", at + ahead, "commented"),), ahead=ahead)
    poll(desk)


@pytest.mark.parametrize("ahead", [-300, -40, 40, 300])
def test_a_comment_after_the_page_counts_wherever_gitlabs_clock_stands(desk: Office, ahead: int) -> None:
    incident = later(desk)
    did_apart(desk, incident.paged["ana"].at + timedelta(seconds=5), timedelta(seconds=ahead))
    assert desk.incident(incident).holder == "ana"


@pytest.mark.parametrize("ahead", [-300, -40, 40, 300])
def test_a_comment_from_before_escalate_stops_no_clock_wherever_gitlabs_clock_stands(desk: Office, ahead: int) -> None:
    incident = later(desk)
    worked_at = desk.now
    desk.wait(seconds=10)
    desk.reply(desk.page("ana"), "escalate")
    did_apart(desk, worked_at, timedelta(seconds=ahead))
    assert desk.incident(incident).state is State.OPEN


@pytest.mark.parametrize("ahead", [-300, 300])
def test_an_issue_closed_before_escalate_is_no_yes_wherever_gitlabs_clock_stands(desk: Office, ahead: int) -> None:
    incident = later(desk)
    closed_at = desk.now + timedelta(seconds=ahead)
    desk.wait(seconds=10)
    desk.reply(desk.page("ana"), "escalate")
    desk.gitlab.happened[1] = IssueActivity(closed_at, "ana", (), ahead=timedelta(seconds=ahead))
    poll(desk)
    assert desk.incident(incident).state is State.OPEN


@pytest.mark.parametrize(("apart", "expected"), [(0, 0), (0.9, 0), (30, 30), (-30, -30), (7200, 7200)])
def test_the_date_of_an_answer_tells_the_clock_apart_and_never_makes_an_act_late(apart: float, expected: float) -> None:
    before = datetime(2026, 11, 22, 2, 0, 0, 300_000, tzinfo=UTC)
    after = before + timedelta(seconds=0.2)
    dated = format_datetime((before + timedelta(seconds=0.1 + apart)).replace(microsecond=0), usegmt=True)
    measured = clock_ahead(dated, before, after)
    assert measured is not None
    ahead = correction(*measured).total_seconds()
    assert expected <= ahead <= expected + (1.3 if expected else 0)


@pytest.mark.parametrize("dated", ["", "yesterday", "Sun, 22 Nov 2026 02:00:00 -0000"])
def test_an_answer_without_a_date_that_names_an_instant_measures_nothing(dated: str) -> None:
    now = datetime(2026, 11, 22, 2, tzinfo=UTC)
    assert clock_ahead(dated, now, now) is None
