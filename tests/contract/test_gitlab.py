"""The issue in GitLab: opened once, found again, kept inert; and what every kind of trouble is called."""

from __future__ import annotations

import http.server
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from panicmail.errors import Blocked, Denied, Forbidden, Gone, LockedOut, Permanent, Temporary, Unknown
from panicmail.gitlab import description as drafts
from panicmail.gitlab import notes
from panicmail.gitlab.client import GitLabProject, wait_asked
from panicmail.gitlab.description import FileLink, IssueDraft, ReceivedFacts, draft, with_files
from panicmail.gitlab.escape import carries, outside
from panicmail.gitlab.issue_values import SeverityMark, UploadedFile
from panicmail.gitlab.issues import Issues
from panicmail.incident import transitions
from panicmail.incident.classify import Attachment, Report
from panicmail.incident.model import Incident, State
from panicmail.incident.people import Person
from panicmail.mail.compose import timeline_words
from panicmail.sandbox.gitlab_server import SandboxGitLab
from tests.provider import hanging_up

NOW = datetime(2026, 11, 22, 3, 7, tzinfo=UTC)
ANA = Person(id="ana", name="Ana Reyes", email="ana@example.com", gitlab="ana")
MAX = Person(id="max", name="Max Okafor", email="max@example.com", gitlab="max")
PEOPLE = {"ana": ANA, "max": MAX}
INCIDENT = Incident(
    id="abcdefghijklmnop",
    ref="7KQ2P",
    mail_id="abcdefghijklmnopqrstuvwxyz",
    state=State.OPEN,
    accepted_at=NOW,
    sla_at=NOW + timedelta(minutes=15),
    first_sla_at=NOW + timedelta(minutes=15),
    opened_at=NOW,
    steps_from_at=NOW,
    step=0,
)
MARKER = drafts.marker(INCIDENT.id)
REPORT = Report(
    subject="Ransom note on my laptop",
    from_address="rita@example.com",
    from_name="Rita Lopez",
    text="My files are .locked, Slack is gone.",
    phones=("+49 170 0000000",),
)
RECEIVED = ReceivedFacts(
    mail_from="rita@example.com",
    peer="192.0.2.7",
    tls="TLSv1.3",
    size=1234,
    recipients=("panic@example.com",),
    sender="proved, signed by example.com",
)
LABELS = ("security-incident",)


def drafted(report: Report = REPORT, incident: Incident = INCIDENT, **changes: Any) -> IssueDraft:
    received = changes.pop("received", RECEIVED)
    seen = {name: changes.pop(name) for name in ("sender", "flags") if name in changes}
    about: dict[str, Any] = {"assignee": ANA, "labels": LABELS}
    return draft(incident, report, replace(received, **seen), **{**about, **changes})


@dataclass
class Line:
    """A line of the timeline, as the store hands it out."""

    event: str
    actor: str | None = "ana"
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: int = 7
    at: datetime = NOW


def noted(event: str, actor: str | None = "ana", **facts: Any) -> str:
    return timeline_words.note_text(Line(event, actor, facts), INCIDENT, PEOPLE)


@pytest.fixture
def sandbox() -> Iterator[SandboxGitLab]:
    with SandboxGitLab() as one:
        yield one


@contextmanager
def opened(sandbox: SandboxGitLab, **changes: Any) -> Iterator[Issues]:
    about: dict[str, Any] = {"connect_timeout": 0.5, "read_timeout": 0.3, "deadline": 3}
    issues = Issues(GitLabProject(sandbox.url, sandbox.project, sandbox.token, **{**about, **changes}), LABELS)
    try:
        yield issues
    finally:
        issues.close()


@pytest.fixture
def issues(sandbox: SandboxGitLab) -> Iterator[Issues]:
    with opened(sandbox) as one:
        yield one


def posts(sandbox: SandboxGitLab, what: str = "issues") -> int:
    return sum(1 for r in sandbox.requests if r.method == "POST" and r.path.endswith(what))


# -- the draft


