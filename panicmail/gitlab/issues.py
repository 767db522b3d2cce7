"""The issue in GitLab: find it, open it, note on it, put files to it.

Promises: nothing is sent twice from here, nothing sleeps, and every failure is one of `border`'s three. A passing
failure of `find`, and of the look of `note`, is always Unknown: who was looking because an outcome is open knows no
more than before. One that is `Barred` is left as it is, and its doubt is the caller's.
"""

from __future__ import annotations

import copy
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from panicmail.errors import PanicmailError, Permanent
from panicmail.gitlab.client import ONCE, GitLabClient
from panicmail.gitlab.description import IssueDraft
from panicmail.gitlab.escape import carries, file_name

#: How far GitLab's clock may be behind ours.
CLOCK_SKEW = timedelta(hours=1)
_UPLOAD_PER_SECOND = 1024 * 1024
#: What GitLab's system notes say of an issue that went elsewhere, and where.
_MOVED = re.compile(r"moved to (\S+)")
_DUPLICATE = re.compile(r"marked this (?:issue|incident|item) as a duplicate of (\S+)")
_PROMOTED = re.compile(r"promoted to epic (\S+)")
_EXPOSED = re.compile(r"made the [\w ]{1,40} visible to everyone")
_LONGEST_NOTE = 1000
#: A system note and the closing it goes with are that near.
_SAME_ACT = timedelta(minutes=1)
_MIRROR = """
mutation mirror($status: IssueSetEscalationStatusInput!, $event: TimelineEventCreateInput!) {
  issueSetEscalationStatus(input: $status) { errors }
  timelineEventCreate(input: $event) { errors }
}
"""


@dataclass(frozen=True, slots=True)
class OpenedIssue:
    """An issue that is there."""

    iid: int
    url: str
    #: What GitLab did not keep of what was asked, or a text changed: "type", "confidential", "label x", "assignee x",
    #: "title", "text", "state"; a word, and sometimes the reason in brackets.
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    url: str  #: relative to the project, as Markdown wants it
    name: str


@dataclass(frozen=True, slots=True)
class IssueAct:
    """That one user did something on an issue."""

    username: str
    at: datetime
    what: str  #: "commented", "worked" (assigned and the like) or "labelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDestination:
    """That an issue is closed because it went somewhere else, not because it is over."""

    how: str  #: "moved", "duplicate" or "promoted"
    place: str = ""  #: such as "group/project#12"; "" when GitLab does not say
    #: Of a moved one that this token sees there: project by number, iid, address, and whether it is confidential.
    project: str | None = None
    iid: int | None = None
    url: str = ""
    is_confidential: bool = True


@dataclass(frozen=True, slots=True)
class IssueExposure:
    """That an issue is not confidential."""

    at: datetime | None = None  #: when it was made so; None: GitLab does not say
    by: str | None = None  #: username; None: GitLab does not say


@dataclass(frozen=True, slots=True)
class IssueActivity:
    """What happened on an issue: whether it is closed, and what people did, oldest first, by GitLab's clock."""

    closed_at: datetime | None
    closed_by: str | None
    acts: tuple[IssueAct, ...]
    elsewhere: IssueDestination | None = None
    exposure: IssueExposure | None = None  #: None: it is confidential
    lacking: tuple[str, ...] = ()  #: what else it should have and has not: "type (it is x)", "label x"
    ahead: timedelta = timedelta()  #: so much later than ours GitLab's clock stands; zero while they agree


@dataclass(frozen=True, slots=True)
class IssueReopening:
    """That an issue is open which was closed before."""

    at: datetime | None  #: None: GitLab does not say that it was opened again, only that it is open
    by: str | None  #: username; None: GitLab does not say


