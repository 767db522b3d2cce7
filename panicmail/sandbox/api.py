"""The REST API v4 of the stand-in GitLab: which request does what, and how it is refused.

One table of routes; each route reads its parameters, asks the `Instance` and answers. Shapes of answers are in
`entities`. A project is named by its number or by its path with the slash encoded; a bare slash is another route,
so 404, as with GitLab.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import unquote, urlencode

from panicmail.sandbox import entities, http_request
from panicmail.sandbox.gitlab_records import MAX_UPLOAD, Invalid, Issue, Note, Taken, Upload, User, Written
from panicmail.sandbox.http_request import File, Refused, SandboxAnswer, SandboxRequest
from panicmail.sandbox.issue_edits import Instance

# -- A list of the API, page by page, with the headers that lead to the others.


def paginate(instance: Instance, call: SandboxRequest, items: Sequence[Any]) -> SandboxAnswer:
    """One page of `items`, with the headers that lead to the others."""
    page, per_page = (
        http_request.number(call.params, "page", 1),
        min(http_request.number(call.params, "per_page", 20), 100),
    )
    pages = -(-len(items) // per_page)
    numbers = {"prev": page - 1, "next": page + 1, "first": 1, "last": max(pages, 1)}
    if page <= 1:
        del numbers["prev"]
    if page >= pages:
        del numbers["next"]
    links = ", ".join(
        f'<{_page_url(instance, call, number, per_page)}>; rel="{name}"' for name, number in numbers.items()
    )
    headers = {
        "X-Page": str(page),
        "X-Per-Page": str(per_page),
        "X-Prev-Page": str(numbers.get("prev", "")),
        "X-Next-Page": str(numbers.get("next", "")),
        "X-Total": str(len(items)),
        "X-Total-Pages": str(pages),
        "Link": links,
    }
    return SandboxAnswer(body=list(items[(page - 1) * per_page : page * per_page]), headers=headers)


def _page_url(instance: Instance, call: SandboxRequest, page: int, per_page: int) -> str:
    rest = [(name, value) for name, value in call.query if name not in ("page", "per_page")]
    return f"{instance.url}{call.path}?{urlencode([*rest, ('page', page), ('per_page', per_page)])}"


# --

PREFIX = "/api/v4"
ISSUE_TYPES = ("issue", "incident", "test_case", "requirement", "task", "ticket")
SEVERITIES = ("unknown", "low", "medium", "high", "critical")
VERSION = {"version": "19.1.0-sandbox", "revision": "5a4db0c"}


def answer_api(instance: Instance, call: SandboxRequest, given_token: str | None, token: str) -> SandboxAnswer:
    """Answer a request under `/api/v4`, a refusal included."""
    try:
        route, captured = _find_route(call)
        _require_token(instance, call, given_token == token)
        with instance.lock:
            return route(instance, call, *captured)
    except Refused as refused:
        return refused.answer
    except Invalid as invalid:
        return SandboxAnswer(status=400, body={"message": invalid.errors})


def _require_token(instance: Instance, call: SandboxRequest, is_known: bool) -> None:
    """A token that is not live opens nothing; one that may only read changes nothing."""
    if not is_known or not instance.is_token_live():
        raise Refused(401, {"message": "401 Unauthorized"})
    scopes = {"api"} if call.method not in ("GET", "HEAD") else {"api", "read_api"}
    if not scopes & set(instance.token.scopes):
        said = "The request requires higher privileges than provided by the access token."
        wanted = " ".join(sorted(scopes))
        raise Refused(403, {"error": "insufficient_scope", "error_description": said, "scope": wanted})


# -- the instance and its people ---------------------------------------------------------------------------------


def _metadata(instance: Instance, call: SandboxRequest) -> SandboxAnswer:
    kas = {"enabled": False, "externalUrl": None, "version": None}
    return SandboxAnswer(body={**VERSION, "kas": kas, "enterprise": False})


def _version(instance: Instance, call: SandboxRequest) -> SandboxAnswer:
    return SandboxAnswer(body=VERSION)


def _own_user(instance: Instance, call: SandboxRequest) -> SandboxAnswer:
    owner = instance.owner
    return SandboxAnswer(body={**entities.user(instance, owner), "email": owner.email, "commit_email": owner.email})


def _own_token(instance: Instance, call: SandboxRequest) -> SandboxAnswer:
    return SandboxAnswer(body=entities.token(instance))


def _list_users(instance: Instance, call: SandboxRequest) -> SandboxAnswer:
    found = _search_users(list(instance.users.values()), call)
    return paginate(instance, call, [entities.user(instance, who) for who in found])


def _get_user(instance: Instance, call: SandboxRequest, number: str) -> SandboxAnswer:
    return SandboxAnswer(body=entities.user(instance, _user_by_id(list(instance.users.values()), number)))


def _search_users(users: list[User], call: SandboxRequest) -> list[User]:
    """By exact username, and by a part of username or name or by the whole address."""
    username, search = http_request.text(call.params, "username"), http_request.text(call.params, "search")
    if username is not None:
        users = [user for user in users if user.username.lower() == username.lower()]
    if search:
        wanted = search.lower()
        users = [
            user
            for user in users
            if wanted in user.username.lower() or wanted in user.name.lower() or wanted == user.email.lower()
        ]
    return sorted(users, key=lambda user: user.id, reverse=True)


def _user_by_id(users: list[User], number: str) -> User:
    for user in users:
        if user.id == int(number):
            return user
    raise Refused(404, {"message": "404 User Not Found"})


# -- the project -------------------------------------------------------------------------------------------------


def _get_project(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    return SandboxAnswer(body=entities.project(instance))


def _list_members(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    return paginate(instance, call, [entities.member(instance, who) for who in instance.members()])


def _get_member(instance: Instance, call: SandboxRequest, project: str, number: str) -> SandboxAnswer:
    _require_project(instance, project)
    try:
        return SandboxAnswer(body=entities.member(instance, _user_by_id(instance.members(), number)))
    except Refused:
        raise Refused(404, {"message": "404 Not found"}) from None


def _list_labels(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    search = (http_request.text(call.params, "search") or "").lower()
    names = sorted(name for name in instance.labels if search in name.lower())
    return paginate(instance, call, [entities.label(instance, name) for name in names])


def _create_label(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    name, color = http_request.required(call.params, "name"), http_request.required(call.params, "color")
    try:
        instance.add_label(name, color, http_request.text(call.params, "description"))
    except Taken:
        raise Refused(409, {"message": "Label already exists"}) from None
    return SandboxAnswer(status=201, body=entities.label(instance, name))


def _create_upload(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    file = call.params.get("file")
    if not isinstance(file, File):
        raise Refused(400, {"error": "file is missing" if file is None else "file is invalid"})
    if len(file.data) > MAX_UPLOAD:
        raise Refused(413, {"message": "413 Request Entity Too Large"})
    return SandboxAnswer(
        status=201, body=entities.upload(instance, instance.add_upload(instance.owner, file.name, file.data))
    )


def _get_upload(instance: Instance, call: SandboxRequest, project: str, secret: str, name: str) -> SandboxAnswer:
    _require_project(instance, project)
    return answer_upload(instance, secret, name)


def answer_upload(instance: Instance, secret: str, name: str) -> SandboxAnswer:
    """The file itself, always as a download: whatever is in it, no browser shall show it.

    Raises Refused with 404 for a wrong secret.
    """
    upload = _find_upload(instance, secret, unquote(name))
    headers = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
    return SandboxAnswer(body=upload.data, type="application/octet-stream", headers=headers)


def _find_upload(instance: Instance, secret: str, name: str) -> Upload:
    for upload in instance.uploads:
        if (upload.secret, upload.name) == (secret, name):
            return upload
    raise Refused(404, {"message": "404 Not found"})


# -- issues ------------------------------------------------------------------------------------------------------


def _list_issues(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    params = call.params
    order = http_request.choice(params, "order_by", ("created_at", "updated_at", "title")) or "created_at"
    backwards = (http_request.choice(params, "sort", ("asc", "desc")) or "desc") == "desc"
    keep = _issue_filter(instance, params)
    found = [issue for issue in instance.issues.values() if keep(issue)]
    found.sort(key=lambda issue: (getattr(issue, order), issue.id), reverse=backwards)
    shown = [entities.issue(instance, issue) for issue in found]
    return paginate(instance, call, shown)


def _create_issue(instance: Instance, call: SandboxRequest, project: str) -> SandboxAnswer:
    _require_project(instance, project)
    http_request.required(call.params, "title")
    wanted = _wanted(instance, call.params)
    wanted.pop("state_event", None)
    issue = instance.open_issue(instance.owner, wanted)
    return SandboxAnswer(status=201, body=entities.issue(instance, issue))


def _get_issue(instance: Instance, call: SandboxRequest, project: str, iid: str) -> SandboxAnswer:
    return SandboxAnswer(body=entities.issue(instance, _require_issue(instance, project, iid)))


def _edit_issue(instance: Instance, call: SandboxRequest, project: str, iid: str) -> SandboxAnswer:
    issue = _require_issue(instance, project, iid)
    wanted = _wanted(instance, call.params)
    if not wanted:
        names = ", ".join(_ISSUE_FIELDS)
        raise Refused(400, {"error": f"{names} are missing, at least one parameter must be provided"})
    return SandboxAnswer(body=entities.issue(instance, instance.edit_issue(instance.owner, issue.iid, wanted)))


def _wanted(instance: Instance, params: Mapping[str, Any]) -> dict[str, Any]:
    """What the request asks to set, in the words of `Instance.edit_issue`."""
    wanted = {name: read(params, name) for name, read in _ISSUE_FIELDS.items() if name in params}
    numbers = wanted.pop("assignee_ids", None)
    single = wanted.pop("assignee_id", None)
    if numbers is None and single is not None:
        numbers = [single]
    if numbers is not None:
        by_id = {str(user.id): user for user in instance.users.values()}
        wanted["assignees"] = [by_id[number] for number in dict.fromkeys(numbers) if number in by_id]
    return wanted


def _issue_filter(instance: Instance, params: Mapping[str, Any]) -> Callable[[Issue], bool]:
    """Every condition of the list at once."""
    state = http_request.choice(params, "state", ("opened", "closed", "all"))
    scope = http_request.choice(params, "scope", ("created_by_me", "assigned_to_me", "all"))
    confidential = http_request.boolean(params, "confidential")
    issue_type = http_request.choice(params, "issue_type", ISSUE_TYPES)
    iids = http_request.texts(params, "iids")
    conditions: list[tuple[object, Callable[[Issue], bool]]] = [
        (state not in (None, "all"), lambda issue: issue.state == state),
        (scope == "created_by_me", lambda issue: issue.author == instance.owner),
        (scope == "assigned_to_me", lambda issue: instance.owner in issue.assignees),
        (confidential is not None, lambda issue: issue.confidential == confidential),
        (issue_type, lambda issue: issue.issue_type == issue_type),
        (iids, lambda issue: str(issue.iid) in iids),
        (params.get("labels"), _label_filter(http_request.texts(params, "labels"))),
        (params.get("search"), _search_filter(params)),
    ]
    wanted = [condition for applies, condition in conditions if applies] + _time_conditions(params)
    return lambda issue: all(condition(issue) for condition in wanted)


def _time_conditions(params: Mapping[str, Any]) -> list[Callable[[Issue], bool]]:
    """Limits of time; an instant that equals its limit is within."""
    limits = [(field, within, http_request.instant(params, name)) for name, field, within in _TIME_LIMITS]
    return [partial(_is_within, field, within, limit) for field, within, limit in limits if limit is not None]


def _is_within(field: str, within: Callable[[datetime, datetime], bool], limit: datetime, issue: Issue) -> bool:
    return within(getattr(issue, field), limit)


def _label_filter(names: Sequence[str]) -> Callable[[Issue], bool]:
    if names == ["None"]:
        return lambda issue: not issue.labels
    if names == ["Any"]:
        return lambda issue: bool(issue.labels)
    return lambda issue: set(names) <= set(issue.labels)


def _search_filter(params: Mapping[str, Any]) -> Callable[[Issue], bool]:
    """GitLab's full-text search, roughly: every word the beginning of a word; long runs are not in the index."""
    places = http_request.texts(params, "in") or ["title", "description"]
    wanted = _words(http_request.text(params, "search") or "")

    def found(issue: Issue) -> bool:
        text = " ".join(getattr(issue, place) or "" for place in ("title", "description") if place in places)
        words = _words(re.sub(r"[A-Za-z0-9+/@]{50,}", " ", text))
        return all(any(word.startswith(part) for word in words) for part in wanted)

    return found


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", re.sub(r"<[^<>]*>", " ", text).lower()))


