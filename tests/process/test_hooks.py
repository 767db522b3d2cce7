"""What GitLab and PagerDuty may say by webhook, how it is verified, and what it comes to.

Signatures are made here from what the two document, not with the code that checks them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from panicmail import config, crashpoints
from panicmail.daemon.watchdog import Health
from panicmail.errors import ConfigError, StoreFailed, Temporary
from panicmail.gitlab.issue_values import IssueAct, IssueActivity, IssueDestination
from panicmail.incident.model import Incident, State
from panicmail.response import webhooks
from panicmail.response.webhooks import (
    BY_PAGERDUTY,
    BY_SIGNATURE,
    BY_TOKEN,
    WebhookReceiver,
    WebhookResult,
    WebhookSecrets,
    secrets_of,
)
from panicmail.server.http import create_app
from panicmail.server.http.backend import LinkBackend
from panicmail.store.unit_of_work import Store
from tests.cast import MINUTE, SECOND
from tests.link_pages import Client, listening
from tests.office import PEOPLE, Office
from tests.program import SOON, World, world
from tests.push_channels import PAGER, phones
from tests.webhook_calls import SECRET, Document, Headers, event, signed_by_pagerduty, tell

KEY = bytes(range(32))
TOKEN = "kept between GitLab and us"
SECRETS = WebhookSecrets(gitlab_token=TOKEN.encode(), gitlab_key=KEY, pagerduty=SECRET.encode())
MINIMAL = Path(__file__).parents[2] / "deploy" / "panicmail.minimal.toml"


# -- as GitLab says it


def signed(body: bytes, at: datetime, *, name: str = "8f7e6d5c", key: bytes = KEY) -> Headers:
    """The headers of GitLab 19 with a signing token."""
    seconds = int(at.timestamp())
    mac = hmac.new(key, f"{name}.{seconds}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": "v1," + base64.b64encode(mac.digest()).decode(),
        "x-gitlab-event": "Confidential Note Hook",
    }


def said_in_gitlab(username: str = "ana", project: str = "security/incidents") -> Document:
    """What every hook has: by whom, in which project."""
    return {
        "user": {"id": 7, "name": "Somebody", "username": username, "email": "[REDACTED]"},
        "project_id": 1,
        "project": {"id": 1, "name": "incidents", "path_with_namespace": project, "visibility_level": 0},
    }


def note(iid: object = 1, username: str = "ana", **named: str) -> Document:
    """A comment on a confidential issue, which an incident's is sent as too."""
    return {
        "object_kind": "note",
        "event_type": "confidential_note",
        **said_in_gitlab(username, **named),
        "object_attributes": {"id": 1241, "note": "on it", "noteable_type": "Issue", "action": "create"},
        "issue": {"id": 92, "iid": iid, "state": "opened", "confidential": True, "title": "[panic] x"},
    }


def issue(iid: int = 1, username: str = "ana", action: str = "close", **more: Any) -> Document:
    """A confidential issue closed, reopened or changed."""
    return {
        "object_kind": "issue",
        "event_type": "confidential_issue",
        **said_in_gitlab(username),
        "object_attributes": {"id": 301, "iid": iid, "action": action, "type": "Issue", "confidential": True, **more},
        "changes": {"assignees": {"previous": [], "current": [{"username": "ana"}]}},
    }


def work_item(iid: int = 1, username: str = "ana", action: str = "close") -> Document:
    """The same of an incident, as GitLab 18 and 19 send it."""
    said = issue(iid, username, action, escalation_status="acknowledged", severity="high")
    said["object_attributes"]["type"] = "Incident"
    return {**said, "object_kind": "work_item", "event_type": "work_item"}


# -- as PagerDuty says it


# -- an office with hooks


@dataclass
class HookedOffice:
    """An office with hooks."""

    desk: Office
    hooks: WebhookReceiver

    def later(self) -> Incident:
        """A panic, half a minute after its first page."""
        incident = self.desk.panic()
        self.desk.wait(seconds=30)
        return incident

    def gitlab(self, document: Document, **headers: Any) -> WebhookResult:
        body = json.dumps(document).encode()
        return self.hooks.gitlab(signed(body, self.desk.now, **headers), body)

    def work(self) -> None:
        """What the thread does."""
        while self.hooks.work():
            pass
        self.desk.settle()

    def did(self, username: str, what: str = "commented") -> None:
        """Somebody did something on issue 1, and GitLab knows."""
        self.desk.gitlab.happened[1] = IssueActivity(None, None, (IssueAct(username, self.desk.now, what),))

    def closed(self, username: str) -> None:
        self.desk.gitlab.happened[1] = IssueActivity(self.desk.now, username, ())

    def pagerduty(self, type_: str, incident: Incident, **named: Any) -> WebhookResult:
        named = {"at": self.desk.now, **named}
        body = json.dumps(event(type_, f"panicmail-{incident.id}", **named)).encode()
        answer = self.hooks.pagerduty(signed_by_pagerduty(body), body)
        self.desk.settle()
        return answer

    def now(self, incident: Incident) -> tuple[State, str | None]:
        found = self.desk.incident(incident)
        return found.state, found.holder


