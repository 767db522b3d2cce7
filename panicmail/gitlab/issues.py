"""The issue in GitLab: find it, open it, note on it, put files to it.

Promises: nothing is sent twice from here, nothing sleeps, and every failure is one of the three of `errors`. A passing
failure of `find`, and of the look of `note`, is always Unknown: who was looking because an outcome is open knows no
more than before. One that is `Blocked` is left as it is, and its doubt is the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from panicmail.errors import PanicmailError, Permanent
from panicmail.gitlab.client import ONCE, GitLabProject
from panicmail.gitlab.description import IssueDraft
from panicmail.gitlab.escape import carries, file_name
from panicmail.gitlab.issue_history import IssueHistory, iid_of, missing, notes_since
from panicmail.gitlab.issue_severity import FIELD, label_for, last_edit
from panicmail.gitlab.issue_values import (
    IssueActivity,
    IssueChanges,
    IssueReopening,
    OpenedIssue,
    SeverityMark,
    UploadedFile,
)

#: How far GitLab's clock may be behind ours.
CLOCK_SKEW = timedelta(hours=1)
_UPLOAD_PER_SECOND = 1024 * 1024
_MIRROR = """
mutation mirror($status: IssueSetEscalationStatusInput!, $event: TimelineEventCreateInput!) {
  issueSetEscalationStatus(input: $status) { errors }
  timelineEventCreate(input: $event) { errors }
}
"""


class Issues:
    """The issues of one project.

    Args:
        labels: What every issue is expected to carry.
        severity_label: The label of a severity, with {severity} in it; "": none.
    """

    def __init__(self, project: GitLabProject, labels: Sequence[str], severity_label: str = "") -> None:
        self._project = project
        self._labels, self._severity_label = tuple(labels), severity_label
        self._history = IssueHistory(project, self._labels, severity_label)

    def close(self) -> None:
        self._project.close()

    def in_project(self, project: str) -> Issues:
        """The issues of another project of the same GitLab, by path or number; over the same connection.

        Which labels they have there is that project's business.
        """
        return Issues(self._project.other(project), (), self._severity_label)

    def changed(self, since: datetime) -> IssueChanges:
        """As `IssueHistory.changed`."""
        return self._history.changed(since)

    def activity(self, iid: int, since: datetime) -> IssueActivity:
        """As `IssueHistory.activity`."""
        return self._history.activity(iid, since)

    def reopening(self, iid: int, since: datetime) -> IssueReopening | None:
        """As `IssueHistory.reopening`."""
        return self._history.reopening(iid, since)

    # -- what can be asked

    def find(self, marker: str, since: datetime) -> OpenedIssue | None:
        """The newest issue made at most an hour before `since`, or later, that carries the marker.

        Every page is read: under load the issue looked for is not among the newest hundred. GitLab's own search knows
        a text only some time after it was written, so it is a second try and no more.
        """
        self._project.begin()
        with self._project.client.looking():
            found = _first(self._since(since, state="all", sort="desc"), "description", marker)
        if found is None:
            found = self._search(marker)
        return None if found is None else self._opened(found, missing(found, self._labels))

    def create(self, draft: IssueDraft) -> OpenedIssue:
        """Open the issue and read it back. An assignee GitLab does not know is left out and named in `dropped`."""
        self._project.begin()
        with self._project.client.reading():
            issues = self._project.get().issues
            assignee = self._project.user_id(draft.assignee_username)
        with self._project.client.acting():
            made = issues.create(_asked(draft, assignee), **ONCE).attributes
            iid_of(made)
        kept = self._read_back(issues, made)
        return self._opened(made, (*missing(kept, draft.labels), *_changed(kept, draft)))

    def note(self, iid: int, text: str, marker: str, *, look: bool) -> None:
        """Write an internal note. `look`: not if one with this marker is there already."""
        self._project.begin()
        with self._project.client.reading():
            notes = self._project.get().issues.get(iid, lazy=True).notes
        if look and self._has_note(notes, marker):
            return
        with self._project.client.acting():
            made = notes.create({"body": text, "internal": True}, **ONCE)
        if made.attributes.get("id") is None:
            # 202: GitLab found nothing in it but quick actions. Our notes begin with words, so this is no text of ours.
            raise Permanent("GitLab took the note for a command and kept none")

    def upload(self, name: str, data: bytes) -> UploadedFile:
        """Put a file to the project, under a name that is safe in an address."""
        self._project.begin(len(data) / _UPLOAD_PER_SECOND)
        with self._project.client.reading():
            project = self._project.get()
        safe = file_name(name)
        with self._project.client.acting():
            url = project.upload(safe, filedata=data, **ONCE)["url"]
            if not re.fullmatch(r"/\S+", url):
                raise ValueError("an upload without an address")
        return UploadedFile(url=url, name=safe)

    def description(self, iid: int) -> str:
        self._project.begin()
        with self._project.client.reading():
            return str(self._project.get().issues.get(iid, **ONCE).attributes["description"] or "")

    def describe(self, iid: int, text: str) -> None:
        """Replace the description."""
        self._project.begin()
        with self._project.client.reading():
            issues = self._project.get().issues
        with self._project.client.acting():
            iid_of(issues.update(iid, {"description": text}, **ONCE))

    def retitle(self, iid: int, before: str, after: str) -> None:
        """Give the issue its new title; one that somebody gave it meanwhile stays."""
        self._project.begin()
        with self._project.client.reading():
            issues = self._project.get().issues
            title = str(issues.get(iid, **ONCE).attributes["title"])
        if title.split() != before.split() or before == after:
            return
        with self._project.client.acting():
            iid_of(issues.update(iid, {"title": after}, **ONCE))

    def twins(self, marker: str, since: datetime) -> list[OpenedIssue]:
        """Every open issue with the marker made at most an hour before `since`, or later; the oldest first."""
        self._project.begin()
        with self._project.client.looking():
            listed = self._since(since, state="opened", sort="asc")
            found = [one.attributes for one in listed if carries(str(one.attributes["description"] or ""), marker)]
        return [self._opened(issue, ()) for issue in sorted(found, key=iid_of)]

    def close_twin(self, iid: int, of: int) -> None:
        """Close an issue as the younger twin of another, and say so on it."""
        self._project.begin()
        with self._project.client.acting():
            issue = self._project.get().issues.get(iid, lazy=True)
            text = f"Closed by panicmail: this is the same panic as issue {of}, made twice by a lost answer."
            issue.notes.create({"body": text, "internal": True}, **ONCE)
            self._project.get().issues.update(iid, {"state_event": "close"}, **ONCE)

    def grade(self, iid: int, mark: SeverityMark) -> str:
        """As `SeverityWriter.put`."""
        return SeverityWriter(self._project).put(iid, mark)

    def confide(self, iid: int) -> None:
        """Make the issue confidential."""
        self._project.begin()
        with self._project.client.acting():
            iid_of(self._project.get().issues.update(iid, {"confidential": True}, **ONCE))

    def mirror(self, iid: int, status: str, note: str, at: datetime) -> None:
        """Set the incident's status and write its timeline, by GraphQL: there is no REST for either.

        Raises:
            Permanent: This GitLab, or this token, cannot.
        """
        self._project.begin()
        with self._project.client.reading():
            issue = self._project.get().issues.get(iid, **ONCE).attributes
            path = self._project.client.gitlab.projects.get(self._project.get().get_id(), **ONCE).attributes[
                "path_with_namespace"
            ]
        variables = {
            "status": {"projectPath": path, "iid": str(iid), "status": status},
            "event": {"incidentId": f"gid://gitlab/Issue/{issue['id']}", "note": note, "occurredAt": at.isoformat()},
        }
        with self._project.client.acting():
            answer = self._project.client.graphql(_MIRROR, variables)
        refused = answer.get("errors") or [e for part in (answer.get("data") or {}).values() for e in part["errors"]]
        if refused:
            raise Permanent(f"GitLab does not mirror the status: {str(refused)[:200]}")

    def _since(self, since: datetime, *, state: str, sort: str) -> Iterable[Any]:
        after = f"{(since - CLOCK_SKEW).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        every: dict[str, Any] = {"scope": "all", "state": state, "order_by": "created_at", "sort": sort}
        listed: Iterable[Any] = self._project.get().issues.list(
            iterator=True, created_after=after, per_page=50, **every, **ONCE
        )
        return listed

    def _search(self, marker: str) -> Mapping[str, Any] | None:
        every: dict[str, Any] = {"in": "description", "scope": "all", "state": "all"}
        try:
            with self._project.client.reading():
                hits = self._project.get().issues.list(iterator=True, search=marker, **every, **ONCE)
                return _first(hits, "description", marker)
        except PanicmailError:
            return None  # the list was read to its end: that was the answer

    def _has_note(self, notes: Any, marker: str) -> bool:
        with self._project.client.looking():
            listed = notes.list(iterator=True, sort="desc", activity_filter="only_comments", per_page=100, **ONCE)
            return _first(listed, "body", marker) is not None

    def _read_back(self, issues: Any, made: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with self._project.client.reading():
                read: Mapping[str, Any] = issues.get(iid_of(made), **ONCE).attributes
                return read
        except PanicmailError:
            return made  # it is open, and the first answer says nearly as much

    def _opened(self, issue: Mapping[str, Any], dropped: Iterable[str]) -> OpenedIssue:
        return OpenedIssue(iid=iid_of(issue), url=str(issue.get("web_url") or ""), dropped=tuple(dropped))


def _asked(draft: IssueDraft, assignee: int | None) -> dict[str, Any]:
    """What a new issue is asked to be."""
    asked: dict[str, Any] = {
        "title": draft.title,
        "description": draft.description,
        "issue_type": "incident",
        "confidential": True,
        "labels": list(draft.labels),
    }
    if draft.severity:
        asked["severity"] = draft.severity
    if assignee is not None:
        asked["assignee_ids"] = [assignee]
    return asked


def _first(listed: Iterable[Any], field: str, marker: str) -> Mapping[str, Any] | None:
    """The first of the objects whose `field` carries the marker, as its attributes."""
    for one in listed:
        attributes: Mapping[str, Any] = one.attributes
        if carries(str(attributes.get(field) or ""), marker):
            return attributes
    return None


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


# -- Writes the severity of an issue. What a person set there later stays.

_SET = """
mutation grade($input: IssueSetSeverityInput!) {
  issueSetSeverity(input: $input) { errors }
}
"""


class SeverityWriter:
    """Writes to the issues of one project."""

    def __init__(self, project: GitLabProject) -> None:
        self._project = project

    def put(self, iid: int, mark: SeverityMark) -> str:
        """Show the severity, and add the labels, where no person changed it after `mark.since`. What came of it."""
        self._project.begin()
        with self._project.client.reading():
            issue = self._project.get().issues.get(iid, **ONCE)
            labelled = list(issue.resourcelabelevents.list(iterator=True, per_page=50, **ONCE))
            since = mark.since + self._project.client.ahead
            last = last_edit(labelled, notes_since(issue, since), mark.pattern, self._project.own_username())
            edited = last is not None and last.at > since
        has = {str(label).casefold(): str(label) for label in issue.attributes.get("labels") or ()}
        wanted: dict[str, Any] = {"add_labels": [each for each in mark.labels if each.casefold() not in has]}
        if edited:
            mark = replace(mark, level=None)
        if (label := label_for(mark.pattern, mark.level)) and label.casefold() not in has:
            wanted["add_labels"].append(label)
        others = [label_for(mark.pattern, level) for level in FIELD if level != mark.level]
        if mark.level and (gone := [has[o.casefold()] for o in others if o and o.casefold() in has]):
            wanted["remove_labels"] = gone
        field = FIELD[mark.level] if mark.level and mark.is_field else ""
        is_other = bool(field) and str(issue.attributes.get("severity") or "").lower() != field
        self._write(issue, {name: value for name, value in wanted.items() if value}, field if is_other else "")
        return "a person changed it, which stays" if edited else f"severity {mark.level or '-'}"

    def _write(self, issue: Any, labels: dict[str, Any], field: str) -> None:
        """A PUT of the severity alone is refused, and an older GitLab passes over it: then it goes by GraphQL."""
        answer: Mapping[str, Any] = {}
        if labels:
            with self._project.client.acting():
                asked = {**labels, **({"severity": field} if field else {})}
                answer = self._project.get().issues.update(issue.get_id(), asked, **ONCE)
        if field and str(answer.get("severity") or "").lower() != field:
            self._by_graphql(issue, field)

    def _by_graphql(self, issue: Any, field: str) -> None:
        with self._project.client.reading():
            number = self._project.get().get_id()
            path = self._project.client.gitlab.projects.get(number, **ONCE).attributes["path_with_namespace"]
        given = {"projectPath": path, "iid": str(issue.get_id()), "severity": field.upper()}
        with self._project.client.acting():
            answer = self._project.client.graphql(_SET, {"input": given})
        said = (answer.get("data") or {}).get("issueSetSeverity") or {}
        if refused := answer.get("errors") or said.get("errors"):
            raise Permanent(f"GitLab does not set the severity: {str(refused)[:200]}")