class Issues:
    """The issues of one project.

    Args:
        project: Path or number.
        labels: What every issue is expected to carry.
        deadline: Seconds for one method, all its requests together; an upload gets a second more per MiB. It may be
            overrun by one `read_timeout`.
        keep_seconds: A connection unused for longer is not used again: a middlebox may have forgotten it, and a create
            into the void costs a time-out and leaves its outcome open.
        ssl_context: Whom to trust; None: the system's certificates and requests' own.
    """

    def __init__(
        self,
        url: str,
        project: str,
        token: str,
        labels: Sequence[str],
        *,
        connect_timeout: float = 5,
        read_timeout: float = 10,
        deadline: float = 30,
        keep_seconds: float = 30,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._project_name = project
        self._labels = tuple(labels)
        self._deadline = deadline
        self._border = GitLabClient(
            url,
            token,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            keep_seconds=keep_seconds,
            ssl_context=ssl_context,
        )
        self._project: Any = None
        self._own: str | None = None
        self._user_ids: dict[str, int] = {}

    def close(self) -> None:
        self._border.close()

    def in_project(self, project: str) -> Issues:
        """The issues of another project of the same GitLab, by path or number; over the same connection.

        Which labels they have there is that project's business.
        """
        other = copy.copy(self)
        other._labels = ()
        other._project_name, other._project = project, None
        return other

    # -- what can be asked

    def find(self, marker: str, since: datetime) -> OpenedIssue | None:
        """The newest issue made at most an hour before `since`, or later, that carries the marker.

        Every page is read: under load the issue looked for is not among the newest hundred. GitLab's own search knows
        a text only some time after it was written, so it is a second try and no more.
        """
        self._border.begin(self._deadline)
        with self._border.looking():
            found = _first(self._since(since, state="all", sort="desc"), "description", marker)
        if found is None:
            found = self._search(marker)
        return None if found is None else self._opened(found, _missing(found, self._labels))

    def create(self, draft: IssueDraft) -> OpenedIssue:
        """Open the issue and read it back. An assignee GitLab does not know is left out and named in `dropped`."""
        self._border.begin(self._deadline)
        with self._border.reading():
            issues = self._in_project().issues
            assignee = self._user_id(draft.assignee_username)
        asked: dict[str, Any] = {
            "title": draft.title,
            "description": draft.description,
            "issue_type": "incident",
            "confidential": True,
            "labels": list(draft.labels),
        }
        if assignee is not None:
            asked["assignee_ids"] = [assignee]
        with self._border.acting():
            made = issues.create(asked, **ONCE).attributes
            _number(made)
        kept = self._read_back(issues, made)
        return self._opened(made, (*_missing(kept, draft.labels), *_changed(kept, draft)))

    def note(self, iid: int, text: str, marker: str, *, look: bool) -> None:
        """Write an internal note. `look`: not if one with this marker is there already."""
        self._border.begin(self._deadline)
        with self._border.reading():
            notes = self._in_project().issues.get(iid, lazy=True).notes
        if look and self._has_note(notes, marker):
            return
        with self._border.acting():
            made = notes.create({"body": text, "internal": True}, **ONCE)
        if made.attributes.get("id") is None:
            # 202: GitLab found nothing in it but quick actions. Our notes begin with words, so this is no text of ours.
            raise Permanent("GitLab took the note for a command and kept none")

    def upload(self, name: str, data: bytes) -> UploadedFile:
        """Put a file to the project, under a name that is safe in an address."""
        self._border.begin(self._deadline + len(data) / _UPLOAD_PER_SECOND)
        with self._border.reading():
            project = self._in_project()
        safe = file_name(name)
        with self._border.acting():
            url = project.upload(safe, filedata=data, **ONCE)["url"]
            if not re.fullmatch(r"/\S+", url):
                raise ValueError("an upload without an address")
        return UploadedFile(url=url, name=safe)

    def description(self, iid: int) -> str:
        self._border.begin(self._deadline)
        with self._border.reading():
            return str(self._in_project().issues.get(iid, **ONCE).attributes["description"] or "")

    def describe(self, iid: int, text: str) -> None:
        """Replace the description."""
        self._border.begin(self._deadline)
        with self._border.reading():
            issues = self._in_project().issues
        with self._border.acting():
            _number(issues.update(iid, {"description": text}, **ONCE))

    def retitle(self, iid: int, before: str, after: str) -> None:
        """Give the issue its new title; one that somebody gave it meanwhile stays."""
        self._border.begin(self._deadline)
        with self._border.reading():
            issues = self._in_project().issues
            title = str(issues.get(iid, **ONCE).attributes["title"])
        if title.split() != before.split() or before == after:
            return
        with self._border.acting():
            _number(issues.update(iid, {"title": after}, **ONCE))

    def twins(self, marker: str, since: datetime) -> list[OpenedIssue]:
        """Every open issue with the marker made at most an hour before `since`, or later; the oldest first."""
        self._border.begin(self._deadline)
        with self._border.looking():
            listed = self._since(since, state="opened", sort="asc")
            found = [one.attributes for one in listed if carries(str(one.attributes["description"] or ""), marker)]
        return [self._opened(issue, ()) for issue in sorted(found, key=_number)]

    def close_twin(self, iid: int, of: int) -> None:
        """Close an issue as the younger twin of another, and say so on it."""
        self._border.begin(self._deadline)
        with self._border.acting():
            issue = self._in_project().issues.get(iid, lazy=True)
            text = f"Closed by panicmail: this is the same panic as issue {of}, made twice by a lost answer."
            issue.notes.create({"body": text, "internal": True}, **ONCE)
            self._in_project().issues.update(iid, {"state_event": "close"}, **ONCE)

    def activity(self, iid: int, since: datetime) -> IssueActivity:
        """What people did on an issue after `since`. What this token's own user did is left out."""
        self._border.begin(self._deadline)
        with self._border.reading():
            own = self._own_username()
            issue = self._in_project().issues.get(iid, **ONCE)
            ahead = self._border.ahead
            notes = list(_notes(issue, since + ahead))
            acts = [*map(_act, notes), *_label_changes(issue, since + ahead)]
            is_closed = issue.attributes["state"] == "closed"
            elsewhere = self._elsewhere(issue.attributes, notes) if is_closed else None
        closer = issue.attributes.get("closed_by") or {}
        return IssueActivity(
            closed_at=_instant(issue.attributes.get("closed_at")) if is_closed else None,
            closed_by=str(closer.get("username")) if closer.get("username") else None,
            acts=tuple(sorted((act for act in acts if act.username not in {own, ""}), key=lambda act: act.at)),
            elsewhere=elsewhere,
            exposure=_exposure(issue.attributes, notes),
            lacking=tuple(x for x in _missing(issue.attributes, self._labels) if x.startswith(("type ", "label "))),
            ahead=ahead,
        )

    def reopening(self, iid: int, since: datetime) -> IssueReopening | None:
        """Who opened the issue again after `since`; None when it is closed, or is open since before that.

        Today's GitLab keeps it as an event, older ones as a system note.
        """
        self._border.begin(self._deadline)
        with self._border.reading():
            issue = self._in_project().issues.get(iid, **ONCE)
            if issue.attributes["state"] == "closed":
                return None
            since += self._border.ahead
            found = list(_state_changes(issue)) or [n for n in _notes(issue, since) if n.is_system and _is_state(n)]
        if not found:
            return IssueReopening(None, None)
        last = max(found, key=lambda change: change.at)
        return IssueReopening(last.at, last.username or None) if last.at > since and last.body == "reopened" else None

    def confide(self, iid: int) -> None:
        """Make the issue confidential."""
        self._border.begin(self._deadline)
        with self._border.acting():
            _number(self._in_project().issues.update(iid, {"confidential": True}, **ONCE))

    def _elsewhere(self, issue: Mapping[str, Any], notes: Sequence[_Said]) -> IssueDestination | None:
        """Whether it is closed because it went elsewhere. GitLab forgets these facts when it is opened again."""
        moved_to = issue.get("moved_to_id")
        if moved_to is not None:
            place = _named(_MOVED, notes)
            return self._followed(place, int(moved_to)) or IssueDestination(how="moved", place=place)
        twin = (issue.get("_links") or {}).get("closed_as_duplicate_of") or issue.get("duplicated_to_id")
        if twin is not None:
            return IssueDestination(how="duplicate", place=_named(_DUPLICATE, notes) or str(twin))
        closed_at = _instant(issue.get("closed_at"))
        lately = [note for note in notes if closed_at and abs(note.at - closed_at) <= _SAME_ACT]
        promoted = _named(_PROMOTED, lately)
        return IssueDestination(how="promoted", place=promoted) if promoted else None

    def _path_and_iid(self, place: str) -> tuple[str, str]:
        """Of a reference ("group/project#12") or an address of this GitLab; the iid is no number when it is neither."""
        base = f"{self._border.gitlab.url}/"
        if place.startswith(base):
            path, _, issue = place.removeprefix(base).partition("/-/")
            return path, issue.rpartition("/")[2]
        path, _, iid = place.rpartition("#")
        return path, iid

    def _followed(self, place: str, number: int) -> IssueDestination | None:
        """The issue at `place`, if this token sees it and it is the one of that number."""
        path, iid = self._path_and_iid(place)
        if not path or not iid.isdecimal():
            return None
        if "/" not in path:  # GitLab names a project of the same group by its last part
            own = self._border.gitlab.projects.get(self._in_project().get_id(), **ONCE).attributes
            path = f"{str(own['path_with_namespace']).rpartition('/')[0]}/{path}"
        try:
            with self._border.reading():
                project = self._border.gitlab.projects.get(path, **ONCE)
                issue = project.issues.get(int(iid), **ONCE).attributes
        except Permanent:
            return None
        if issue.get("id") != number:
            return None
        return IssueDestination(
            how="moved", place=f"{path}#{iid}", project=str(project.get_id()), iid=_number(issue),
            url=str(issue.get("web_url") or ""), is_confidential=issue.get("confidential") is True,
        )  # fmt: skip

    def mirror(self, iid: int, status: str, note: str, at: datetime) -> None:
        """Set the incident's status and write its timeline, by GraphQL: there is no REST for either.

        Raises:
            Permanent: This GitLab, or this token, cannot.
        """
        self._border.begin(self._deadline)
        with self._border.reading():
            issue = self._in_project().issues.get(iid, **ONCE).attributes
            path = self._border.gitlab.projects.get(self._in_project().get_id(), **ONCE).attributes[
                "path_with_namespace"
            ]
        variables = {
            "status": {"projectPath": path, "iid": str(iid), "status": status},
            "event": {"incidentId": f"gid://gitlab/Issue/{issue['id']}", "note": note, "occurredAt": at.isoformat()},
        }
        with self._border.acting():
            answer = self._border.graphql(_MIRROR, variables)
        refused = answer.get("errors") or [e for part in (answer.get("data") or {}).values() for e in part["errors"]]
        if refused:
            raise Permanent(f"GitLab does not mirror the status: {str(refused)[:200]}")

    # -- how

    def _in_project(self) -> Any:
        """The project by its number, asked for once: an upload to a project by its path is a 404."""
        if self._project is None:
            number: Any = self._project_name
            if not number.isdecimal():
                number = self._border.gitlab.projects.get(number, **ONCE).attributes["id"]
            self._project = self._border.gitlab.projects.get(int(number), lazy=True)
        return self._project

    def _user_id(self, username: str | None) -> int | None:
        """The number of a user; None when GitLab knows none or does not tell us."""
        if username is None:
            return None
        if username not in self._user_ids:
            try:
                with self._border.reading():
                    users = self._border.gitlab.users.list(username=username, get_all=False, **ONCE)
                    self._user_ids |= {u.attributes["username"].casefold(): u.attributes["id"] for u in users}
            except Permanent:
                return None
        return self._user_ids.get(username.casefold())

    def _since(self, since: datetime, *, state: str, sort: str) -> Iterable[Any]:
        after = f"{(since - CLOCK_SKEW).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        every: dict[str, Any] = {"scope": "all", "state": state, "order_by": "created_at", "sort": sort}
        listed: Iterable[Any] = self._in_project().issues.list(
            iterator=True, created_after=after, per_page=50, **every, **ONCE
        )
        return listed

    def _search(self, marker: str) -> Mapping[str, Any] | None:
        every: dict[str, Any] = {"in": "description", "scope": "all", "state": "all"}
        try:
            with self._border.reading():
                hits = self._in_project().issues.list(iterator=True, search=marker, **every, **ONCE)
                return _first(hits, "description", marker)
        except PanicmailError:
            return None  # the list was read to its end: that was the answer

    def _own_username(self) -> str:
        if self._own is None:
            self._own = str(self._border.gitlab.http_get("/user", **ONCE)["username"])  # type: ignore[index]
        return self._own

    def _has_note(self, notes: Any, marker: str) -> bool:
        with self._border.looking():
            listed = notes.list(iterator=True, sort="desc", activity_filter="only_comments", per_page=100, **ONCE)
            return _first(listed, "body", marker) is not None

    def _read_back(self, issues: Any, made: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with self._border.reading():
                read: Mapping[str, Any] = issues.get(_number(made), **ONCE).attributes
                return read
        except PanicmailError:
            return made  # it is open, and the first answer says nearly as much

    def _opened(self, issue: Mapping[str, Any], dropped: Iterable[str]) -> OpenedIssue:
        return OpenedIssue(iid=_number(issue), url=str(issue.get("web_url") or ""), dropped=tuple(dropped))


def _first(listed: Iterable[Any], field: str, marker: str) -> Mapping[str, Any] | None:
    """The first of the objects whose `field` carries the marker, as its attributes."""
    for one in listed:
        attributes: Mapping[str, Any] = one.attributes
        if carries(str(attributes.get(field) or ""), marker):
            return attributes
    return None


def _number(issue: Any) -> int:
    """Its iid; an answer without one is no answer."""
    return int(issue["iid"])


def _missing(issue: Mapping[str, Any], labels: Sequence[str]) -> Iterator[str]:
    """What every issue of ours has and this one has not."""
    kind = str(issue.get("issue_type") or issue.get("type") or "incident").lower()
    if kind != "incident":
        yield f"type (it is {kind})"
    if issue.get("confidential") is not True:
        yield "confidential"
    kept = {str(label).casefold() for label in issue.get("labels") or ()}
    yield from (f"label {label}" for label in labels if label.casefold() not in kept)
    if issue.get("state") == "closed":
        yield "state (it is closed)"


def _exposure(issue: Mapping[str, Any], notes: Iterable[_Said]) -> IssueExposure | None:
    """That GitLab says outright that it is not confidential, and the newest system note that says who made it so."""
    if issue.get("confidential") is not False:
        return None
    made = next((n for n in notes if n.is_system and _EXPOSED.match(n.body[:_LONGEST_NOTE])), None)
    return IssueExposure(made.at, made.username or None) if made else IssueExposure()


def _changed(issue: Mapping[str, Any], draft: IssueDraft) -> Iterator[str]:
    """What is otherwise than the draft: somebody's text acted, or somebody may not what we asked."""
    wanted = draft.assignee_username
    kept = {str(user.get("username")).casefold() for user in issue.get("assignees") or ()}
    if wanted is not None and wanted.casefold() not in kept:
        yield f"assignee {wanted}"
    if str(issue.get("title")).split() != draft.title.split():
        yield "title"
    if str(issue.get("description")).split() != draft.description.split():
        yield "text"


class _Said(NamedTuple):
    """A comment or a system note."""

    username: str  #: "" when nobody is named
    at: datetime
    is_system: bool
    body: str


def _act(note: _Said) -> IssueAct:
    return IssueAct(note.username, note.at, "worked" if note.is_system else "commented")


def _named(pattern: re.Pattern[str], notes: Iterable[_Said]) -> str:
    """What the newest system note that says so names; "" when none does. A comment proves nothing."""
    hits = (pattern.match(note.body[:_LONGEST_NOTE]) for note in notes if note.is_system)
    return next((hit[1] for hit in hits if hit), "")


def _notes(issue: Any, since: datetime) -> Iterator[_Said]:
    """Comments and system notes, newest first, until they are older than `since`."""
    for note in issue.notes.list(iterator=True, sort="desc", order_by="created_at", per_page=50, **ONCE):
        at = _instant(note.attributes.get("created_at"))
        if at is None or at < since:
            return
        author, body = (note.attributes.get("author") or {}).get("username"), note.attributes.get("body")
        yield _Said(str(author or ""), at, bool(note.attributes.get("system")), str(body or ""))


def _label_changes(issue: Any, since: datetime) -> Iterator[IssueAct]:
    """GitLab keeps changes of labels apart from the notes."""
    for event in issue.resourcelabelevents.list(iterator=True, per_page=50, **ONCE):
        at = _instant(event.attributes.get("created_at"))
        user = (event.attributes.get("user") or {}).get("username")
        if user and at is not None and at >= since:
            yield IssueAct(str(user), at, "labelled")


def _state_changes(issue: Any) -> Iterator[_Said]:
    """GitLab keeps closing and opening again apart from the notes."""
    for event in issue.resourcestateevents.list(iterator=True, per_page=50, **ONCE):
        at = _instant(event.attributes.get("created_at"))
        user = (event.attributes.get("user") or {}).get("username")
        if at is not None:
            yield _Said(str(user or ""), at, True, str(event.attributes.get("state") or ""))


def _is_state(note: _Said) -> bool:
    return note.body in {"closed", "reopened"}


def _instant(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
