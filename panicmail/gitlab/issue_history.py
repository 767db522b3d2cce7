"""What happened on an issue, as GitLab tells it: who did what, whether it went elsewhere, who opened it again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

from panicmail.clock import wall_clock
from panicmail.errors import Permanent
from panicmail.gitlab import issue_severity
from panicmail.gitlab.client import ONCE, GitLabProject
from panicmail.gitlab.issue_values import (
    IssueAct,
    IssueActivity,
    IssueChanges,
    IssueDestination,
    IssueExposure,
    IssueReopening,
)

#: What GitLab's system notes say of an issue that went elsewhere, and where.
_MOVED = re.compile(r"moved to (\S+)")
_DUPLICATE = re.compile(r"marked this (?:issue|incident|item) as a duplicate of (\S+)")
_PROMOTED = re.compile(r"promoted to epic (\S+)")
_EXPOSED = re.compile(r"made the [\w ]{1,40} visible to everyone")
_LONGEST_NOTE = 1000
#: A system note and the closing it goes with are that near.
_SAME_ACT = timedelta(minutes=1)
#: What is dated before a list was asked for may show only after it: a transaction that took long, a clock of one of
#: GitLab's hosts that is behind.
_OVERLAP = timedelta(minutes=2)
#: So many issues stand on a page, which is GitLab's most, and so many pages are read at once.
_PER_PAGE, _PAGES = 100, 10


_BY_UPDATE: Mapping[str, Any] = {
    "scope": "all", "state": "all", "order_by": "updated_at", "sort": "asc", "per_page": _PER_PAGE, "get_all": False
}  # fmt: skip


class IssueHistory:
    """Reads what people did on issues.

    Args:
        labels: What every issue is expected to carry.
        severity_label: As of `Issues`.
    """

    def __init__(self, project: GitLabProject, labels: Sequence[str], severity_label: str = "") -> None:
        self._project = project
        self._labels, self._severity_label = tuple(labels), severity_label

    def changed(self, since: datetime) -> IssueChanges:
        """The issues updated since an instant by GitLab's clock: one request for each hundred of them, about ten at
        most; the rest of more is for the next time.

        The oldest update comes first, and each request begins at the last one of the request before: a page by number
        would pass over issues that go to the end of the list meanwhile.
        """
        self._project.begin()
        found: dict[int, datetime] = {}
        after, page = since, 1
        with self._project.client.reading():
            issues, asked_at = self._project.get().issues, wall_clock()
            for read in count(1):
                listed = issues.list(updated_after=_written(after), page=page, **_BY_UPDATE, **ONCE)
                updates = {iid_of(one.attributes): _instant_of(one.attributes, "updated_at") for one in listed}
                found |= updates
                resume_at = asked_at + self._project.client.ahead - _OVERLAP
                if len(listed) < _PER_PAGE:
                    break
                last = max(updates.values())
                page = 1 if last > after else page + 1
                resume_at, after = min(last, resume_at), max(last, after)
                if read >= _PAGES and last > since:  # but never the same thousand of one instant again
                    break
        return IssueChanges(resume_at=resume_at, asked_at=asked_at + self._project.client.ahead, updated_at=found)

    def activity(self, iid: int, since: datetime) -> IssueActivity:
        """What people did on an issue after `since`. What this token's own user did is left out."""
        self._project.begin()
        with self._project.client.reading():
            own = self._project.own_username()
            issue = self._project.get().issues.get(iid, **ONCE)
            ahead = self._project.client.ahead
            notes = list(notes_since(issue, since + ahead))
            labelled = list(issue.resourcelabelevents.list(iterator=True, per_page=50, **ONCE))
            acts = [*map(_act, notes), *_label_changes(labelled, since + ahead)]
            graded = issue_severity.last_edit(labelled, notes, self._severity_label, own)
            is_closed = issue.attributes["state"] == "closed"
            elsewhere = self._elsewhere(issue.attributes, notes) if is_closed else None
        closer = issue.attributes.get("closed_by") or {}
        return IssueActivity(
            closed_at=_instant(issue.attributes.get("closed_at")) if is_closed else None,
            closed_by=str(closer.get("username")) if closer.get("username") else None,
            acts=tuple(sorted((act for act in acts if act.username not in {own, ""}), key=lambda act: act.at)),
            elsewhere=elsewhere,
            exposure=_exposure(issue.attributes, notes),
            lacking=tuple(x for x in missing(issue.attributes, self._labels) if x.startswith(("type ", "label "))),
            graded=graded,
            ahead=ahead,
        )

    def reopening(self, iid: int, since: datetime) -> IssueReopening | None:
        """Who opened the issue again after `since`; None when it is closed, or is open since before that.

        Today's GitLab keeps it as an event, older ones as a system note.
        """
        self._project.begin()
        with self._project.client.reading():
            issue = self._project.get().issues.get(iid, **ONCE)
            if issue.attributes["state"] == "closed":
                return None
            since += self._project.client.ahead
            found = list(_state_changes(issue)) or [
                n for n in notes_since(issue, since) if n.is_system and _is_state(n)
            ]
        if not found:
            return IssueReopening(None, None)
        last = max(found, key=lambda change: (change.at, change.id))
        return IssueReopening(last.at, last.username or None) if last.at > since and last.body == "reopened" else None

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
        base = f"{self._project.client.gitlab.url}/"
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
            own = self._project.client.gitlab.projects.get(self._project.get().get_id(), **ONCE).attributes
            path = f"{str(own['path_with_namespace']).rpartition('/')[0]}/{path}"
        try:
            with self._project.client.reading():
                project = self._project.client.gitlab.projects.get(path, **ONCE)
                issue = project.issues.get(int(iid), **ONCE).attributes
        except Permanent:
            return None
        if issue.get("id") != number:
            return None
        return IssueDestination(
            how="moved", place=f"{path}#{iid}", project=str(project.get_id()), iid=iid_of(issue),
            url=str(issue.get("web_url") or ""), is_confidential=issue.get("confidential") is True,
        )  # fmt: skip