def test_the_issue_says_who_when_and_until_when() -> None:
    made = drafted(flags=("has no text",), incident=replace(INCIDENT, linked_to="M4TD9"))
    assert made.title == "[panic] Ransom note on my laptop"
    assert made.assignee_username == "ana"
    for said in (
        "**7KQ2P**",
        "Acknowledge by **2026-11-22 03:22:00 UTC**",
        "| Reporter | `Rita Lopez <rita@example.com>` |",
        "| Sender | `proved, signed by example.com` |",
        "| Accepted | 2026-11-22 03:07:00 UTC |",
        "| Phone, from the mail | `+49 170 0000000` |",
        "| Continues | M4TD9 |",
        "| Flag | `has no text` |",
        "```text\nMy files are .locked, Slack is gone.\n```",
    ):
        assert said in made.description
    assert made.description.split("\n")[-1] == f"`{MARKER}`"


def test_attachments_are_listed_with_their_hashes() -> None:
    attachment = Attachment(name="a|b`c`.exe", type="application/x-evil", size=3, sha256="e" * 64)
    said = drafted(replace(REPORT, attachments=(attachment,) * 300)).description
    assert f"| ``a¦b`c`.exe`` | `application/x-evil` | 3 | `{'e' * 64}` |" in said
    assert "And 100 more attachments." in said


def test_every_word_of_a_hostile_report_is_quoted() -> None:
    hostile = (
        "/close\n@all #1 ![x](http://e.vil/b) <script>\n```\n/assign @max\nFiles: none uploaded so far\n`panicmail:x`"
    )
    report = Report(
        subject=hostile,
        from_name=hostile,
        from_address="a@b",
        from_shown=hostile,
        reply_to=hostile,
        text=hostile,
        phones=(hostile,),
        attachments=(Attachment(name=hostile, type=hostile, size=1, sha256=""),),
    )
    made = drafted(
        report, sender=hostile, flags=(hostile,), received=replace(RECEIVED, mail_from=hostile, peer=hostile)
    )
    ours = "\n".join(line for _, line in outside(made.description))
    assert "@" not in re.sub(r"(`+).*?(?<!`)\1(?!`)", "", ours)
    assert "Files: none uploaded so far" in ours
    assert not re.search("(?m)^/", made.description)
    assert not carries(made.description, "panicmail:x")
    assert carries(made.description, MARKER)


def test_the_largest_report_fits_into_gitlabs_limit() -> None:
    attachment = Attachment(name="n" * 500, type="t" * 500, size=10**9, sha256="e" * 64)
    wall = replace(REPORT, text="\n/" * 1_000_000, subject="s" * 5000, attachments=(attachment,) * 2000)
    made = drafted(wall, flags=("f" * 1000,) * 50)
    assert 900_000 < len(made.description) < 1_048_576
    assert carries(made.description, MARKER)


def test_a_mail_without_text_says_so_and_nobody_paged_means_nobody_assigned() -> None:
    made = drafted(replace(REPORT, text=" \n"), assignee=None)
    assert "The mail has no text." in made.description
    assert made.assignee_username is None


def test_files_take_the_place_kept_for_them() -> None:
    link = FileLink.of("7KQ2P.eml", "/uploads/0123/7KQ2P (1).eml", b"raw")
    said = with_files(drafted().description, [link])
    assert said is not None
    assert "Files:\n\n- [`7KQ2P.eml`](/uploads/0123/7KQ2P%20%281%29.eml) SHA-256 `" in said
    assert carries(said, MARKER)


def test_files_are_placed_once() -> None:
    link = FileLink.of("a", "/uploads/0123/a", b"")
    once = with_files(drafted().description, [link])
    assert once is not None
    assert with_files(once, [link, link]) == once


def test_a_description_somebody_rewrote_is_left_alone() -> None:
    assert with_files("I tidied up here", [FileLink.of("a", "/uploads/0123/a", b"")]) is None


def test_a_senders_line_about_files_is_not_the_place_for_them() -> None:
    said = drafted(replace(REPORT, text="Files: none uploaded so far")).description
    linked = with_files(said, [FileLink.of("a", "/uploads/0123/a", b"")])
    assert linked is not None
    assert "```text\nFiles: none uploaded so far\n```" in linked