# -- notes and events --------------------------------------------------------------------------------------------


def _list_notes(instance: Instance, call: SandboxRequest, project: str, iid: str) -> SandboxAnswer:
    order = http_request.choice(call.params, "order_by", ("created_at", "updated_at")) or "created_at"
    backwards = (http_request.choice(call.params, "sort", ("asc", "desc")) or "desc") == "desc"
    shown = http_request.choice(call.params, "activity_filter", ("all_notes", "only_comments", "only_activity"))
    issue = _require_issue(instance, project, iid)
    notes = [note for note in issue.notes if shown in (None, "all_notes", _ACTIVITY[note.system])]
    notes.sort(key=lambda note: (getattr(note, order), note.id), reverse=backwards)
    return paginate(instance, call, [entities.note(instance, issue, note) for note in notes])


def _create_note(instance: Instance, call: SandboxRequest, project: str, iid: str) -> SandboxAnswer:
    issue = _require_issue(instance, project, iid)
    body = _note_body(call)
    internal = http_request.boolean(call.params, "internal")
    if internal is None:
        internal = http_request.boolean(call.params, "confidential")
    try:
        written = instance.add_note(instance.owner, issue.iid, body, internal=bool(internal))
    except Invalid as invalid:
        raise _bad_note(invalid.errors["note"][0]) from None
    return _written(instance, issue, written, 201)


