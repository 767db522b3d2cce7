"""What can be asked of the stand-in GitLab: to open, edit, move and close issues, and to write notes.

Every change of an issue goes through a method here, under one lock, with the person who makes it, and leaves the traces
GitLab leaves: a system note by that person for an assignment, a title, confidentiality or a type; a resource event for
a label or a state. Today's GitLab writes no system note for labels and states (SystemNotes::IssuablesService writes a
resource event instead), older ones did; `event_notes` says which one this is.

Quick actions in descriptions and notes run, with the rights of whoever writes them; `interpreter` says which.

Limits: one project each, nothing is deleted but a note of nothing but quick actions. An issue may be moved to another
project's `Instance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from panicmail.sandbox.gitlab_records import MAX_DESCRIPTION, MAX_NOTE, MAX_TITLE, Invalid, Issue, Note, User, Written
from panicmail.sandbox.issue_edits import IssueEdits
from panicmail.sandbox.project import Project


class Instance(Project):
    """A GitLab with one project: what can be asked of it."""

    @property
    def _edits(self) -> IssueEdits:
        return IssueEdits(self)

    def open_issue(self, actor: User, wanted: Mapping[str, Any]) -> Issue:
        """Make an issue. `wanted` is as for `edit_issue`, with a title."""
        _check(wanted)
        with self.changing() as now:
            issue = Issue(
                id=next(self.ids),
                iid=len(self.issues) + 1,
                title=wanted["title"],
                author=actor,
                created_at=now,
                updated_at=now,
                issue_type=wanted.get("issue_type", "issue"),
                confidential=wanted.get("confidential", False),
            )
            self.issues[issue.iid] = issue
            self._edits.remember_title(actor, issue)
            later = ("labels", "add_labels", "assignees", "severity", "discussion_locked")
            self._edits.apply(actor, issue, {key: wanted[key] for key in later if key in wanted}, now)
            if (text := wanted.get("description")) is not None:
                issue.description, commands = self._edits.interpret(actor, issue, "description", text)
                self._edits.obey(actor, issue, commands, now)
            return issue

    def edit_issue(self, actor: User, iid: int, wanted: Mapping[str, Any]) -> Issue:
        """Change what `wanted` names.

        Keys: title, description, issue_type, severity, confidential, discussion_locked, labels, add_labels,
        remove_labels (lists of names), assignees (Users; those who are not members are dropped without a word),
        state_event.
        """
        _check(wanted)
        with self.changing() as now:
            issue = self.issue(iid)
            self._edits.apply(actor, issue, wanted, now)
            return issue

    def move_issue(self, actor: User, iid: int, to: Instance) -> Issue:
        """Move an issue to another project: a copy is made there, with people's notes, and this one is closed."""
        with self.changing() as now:
            issue = self.issue(iid)
            with to.changing():
                copy = replace(issue, id=next(to.ids), iid=len(to.issues) + 1, events=[],
                               notes=[note for note in issue.notes if not note.system])  # fmt: skip
                to.issues[copy.iid] = copy
                for name in copy.labels:
                    to.labels.setdefault(name, self.labels[name])
                to._edits.note(actor, copy, f"moved from {self.project}#{issue.iid}", now, system=True)
            self._edits.note(actor, issue, f"moved to {to.project}#{copy.iid}", now, system=True)
            self._edits.close(actor, issue, now)
            issue.moved_to_id = copy.id
            return copy

    def mark_duplicate(self, actor: User, iid: int, of: int) -> None:
        """Close an issue as a duplicate of another one of the project."""
        with self.changing() as now:
            issue = self.issue(iid)
            said = f"marked this issue as a duplicate of #{self.issue(of).iid}"
            self._edits.note(actor, issue, said, now, system=True)
            self._edits.close(actor, issue, now)
            issue.duplicate_of = of

    def promote_issue(self, actor: User, iid: int, epic: int) -> None:
        """Make an epic of an issue: that one is elsewhere, and the issue is closed."""
        with self.changing() as now:
            issue = self.issue(iid)
            self._edits.note(actor, issue, f"promoted to epic &{epic}", now, system=True)
            self._edits.close(actor, issue, now)

    def add_note(self, actor: User, iid: int, body: str, *, internal: bool = False) -> Written:
        if len(body) > MAX_NOTE:
            raise Invalid({"note": [f"is too long (maximum is {MAX_NOTE} characters)"]})
        with self.changing() as now:
            issue = self.issue(iid)
            text, commands = self._edits.interpret(actor, issue, "note", body)
            note = self._edits.note(actor, issue, text, now, internal=internal) if text else None
            self._edits.obey(actor, issue, commands, now)
            return Written(note, commands)

    def edit_note(self, issue: Issue, note: Note, body: str) -> Written:
        with self.changing() as now:
            text, commands = self._edits.interpret(note.author, issue, "note", body)
            if text:
                note.body, note.updated_at = text, now
                self._edits.touch(issue, now)
            else:
                issue.notes.remove(note)
            self._edits.obey(note.author, issue, commands, now)
            return Written(note if text else None, commands)


def _check(wanted: Mapping[str, Any]) -> None:
    errors: dict[str, list[str]] = {}
    if "title" in wanted and not wanted["title"].strip():
        errors["title"] = ["can't be blank"]
    for name, limit in (("title", MAX_TITLE), ("description", MAX_DESCRIPTION)):
        if len(wanted.get(name) or "") > limit:
            errors[name] = [f"is too long (maximum is {limit} characters)"]
    if errors:
        raise Invalid(errors)