# -- notes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (noted("people.paged", "panicmail", people={"ana": "seoc", "max": "smoc"}, step=2, round=3, late_seconds=425),
         "Paged Ana Reyes (SEOC), Max Okafor (SMOC), step 2, round 3. This is 7 min 5 s late"),
        (noted("people.paged", "panicmail", people={}, step=1, round=1), "Nobody is on call for step 1."),
        (noted("people.paged", people={"max": "smoc"}, step=2, round=2, cause={"declined_by": "ana", "words": "can't"}),
         "Ana Reyes declined: `can't`."),
        (noted("people.paged", people={"max": "smoc"}, step=2, round=2, cause={"unreachable": "ana", "why": "bounce"}),
         "Ana Reyes cannot be reached: `bounce`."),
        (noted("sla.breached", "panicmail", sla_at="2026-11-22T03:22:00+00:00"), "SLA breached"),
        (noted("incident.acked", holder="ana", how="reply from ana@example.com", before=None),
         "Acknowledged: Ana Reyes has it. Rests on: `reply from ana@example.com`."),
        (noted("incident.taken", "max", holder="max", how="link", before="ana"), "Max Okafor took it from Ana Reyes."),
        (noted("ack.repeated", "max", how="link"), "Max Okafor said yes too"),
        (noted("ack.late", "max", how="link"), "Max Okafor said yes after it was closed."),
        (noted("person.declined", words="/close @all", how="link"), "Ana Reyes declined: `/close @all`."),
        (noted("incident.escalated", how="link"), "Ana Reyes escalated."),
        (noted("person.unreachable", "panicmail", person="ana", why="out of office"), "Ana Reyes cannot be reached"),
        (noted("holder.reminded", "panicmail", person="ana"), "Ana Reyes was asked again."),
        (noted("holder.silent", "panicmail", holder="ana", again=True, people={"max": "smoc"}, why="no sign of work"),
         "Ana Reyes is silent, `no sign of work`. They were asked again. Paged Max Okafor (SMOC)."),
        (noted("holder.silent", "panicmail", holder="ana", again=True, people={}, why="no sign of work"),
         "Nobody else can be called; the operators were told."),
        (noted("manager.called", "panicmail", people={"max": "smoc"}, why="no sign of work"),
         "Paged Max Okafor (SMOC)"),
        (noted("people.paged", "panicmail", people={"max": "panicmail operator"}, step=1, round=1,
               cause={"last_resort": "nobody_on_call", "roles": ["seoc", "smoc"]}),
         "Nobody is on call as SEOC, SMOC, so the operators are called."),
        (noted("issue.went", "max", how="moved", place="security/other#7", followed=True, confidential=False),
         "The issue was moved, `security/other#7`, by Max Okafor. That does not end the incident"),
        (noted("incident.offered", to="max", how="link"), "Ana Reyes offers it to Max Okafor."),
        (noted("incident.resolved", by="ana", how="closed the issue in GitLab"), "Closed by Ana Reyes."),
        (noted("issue.closed_by_other", "somebody in GitLab"),
         "closed by somebody in GitLab. The incident stays open."),
        (noted("incident.reopened", "rita@example.com", last_holder="ana"), "Last holder: Ana Reyes."),
        (noted("thread.more", "eve@evil", from_address="eve@evil", from_name="Rita", text="hi", is_reporter=False),
         "More in the thread from `Rita <eve@evil>`, **who is not the reporter**:\n\n```text\nhi\n```"),
        (noted("thread.more", from_address="r@b", from_name="", text="", is_reporter=True), "There is no text."),
        (noted("person.wrote", text="what?", why="it asked a question", how="x"),
         "Ana Reyes wrote; this did not acknowledge, because `it asked a question`."),
        (noted("mail.resent", "rita@example.com", mail="abc"), "The same mail came again from `rita@example.com`."),
        (noted("mail.automatic", "daemon@x", kind="bounce", text="gone"), "An automatic mail (`bounce`) came from"),
        (noted("page.refused", "panicmail", person="ana", answer="550 no"), "refused the page to Ana Reyes: `550 no`."),
        (noted("policy.waits", "panicmail", policy="low", until="2026-11-23T08:00:00+00:00"),
         "Nobody is called before 2026-11-23 08:00:00 UTC: the policy low has its hours."),
        (noted("ladder.waits", "panicmail", ladder="low", until="2026-11-23T08:00:00+00:00"),  # its old name
         "Nobody is called before 2026-11-23 08:00:00 UTC: the policy low has its hours."),
        (noted("quite.new", "max", words="@all"), 'Recorded: `quite.new` by Max Okafor, `{"words": "@all"}`.'),
        (noted("quite.new", None), "by somebody"),
    ],
)  # fmt: skip
def test_every_event_reads_as_a_sentence(text: str, said: str) -> None:
    assert said in text
    assert text.startswith("2026-11-22 03:07:00 UTC. ")
    assert carries(text, notes.marker(INCIDENT.id, 7))