def with_hooks(
    desk: Office, secrets: WebhookSecrets = SECRETS, store: Any = None, project: str = "security/incidents"
) -> HookedOffice:
    store = store or desk.store
    settings, wall = (lambda: desk.settings), (lambda: desk.now)
    return HookedOffice(desk, WebhookReceiver(store, settings, desk.signs, lambda: secrets, project, wall=wall))


@pytest.fixture
def hooked(desk: Office) -> HookedOffice:
    return with_hooks(desk)


# -- GitLab: what it comes to


@pytest.mark.parametrize(
    "said", [note(), issue(action="update"), work_item(action="update")], ids=["note", "issue", "work_item"]
)
def test_work_a_hook_speaks_of_acknowledges_when_gitlab_says_so(hooked: HookedOffice, said: Document) -> None:
    incident = hooked.later()
    hooked.did("ana")
    assert hooked.gitlab(said) is WebhookResult.TAKEN
    hooked.work()
    now = hooked.desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana")
    assert now.acked_how == f"commented on the issue in GitLab as ana, {BY_SIGNATURE}"
    assert "Clock stopped" in hooked.desk.sent("ana")[-1].subject


def test_what_a_hook_says_is_no_evidence_only_what_gitlab_answers_is(hooked: HookedOffice) -> None:
    incident = hooked.later()
    for said in (note(), issue(action="close"), work_item(action="update")):
        assert hooked.gitlab(said, name=str(id(said))) is WebhookResult.TAKEN
        hooked.work()
    assert hooked.now(incident) == (State.OPEN, None)
    assert hooked.desk.gitlab.asked == 3


def test_a_comment_of_somebody_not_paged_does_not_acknowledge(hooked: HookedOffice) -> None:
    incident = hooked.later()
    hooked.did("max")
    assert hooked.gitlab(note(username="max")) is WebhookResult.TAKEN
    hooked.work()
    assert hooked.now(incident) == (State.OPEN, None)


@pytest.mark.parametrize("said", [issue(), work_item()], ids=["issue", "work_item"])
def test_closing_the_issue_acknowledges_and_closing_it_again_resolves(hooked: HookedOffice, said: Document) -> None:
    incident = hooked.later()
    hooked.closed("ana")
    hooked.gitlab(said, name="one")
    hooked.work()
    assert hooked.now(incident) == (State.ACKED, "ana")
    hooked.desk.wait(seconds=20)
    hooked.closed("ana")
    hooked.gitlab(said, name="two")
    hooked.work()
    assert hooked.now(incident)[0] is State.RESOLVED


def test_an_issue_closed_by_a_stranger_is_told_at_once_to_those_paged(hooked: HookedOffice) -> None:
    incident = hooked.later()
    hooked.closed("mallory")
    assert hooked.gitlab(work_item(username="mallory")) is WebhookResult.TAKEN
    hooked.work()
    assert hooked.now(incident) == (State.OPEN, None)
    assert "the issue was closed" in hooked.desk.sent("ana")[-1].subject


def test_our_own_notes_and_strangers_comments_cost_no_question(hooked: HookedOffice) -> None:
    hooked.later()
    for username in ("panicmail-bot", "mallory", ""):
        assert hooked.gitlab(note(username=username), name=username or "none") is WebhookResult.IGNORED
        assert hooked.gitlab(issue(username=username, action="update"), name=f"{username}-2") is WebhookResult.IGNORED
    hooked.work()
    assert hooked.desk.gitlab.asked == 0


@pytest.mark.parametrize(
    "said",
    [
        note(iid=2),
        note(project="security/other"),
        {**note(), "object_kind": "emoji"},
        {**issue(), "object_kind": "merge_request"},
        {"object_kind": "push", **said_in_gitlab()},
    ],
    ids=["another issue", "another project", "an emoji", "a merge request", "a push"],
)
def test_what_is_not_about_an_issue_of_ours_is_ignored(hooked: HookedOffice, said: Document) -> None:
    hooked.later()
    assert hooked.gitlab(said) is WebhookResult.IGNORED
    assert not hooked.hooks.work()


def test_an_issue_that_was_moved_is_looked_at_when_its_new_project_says_so(hooked: HookedOffice) -> None:
    incident = hooked.later()
    there = IssueDestination(
        how="moved", place="security/other#7", project="43", iid=7, url="https://g.example.com/o/-/issues/7"
    )
    hooked.desk.gitlab.happened[1] = IssueActivity(hooked.desk.now, "mallory", (), there)
    assert hooked.gitlab(work_item(username="mallory")) is WebhookResult.TAKEN
    hooked.work()
    assert hooked.desk.incident(incident).issue_project == "43"
    moved = {"project": {"id": 43, "path_with_namespace": "security/other"}}
    assert hooked.gitlab({**note(iid=7), **moved}, name="there") is WebhookResult.TAKEN
    assert hooked.gitlab(note(iid=7), name="another issue of the old project") is WebhookResult.IGNORED


