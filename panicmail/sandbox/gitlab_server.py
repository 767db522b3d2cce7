"""A stand-in GitLab over HTTP, on this machine only: enough of REST v4 for panicmail, and faults to order.

    with SandboxGitLab() as gitlab:
        ...                                             # drive panicmail at gitlab.url with gitlab.token
        gitlab.wait(lambda: gitlab.issues)              # until one is there
        gitlab.people.comment(1, "ana", "on it")        # act as a person
        gitlab.fault("reset_after", match="POST .*/issues$")

Everything is kept in memory and gone at the end. `/` shows the issues to a browser. What it knows and which traces
an act leaves is in `issue_requests`, what people do in `gitlab_people`, the routes are in `api`, the faults in
`faults`.

It reads texts as GitLab does: quick actions run, with the rights of whoever wrote them. What the token's owner wrote
that acted is in `acted`, what would be more than words (a mention, a reference, an image, a tag) in `live`: both stay
empty as long as panicmail keeps its promise. How that is read is in `quick_actions` and `live`.

Limits: one project, one token, REST only (no GraphQL, no webhooks, no rate limits).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, unquote

from panicmail.clock import Clock
from panicmail.sandbox import entities
from panicmail.sandbox.api import PREFIX, answer_api, answer_upload
from panicmail.sandbox.faults import Fault, Faults, Kind
from panicmail.sandbox.gitlab_records import MAINTAINER, MAX_UPLOAD, Issue, Note, User
from panicmail.sandbox.http_request import Refused, SandboxAnswer, SandboxRequest, read_call
from panicmail.sandbox.issue_edits import Instance
from panicmail.sandbox.mailbox import sheet
from panicmail.sandbox.quick_actions import EXTRACTORS, Acted, Extractor, Live
from panicmail.sandbox.tcp_listener import HOST, Connection, TcpListener

T = TypeVar("T")

#: The account panicmail's token belongs to; always there, the first user.
BOT = User(username="panicmail-bot", name="panicmail", access_level=MAINTAINER, bot=True)
#: Who has an account unless a sandbox says otherwise. Eve is not a member of the project.
USERS = (
    User(username="ana", name="Ana Reyes"),
    User(username="bo", name="Bo Lindqvist"),
    User(username="max", name="Max Okafor"),
    User(username="eve", name="Eve Outsider", access_level=0),
)

#: Longest body that is read; a front web server refuses more.
_MAX_BODY = MAX_UPLOAD + 1024 * 1024


class Request(NamedTuple):
    """One request that came."""

    method: str
    path: str  #: as sent, with the query
    status: int  #: of the answer; 0 when a fault kept it from being sent


class SandboxGitLab:
    """A GitLab with one project, from `start` to `stop`; a context manager.

    Args:
        port: 0 takes a free one.
        project: Its path, with the group.
        users: Everybody with an account besides the bot; a bare username makes a member.
        clock: Dates what happens.
        event_notes: True: a label or a change of state leaves a system note besides its resource event, as in older
            GitLabs. False: the resource event alone, as today.
        extractors: How quick actions are found, see `quick_actions`: the first acts, all tell in `acted`.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        token: str = "sandbox-token",  # noqa: S107 - opens nothing but this sandbox
        project: str = "security/incidents",
        users: Sequence[User | str] = USERS,
        clock: Clock | None = None,
        event_notes: bool = True,
        extractors: Sequence[Extractor] = EXTRACTORS,
    ) -> None:
        self.token = token
        self._listener = TcpListener(port, lambda connection: _GitLabRequestHandler.serve(connection, self))
        self.port = self._listener.port
        self.url = f"http://{HOST}:{self.port}"
        people = [user if isinstance(user, User) else User(username=user) for user in users]
        self.instance = Instance(
            self.url,
            project,
            [BOT, *people],
            clock or (lambda: datetime.now(UTC)),
            event_notes=event_notes,
            extractors=extractors,
        )
        self.people = GitLabPeople(self.instance)
        self.project = project
        self.project_id = self.instance.project_id
        self._requests: list[Request] = []
        self._faults = Faults()

    def start(self) -> Self:
        self._listener.up()
        return self

    def stop(self) -> None:
        """Cut every connection and give the port back."""
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def issues(self) -> list[dict[str, Any]]:
        """All issues as the API shows them, oldest first."""
        with self.instance.lock:
            return [entities.issue(self.instance, issue) for issue in self.instance.issues.values()]

    def notes_of(self, iid: int) -> list[dict[str, Any]]:
        """The notes of an issue as the API shows them, oldest first, system notes included."""
        with self.instance.lock:
            issue = self.instance.issue(iid)
            return [entities.note(self.instance, issue, note) for note in issue.notes]

    @property
    def uploads(self) -> list[dict[str, Any]]:
        """All uploads as the API answered them, with their `name` and `data`, oldest first."""
        with self.instance.lock:
            return [
                {**entities.upload(self.instance, upload), "name": upload.name, "data": upload.data}
                for upload in self.instance.uploads
            ]

    @property
    def acted(self) -> list[Acted]:
        """The quick actions found in what was written with the token, oldest first."""
        with self.instance.lock:
            return self.instance.interpreter.acted

    @property
    def live(self) -> list[Live]:
        """What is more than words in what was written with the token, oldest first, each once."""
        with self.instance.lock:
            return self.instance.interpreter.live

    @property
    def requests(self) -> list[Request]:
        with self.instance.lock:
            return list(self._requests)

    def wait(self, predicate: Callable[[], T], timeout: float = 5.0) -> T:
        """What `predicate` answers as soon as that is true.

        It is asked after every change and request, and now and then, without a lock held.

        Raises:
            AssertionError: it was not true within `timeout` seconds; the text says what there is.
        """
        ends_at = time.monotonic() + timeout
        while True:
            seen = self.instance.changes
            if found := predicate():
                return found
            left = ends_at - time.monotonic()
            if left <= 0:
                raise AssertionError(f"not within {timeout} s; {self._summary()}")
            self.instance.wait_for_change(seen, min(left, 0.05))

    def _summary(self) -> str:
        titles = [f"#{issue['iid']} {issue['title']!r} {issue['state']}" for issue in self.issues]
        return f"issues: {titles}; last requests: {[tuple(request) for request in self.requests[-5:]]}"

    # -- acting as an administrator ----------------------------------------------------------------------------------

    def set_token(self, **facts: Any) -> None:
        """Change what the token is; the fields are those of `gitlab_records.SandboxToken`."""
        with self.instance.changing():
            self.instance.token = replace(self.instance.token, **facts)

    def set_project(self, **settings: Any) -> None:
        """Change what the project is set to; the fields are those of `gitlab_records.Settings`."""
        with self.instance.changing():
            self.instance.settings = replace(self.instance.settings, **settings)

    def set_level(self, username: str, level: int) -> None:
        """Give somebody another level of access to the project; 0 takes them out."""
        with self.instance.changing():
            changed = replace(self.instance.user(username), access_level=level)
            if self.instance.owner.username == username:
                self.instance.owner = changed
            self.instance.users[username] = changed

    # -- trouble ---------------------------------------------------------------------------------------------------

    def fault(
        self,
        kind: Kind,
        *,
        times: int | None = 1,
        seconds: float = 0.0,
        status: int = 503,
        headers: Mapping[str, str] | None = None,
        body: str | Mapping[str, object] | None = None,
        match: str | None = None,
    ) -> None:
        """Order a fault for the next `times` requests that match; the kinds are those of `faults`.

        Args:
            times: None means until `clear_faults`.
            match: A regular expression searched in "METHOD /path?query"; None means any request.
        """
        pattern = None if match is None else re.compile(match)
        self._faults.add(
            Fault(
                kind=kind,
                times=times,
                seconds=seconds,
                status=status,
                headers=dict(headers or {}),
                body=body,
                match=pattern,
            )
        )

    def clear_faults(self) -> None:
        """Forget all faults and let go of whoever hangs in one."""
        self._faults.clear()

    def down(self) -> None:
        """Cut everybody and refuse connections until `up`, which listens on the same port."""
        self._listener.down()

    def up(self) -> None:
        self._listener.up()

    # -- for the handler -------------------------------------------------------------------------------------------

    def instance_of(self, path: str) -> Instance:
        """The project a path of the API names; the first one when it names none."""
        named = re.match(rf"{PREFIX}/projects/([^/?]+)", path)
        project = unquote(named[1]) if named else ""
        others = self.people.others.values()
        return next((one for one in others if project in (one.project, str(one.project_id))), self.instance)

    def take_fault(self, request_line: str) -> Fault | None:
        return self._faults.take(request_line)

    def record(self, method: str, path: str, status: int) -> None:
        with self.instance.changing():
            self._requests.append(Request(method, path, status))