def test_every_event_of_the_state_table_has_a_sentence() -> None:
    source = "".join(file.read_text("utf-8") for file in Path(transitions.__file__).parent.glob("*.py"))
    events = set(re.findall(r'(?:event=|heard\()"([a-z_.]+)"', source))
    silent = {"incident.opened", "incident.opened_again", "steps.skipped", "issue.closed"}
    assert [event for event in sorted(events - silent) if "Recorded:" in noted(event)] == []
    assert len(events) > 15


def test_a_senders_words_in_a_note_cannot_act() -> None:
    text = noted(
        "thread.more", "x", from_address="/close", from_name="@all", text="/close\n```\n/close", is_reporter=True
    )
    assert not re.search("(?m)^/", text)
    assert "````text" in text


# -- opening


def test_an_issue_is_opened_as_asked(sandbox: SandboxGitLab, issues: Issues) -> None:
    made = issues.create(drafted())
    (shown,) = sandbox.issues
    assert (made.iid, made.url, made.dropped) == (shown["iid"], shown["web_url"], ())
    assert (shown["issue_type"], shown["confidential"], shown["labels"]) == ("incident", True, list(LABELS))
    assert [user["username"] for user in shown["assignees"]] == ["ana"]


def test_an_assignee_gitlab_does_not_know_is_left_out_and_told(sandbox: SandboxGitLab, issues: Issues) -> None:
    made = issues.create(replace(drafted(), assignee_username="nobody-here"))
    assert made.dropped == ("assignee nobody-here",)
    assert len(sandbox.issues) == 1


def test_a_project_by_number_is_not_asked_for(sandbox: SandboxGitLab) -> None:
    with opened(sandbox) as by_path:
        by_path.create(drafted())
        by_path.create(drafted())
    assert [r.path for r in sandbox.requests].count("/api/v4/projects/security%2Fincidents") == 1
    before = len(sandbox.requests)
    numbered = Issues(GitLabProject(sandbox.url, str(sandbox.project_id), sandbox.token), LABELS)
    numbered.create(replace(drafted(), assignee_username=None))
    numbered.close()
    assert [r.method for r in sandbox.requests[before:]] == ["POST", "GET"]


def test_what_gitlab_dropped_is_told(sandbox: SandboxGitLab, issues: Issues) -> None:
    changed = {"iid": 1, "web_url": "u", "issue_type": "issue", "confidential": False, "labels": [], "state": "closed",
               "assignees": [], "title": "t", "description": "d"}  # fmt: skip
    sandbox.fault("status", status=200, body=changed, match="GET .*/issues/1$")
    made = issues.create(drafted())
    assert made.dropped == (
        "type (it is issue)",
        "confidential",
        "label security-incident",
        "state (it is closed)",
        "assignee ana",
        "title",
        "text",
    )


def test_an_issue_that_cannot_be_read_back_is_open_all_the_same(sandbox: SandboxGitLab, issues: Issues) -> None:
    sandbox.fault("reset", match="GET .*/issues/1$")
    assert issues.create(drafted()).dropped == ()


# -- finding


def test_an_issue_is_found_by_its_marker_among_hundreds(sandbox: SandboxGitLab, issues: Issues) -> None:
    now = datetime.now(UTC)
    made = issues.create(drafted())
    bot = sandbox.instance.owner
    for number in range(130):
        sandbox.instance.open_issue(bot, {"title": f"later {number}", "description": f"x\n\n`panicmail:other{number}`"})
    found = issues.find(MARKER, now)
    assert found is not None
    assert (found.iid, found.url, found.dropped) == (made.iid, made.url, ())


def test_a_marker_quoted_by_a_sender_is_not_found(sandbox: SandboxGitLab, issues: Issues) -> None:
    issues.create(drafted(replace(REPORT, text=f"`{MARKER}`"), replace(INCIDENT, id="other")))
    assert issues.find(MARKER, datetime.now(UTC)) is None