def test_a_project_by_number_is_known_by_its_number(desk: Office) -> None:
    hooked = with_hooks(desk, project="1")
    hooked.later()
    assert hooked.gitlab(note()) is WebhookResult.TAKEN
    assert with_hooks(desk, project="2").gitlab(note()) is WebhookResult.IGNORED


NUMBERS: list[object] = [True, "1", 1.5, -1, None, [], 10**30]
GARBAGE = [
    b"",
    b"\x00\xff",
    b"null",
    b"[]",
    b'"note"',
    b"[" * 100_000,
    b'{"object_kind": ' + b"9" * 10_000 + b"}",
    b'{"object_kind": ["note"]}',
    b'{"object_kind": "note", "user": 1, "project": [], "issue": "x", "object_attributes": null}',
    *(json.dumps(note(iid=iid)).encode() for iid in NUMBERS),
    json.dumps({**note(), "user": {"username": {"a": 1}}}).encode(),
    json.dumps({"event": {"id": "\ud800", "event_type": [], "agent": 0, "data": {"incident_key": 3}}}).encode(),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_verified_garbage_is_ignored(hooked: HookedOffice, body: bytes) -> None:
    hooked.later()
    assert hooked.hooks.gitlab(signed(body, hooked.desk.now), body) is WebhookResult.IGNORED
    assert hooked.hooks.pagerduty(signed_by_pagerduty(body), body) is WebhookResult.IGNORED
    assert not hooked.hooks.work()


def test_many_hooks_of_one_issue_are_one_look(hooked: HookedOffice) -> None:
    hooked.later()
    for n in range(50):
        assert hooked.gitlab(note(), name=str(n)) is WebhookResult.TAKEN
    hooked.work()
    assert hooked.desk.gitlab.asked == 1


def test_what_gitlab_does_not_answer_now_the_poll_sees_later(hooked: HookedOffice) -> None:
    incident = hooked.later()
    hooked.did("ana")
    hooked.desk.gitlab.activity_failures = [Temporary("down")]
    hooked.gitlab(note())
    hooked.work()
    assert hooked.now(incident) == (State.OPEN, None)
    hooked.desk.signs.poll()
    assert hooked.now(incident) == (State.ACKED, "ana")


@dataclass
class Away:
    """A database that does not answer."""

    def read(self, work: object) -> None:
        raise StoreFailed("away")

    def write(self, name: str, work: object) -> None:
        raise StoreFailed("away")


def test_a_hook_of_gitlabs_that_comes_while_the_database_is_away_is_taken(desk: Office) -> None:
    """GitLab switches off a hook that fails often."""
    hooked = with_hooks(desk, store=Away())
    incident = hooked.later()
    hooked.did("ana")
    assert hooked.gitlab(note()) is WebhookResult.TAKEN
    hooked.work()
    assert hooked.now(incident) == (State.ACKED, "ana")


# -- GitLab: how it is verified


def test_the_token_alone_is_taken_and_called_what_it_is(hooked: HookedOffice) -> None:
    incident = hooked.later()
    hooked.did("ana")
    assert hooked.hooks.gitlab({"x-gitlab-token": TOKEN}, json.dumps(note()).encode()) is WebhookResult.TAKEN
    hooked.work()
    assert hooked.desk.incident(incident).acked_how.endswith(BY_TOKEN)


BODY = json.dumps(note()).encode()
NOW = datetime(2026, 11, 22, 2, 7, tzinfo=UTC)
#: The signature itself.
RIGHT = signed(BODY, NOW)["webhook-signature"].removeprefix("v1,")


def without(name: str) -> Headers:
    return {key: value for key, value in signed(BODY, NOW).items() if key != name}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (without("webhook-id"), "lacks an id"),
        (without("webhook-timestamp"), "lacks an id or a time"),
        ({**signed(BODY, NOW), "webhook-timestamp": "soon"}, "or a time"),
        ({**signed(BODY, NOW), "webhook-timestamp": "١٢٣"}, "or a time"),
        ({**signed(BODY, NOW), "webhook-id": "another"}, "wrong signature"),
        ({**signed(BODY, NOW), "webhook-timestamp": str(int(NOW.timestamp()) + 1)}, "wrong signature"),
        (signed(BODY, NOW, key=b"x" * 32), "wrong signature"),
        (signed(BODY + b" ", NOW), "wrong signature"),
        (signed(BODY, NOW - 5 * MINUTE - SECOND), "too old"),
        (signed(BODY, NOW + 5 * MINUTE + SECOND), "too old, or a clock"),
        ({**signed(BODY, NOW), "webhook-signature": ""}, "no signature"),
        ({**signed(BODY, NOW), "webhook-signature": RIGHT}, "no signature"),
        ({**signed(BODY, NOW), "webhook-signature": f"v1a,{RIGHT}"}, "no signature"),
        ({**signed(BODY, NOW), "webhook-signature": "v1,é"}, "wrong signature"),
    ],
)
def test_a_signature_that_is_not_right_in_everything_is_refused(headers: Headers, why: str) -> None:
    assert why in webhooks.standard_doubt(KEY, headers, BODY, NOW)