class _GitLabRequestHandler(BaseHTTPRequestHandler):
    """One connection: reads requests, applies faults, writes answers."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece

    @classmethod
    def serve(cls, link: Connection, sandbox: SandboxGitLab) -> None:
        cls(link, sandbox)

    def __init__(self, link: Connection, sandbox: SandboxGitLab) -> None:
        self.link = link
        self.sandbox = sandbox
        super().__init__(link.sock, link.sock.getpeername(), None)  # type: ignore[arg-type]

    def _respond(self) -> None:
        body = self._read_body()
        fault = self.sandbox.take_fault(f"{self.command} {self.path}")
        if fault is None:
            self._send(self._answer(body))
        else:
            self._suffer(fault, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815 - http.server's names

    def _read_body(self) -> bytes | None:
        """The body; None when it is one that is not read, and then the connection ends after the answer."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdigit() or int(length) > _MAX_BODY:
            self.close_connection = True
            return None
        return self.rfile.read(int(length))

    def _answer(self, body: bytes | None) -> SandboxAnswer:
        if body is None:
            return SandboxAnswer(status=413, body={"message": "413 Request Entity Too Large"})
        try:
            call = read_call(self.command, self.path, self.headers.get("Content-Type", ""), body)
        except Refused as refused:
            return refused.answer
        if call.path.startswith(PREFIX + "/"):
            return answer_api(self.sandbox.instance_of(call.path), call, self._given_token(), self.sandbox.token)
        return answer_page(self.sandbox.instance, call)

    def _given_token(self) -> str | None:
        bearer = self.headers.get("Authorization", "")
        return self.headers.get("PRIVATE-TOKEN") or (bearer[7:] if bearer.startswith("Bearer ") else None)

    def _suffer(self, fault: Fault, body: bytes | None) -> None:
        match fault.kind:
            case "status" | "html":
                self._send(_troubled_answer(fault))
            case "delay":
                self.link.pause(fault.seconds, fault.cleared)
                self._send(self._answer(body))
            case "truncate":
                self.close_connection = True
                self._send(self._answer(body), truncated=True)
            case "hang" | "reset":
                self._vanish(fault)
            case "silent_after" | "reset_after":
                self._answer(body)
                self._vanish(fault)

    def _vanish(self, fault: Fault) -> None:
        """End without an answer: at once with a reset, or after a silence."""
        self.close_connection = True
        self.sandbox.record(self.command, self.path, 0)
        if fault.kind in ("reset", "reset_after"):
            self.link.reset()
        else:
            self.link.pause(fault.seconds, fault.cleared)

    def _send(self, answer: SandboxAnswer, *, truncated: bool = False) -> None:
        # Recorded before it leaves: who has the answer finds the request in the list.
        self.sandbox.record(self.command, self.path, answer.status)
        octets = answer.octets()
        headers = {"Content-Type": answer.type, "Content-Length": str(len(octets)), **answer.headers}
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(octets[: len(octets) // 2] if truncated else octets)

    def version_string(self) -> str:
        return "panicmail-sandbox"

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Of the field Date, by the sandbox's clock."""
        return super().date_time_string(self.sandbox.instance.now().timestamp())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing: `requests` has it all."""


def _troubled_answer(fault: Fault) -> SandboxAnswer:
    usual = "<html><body><h1>Sign in</h1></body></html>" if fault.kind == "html" else {"message": f"{fault.status}"}
    body = usual if fault.body is None else fault.body
    is_text = isinstance(body, str)
    return SandboxAnswer(
        status=200 if fault.kind == "html" else fault.status,
        body=body.encode() if isinstance(body, str) else dict(body),
        type="text/html" if fault.kind == "html" else "text/plain" if is_text else "application/json",
        headers=fault.headers,
    )


# -- The stand-in GitLab for the eye: a list of issues, and each issue plainly. Read-only; every text is escaped.


def answer_page(instance: Instance, call: SandboxRequest) -> SandboxAnswer:
    """Answer a request outside the API, a refusal included."""
    if call.method not in ("GET", "HEAD"):
        return sheet("405", "<p>These pages are only for looking.</p>", status=405)
    path = unquote(call.path)
    issue = re.fullmatch(re.escape(f"/{instance.project}/-/issues/") + r"(?:incident/)?(\d{1,15})", path)
    upload = re.fullmatch(rf"/-/project/{instance.project_id}/uploads/([0-9a-f]{{32}})/([^/]+)", call.path)
    try:
        with instance.lock:
            if path == "/":
                return sheet(instance.project, _index(instance))
            if issue:
                return _show_issue(instance, instance.issue(int(issue[1])))
            if upload:
                return answer_upload(instance, upload[1], upload[2])
    except (LookupError, Refused):
        pass
    return sheet("404", "<p>There is nothing here.</p>", status=404)


def _index(instance: Instance) -> str:
    rows = "".join(
        f'<li><a href="{_href(instance, issue)}">#{issue.iid} {escape(issue.title)}</a>'
        f" <small>{escape(issue.state)}, {_when(issue)}</small></li>"
        for issue in reversed(instance.issues.values())
    )
    files = "".join(
        f'<li><a href="/-/project/{instance.project_id}{quote(upload.path)}">{escape(upload.name)}</a>'
        f" <small>{len(upload.data)} bytes</small></li>"
        for upload in reversed(instance.uploads)
    )
    return f"<h2>Issues</h2><ul>{rows or '<li>none yet</li>'}</ul><h2>Uploads</h2><ul>{files or '<li>none</li>'}</ul>"


def _show_issue(instance: Instance, issue: Issue) -> SandboxAnswer:
    people = ", ".join(f"@{user.username}" for user in issue.assignees) or "nobody"
    facts = [
        issue.state,
        issue.issue_type,
        "confidential" if issue.confidential else "visible to everyone",
        f"opened by @{issue.author.username} {_when(issue)}",
        f"assigned to {people}",
        f"labels: {', '.join(issue.labels) or 'none'}",
        f"severity: {issue.severity}",
    ]
    notes = "".join(_show_note(note) for note in issue.notes)
    body = (
        f'<p><a href="/">all issues</a></p><p>{escape(" · ".join(facts))}</p>'
        f"<pre>{escape(issue.description or '')}</pre><h2>Notes</h2>{notes or '<p>none yet</p>'}"
    )
    return sheet(f"#{issue.iid} {issue.title}", body)


def _show_note(note: Note) -> str:
    kind = "system" if note.system else "internal" if note.internal else "public"
    return (
        f"<h3>@{escape(note.author.username)} <small>{entities.instant(note.created_at)}, {kind}</small></h3>"
        f'<pre class="{kind}">{escape(note.body)}</pre>'
    )


def _href(instance: Instance, issue: Issue) -> str:
    return escape(quote(f"/{instance.project}/-/issues/{issue.iid}"))


def _when(issue: Issue) -> str:
    return entities.instant(issue.created_at) or ""


# -- What people do in the stand-in GitLab, each by username.


class GitLabPeople:
    """Everybody with an account, to act as."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.others: dict[str, Instance] = {}  #: projects issues were moved to, by path

    def comment(self, iid: int, username: str, body: str, *, internal: bool = False) -> None:
        self._instance.add_note(self._instance.user(username), iid, body, internal=internal)

    def close(self, iid: int, username: str) -> None:
        self._edit(iid, username, state_event="close")

    def reopen(self, iid: int, username: str) -> None:
        self._edit(iid, username, state_event="reopen")

    def move(self, iid: int, username: str, project: str, *, is_seen: bool = True) -> dict[str, Any]:
        """`username` moves an issue to another project; answers the issue there, as the API shows it.

        Args:
            is_seen: Whether panicmail's token may see that project.
        """
        main = self._instance
        other = self.others.get(project) or Instance(
            main.url, project, list(main.users.values()), main.now, project_id=main.project_id + len(self.others) + 1,
            ids=main.ids
        )  # fmt: skip
        if is_seen:
            self.others[project] = other
        return entities.issue(other, main.move_issue(main.user(username), iid, other))

    def duplicate(self, iid: int, username: str, of: int) -> None:
        """`username` closes an issue as a duplicate of another one."""
        self._instance.mark_duplicate(self._instance.user(username), iid, of)

    def promote(self, iid: int, username: str, epic: int = 7) -> None:
        """`username` makes an epic of an issue."""
        self._instance.promote_issue(self._instance.user(username), iid, epic)

    def assign(self, iid: int, username: str, assignee: str) -> None:
        """`username` makes `assignee` the one who is assigned, instead of whoever was."""
        self._edit(iid, username, assignees=[self._instance.user(assignee)])

    def label(self, iid: int, username: str, label: str) -> None:
        """`username` adds a label, which is made if need be."""
        self._edit(iid, username, add_labels=[label])

    def _edit(self, iid: int, username: str, **wanted: Any) -> None:
        self._instance.edit_issue(self._instance.user(username), iid, wanted)