def test_an_issue_older_than_the_mail_by_hours_is_found_by_searching_only(
    sandbox: SandboxGitLab, issues: Issues
) -> None:
    issues.create(drafted())
    later = datetime.now(UTC) + timedelta(hours=2)
    assert issues.find(MARKER, later) is not None
    sandbox.fault("status", status=429, match="search=")
    assert issues.find(MARKER, later) is None


@pytest.mark.parametrize("kind", ["reset", "html", "truncate", "hang"])
def test_a_look_that_fails_leaves_the_outcome_unknown(sandbox: SandboxGitLab, issues: Issues, kind: Any) -> None:
    sandbox.fault(kind, match="GET .*/issues")
    with pytest.raises(Unknown, match="could not look"):
        issues.find(MARKER, NOW)


def test_looking_while_gitlab_is_down_leaves_the_outcome_unknown(sandbox: SandboxGitLab, issues: Issues) -> None:
    sandbox.down()
    with pytest.raises(Unknown, match="could not look: GitLab cannot be reached"):
        issues.find(MARKER, NOW)


# -- trouble


@pytest.mark.parametrize(("kind", "made"), [("reset", 0), ("reset_after", 1), ("silent_after", 1), ("hang", 0),
                                            ("truncate", 1), ("html", 0)])  # fmt: skip
def test_a_create_without_a_whole_answer_is_unknown_and_never_repeated(
    sandbox: SandboxGitLab, issues: Issues, kind: Any, made: int
) -> None:
    sandbox.fault(kind, match="POST .*/issues$")
    with pytest.raises(Unknown) as caught:
        issues.create(drafted())
    assert posts(sandbox) == 1
    assert len(sandbox.issues) == made
    assert caught.value.__cause__ is not None
    assert sandbox.token not in str(caught.value)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 522, 408])
def test_a_5xx_is_unknown_and_not_repeated(sandbox: SandboxGitLab, issues: Issues, status: int) -> None:
    sandbox.fault("status", status=status, body="<html>bad gateway</html>", match="POST .*/issues$", times=None)
    with pytest.raises(Unknown, match=f"GitLab answered {status}: a web page"):
        issues.create(drafted())
    assert posts(sandbox) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_4xx_is_permanent_in_gitlabs_words(sandbox: SandboxGitLab, issues: Issues, status: int) -> None:
    said = {"message": {"title": ["is too long", f"{sandbox.token} " + "x" * 500]}}
    sandbox.fault("status", status=status, body=said, match="POST .*/issues$")
    with pytest.raises(Permanent, match=f"GitLab answered {status}: title is too long") as caught:
        issues.create(drafted())
    assert sandbox.token not in str(caught.value)
    assert len(str(caught.value)) < 330


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"message": "401 Unauthorized"}, Denied),
        (401, {"error": "invalid_token", "error_description": "Token is expired."}, Denied),
        (403, {"error": "insufficient_scope", "error_description": "more is needed"}, Denied),
        (403, {"message": "403 Forbidden - Your account has been blocked."}, Denied),
        (403, {"message": "403 Forbidden"}, Forbidden),
        (403, {"message": "Forbidden"}, Forbidden),
        (403, "", Forbidden),
        (404, {"message": "404 Project Not Found"}, Gone),
        (404, {"message": "404 Issue Not Found"}, Permanent),
        (404, {"error": "404 Not Found"}, Permanent),
        (401, "<html>log in to the proxy</html>", Permanent),
        (403, "<html>blocked: it looks like an attack</html>", Permanent),
        (400, {"message": {"title": ["is too long"]}}, Permanent),
    ],
)
def test_a_refusal_says_whether_it_is_about_the_token_the_project_or_the_one_thing(
    sandbox: SandboxGitLab, issues: Issues, status: int, body: Any, kind: type[Permanent]
) -> None:
    sandbox.fault("status", status=status, body=body, match="POST .*/issues$")
    with pytest.raises(Permanent) as caught:
        issues.create(drafted())
    assert type(caught.value) is kind


def test_a_locked_resource_is_temporary(sandbox: SandboxGitLab, issues: Issues) -> None:
    sandbox.fault("status", status=409, body={"message": "409 Conflict: Resource lock"}, match="POST")
    with pytest.raises(Temporary) as caught:
        issues.create(drafted())
    assert not isinstance(caught.value, Unknown)


