"""The stand-in GitLab for the eye: a list of issues, and each issue plainly. Read-only; every text is escaped."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote, unquote

from panicmail.sandbox import entities
from panicmail.sandbox.api import answer_upload
from panicmail.sandbox.calls import Answer, Call, Refused
from panicmail.sandbox.issues import Instance, Issue, Note

#: Nothing of a mail may load, run or navigate, should a text ever get through unescaped.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f8; padding: .8rem; border-radius: 4px }
small { color: #666 } h3 { font-size: 1rem; margin: 1.5rem 0 .3rem } .system { color: #666 }
"""


def answer_page(instance: Instance, call: Call) -> Answer:
    """Answer a request outside the API, a refusal included."""
    if call.method not in ("GET", "HEAD"):
        return _page("405", "<p>These pages are only for looking.</p>", status=405)
    path = unquote(call.path)
    issue = re.fullmatch(re.escape(f"/{instance.project}/-/issues/") + r"(?:incident/)?(\d{1,15})", path)
    upload = re.fullmatch(rf"/-/project/{instance.project_id}/uploads/([0-9a-f]{{32}})/([^/]+)", call.path)
    try:
        with instance.lock:
            if path == "/":
                return _page(instance.project, _index(instance))
            if issue:
                return _show_issue(instance, instance.issue(int(issue[1])))
            if upload:
                return answer_upload(instance, upload[1], upload[2])
    except (LookupError, Refused):
        pass
    return _page("404", "<p>There is nothing here.</p>", status=404)


def _page(title: str, body: str, *, status: int = 200) -> Answer:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
    return Answer(status=status, body=html.encode(), type="text/html; charset=utf-8", headers=_HEADERS)


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


def _show_issue(instance: Instance, issue: Issue) -> Answer:
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
    return _page(f"#{issue.iid} {issue.title}", body)


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