def iid_of(issue: Any) -> int:
    """Its iid; an answer without one is no answer."""
    return int(issue["iid"])


def missing(issue: Mapping[str, Any], labels: Sequence[str]) -> Iterator[str]:
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


class _Said(NamedTuple):
    """A comment or a system note."""

    username: str  #: "" when nobody is named
    at: datetime
    is_system: bool
    body: str
    id: int = 0  #: says what came later of two in one millisecond, which is as exact as GitLab tells times


def _act(note: _Said) -> IssueAct:
    return IssueAct(note.username, note.at, "worked" if note.is_system else "commented")


def _named(pattern: re.Pattern[str], notes: Iterable[_Said]) -> str:
    """What the newest system note that says so names; "" when none does. A comment proves nothing."""
    hits = (pattern.match(note.body[:_LONGEST_NOTE]) for note in notes if note.is_system)
    return next((hit[1] for hit in hits if hit), "")


def notes_since(issue: Any, since: datetime) -> Iterator[_Said]:
    """Comments and system notes, newest first, until they are older than `since`."""
    for note in issue.notes.list(iterator=True, sort="desc", order_by="created_at", per_page=50, **ONCE):
        at = _instant(note.attributes.get("created_at"))
        if at is None or at < since:
            return
        author, body = (note.attributes.get("author") or {}).get("username"), note.attributes.get("body")
        yield _Said(str(author or ""), at, bool(note.attributes.get("system")), str(body or ""), note.get_id() or 0)


def _label_changes(events: Iterable[Any], since: datetime) -> Iterator[IssueAct]:
    """GitLab keeps changes of labels apart from the notes."""
    for event in events:
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
            yield _Said(str(user or ""), at, True, str(event.attributes.get("state") or ""), event.get_id() or 0)


def _is_state(note: _Said) -> bool:
    return note.body in {"closed", "reopened"}


def _instant_of(issue: Mapping[str, Any], field: str) -> datetime:
    at = _instant(issue[field])
    if at is None:
        raise ValueError(f"an issue without {field}")
    return at


def _written(at: datetime) -> str:
    """As GitLab reads an instant, cut to the milliseconds it tells."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _instant(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