@pytest.mark.parametrize(("asked", "wait"), [("45", 45.0), ("86400", 60.0), ("-3", 0.0), ("soon", None), (None, None)])
def test_a_429_is_temporary_with_the_wait_it_asks_for(
    sandbox: SandboxGitLab, issues: Issues, asked: str | None, wait: float | None
) -> None:
    headers = {} if asked is None else {"Retry-After": asked}
    sandbox.fault("status", status=429, headers=headers, body="Retry later", match="POST .*/issues$")
    started = time.monotonic()
    with pytest.raises(Temporary, match="GitLab answered 429: Retry later") as caught:
        issues.create(drafted())
    assert (type(caught.value), caught.value.retry_after) == (Temporary, wait)
    assert time.monotonic() - started < 40


def test_a_wait_until_a_date_counts_from_the_answers_own_date() -> None:
    until = "Sun, 22 Nov 2026 03:07:20 GMT"
    assert wait_asked({"Retry-After": until, "Date": "Sun, 22 Nov 2026 03:07:00 GMT"}) == 20
    assert wait_asked({"Retry-After": until, "Date": "Sun, 22 Nov 2026 03:09:00 GMT"}) == 0
    assert wait_asked({"Retry-After": until}) == 60
    assert wait_asked({"Retry-After": "inf"}) is None


def test_a_gitlab_that_is_down_was_surely_not_asked(sandbox: SandboxGitLab, issues: Issues) -> None:
    sandbox.down()
    with pytest.raises(Temporary, match="cannot be reached") as caught:
        issues.create(drafted())
    assert not isinstance(caught.value, Unknown)
    sandbox.up()
    assert issues.create(drafted()).dropped == ()


def test_an_unknown_host_was_surely_not_asked() -> None:
    nowhere = Issues(GitLabProject("http://gitlab.invalid", "1", "t"), LABELS)
    with pytest.raises(Temporary, match="cannot be reached") as caught:
        nowhere.describe(1, "x")
    assert not isinstance(caught.value, Unknown)
    nowhere.close()


def test_a_refusal_remembered_from_another_call_does_not_colour_this_one(
    sandbox: SandboxGitLab, issues: Issues
) -> None:
    issues.describe(issues.create(drafted()).iid, "warm")
    sandbox.fault("reset", match="PUT")
    try:
        raise ConnectionRefusedError("of somebody else's")
    except ConnectionRefusedError:
        with pytest.raises(Unknown):
            issues.describe(1, "x")


def test_a_failed_lookup_before_a_create_is_temporary(sandbox: SandboxGitLab, issues: Issues) -> None:
    sandbox.fault("reset", match="GET .*/users")
    with pytest.raises(Temporary) as caught:
        issues.create(drafted())
    assert not isinstance(caught.value, Unknown)
    assert posts(sandbox) == 0


def test_a_redirect_is_not_followed_with_a_body_nor_to_another_host(sandbox: SandboxGitLab, issues: Issues) -> None:
    with SandboxGitLab() as elsewhere:
        moved = {"Location": f"{elsewhere.url}/api/v4/projects/1/issues"}
        sandbox.fault("status", status=302, headers=moved, match="POST .*/issues$")
        with pytest.raises(Unknown, match="a redirect"):
            issues.create(drafted())
        sandbox.fault("status", status=302, headers=moved, match="GET .*/issues/1$")
        with pytest.raises(Temporary, match="a redirect"):
            issues.description(1)
        assert elsewhere.requests == []


def test_a_renamed_project_is_followed_on_the_same_host(sandbox: SandboxGitLab) -> None:
    sandbox.fault(
        "status", status=301, headers={"Location": f"/api/v4/projects/{sandbox.project_id}"}, match="projects/old"
    )
    renamed = Issues(GitLabProject(sandbox.url, "old/name", sandbox.token), LABELS)
    assert renamed.create(drafted()).dropped == ()
    renamed.close()


def test_a_wrong_token_is_permanent(sandbox: SandboxGitLab) -> None:
    wrong = Issues(GitLabProject(sandbox.url, "1", "wrong-token"), LABELS)
    with pytest.raises(Permanent, match="GitLab answered 401: 401 Unauthorized"):
        wrong.description(1)
    wrong.close()


