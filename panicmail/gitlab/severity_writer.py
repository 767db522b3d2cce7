"""Writes the severity of an issue. What a person set there later stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from panicmail.errors import Permanent
from panicmail.gitlab.client import ONCE
from panicmail.gitlab.gitlab_project import GitLabProject
from panicmail.gitlab.issue_history import notes_since
from panicmail.gitlab.issue_severity import FIELD, label_for, last_edit
from panicmail.gitlab.issue_values import SeverityMark

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
