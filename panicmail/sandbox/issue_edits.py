"""The single edits of an issue in the stand-in GitLab, each leaving its trace; and what its texts order.

Whoever calls holds the project's lock, by `Project.changing`.

An edit of the issue's own fields moves its `updated_at`. A note, a label, an assignment or a severity only touches it,
and GitLab takes a touch (its ThrottledTouch) only when the last update is more than a minute old: what is said and done
within that minute shows in no `updated_after`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from panicmail.sandbox.gitlab_records import (
    MAX_DESCRIPTION,
    MAX_NOTE,
    MAX_TITLE,
    Invalid,
    Issue,
    Note,
    Project,
    ResourceEvent,
    User,
    Written,
)
from panicmail.sandbox.quick_actions import Before, QuickAction, Where, effect

#: A touch this soon after the last update is left out.
TOUCH_INTERVAL = timedelta(minutes=1)
#: What only touches the issue.
_BESIDE_IT = frozenset({"labels", "add_labels", "remove_labels", "assignees", "severity"})


class IssueEdits:
    """Edits of one project's issues, by the person who makes them."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def interpret(self, actor: User, issue: Issue, where: Where, text: str) -> tuple[str, tuple[QuickAction, ...]]:
        """The text as it is kept, and what it orders."""
        if actor == self._project.owner:
            paths = {upload.path for upload in self._project.uploads}
            self._project.interpreter.remember(where, issue.iid, text, paths)
        taken = self._project.interpreter.extract(text)
        return taken.text, taken.commands

    def remember_title(self, actor: User, issue: Issue) -> None:
        if actor == self._project.owner:
            self._project.interpreter.remember("title", issue.iid, issue.title)

    def obey(self, actor: User, issue: Issue, commands: Sequence[QuickAction], now: datetime) -> None:
        for command in commands:
            assignees = [user.username for user in issue.assignees]
            users = self._project.users
            wanted = effect(command, Before(actor=actor.username, assignees=assignees, labels=issue.labels))
            if "assignees" in wanted:
                wanted["assignees"] = [users[name] for name in wanted["assignees"] if name in users]
            self.apply(actor, issue, wanted, now)

    def close(self, actor: User, issue: Issue, now: datetime) -> None:
        self._set_state_event(actor, issue, "close", now)

    def apply(self, actor: User, issue: Issue, wanted: Mapping[str, Any], now: datetime) -> None:
        """Set what `wanted` names, in the words of `Instance.edit_issue`."""
        for key, value in wanted.items():
            getattr(self, f"_set_{key}")(actor, issue, value, now)
        if wanted.keys() - _BESIDE_IT:
            issue.updated_at = now
        elif wanted:
            self.touch(issue, now)

    def touch(self, issue: Issue, now: datetime) -> None:
        if now - issue.updated_at > TOUCH_INTERVAL:
            issue.updated_at = now

    def _set_title(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        if value != issue.title:
            self.note(actor, issue, f"changed title from **{issue.title}** to **{value}**", now, system=True)
            issue.title = value
            self.remember_title(actor, issue)

    def _set_description(self, actor: User, issue: Issue, value: str | None, now: datetime) -> None:
        text, commands = (None, ()) if value is None else self.interpret(actor, issue, "description", value)
        if text != issue.description:
            self.note(actor, issue, "changed the description", now, system=True)
            issue.description = text
        self.obey(actor, issue, commands, now)

    def _set_confidential(self, actor: User, issue: Issue, value: bool, now: datetime) -> None:
        if value != issue.confidential:
            said = "made the issue confidential" if value else "made the issue visible to everyone"
            self.note(actor, issue, said, now, system=True)
            issue.confidential = value

    def _set_discussion_locked(self, actor: User, issue: Issue, value: bool, now: datetime) -> None:
        if value != bool(issue.discussion_locked):
            said = "locked" if value else "unlocked"
            self.note(actor, issue, f"{said} the discussion in this issue", now, system=True)
        issue.discussion_locked = value

    def _set_issue_type(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        if value != issue.issue_type:
            self.note(actor, issue, f"changed type from {issue.issue_type} to {value}", now, system=True)
            issue.issue_type = value

    def _set_severity(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        if issue.issue_type == "incident" and value != issue.severity:
            self.note(actor, issue, f"changed the severity to **{value.capitalize()}**", now, system=True)
            issue.severity = value

    def _set_labels(self, actor: User, issue: Issue, value: Sequence[str], now: datetime) -> None:
        added = sorted(set(value) - set(issue.labels))
        removed = sorted(set(issue.labels) - set(value))
        for action, names in (("add", added), ("remove", removed)):
            for name in names:
                label = self._project.labels.get(name) or self._project.add_label(name)
                self._event(actor, issue, now, action=action, label=label)
        issue.labels = sorted(set(value))

        said = [f"{verb} {_label_references(self._project, names)}" for verb, names in _verbs(added, removed)]
        if said and self._project.event_notes:
            self.note(actor, issue, " and ".join(said), now, system=True)

    def _set_add_labels(self, actor: User, issue: Issue, value: Sequence[str], now: datetime) -> None:
        self._set_labels(actor, issue, [*issue.labels, *value], now)

    def _set_remove_labels(self, actor: User, issue: Issue, value: Sequence[str], now: datetime) -> None:
        self._set_labels(actor, issue, [name for name in issue.labels if name not in value], now)

    def _set_assignees(self, actor: User, issue: Issue, value: Sequence[User], now: datetime) -> None:
        members = [user for user in value if user.access_level]
        added = [f"@{user.username}" for user in members if user not in issue.assignees]
        removed = [f"@{user.username}" for user in issue.assignees if user not in members]
        issue.assignees = members
        said = [
            f"{verb} {' '.join(names)}" for verb, names in (("assigned to", added), ("unassigned", removed)) if names
        ]
        if said:
            self.note(actor, issue, " and ".join(said), now, system=True)

    def _set_state_event(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        state = "closed" if value == "close" else "opened"
        if state == issue.state:
            return
        issue.state, issue.updated_at = state, now
        issue.closed_at, issue.closed_by = (now, actor) if state == "closed" else (None, None)
        issue.moved_to_id = issue.duplicate_of = None
        said = "closed" if state == "closed" else "reopened"
        self._event(actor, issue, now, state=said)
        if self._project.event_notes:
            self.note(actor, issue, said, now, system=True)

    def _event(self, actor: User, issue: Issue, now: datetime, **what: Any) -> None:
        issue.events.append(ResourceEvent(id=next(self._project.ids), user=actor, created_at=now, **what))

    def note(
        self, actor: User, issue: Issue, body: str, now: datetime, *, system: bool = False, internal: bool = False
    ) -> Note:
        note = Note(
            id=next(self._project.ids),
            body=body,
            author=actor,
            created_at=now,
            updated_at=now,
            system=system,
            internal=internal,
        )
        issue.notes.append(note)
        self.touch(issue, now)
        return note


def _verbs(added: Sequence[str], removed: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    return [(verb, names) for verb, names in (("added", added), ("removed", removed)) if names]


def _label_references(project: Project, names: Sequence[str]) -> str:
    """As GitLab writes labels in a note: by number, so that a renamed label still reads right."""
    references = " ".join(f"~{project.labels[name].id}" for name in names)
    return f"{references} {'label' if len(names) == 1 else 'labels'}"


# -- What can be asked of the stand-in GitLab: to open, edit, move and close issues, and to write notes.
#
# Every change of an issue goes through a method here, under one lock, with the person who makes it, and leaves the
# traces GitLab leaves: a system note by that person for an assignment, a title, confidentiality or a type; a
# resource event for a label or a state. Today's GitLab writes no system note for labels and states
# (SystemNotes::IssuablesService writes a resource event instead), older ones did; `event_notes` says which one this
# is.
#
# Quick actions in descriptions and notes run, with the rights of whoever writes them; `interpreter` says which.
#
# Limits: one project each, nothing is deleted but a note of nothing but quick actions. An issue may be moved to
# another project's `Instance`.


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