def test_an_answer_that_trickles_ends_at_the_deadline(sandbox: SandboxGitLab) -> None:
    with trickling() as url:
        issues = Issues(GitLabProject(url, "1", "t", read_timeout=0.3, deadline=0.5), LABELS)
        started = time.monotonic()
        with pytest.raises(Unknown, match="in time"):
            issues.describe(1, "x")
        assert time.monotonic() - started < 10
        issues.close()


def test_several_slow_answers_share_one_deadline(sandbox: SandboxGitLab) -> None:
    sandbox.fault("delay", seconds=0.25, times=None)
    with opened(sandbox, deadline=0.4) as issues:
        with pytest.raises(Temporary):
            issues.create(drafted())
        assert posts(sandbox) == 0


def test_an_untrusted_certificate_was_surely_not_asked() -> None:
    authority = trustme.CA()
    with serving_tls(authority) as url:
        stranger = Issues(GitLabProject(url, "1", "t"), LABELS)
        with pytest.raises(LockedOut, match=r"cannot be reached: no TLS with it \(.*certificate") as caught:
            stranger.describe(1, "x")
        assert not isinstance(caught.value, Unknown)
        stranger.close()
        context = ssl.create_default_context()
        authority.configure_trust(context)
        friend = Issues(GitLabProject(url, "1", "t", ssl_context=context), LABELS)
        with pytest.raises(Permanent, match="404"):
            friend.description(1)
        friend.close()


def test_tls_at_a_port_that_speaks_none_lets_nothing_through(sandbox: SandboxGitLab) -> None:
    issues = Issues(GitLabProject(sandbox.url.replace("http:", "https:"), "1", "t"), LABELS)
    with pytest.raises(LockedOut, match="no TLS with it"):
        issues.create(drafted())
    issues.close()


def test_a_connection_that_breaks_while_tls_begins_may_hold_the_next_time() -> None:
    with hanging_up() as port:
        issues = Issues(GitLabProject(f"https://127.0.0.1:{port}", "1", "t"), LABELS)
        with pytest.raises(Temporary) as caught:
            issues.create(drafted())
        issues.close()
    assert not isinstance(caught.value, Blocked)


@pytest.mark.parametrize(("keep_seconds", "connections"), [(30.0, 1), (0.0, 3)])
def test_a_connection_serves_again_unless_it_was_idle_too_long(keep_seconds: float, connections: int) -> None:
    with counting() as (url, count):
        issues = Issues(GitLabProject(url, "1", "t", keep_seconds=keep_seconds), LABELS)
        for _ in range(3):
            issues.describe(1, "x")
        issues.close()
    assert len(count) == connections


# -- notes, files, descriptions


def test_a_note_is_internal_and_written_once(sandbox: SandboxGitLab, issues: Issues) -> None:
    iid = issues.create(drafted()).iid
    marker = notes.marker(INCIDENT.id, 7)
    text = noted("incident.acked", holder="ana", how="link")
    issues.note(iid, text, marker, look=False)
    issues.note(iid, text, marker, look=True)
    (note,) = [note for note in sandbox.notes_of(iid) if not note["system"]]
    assert note["body"] == text
    assert note["internal"] is True


def test_a_note_whose_answer_was_lost_is_found_behind_hundreds(sandbox: SandboxGitLab, issues: Issues) -> None:
    iid = issues.create(drafted()).iid
    marker = notes.marker(INCIDENT.id, 7)
    text = noted("incident.acked", holder="ana", how="link")
    sandbox.fault("reset_after", match="POST .*/notes$")
    with pytest.raises(Unknown):
        issues.note(iid, text, marker, look=False)
    for _ in range(110):
        sandbox.people.comment(iid, "ana", "on it")
    before = posts(sandbox, "notes")
    issues.note(iid, text, marker, look=True)
    assert posts(sandbox, "notes") == before


def test_a_note_taken_for_a_command_is_told(sandbox: SandboxGitLab, issues: Issues) -> None:
    iid = issues.create(drafted()).iid
    sandbox.fault("status", status=202, body={"commands_changes": {}, "summary": ["closed"]}, match="POST .*/notes$")
    with pytest.raises(Permanent, match="command"):
        issues.note(iid, "x", "m", look=False)


