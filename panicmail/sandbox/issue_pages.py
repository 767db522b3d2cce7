"""The stand-in GitLab for the eye: a list of issues, and each issue plainly. Read-only; every text is escaped."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote, unquote

from panicmail.sandbox import entities
from panicmail.sandbox.api import answer_upload
from panicmail.sandbox.gitlab_records import Issue, Note
from panicmail.sandbox.http_request import Refused, SandboxAnswer, SandboxRequest
from panicmail.sandbox.issue_requests import Instance
from panicmail.sandbox.sheet import sheet


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