def _written(instance: Instance, issue: Issue, written: Written, status: int) -> SandboxAnswer:
    """A note as it is kept; 202 and no note when it was nothing but quick actions."""
    if written.note is None:
        return SandboxAnswer(status=202, body=entities.commands(written.commands))
    changes = entities.commands(written.commands)["commands_changes"]
    return SandboxAnswer(
        status=status, body={**entities.note(instance, issue, written.note), "commands_changes": changes}
    )


def _get_note(instance: Instance, call: SandboxRequest, project: str, iid: str, number: str) -> SandboxAnswer:
    issue = _require_issue(instance, project, iid)
    return SandboxAnswer(body=entities.note(instance, issue, _require_note(issue, number)))


def _edit_note(instance: Instance, call: SandboxRequest, project: str, iid: str, number: str) -> SandboxAnswer:
    issue = _require_issue(instance, project, iid)
    note = _require_note(issue, number)
    if note.author != instance.owner or note.system:
        raise Refused(403, {"message": "403 Forbidden"})
    return _written(instance, issue, instance.edit_note(issue, note, _note_body(call)), 200)


def _note_body(call: SandboxRequest) -> str:
    body = http_request.required(call.params, "body")
    if not body.strip():
        raise _bad_note("can't be blank")
    return body


def _bad_note(said: str) -> Refused:
    return Refused(400, {"message": f'400 Bad request - Note {{:note=>["{said}"]}}'})