def test_a_file_is_put_up_whole_under_a_safe_name(sandbox: SandboxGitLab, issues: Issues) -> None:
    data = bytes(range(256)) * 100
    uploaded = issues.upload("../é vil](x).eml", data)
    assert isinstance(uploaded, UploadedFile)
    assert uploaded.name == "e_vil_x_.eml"
    (kept,) = sandbox.uploads
    assert (kept["name"], kept["data"], kept["url"]) == (uploaded.name, data, uploaded.url)


def test_an_upload_is_never_repeated_by_itself(sandbox: SandboxGitLab, issues: Issues) -> None:
    sandbox.fault("status", status=429, match="POST .*/uploads$", headers={"Retry-After": "1"})
    with pytest.raises(Temporary):
        issues.upload("a", b"x")
    sandbox.fault("html", match="POST .*/uploads$")
    with pytest.raises(Unknown):
        issues.upload("a", b"x")
    assert posts(sandbox, "uploads") == 2


def test_a_description_is_read_and_replaced(sandbox: SandboxGitLab, issues: Issues) -> None:
    iid = issues.create(drafted()).iid
    said = with_files(issues.description(iid), [FileLink.of("a", "/uploads/0/a", b"")])
    assert said is not None
    issues.describe(iid, said)
    assert issues.description(iid) == said


# -- servers of our own


@contextmanager
def counting() -> Iterator[tuple[str, list[int]]]:
    """A server that says yes and counts its connections."""
    count: list[int] = []

    class Yes(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            count.append(1)
            super().setup()

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.wfile.write(b'{"iid":1}')

        def log_message(self, *_: Any) -> None: ...

    with served(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Yes)) as port:
        yield f"http://127.0.0.1:{port}", count


@contextmanager
def trickling() -> Iterator[str]:
    """A server whose answer comes one octet at a time."""

    class Trickle(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(40):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return
                time.sleep(0.05)

        def log_message(self, *_: Any) -> None: ...

    with served(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickle)) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def serving_tls(authority: trustme.CA) -> Iterator[str]:
    """A server under TLS that knows nothing."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: Any) -> None: ...

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None: ...

    server = Quiet(("127.0.0.1", 0), Empty)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with served(server) as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def served(server: http.server.ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- how grave it is


@pytest.fixture
def graded(sandbox: SandboxGitLab) -> Iterator[Issues]:
    project = GitLabProject(sandbox.url, sandbox.project, sandbox.token, read_timeout=3, deadline=10)
    issues = Issues(project, LABELS, "severity::{severity}")
    yield issues
    issues.close()


def mark(level: int, since: datetime = NOW - timedelta(hours=1), **changes: Any) -> SeverityMark:
    return replace(SeverityMark(level=level, pattern="severity::{severity}", is_field=True, since=since), **changes)


def test_a_severity_is_written_as_field_and_label_and_no_other_stays(sandbox: SandboxGitLab, graded: Issues) -> None:
    made = graded.create(replace(drafted(), labels=(*LABELS, "severity::3"), severity="medium"))
    assert sandbox.issues[0]["severity"] == "MEDIUM"
    graded.grade(made.iid, mark(1, labels=("ransomware",)))
    (shown,) = sandbox.issues
    assert shown["severity"] == "CRITICAL"
    assert set(shown["labels"]) == {*LABELS, "severity::1", "ransomware"}
    puts = sum(1 for r in sandbox.requests if r.method == "PUT")
    graded.grade(made.iid, mark(1))
    assert sum(1 for r in sandbox.requests if r.method == "PUT") == puts, "it was so"


@pytest.mark.parametrize("wanted", [{"labels": [*LABELS, "severity::4"]}, {"severity": "low"}])
def test_what_a_person_set_later_stays(sandbox: SandboxGitLab, graded: Issues, wanted: dict[str, Any]) -> None:
    made = graded.create(drafted())
    sandbox.instance.edit_issue(sandbox.instance.user("ana"), made.iid, wanted)
    assert "stays" in graded.grade(made.iid, mark(1))
    graded.grade(made.iid, mark(1, since=datetime.now(UTC) + timedelta(hours=1)))
    assert "severity::1" in sandbox.issues[0]["labels"], "a later word of ours counts"