@pytest.mark.parametrize("apart", [-5 * MINUTE, timedelta(0), 5 * MINUTE])
def test_a_signature_is_good_for_five_minutes_either_way(apart: timedelta) -> None:
    assert webhooks.standard_doubt(KEY, signed(BODY, NOW + apart), BODY, NOW) == ""


def test_one_right_signature_of_several_is_enough() -> None:
    right = signed(BODY, NOW)
    several = {**right, "webhook-signature": f"v2,x v1,AAAA {right['webhook-signature']} v1,BBBB"}
    assert webhooks.standard_doubt(KEY, several, BODY, NOW) == ""


def test_the_example_of_the_standard_verifies() -> None:
    """Key, id, time, body and signature as the libraries of Standard Webhooks are tested with."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    now = datetime.fromtimestamp(1614265330, UTC)
    assert webhooks.standard_doubt(key, headers, b'{"test": 2432232314}', now) == ""


def test_a_wrong_signature_is_not_saved_by_the_right_token(hooked: HookedOffice) -> None:
    headers = {**signed(BODY, hooked.desk.now, key=b"x" * 32), "x-gitlab-token": TOKEN}
    assert hooked.hooks.gitlab(headers, BODY) is WebhookResult.REFUSED
    old = {**signed(BODY, hooked.desk.now - timedelta(hours=1)), "x-gitlab-token": TOKEN}
    assert hooked.hooks.gitlab(old, BODY) is WebhookResult.REFUSED


@pytest.mark.parametrize(
    ("secrets", "headers"),
    [
        (SECRETS, {}),
        (SECRETS, {"x-gitlab-token": ""}),
        (SECRETS, {"x-gitlab-token": TOKEN.upper()}),
        (SECRETS, {"x-gitlab-token": TOKEN[:-1]}),
        (replace(SECRETS, gitlab_token=b""), {"x-gitlab-token": TOKEN}),
        (replace(SECRETS, gitlab_token=b""), {"x-gitlab-token": ""}),
        (WebhookSecrets(), {}),
        (WebhookSecrets(), {"x-gitlab-token": ""}),
        (WebhookSecrets(), signed(BODY, NOW, key=b"")),
    ],
)
def test_without_the_right_secret_nothing_is_taken(desk: Office, secrets: WebhookSecrets, headers: Headers) -> None:
    hooked = with_hooks(desk, secrets)
    incident = hooked.later()
    hooked.did("ana")
    assert hooked.hooks.gitlab(headers, BODY) is WebhookResult.REFUSED
    hooked.work()
    assert hooked.now(incident) == (State.OPEN, None)


def test_the_same_hook_again_is_nothing_and_one_with_another_id_is_looked_at(hooked: HookedOffice) -> None:
    hooked.later()
    assert hooked.gitlab(note(), name="once") is WebhookResult.TAKEN
    hooked.work()
    assert hooked.gitlab(note(), name="once") is WebhookResult.IGNORED
    assert not hooked.hooks.work()
    assert hooked.gitlab(note(), name="twice") is WebhookResult.TAKEN


def test_strangers_are_told_of_once_a_minute_and_by_nothing_they_sent(hooked: HookedOffice) -> None:
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            hooked.hooks.gitlab({"x-gitlab-token": "guess", "webhook-id": "evil"}, b"evil")
            hooked.hooks.pagerduty({"x-pagerduty-signature": "v1=evil"}, b"evil")
    assert [(line["event"], line["sender"], line["reason"]) for line in lines] == [
        ("hook.refused", "gitlab", "wrong token"),
        ("hook.refused", "pagerduty", "wrong signature"),
    ]


# -- PagerDuty: what it comes to


def test_an_acknowledgement_in_pagerduty_by_somebody_paged_acknowledges(hooked: HookedOffice) -> None:
    incident = hooked.later()
    assert hooked.pagerduty("incident.acknowledged", incident) is WebhookResult.TAKEN
    now = hooked.desk.incident(incident)
    assert (now.state, now.holder) == (State.ACKED, "ana")
    assert now.acked_how == f"{BY_PAGERDUTY}, known by name there"
    assert BY_PAGERDUTY in hooked.desk.sent("ana")[-1].text


def test_an_address_says_better_than_a_name_who_it_was(hooked: HookedOffice) -> None:
    incident = hooked.later()
    agent = {"type": "user_reference", "email": "ANA@home.example", "summary": "Max Ode"}
    hooked.pagerduty("incident.acknowledged", incident, agent=agent)
    now = hooked.desk.incident(incident)
    assert (now.holder, now.acked_how) == ("ana", BY_PAGERDUTY)


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"name": "Max Ode"}, "Max was not paged for it"),
        ({"name": "Mallory"}, "none of the people here"),
        ({"name": "Ana"}, "none of the people here"),
        ({"name": ""}, "none of the people here"),
        ({"agent": {"type": "user_reference", "email": "eve@example.com", "summary": "Ana Reyes"}}, "none of"),
        ({"at": NOW - 10 * MINUTE}, "before this was last opened"),
    ],
)
def test_anybody_elses_acknowledgement_is_a_note(hooked: HookedOffice, named: Document, why: str) -> None:
    incident = hooked.later()
    assert hooked.pagerduty("incident.acknowledged", incident, **named) is WebhookResult.TAKEN
    assert hooked.now(incident) == (State.OPEN, None)
    (noted,) = [text for _, text, _ in hooked.desk.gitlab.notes if "incident.acknowledged" in text]
    assert "nothing was done" in noted
    assert why in noted


def test_a_name_two_of_ours_share_names_nobody(desk: Office) -> None:
    desk.settings = replace(desk.settings, people={**PEOPLE, "bo": replace(PEOPLE["bo"], name="ana  REYES")})
    hooked = with_hooks(desk)
    incident = hooked.later()
    hooked.pagerduty("incident.acknowledged", incident)
    assert hooked.now(incident) == (State.OPEN, None)


def test_resolved_in_pagerduty_acknowledges_an_open_one_and_closes_an_acknowledged_one(
    hooked: HookedOffice,
) -> None:
    incident = hooked.later()
    hooked.pagerduty("incident.resolved", incident, id_="one")
    assert hooked.now(incident) == (State.ACKED, "ana")
    hooked.pagerduty("incident.resolved", incident, id_="two")
    assert hooked.now(incident)[0] is State.RESOLVED


def test_merged_into_another_one_it_is_not_resolved(hooked: HookedOffice) -> None:
    incident = hooked.later()
    hooked.pagerduty("incident.resolved", incident, resolve_reason={"type": "merge_resolve_reason"})
    assert hooked.now(incident) == (State.OPEN, None)


def test_escalated_in_pagerduty_by_somebody_paged_calls_the_next_one(hooked: HookedOffice) -> None:
    incident = hooked.later()
    hooked.pagerduty("incident.escalated", incident)
    assert hooked.desk.pages("max")
    assert hooked.now(incident) == (State.OPEN, None)


@pytest.mark.parametrize("type_", ["incident.reassigned", "incident.annotated", "incident.priority_updated"])
def test_whatever_else_a_person_does_there_is_a_note(hooked: HookedOffice, type_: str) -> None:
    incident = hooked.later()
    assert hooked.pagerduty(type_, incident) is WebhookResult.TAKEN
    assert hooked.now(incident) == (State.OPEN, None)
    assert any(type_ in text for _, text, _ in hooked.desk.gitlab.notes)


@pytest.mark.parametrize(
    ("type_", "agent"),
    [
        ("incident.acknowledged", {"type": "inbound_integration_reference", "summary": "Ana Reyes"}),
        ("incident.resolved", {"type": "generic_events_api_inbound_integration_reference", "summary": "Ana Reyes"}),
        ("incident.escalated", {"type": "escalation_policy_reference", "summary": "Ana Reyes"}),
        ("incident.acknowledged", {}),
        ("incident.triggered", None),
    ],
)
def test_what_no_person_did_is_nothing(hooked: HookedOffice, type_: str, agent: object) -> None:
    incident = hooked.later()
    before = hooked.desk.lines(incident)
    assert hooked.pagerduty(type_, incident, agent=agent) is WebhookResult.IGNORED
    assert hooked.desk.lines(incident) == before


def test_an_event_about_nothing_of_ours_is_ignored(hooked: HookedOffice) -> None:
    incident = hooked.later()
    for key in ("", "somebody-elses", f"panicmail-{incident.id}x", "panicmail-aaaaaaaaaaaaaaaa", incident.id):
        body = json.dumps(event("incident.acknowledged", key, hooked.desk.now)).encode()
        assert hooked.hooks.pagerduty(signed_by_pagerduty(body), body) is WebhookResult.IGNORED
    ping = b'{"event": {"id": "01", "event_type": "pagey.ping", "agent": {"type": "user_reference"}, "data": {}}}'
    assert hooked.hooks.pagerduty(signed_by_pagerduty(ping), ping) is WebhookResult.IGNORED
    assert hooked.now(incident) == (State.OPEN, None)


def test_an_event_caught_and_sent_again_does_nothing_however_late(hooked: HookedOffice) -> None:
    incident = hooked.later()
    caught = hooked.desk.now
    assert hooked.pagerduty("incident.acknowledged", incident, at=caught) is WebhookResult.TAKEN
    hooked.desk.reply(hooked.desk.page("ana"), "escalate")
    assert hooked.now(incident)[0] is State.OPEN
    assert hooked.pagerduty("incident.acknowledged", incident, at=caught) is WebhookResult.IGNORED
    assert hooked.now(incident)[0] is State.OPEN


def test_an_event_that_comes_late_does_not_count_for_what_was_opened_again_since(hooked: HookedOffice) -> None:
    incident = hooked.later()
    done_at = hooked.desk.now
    hooked.desk.reply(hooked.desk.page("ana"), "ack")
    hooked.desk.wait(minutes=3)
    hooked.desk.reply(hooked.desk.page("ana"), "escalate")
    assert hooked.pagerduty("incident.acknowledged", incident, at=done_at) is WebhookResult.TAKEN
    assert hooked.now(incident)[0] is State.OPEN


def test_pagerdutys_clock_may_be_a_minute_behind_ours(hooked: HookedOffice) -> None:
    incident = hooked.later()
    assert (
        hooked.pagerduty("incident.acknowledged", incident, at=incident.accepted_at - 59 * SECOND)
        is WebhookResult.TAKEN
    )
    assert hooked.now(incident) == (State.ACKED, "ana")


# -- PagerDuty: how it is verified


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1=",
        "v1=zz",
        signed_by_pagerduty(BODY)["x-pagerduty-signature"][3:],
        "v2=" + signed_by_pagerduty(BODY)["x-pagerduty-signature"][3:],
        signed_by_pagerduty(BODY + b" ")["x-pagerduty-signature"],
        signed_by_pagerduty(BODY, "another secret")["x-pagerduty-signature"],
        signed_by_pagerduty(BODY)["x-pagerduty-signature"][:-1],
    ],
)
def test_a_body_pagerduty_did_not_sign_is_refused(header: str) -> None:
    assert webhooks.pagerduty_doubt(SECRET.encode(), header, BODY) != ""


@pytest.mark.parametrize("pattern", ["{}", "v1=00,{}", "{}, v1=00", "v2=ff,{},v3=x"])
def test_one_of_pagerdutys_signatures_is_enough_while_its_secret_changes(pattern: str) -> None:
    header = pattern.format(signed_by_pagerduty(BODY)["x-pagerduty-signature"])
    assert webhooks.pagerduty_doubt(SECRET.encode(), header, BODY) == ""


def test_what_anybody_could_sign_is_refused(desk: Office) -> None:
    body = json.dumps(event("incident.acknowledged", "panicmail-x", NOW)).encode()
    assert (
        with_hooks(desk, WebhookSecrets()).hooks.pagerduty(signed_by_pagerduty(body, ""), body) is WebhookResult.REFUSED
    )


# -- over HTTP


@contextlib.contextmanager
def serving(desk: Office, secrets: WebhookSecrets = SECRETS, store: Store | Away | None = None) -> Iterator[Client]:
    health = Health(desk.store, lambda: True, lambda: True)
    app = create_app(LinkBackend(desk.links, health), with_hooks(desk, secrets, store).hooks)
    with listening(app) as port:
        yield Client(port)


@pytest.fixture
def site(desk: Office) -> Iterator[Client]:
    with serving(desk) as client:
        yield client


def test_a_hook_is_answered_with_a_status_and_nothing_else(desk: Office, site: Client) -> None:
    desk.panic()
    headers = signed(BODY, desk.now)
    assert [site.ask("POST", "/hooks/gitlab", BODY, headers)[::2] for _ in range(2)] == [(202, ""), (204, "")]
    body = b'{"event": {}}'
    assert site.ask("POST", "/hooks/pagerduty", body, signed_by_pagerduty(body))[::2] == (204, "")


def test_a_refusal_is_the_same_for_everybody(site: Client) -> None:
    answers = [
        site.ask("POST", "/hooks/gitlab", BODY),
        site.ask("POST", "/hooks/gitlab", b"\xff", {"X-Gitlab-Token": "guess"}),
        site.ask("POST", "/hooks/gitlab", BODY, signed(BODY, NOW - timedelta(days=1))),
        site.ask("POST", "/hooks/pagerduty", b""),
        site.ask("POST", "/hooks/pagerduty", BODY, {"X-PagerDuty-Signature": "v1=00"}),
    ]
    assert {(status, text) for status, _, text in answers} == {(401, "Not verified.\n")}


@pytest.mark.parametrize(
    ("secrets", "there"),
    [
        (WebhookSecrets(), set()),
        (WebhookSecrets(gitlab_token=b"x"), {"gitlab"}),
        (WebhookSecrets(gitlab_key=KEY), {"gitlab"}),
        (WebhookSecrets(pagerduty=b"x"), {"pagerduty"}),
    ],
)
def test_a_hook_without_a_secret_is_not_there(desk: Office, secrets: WebhookSecrets, there: set[str]) -> None:
    with serving(desk, secrets) as site:
        statuses = {name: site.ask("POST", f"/hooks/{name}", b"x")[0] for name in ("gitlab", "pagerduty", "github", "")}
    assert statuses == {name: 401 if name in there else 404 for name in statuses}


def test_a_hook_is_told_and_never_fetched(site: Client) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
        assert site.ask(method, "/hooks/gitlab")[0] == 405


@pytest.mark.parametrize("chunked", [True, False])
def test_a_hook_over_a_mebibyte_is_not_read_to_its_end(desk: Office, site: Client, chunked: bool) -> None:
    desk.panic()
    most = json.dumps({**note(), "padding": ""}).encode()
    most = most[:-2] + b"x" * (2**20 - len(most)) + most[-2:]
    for body, status in ((most, 202), (most[:-2] + b"x" + most[-2:], 413)):
        sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        headers = signed(body, desk.now, name=str(len(body)))
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        assert site.ask("POST", "/hooks/gitlab", sent, headers)[0] == status


def test_what_the_database_does_not_take_pagerduty_is_asked_to_send_again(desk: Office) -> None:
    incident = desk.panic()
    body = json.dumps(event("incident.acknowledged", f"panicmail-{incident.id}", desk.now)).encode()
    with serving(desk, store=Away()) as site, structlog.testing.capture_logs() as lines:
        assert site.ask("POST", "/hooks/pagerduty", body, signed_by_pagerduty(body))[0] == 503
    assert [(line["event"], line["sender"]) for line in lines] == [("hook.failed", "pagerduty")]


# -- the configuration


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., config.Config]:
    (tmp_path / "panicmail.toml").write_text(MINIMAL.read_text().replace("/var/lib/panicmail", str(tmp_path)))
    for name in ("gitlab.token", "hook.token"):
        (tmp_path / name).write_text("kept\n")
        (tmp_path / name).chmod(0o600)
    return lambda **environ: config.load(tmp_path / "panicmail.toml", environ, host_name=lambda: "panic.example.com")


def test_secrets_are_read_as_they_are_shown_and_never_told(load: Callable[..., config.Config]) -> None:
    assert secrets_of(load()) == WebhookSecrets()
    given = load(
        PANICMAIL_GITLAB__WEBHOOK_TOKEN_FILE="hook.token",
        PANICMAIL_GITLAB__WEBHOOK_SIGNING_KEY="whsec_" + base64.b64encode(KEY).decode(),
        PANICMAIL_PAGING__PAGERDUTY_WEBHOOK_SECRET="aGk=",
    )
    assert secrets_of(given) == WebhookSecrets(gitlab_token=b"kept", gitlab_key=KEY, pagerduty=b"aGk=")
    assert "whsec_" not in repr(given)
    assert "kept" not in repr(secrets_of(given))


@pytest.mark.parametrize("wrong", ["whsec_", "whsec_%%%", "whsec_ä", "whsec_AAAA", base64.b64encode(KEY).decode()])
def test_a_signing_token_that_is_none_is_refused_and_not_repeated(
    load: Callable[..., config.Config], wrong: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(PANICMAIL_GITLAB__WEBHOOK_SIGNING_KEY=wrong)
    (sentence,) = refused.value.mistakes
    assert "PANICMAIL_GITLAB__WEBHOOK_SIGNING_KEY" in sentence
    assert '"whsec_" and base64 behind it' in sentence
    assert "AAAA" not in sentence


# -- the program, against the sandbox GitLab


@pytest.fixture
def town(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as town:
        town.config["gitlab"]["webhook_signing_key"] = "whsec_" + base64.b64encode(KEY).decode()
        town.config["gitlab"]["webhook_token"] = TOKEN
        town.config["paging"] = {"pagerduty_webhook_secret": SECRET}
        town.texts += [TOKEN, SECRET, base64.b64encode(KEY).decode()]
        yield town


def test_a_comment_acknowledges_by_its_hook_and_waits_for_no_poll(town: World) -> None:
    town.start()
    ref = town.panic()
    iid = town.issue(ref)["iid"]
    town.settled()
    town.gitlab.people.comment(iid, "ana", "I am looking at it")
    body = json.dumps(note(iid)).encode()
    told_at = time.monotonic()
    assert tell(town, "gitlab", body, signed(body, datetime.now(UTC))) == 202
    town.until(lambda: town.rows("SELECT state FROM incidents") == [("acked",)], SOON, "the hook was not heard")
    assert time.monotonic() - told_at < 10, "and no poll was waited for"
    assert town.rows("SELECT holder, acked_how FROM incidents") == [
        ("ana", f"commented on the issue in GitLab as ana, {BY_SIGNATURE}")
    ]
    assert tell(town, "gitlab", body, {"X-Gitlab-Token": TOKEN}) == 202
    assert tell(town, "gitlab", body, {"X-Gitlab-Token": "guess"}) == 401
    assert town.stop() == 0


def test_a_hook_waits_for_nobody_while_gitlab_hangs(town: World) -> None:
    town.start()
    ref = town.panic()
    iid = town.issue(ref)["iid"]
    town.settled()
    town.gitlab.fault("hang", times=None, seconds=SOON)
    body = json.dumps(note(iid)).encode()
    for n in range(5):
        told_at = time.monotonic()
        assert tell(town, "gitlab", body, signed(body, datetime.now(UTC), name=str(n))) == 202
        assert time.monotonic() - told_at < SOON / 2
    town.gitlab.clear_faults()
    assert town.stop() == 0


@pytest.mark.parametrize(("point", "found"), [("hook.act.commit", "open"), ("hook.act.committed", "acked")])
def test_an_acknowledgement_in_pagerduty_cut_short_is_sent_again_and_counts_once(
    town: World, point: str, found: str
) -> None:
    assert point in crashpoints.POINTS
    town.environ["PANICMAIL_CRASH_AT"] = point
    town.start()
    del town.environ["PANICMAIL_CRASH_AT"]
    town.panic()
    town.settled()
    ((incident_id,),) = town.rows("SELECT id FROM incidents")
    body = json.dumps(event("incident.acknowledged", f"panicmail-{incident_id}", datetime.now(UTC))).encode()
    with pytest.raises((http.client.HTTPException, OSError)):
        tell(town, "pagerduty", body, signed_by_pagerduty(body))
    assert town.program.ended() == crashpoints.KILLED
    assert town.rows("SELECT state FROM incidents") == [(found,)]
    town.start()
    assert tell(town, "pagerduty", body, signed_by_pagerduty(body)) == (202 if found == "open" else 204)
    assert town.rows("SELECT state, holder FROM incidents") == [("acked", "ana")]
    assert len(town.rows("SELECT id FROM timeline WHERE event = 'incident.acked'")) == 1


def test_a_reload_brings_a_hook_its_secret(town: World) -> None:
    del town.config["paging"]
    town.start()
    assert tell(town, "pagerduty", b"{}", signed_by_pagerduty(b"{}")) == 404
    town.config["paging"] = {"pagerduty_webhook_secret": SECRET}
    town.reload()
    assert tell(town, "pagerduty", b"{}", signed_by_pagerduty(b"{}")) == 204


# -- PagerDuty: an alert somebody silenced there


def rung(hooked: HookedOffice, incident: Incident, minutes: float) -> list[str]:
    """What PagerDuty is told of the incident in the next minutes."""
    before = len(hooked.desk.phones.events)
    hooked.desk.wait(minutes=minutes)
    return [action for _, action, key, _ in hooked.desk.phones.events[before:] if key == f"panicmail-{incident.id}"]


@pytest.fixture
def ringing(tmp_path: Path) -> Iterator[HookedOffice]:
    """Max is paged by PagerDuty, Ana by mail alone; nobody answers."""
    office = Office(tmp_path, people=phones(max=(PAGER,)))
    yield with_hooks(office)
    office.close()


@pytest.mark.parametrize("what", ["incident.acknowledged", "incident.resolved"])
@pytest.mark.parametrize("who", ["Bo Low", "Mallory"])
def test_an_alert_silenced_by_somebody_not_paged_rings_anew_with_the_next_page(
    ringing: HookedOffice, who: str, what: str
) -> None:
    incident = ringing.desk.panic()
    assert rung(ringing, incident, 15) == ["trigger"]
    ringing.desk.wait(minutes=1)
    assert ringing.pagerduty(what, incident, name=who) is WebhookResult.TAKEN
    assert ringing.now(incident) == (State.OPEN, None)
    assert rung(ringing, incident, 5) == ["resolve", "trigger"]
    assert rung(ringing, incident, 5) == ["trigger"], "that one is alive"


@pytest.mark.parametrize("what", ["incident.annotated", "incident.reassigned", "incident.delegated"])
def test_what_silences_no_alert_makes_no_new_one(ringing: HookedOffice, what: str) -> None:
    incident = ringing.desk.panic()
    ringing.desk.wait(minutes=16)
    ringing.pagerduty(what, incident, name="Bo Low")
    assert rung(ringing, incident, 5) == ["trigger"]


def test_an_alert_that_was_unacknowledged_there_makes_no_new_one(ringing: HookedOffice) -> None:
    incident = ringing.desk.panic()
    ringing.desk.wait(minutes=16)
    ringing.pagerduty("incident.acknowledged", incident, name="Bo Low", id_="ONE")
    ringing.pagerduty("incident.unacknowledged", incident, name="Bo Low", id_="TWO")
    assert rung(ringing, incident, 5) == ["trigger"]