def _list_state_events(instance: Instance, call: SandboxRequest, project: str, iid: str) -> SandboxAnswer:
    return _list_events(instance, call, project, iid, of_labels=False)


def _list_label_events(instance: Instance, call: SandboxRequest, project: str, iid: str) -> SandboxAnswer:
    return _list_events(instance, call, project, iid, of_labels=True)


def _list_events(instance: Instance, call: SandboxRequest, project: str, iid: str, *, of_labels: bool) -> SandboxAnswer:
    issue = _require_issue(instance, project, iid)
    events = [event for event in issue.events if (event.label is not None) == of_labels]
    return paginate(instance, call, [entities.resource_event(instance, issue, event) for event in events])


# -- finding what a path names -----------------------------------------------------------------------------------


def _require_project(instance: Instance, project: str) -> None:
    if unquote(project) not in (str(instance.project_id), instance.project):
        raise Refused(404, {"message": "404 Project Not Found"})


def _require_issue(instance: Instance, project: str, iid: str) -> Issue:
    _require_project(instance, project)
    try:
        return instance.issue(int(iid))
    except LookupError:
        raise Refused(404, {"message": "404 Not found"}) from None


def _require_note(issue: Issue, number: str) -> Note:
    for note in issue.notes:
        if note.id == int(number):
            return note
    raise Refused(404, {"message": "404 Note Not Found"})


