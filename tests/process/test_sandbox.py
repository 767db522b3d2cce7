"""The stand-ins must not lie: what they promise is tried here with the clients the product uses."""

from __future__ import annotations

import http.client
import json
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import gitlab as python_gitlab
import pytest
import requests
import trustme

from panicmail.sandbox.gitlab_records import User
from panicmail.sandbox.gitlab_server import SandboxGitLab
from panicmail.sandbox.relay_server import SandboxRelay


@pytest.fixture
def sandbox() -> Iterator[SandboxGitLab]:
    with SandboxGitLab() as one:
        yield one


@pytest.fixture
def client(sandbox: SandboxGitLab) -> Iterator[python_gitlab.Gitlab]:
    with python_gitlab.Gitlab(sandbox.url, private_token=sandbox.token, timeout=30) as one:
        yield one


@pytest.fixture
def project(client: python_gitlab.Gitlab, sandbox: SandboxGitLab) -> Any:
    return client.projects.get(sandbox.project_id, lazy=True)


@pytest.fixture
def relay() -> Iterator[SandboxRelay]:
    with SandboxRelay() as one:
        yield one


def call(
    sandbox: SandboxGitLab, method: str, path: str, body: object = None, *, token: str | None = None
) -> tuple[int, Any]:
    """One request without a library in between; the answer's status and JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)
    try:
        headers = {"PRIVATE-TOKEN": token or sandbox.token, "Content-Type": "application/json"}
        connection.request(method, f"/api/v4{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def page_of(sandbox: SandboxGitLab, path: str) -> str:
    with urllib.request.urlopen(sandbox.url + path, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


# -- GitLab: who may ask ---------------------------------------------------------------------------------------------


def test_a_wrong_token_is_a_401_in_gitlabs_words(sandbox: SandboxGitLab) -> None:
    assert call(sandbox, "GET", "/user", token="wrong") == (401, {"message": "401 Unauthorized"})


def test_a_bearer_token_is_as_good_as_a_private_token(sandbox: SandboxGitLab) -> None:
    with python_gitlab.Gitlab(sandbox.url, oauth_token=sandbox.token) as client:
        client.auth()
        assert client.user is not None
        assert client.user.username == "panicmail-bot"


def test_the_token_tells_its_scopes(client: python_gitlab.Gitlab) -> None:
    token = client.personal_access_tokens.get("self")
    assert (token.active, token.scopes) == (True, ["api"])


def test_a_token_that_may_only_read_changes_nothing(sandbox: SandboxGitLab, client: python_gitlab.Gitlab) -> None:
    sandbox.set_token(scopes=("read_api",))
    assert client.personal_access_tokens.get("self").scopes == ["read_api"]
    status, said = call(sandbox, "POST", "/projects/42/issues", {"title": "lost laptop"})
    assert (status, said["error"]) == (403, "insufficient_scope")
    assert not sandbox.issues


@pytest.mark.parametrize("facts", [{"revoked": True}, {"expires_on": date(2026, 1, 1)}])
def test_a_token_that_was_revoked_or_has_expired_is_a_401(sandbox: SandboxGitLab, facts: dict[str, Any]) -> None:
    sandbox.set_token(**facts)
    assert call(sandbox, "GET", "/user")[0] == 401


def test_the_project_tells_who_may_see_it_and_whether_it_takes_issues(
    sandbox: SandboxGitLab, client: python_gitlab.Gitlab
) -> None:
    sandbox.set_project(visibility="internal", issues="disabled", archived=True)
    project = client.projects.get("security/incidents")
    assert (project.visibility, project.issues_enabled, project.archived) == ("internal", False, True)


def test_a_level_of_access_can_be_changed(sandbox: SandboxGitLab, client: python_gitlab.Gitlab) -> None:
    sandbox.set_level("ana", 10)
    members = client.projects.get("security/incidents").members_all.list(get_all=True)
    assert next(member.access_level for member in members if member.username == "ana") == 10


def test_the_version_is_told_twice(sandbox: SandboxGitLab, client: python_gitlab.Gitlab) -> None:
    assert client.version()[0] == call(sandbox, "GET", "/metadata")[1]["version"]


def test_a_user_is_found_by_username_and_by_address(client: python_gitlab.Gitlab) -> None:
    by_name = client.users.list(username="ana", get_all=True)
    by_address = client.users.list(search="ana@example.com", get_all=True)
    assert [user.username for user in [*by_name, *by_address]] == ["ana", "ana"]
    assert client.users.get(by_name[0].id).name == "Ana Reyes"


def test_only_members_of_the_project_are_its_members(project: Any, client: python_gitlab.Gitlab) -> None:
    (eve,) = client.users.list(username="eve", get_all=True)
    assert "eve" not in [member.username for member in project.members_all.list(get_all=True)]
    with pytest.raises(python_gitlab.GitlabGetError, match="404"):
        project.members_all.get(eve.id)


def test_a_project_answers_to_its_number_and_its_encoded_path_but_not_to_a_bare_slash(sandbox: SandboxGitLab) -> None:
    assert call(sandbox, "GET", "/projects/42")[1]["path_with_namespace"] == "security/incidents"
    assert call(sandbox, "GET", "/projects/security%2Fincidents")[1]["id"] == 42
    assert call(sandbox, "GET", "/projects/security/incidents")[0] == 404
    assert call(sandbox, "GET", "/projects/2") == (404, {"message": "404 Project Not Found"})


# -- GitLab: issues --------------------------------------------------------------------------------------------------


def test_an_incident_is_made_as_asked(project: Any, client: python_gitlab.Gitlab, sandbox: SandboxGitLab) -> None:
    (ana,) = client.users.list(username="ana", get_all=True)
    issue = project.issues.create(
        {
            "title": "[panic] lost laptop",
            "description": "at the station",
            "issue_type": "incident",
            "confidential": True,
            "labels": ["security-incident"],
            "assignee_ids": [ana.id],
            "severity": "high",
        }
    )
    (shown,) = sandbox.issues
    assert shown == issue.attributes
    assert (issue.iid, issue.state, issue.type, issue.issue_type, issue.severity) == (
        1,
        "opened",
        "INCIDENT",
        "incident",
        "HIGH",
    )
    assert issue.confidential
    assert issue.assignees[0]["username"] == issue.assignee["username"] == "ana"
    assert issue.web_url == f"{sandbox.url}/security/incidents/-/issues/1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", issue.created_at)


def test_an_issue_created_with_an_unknown_label_creates_the_label(project: Any) -> None:
    project.issues.create({"title": "t", "labels": "a, b"})
    assert [label.name for label in project.labels.list(get_all=True)] == ["a", "b"]
    with pytest.raises(python_gitlab.GitlabCreateError, match="already exists") as refused:
        project.labels.create({"name": "a", "color": "#ff0000"})
    assert refused.value.response_code == 409


def test_an_assignee_who_is_no_member_is_dropped_without_a_word(project: Any, client: python_gitlab.Gitlab) -> None:
    (eve,) = client.users.list(username="eve", get_all=True)
    assert project.issues.create({"title": "t", "assignee_ids": [eve.id]}).assignees == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, {"error": "title is missing"}),
        ({"title": " "}, {"message": {"title": ["can't be blank"]}}),
        ({"title": "t" * 256}, {"message": {"title": ["is too long (maximum is 255 characters)"]}}),
        (
            {"title": "t", "description": "d" * 1_048_577},
            {"message": {"description": ["is too long (maximum is 1048576 characters)"]}},
        ),
        ({"title": "t", "issue_type": "panic"}, {"error": "issue_type does not have a valid value"}),
        ({"title": "t", "confidential": "perhaps"}, {"error": "confidential is invalid"}),
        ({"title": "nul \0"}, {"message": "400 Bad request"}),
        ({"title": "half \ud800"}, {"message": "400 Bad request"}),
        (["title"], {"error": "message body does not match declared format"}),
    ],
)
def test_an_issue_gitlab_would_not_take_is_refused_in_its_words(
    sandbox: SandboxGitLab, body: object, said: object
) -> None:
    assert call(sandbox, "POST", "/projects/42/issues", body) == (400, said)
    assert sandbox.issues == []


def test_an_issue_is_edited_and_every_trace_is_by_the_token(project: Any, sandbox: SandboxGitLab) -> None:
    issue = project.issues.create({"title": "old", "labels": ["a"]})
    issue.title, issue.add_labels, issue.remove_labels, issue.state_event = "new", ["b"], ["a"], "close"
    issue.save()
    assert (issue.title, issue.labels, issue.state) == ("new", ["b"], "closed")
    assert issue.attributes["closed_by"]["username"] == "panicmail-bot"
    assert {note["author"]["username"] for note in sandbox.notes_of(1)} == {"panicmail-bot"}
    assert all(note["system"] for note in sandbox.notes_of(1))


def test_an_edit_that_names_nothing_is_refused(sandbox: SandboxGitLab, project: Any) -> None:
    project.issues.create({"title": "t"})
    status, said = call(sandbox, "PUT", "/projects/42/issues/1", {})
    assert (status, "at least one parameter" in said["error"]) == (400, True)


def test_what_is_not_there_is_a_404_and_what_cannot_be_done_a_405(sandbox: SandboxGitLab) -> None:
    assert call(sandbox, "GET", "/projects/42/issues/7") == (404, {"message": "404 Not found"})
    assert call(sandbox, "GET", "/nowhere") == (404, {"error": "404 Not Found"})
    assert call(sandbox, "DELETE", "/projects/42/issues")[0] == 405


def test_a_list_of_issues_is_read_page_by_page(project: Any, sandbox: SandboxGitLab) -> None:
    for number in range(45):
        project.issues.create({"title": f"n{number}"})
    before = len(sandbox.requests)
    found = project.issues.list(iterator=True, order_by="created_at", sort="asc")
    assert [issue.title for issue in found] == [f"n{number}" for number in range(45)]
    assert (found.total, found.total_pages, found.per_page) == (45, 3, 20)
    assert len(sandbox.requests) - before == 3
    assert len(project.issues.list(per_page=500, page=1)) == 45


def test_issues_are_found_by_label_state_number_and_time() -> None:
    now = [datetime(2026, 11, 21, 12, 0, tzinfo=UTC)]
    with (
        SandboxGitLab(clock=lambda: now[0]) as sandbox,
        python_gitlab.Gitlab(sandbox.url, private_token=sandbox.token) as client,
    ):
        project = client.projects.get(42, lazy=True)
        project.issues.create({"title": "first", "labels": ["a", "b"]})
        now[0] += timedelta(hours=1)
        project.issues.create({"title": "second", "labels": ["a"]})
        sandbox.people.close(2, "ana")

        def titles(**conditions: Any) -> list[str]:
            return [issue.title for issue in project.issues.list(get_all=True, **conditions)]

        assert titles() == ["second", "first"]
        assert titles(labels=["a", "b"]) == ["first"]
        assert titles(state="opened") == ["first"]
        assert titles(iids=[2]) == ["second"]
        assert titles(scope="all", created_after=now[0].isoformat()) == ["second"]
        assert titles(created_before="2026-11-21T12:30:00Z") == ["first"]
        with pytest.raises(python_gitlab.GitlabListError, match="created_after is invalid"):
            titles(created_after="yesterday")


def test_search_knows_beginnings_of_words_but_no_long_runs(project: Any) -> None:
    digest = "0123456789abcdef" * 4
    project.issues.create({"title": "laptop gone", "description": f"panicmail:abcdefgh {digest}"})

    def is_found(search: str, **where: str) -> bool:
        return bool(project.issues.list(search=search, get_all=True, **where))

    assert is_found("panicmail abcd", **{"in": "description"})
    assert is_found("LAP")
    assert not is_found("ptop")
    assert not is_found("panicmail", **{"in": "title"})
    assert not is_found(digest)


# -- GitLab: notes, uploads ------------------------------------------------------------------------------------------


def test_notes_come_newest_first_and_may_be_internal(project: Any) -> None:
    issue = project.issues.create({"title": "t"})
    issue.notes.create({"body": "paged ana", "internal": True})
    issue.notes.create({"body": "hello"})
    newest, oldest = issue.notes.list(get_all=True)
    assert (newest.body, newest.internal, oldest.body, oldest.internal) == ("hello", False, "paged ana", True)
    assert [note.body for note in issue.notes.list(sort="asc", get_all=True)] == ["paged ana", "hello"]
    newest.body = "hello again"
    newest.save()
    assert issue.notes.get(newest.id).body == "hello again"


def test_an_empty_note_is_refused(sandbox: SandboxGitLab, project: Any) -> None:
    project.issues.create({"title": "t"})
    assert call(sandbox, "POST", "/projects/42/issues/1/notes", {"body": " "}) == (
        400,
        {"message": '400 Bad request - Note {:note=>["can\'t be blank"]}'},
    )
    assert call(sandbox, "POST", "/projects/42/issues/1/notes", {}) == (400, {"error": "body is missing"})


def test_an_upload_keeps_every_octet_and_is_served_as_a_download(project: Any, sandbox: SandboxGitLab) -> None:
    data = bytes(range(256)) * 3 + b"\r\n--\r\n\r"
    answer = project.upload("a b (ü).eml", filedata=data)
    (upload,) = sandbox.uploads
    assert upload["data"] == data
    assert upload["name"] == "a_b__ü_.eml"
    assert answer["markdown"] == f"[{upload['name']}]({upload['url']})"
    path = requests.utils.requote_uri(upload["full_path"])
    with urllib.request.urlopen(sandbox.url + path, timeout=30) as served:
        assert served.read() == data
        assert served.headers["Content-Disposition"] == "attachment"


def test_the_link_of_an_image_shows_it(project: Any) -> None:
    assert project.upload("shot.png", filedata=b"\x89PNG")["markdown"].startswith("![shot](/uploads/")


def test_an_upload_without_a_file_is_refused(sandbox: SandboxGitLab) -> None:
    assert call(sandbox, "POST", "/projects/42/uploads", {}) == (400, {"error": "file is missing"})


# -- GitLab: people --------------------------------------------------------------------------------------------------


def test_what_a_person_does_is_signed_by_that_person(project: Any, sandbox: SandboxGitLab) -> None:
    issue = project.issues.create({"title": "t"})
    sandbox.people.comment(1, "ana", "on it")
    sandbox.people.assign(1, "ana", "bo")
    sandbox.people.label(1, "bo", "triaged")
    sandbox.people.close(1, "max")
    notes = [(note["author"]["username"], note["system"], note["body"]) for note in sandbox.notes_of(1)]
    (label,) = project.labels.list(get_all=True)
    assert notes == [
        ("ana", False, "on it"),
        ("ana", True, "assigned to @bo"),
        ("bo", True, f"added ~{label.id} label"),
        ("max", True, "closed"),
    ]
    (event,) = issue.resourcestateevents.list(get_all=True)
    assert (event.state, event.user["username"]) == ("closed", "max")
    (event,) = issue.resourcelabelevents.list(get_all=True)
    assert (event.action, event.label["name"], event.user["username"]) == ("add", "triaged", "bo")
    assert project.issues.get(1).attributes["closed_by"]["username"] == "max"
    sandbox.people.reopen(1, "ana")
    assert project.issues.get(1).closed_at is None


def test_a_gitlab_of_today_writes_no_system_note_for_a_label_or_a_state() -> None:
    with SandboxGitLab(event_notes=False, users=["ana", User(username="bo", name="Bo")]) as sandbox:
        call(sandbox, "POST", "/projects/42/issues", {"title": "t"})
        sandbox.people.label(1, "ana", "triaged")
        sandbox.people.close(1, "ana")
        assert sandbox.notes_of(1) == []
        assert len(call(sandbox, "GET", "/projects/42/issues/1/resource_state_events")[1]) == 1


def test_acting_as_nobody_names_who_there_is(sandbox: SandboxGitLab) -> None:
    with pytest.raises(LookupError, match="ana"):
        sandbox.people.comment(1, "nobody", "hello")


def test_waiting_ends_with_the_change_and_fails_with_what_there_is(sandbox: SandboxGitLab) -> None:
    later = threading.Timer(0.1, call, (sandbox, "POST", "/projects/42/issues", {"title": "at last"}))
    later.start()
    assert sandbox.wait(lambda: sandbox.issues)[0]["title"] == "at last"
    later.join()
    with pytest.raises(AssertionError, match="at last"):
        sandbox.wait(lambda: len(sandbox.issues) > 1, timeout=0.05)


# -- GitLab: trouble -------------------------------------------------------------------------------------------------


def test_a_fault_of_a_status_hits_as_often_as_ordered_and_nothing_is_done(sandbox: SandboxGitLab) -> None:
    sandbox.fault("status", times=2, status=429, headers={"Retry-After": "7"}, body={"message": "slow down"})
    path = "/projects/42/issues"
    answers = [call(sandbox, "POST", path, {"title": "t"})[0] for _ in range(3)]
    assert answers == [429, 429, 201]
    assert len(sandbox.issues) == 1
    assert [request.status for request in sandbox.requests] == answers


def test_a_fault_waits_for_the_request_it_is_meant_for(sandbox: SandboxGitLab) -> None:
    sandbox.fault("status", match=r"^POST .*/notes")
    assert call(sandbox, "POST", "/projects/42/issues", {"title": "t"})[0] == 201
    assert call(sandbox, "POST", "/projects/42/issues/1/notes", {"body": "b"})[0] == 503


ACTS: dict[str, Callable[[SandboxGitLab], object]] = {
    "comment": lambda gitlab: gitlab.people.comment(1, "ana", "looking"),
    "assignment": lambda gitlab: gitlab.people.assign(1, "ana", "max"),
    "label": lambda gitlab: gitlab.people.label(1, "ana", "x"),
    "confidential": lambda gitlab: gitlab.instance.edit_issue(gitlab.instance.user("ana"), 1, {"confidential": True}),
    "type": lambda gitlab: gitlab.instance.edit_issue(gitlab.instance.user("ana"), 1, {"issue_type": "incident"}),
    "closed": lambda gitlab: gitlab.people.close(1, "ana"),
    "moved": lambda gitlab: gitlab.people.move(1, "ana", "security/elsewhere"),
    "duplicate": lambda gitlab: gitlab.people.duplicate(1, "ana", 2),
    "promoted": lambda gitlab: gitlab.people.promote(1, "ana"),
}
#: What GitLab saves in the issue itself, and so dates whenever it is.
SAVED = {"confidential", "type", "closed", "moved", "duplicate", "promoted"}


@pytest.mark.parametrize("keeps_notes", [True, False])
@pytest.mark.parametrize("seconds", [30, 90])
@pytest.mark.parametrize("act", ACTS)
def test_an_act_dates_the_issue_anew_and_what_lies_beside_it_only_a_minute_after_the_last(
    act: str, seconds: int, keeps_notes: bool
) -> None:
    now = [datetime(2026, 11, 22, 2, tzinfo=UTC)]
    with SandboxGitLab(clock=lambda: now[0], event_notes=keeps_notes) as gitlab:
        for title in ("one", "two"):
            gitlab.instance.open_issue(gitlab.instance.owner, {"title": title})
        now[0] += timedelta(seconds=seconds)
        ACTS[act](gitlab)
        after = f"{now[0]:%Y-%m-%dT%H:%M:%SZ}"
        _, listed = call(gitlab, "GET", f"/projects/{gitlab.project_id}/issues?updated_after={after}")
        assert [issue["iid"] for issue in listed] == ([1] if act in SAVED or seconds > 60 else [])


@pytest.mark.parametrize(("kind", "is_done"), [("reset", False), ("reset_after", True)])
def test_a_reset_is_an_error_whether_done_or_not(
    sandbox: SandboxGitLab, project: Any, kind: Any, is_done: bool
) -> None:
    sandbox.fault(kind)
    with pytest.raises(requests.exceptions.ConnectionError):
        project.issues.create({"title": "t"})
    assert len(sandbox.issues) == is_done
    assert sandbox.requests[-1].status == 0


@pytest.mark.parametrize(("kind", "is_done"), [("hang", False), ("silent_after", True)])
def test_a_silence_is_a_timeout_whether_done_or_not(sandbox: SandboxGitLab, kind: Any, is_done: bool) -> None:
    sandbox.fault(kind)
    with (
        python_gitlab.Gitlab(sandbox.url, private_token=sandbox.token, timeout=0.2) as client,
        pytest.raises(requests.exceptions.ReadTimeout),
    ):
        client.projects.get(42, lazy=True).issues.create({"title": "t"})
    assert len(sandbox.issues) == is_done


def test_clearing_the_faults_lets_go_of_whoever_hangs(sandbox: SandboxGitLab) -> None:
    sandbox.fault("hang", times=None)
    threading.Timer(0.1, sandbox.clear_faults).start()
    with pytest.raises(http.client.RemoteDisconnected):
        call(sandbox, "GET", "/user")
    assert call(sandbox, "GET", "/user")[0] == 200


def test_half_an_answer_is_an_error_though_done(sandbox: SandboxGitLab, project: Any) -> None:
    sandbox.fault("truncate")
    with pytest.raises(requests.exceptions.RequestException):
        project.issues.create({"title": "t"})
    assert len(sandbox.issues) == 1


def test_a_web_page_is_no_json(sandbox: SandboxGitLab, project: Any) -> None:
    sandbox.fault("html")
    with pytest.raises(python_gitlab.GitlabParsingError):
        project.issues.create({"title": "t"})
    assert sandbox.issues == []


def test_a_delay_only_delays(sandbox: SandboxGitLab) -> None:
    sandbox.fault("delay", seconds=0.2)
    began = time.monotonic()
    assert call(sandbox, "GET", "/user")[0] == 200
    assert time.monotonic() - began >= 0.2


def test_an_unknown_fault_names_those_there_are(sandbox: SandboxGitLab) -> None:
    with pytest.raises(ValueError, match="reset_after"):
        sandbox.fault("earthquake")  # type: ignore[arg-type]


def test_down_refuses_and_up_is_the_same_gitlab_on_the_same_port(sandbox: SandboxGitLab) -> None:
    call(sandbox, "POST", "/projects/42/issues", {"title": "t"})
    sandbox.down()
    with pytest.raises(ConnectionRefusedError):
        call(sandbox, "GET", "/user")
    sandbox.up()
    assert len(call(sandbox, "GET", "/projects/42/issues")[1]) == 1


def test_stopping_is_prompt_though_a_client_keeps_its_connection_and_another_hangs() -> None:
    sandbox = SandboxGitLab().start()
    sandbox.fault("hang", match="hanging")
    with (
        socket.create_connection(("127.0.0.1", sandbox.port)),
        socket.create_connection(("127.0.0.1", sandbox.port)) as hanging,
    ):
        hanging.sendall(b"GET /hanging HTTP/1.1\r\nHost: x\r\n\r\n")
        sandbox.wait(lambda: sandbox.requests)
        began = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - began < 10


def test_a_connection_serves_many_requests(sandbox: SandboxGitLab) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=30)
    ports = set()
    for _ in range(3):
        connection.request("GET", "/api/v4/user", headers={"PRIVATE-TOKEN": sandbox.token})
        connection.getresponse().read()
        ports.add(connection.sock.getsockname()[1])
    connection.close()
    assert len(ports) == 1


# -- GitLab: for the eye ---------------------------------------------------------------------------------------------


def test_the_page_of_an_issue_shows_hostile_text_as_text(project: Any, sandbox: SandboxGitLab) -> None:
    hostile = "</pre><script>alert(1)</script>"
    issue = project.issues.create({"title": hostile, "description": hostile, "labels": [hostile]})
    sandbox.people.comment(1, "ana", hostile)
    for path in ("/", "/security/incidents/-/issues/1", "/security/incidents/-/issues/incident/1"):
        page = page_of(sandbox, path)
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
    assert page_of(sandbox, issue.web_url.removeprefix(sandbox.url)).count("&lt;script&gt;") == 5


def test_a_page_that_is_not_there_is_a_404(sandbox: SandboxGitLab) -> None:
    assert requests.get(f"{sandbox.url}/security/incidents/-/issues/9", timeout=30).status_code == 404
    assert requests.post(sandbox.url, timeout=30).status_code == 405


# -- the relay -------------------------------------------------------------------------------------------------------


def mail(subject: str = "lost laptop", text: str = "at the station\n", html: str = "") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "panic@example.com", "ana@example.com", subject
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    return message


def send(relay: SandboxRelay, message: EmailMessage | None = None, *to: str, sender: str = "panic@example.com") -> None:
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.send_message(message or mail(), sender, list(to) or ["ana@example.com"])


def test_a_mail_is_kept_as_it_was_sent(relay: SandboxRelay) -> None:
    send(relay, mail("Straße", ".\n..dots\nlast", "<p>hi</p>"), "Ana@example.com", "bo@example.com", sender="")
    got = relay.wait(lambda one: one.to("ana@EXAMPLE.com"))
    assert (got.mail_from, got.recipients) == ("", ("Ana@example.com", "bo@example.com"))
    assert (got.subject, got.text, got.html) == ("Straße", ".\n..dots\nlast\n", "<p>hi</p>\n")
    assert (got.header("to"), got.header("Reply-To"), got.faults) == ("ana@example.com", "", ())
    assert relay.all(lambda one: one.to("bo@example.com")) == relay.mails == [got]


def test_waiting_for_a_mail_that_does_not_come_tells_which_came(relay: SandboxRelay) -> None:
    send(relay)
    with pytest.raises(AssertionError, match="lost laptop"):
        relay.wait(lambda one: one.subject == "other", timeout=0.05)
    with pytest.raises(AssertionError, match="1 of 2"):
        relay.wait(lambda one: True, timeout=0.05, count=2)


def talk(relay: SandboxRelay, sent: bytes) -> list[bytes]:
    """Send it all at once, as pipelining allows, and read all replies until the end."""
    with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b"")).splitlines()


BEGIN = b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"


def test_pipelined_commands_are_answered_in_order_and_a_bare_line_feed_smuggles_nothing(relay: SandboxRelay) -> None:
    smuggled = b"one\n.\nMAIL FROM:<x@example.com>\r\n.\r\nQUIT\r\n"
    codes = [line[:4] for line in talk(relay, BEGIN + smuggled)]
    assert codes[-5:] == [b"250 ", b"250 ", b"354 ", b"250 ", b"221 "]
    (got,) = relay.mails
    assert got.raw == b"one\n.\nMAIL FROM:<x@example.com>\r\n"
    assert got.faults == ("bare LF",)


def test_faults_of_a_sender_are_noted(relay: SandboxRelay) -> None:
    talk(relay, BEGIN + b"a\rb\0\r\n" + b"x" * 999 + b"\r\n.\r\n")
    assert relay.mails[0].faults == ("bare CR", "NUL", "line over 998 octets")
    talk(relay, BEGIN + b"x" * 998 + b"\r\n.\r\n")
    assert relay.mails[1].faults == ()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"MAIL FROM:<a@example.com>\r\n", b"503"),
        (b"EHLO x\r\nRCPT TO:<a@example.com>\r\n", b"503"),
        (b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nDATA\r\n", b"503"),
        (b"EHLO x\r\nMAIL FROM: a@example.com\r\n", b"501"),
        (b"EHLO x\r\nMAIL FROM:<a@example.com> HOLDFOR=1\r\n", b"555"),
        (b"EHLO x\r\nMAIL FROM:<a@example.com> SIZE=99999999999\r\n", b"552"),
        ("EHLO x\r\nMAIL FROM:<ä@example.com>\r\n".encode(), b"553"),
        (b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<ana>\r\n", b"553"),
        (b"EHLO x\n", b"500"),
        (b"HELLO x\r\n", b"500"),
        (b"EHLO\r\n", b"501"),
        (b"EHLO x\r\nMAIL FROM:<a@example.com> SIZE=9 BODY=8BITMIME SMTPUTF8\r\n", b"250"),
    ],
)
def test_the_relay_is_strict(relay: SandboxRelay, sent: bytes, code: bytes) -> None:
    assert talk(relay, sent)[-1][:3] == code


def test_whoever_logs_in_is_believed_and_remembered(relay: SandboxRelay) -> None:
    for method in ("PLAIN", "LOGIN"):
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
            client.ehlo()
            client.esmtp_features["auth"] = method
            client.login("panic", "secret")
            client.send_message(mail(), "panic@example.com", ["ana@example.com"])
    assert [one.login for one in relay.mails] == ["panic", "panic"]


def test_starttls_is_offered_with_a_context_and_the_mail_says_so() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with SandboxRelay(tls=context) as relay:
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
            client.starttls(context=trusting)
            client.send_message(mail(), "panic@example.com", ["ana@example.com"])
            assert not client.has_extn("starttls")
        assert relay.mails[0].is_tls
        assert talk(relay, b"EHLO x\r\nSTARTTLS\r\nRSET\r\n")[-2][:3] == b"503"


def test_a_rule_rejects_a_recipient_as_often_as_ordered(relay: SandboxRelay) -> None:
    relay.rule("ana@", "reject", code=451, times=1)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(relay)
    assert refused.value.recipients["ana@example.com"][0] == 451
    send(relay)
    assert len(relay.mails) == 1


@pytest.mark.parametrize("stage", ["mail", "data", "end"])
def test_a_rule_rejects_at_its_stage(relay: SandboxRelay, stage: Any) -> None:
    relay.rule("panic@example.com", "reject", stage=stage)
    with pytest.raises(smtplib.SMTPResponseException, match="told to say no"):
        send(relay)
    assert relay.mails == []
    relay.clear_rules()
    send(relay)


def test_a_mail_that_hangs_has_arrived_and_a_dropped_one_has_not(relay: SandboxRelay) -> None:
    relay.rule("ana@", "hang", seconds=0.1)
    relay.rule("bo@", "drop")
    for to in ("ana@example.com", "bo@example.com"):
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(relay, None, to)
    assert [one.recipients for one in relay.mails] == [("ana@example.com",)]


def test_the_relay_refuses_while_down_and_keeps_its_port_and_mails(relay: SandboxRelay) -> None:
    send(relay)
    relay.down()
    with pytest.raises(ConnectionRefusedError):
        send(relay)
    relay.up()
    send(relay)
    assert len(relay.mails) == 2


def test_stopping_the_relay_is_prompt_though_a_client_hangs() -> None:
    relay = SandboxRelay().start()
    relay.rule("", "hang", stage="mail")
    with socket.create_connection(("127.0.0.1", relay.port)) as client:
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\n")
        while b"STARTTLS" not in (heard := client.recv(4096)) and b"250 " not in heard:
            pass
        began = time.monotonic()
        relay.stop()
        assert time.monotonic() - began < 10


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_where_it_is_and_what_comes_and_ends_well_at_sigterm(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "panicmail.sandbox"], stdout=file)
    try:
        told = _wait_for(
            out,
            r"gitlab   (\S+)\nproject  security/incidents\ntoken    (\S+)\nrelay    smtp://\S+:(\d+)\nmails    (\S+)\n",
        )
        assert "none yet" in requests.get(told[4], timeout=30).text
        requests.post(
            f"{told[1]}/api/v4/projects/42/issues",
            headers={"PRIVATE-TOKEN": told[2]},
            json={"title": "lost laptop"},
            timeout=5,
        )
        with smtplib.SMTP("127.0.0.1", int(told[3]), timeout=30) as client:
            client.send_message(mail("page", "who\x1b[2Jhas it\n"), "panic@example.com", ["ana@example.com"])
        _wait_for(out, r"issue    #1 lost laptop  http://")
        _wait_for(out, r"mail     to ana@example\.com: page\n    \| who\N{REPLACEMENT CHARACTER}\[2Jhas it\n")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _wait_for(file: Path, pattern: str) -> re.Match[str]:
    ends_at = time.monotonic() + 10
    while (found := re.search(pattern, file.read_text())) is None:
        assert time.monotonic() < ends_at, file.read_text()
        time.sleep(0.02)
    return found