_ACTIVITY = {False: "only_comments", True: "only_activity"}  # by whether a note is a system note

#: What may be set of an issue, and how it is read.
_ISSUE_FIELDS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "title": http_request.title,
    "description": http_request.text,
    "issue_type": http_request.one_of(*ISSUE_TYPES),
    "severity": http_request.one_of(*SEVERITIES),
    "confidential": http_request.boolean,
    "discussion_locked": http_request.boolean,
    "labels": http_request.texts,
    "add_labels": http_request.texts,
    "remove_labels": http_request.texts,
    "assignee_ids": http_request.texts,
    "assignee_id": http_request.text,
    "state_event": http_request.one_of("close", "reopen"),
}

#: Parameter of the list, field, and how the field stands to the limit.
_TIME_LIMITS: list[tuple[str, str, Callable[[datetime, datetime], bool]]] = [
    ("created_after", "created_at", operator.ge),
    ("created_before", "created_at", operator.le),
    ("updated_after", "updated_at", operator.ge),
    ("updated_before", "updated_at", operator.le),
]

_PROJECT = r"/projects/([^/]+)"
_ISSUE = _PROJECT + r"/issues/(\d{1,15})"
_ROUTES: list[tuple[str, str, Callable[..., SandboxAnswer]]] = [
    ("GET", r"/metadata", _metadata),
    ("GET", r"/version", _version),
    ("GET", r"/user", _own_user),
    ("GET", r"/personal_access_tokens/self", _own_token),
    ("GET", r"/users", _list_users),
    ("GET", r"/users/(\d{1,15})", _get_user),
    ("GET", _PROJECT, _get_project),
    ("GET", _PROJECT + r"/members(?:/all)?", _list_members),
    ("GET", _PROJECT + r"/members(?:/all)?/(\d{1,15})", _get_member),
    ("GET", _PROJECT + r"/labels", _list_labels),
    ("POST", _PROJECT + r"/labels", _create_label),
    ("POST", _PROJECT + r"/uploads", _create_upload),
    ("GET", _PROJECT + r"/uploads/([0-9a-f]{32})/([^/]+)", _get_upload),
    ("GET", _PROJECT + r"/issues", _list_issues),
    ("POST", _PROJECT + r"/issues", _create_issue),
    ("GET", _ISSUE, _get_issue),
    ("PUT", _ISSUE, _edit_issue),
    ("GET", _ISSUE + r"/notes", _list_notes),
    ("POST", _ISSUE + r"/notes", _create_note),
    ("GET", _ISSUE + r"/notes/(\d{1,15})", _get_note),
    ("PUT", _ISSUE + r"/notes/(\d{1,15})", _edit_note),
    ("GET", _ISSUE + r"/resource_state_events", _list_state_events),
    ("GET", _ISSUE + r"/resource_label_events", _list_label_events),
]


def _find_route(call: SandboxRequest) -> tuple[Callable[..., SandboxAnswer], tuple[str, ...]]:
    path = call.path.removeprefix(PREFIX)
    method = "GET" if call.method == "HEAD" else call.method
    matching = {
        verb: (route, found.groups()) for verb, pattern, route in _ROUTES if (found := re.fullmatch(pattern, path))
    }
    if not matching:
        raise Refused(404, {"error": "404 Not Found"})
    if method not in matching:
        raise Refused(405, {"error": "405 Not Allowed"}, {"Allow": ", ".join(matching)})
    return matching[method]
