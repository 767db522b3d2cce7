"""What the stand-in GitLab knows: people, one project with its labels, issues, notes and uploads; all in memory.

Every change goes through a method here, under one lock, with the person who makes it, and leaves the traces GitLab
leaves: a system note by that person for an assignment, a title, confidentiality or a type; a resource event for a
label or a state. Today's GitLab writes no system note for labels and states (SystemNotes::IssuablesService writes
a resource event instead), older ones did; `event_notes` says which one this is.

Quick actions in descriptions and notes run, with the rights of whoever writes them; `interpreter` says which.

Limits: one project each, nothing is deleted but a note of nothing but quick actions. An issue may be moved to another
project's `Instance`.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import count
from typing import Any, NamedTuple

from panicmail.clock import Clock
from panicmail.sandbox.effects import Before, effect
from panicmail.sandbox.interpreter import Interpreter, Where
from panicmail.sandbox.quick_actions import EXTRACTORS, Extractor, QuickAction

MAX_TITLE = 255
MAX_DESCRIPTION = 1_048_576
MAX_NOTE = 1_000_000
MAX_UPLOAD = 100 * 1024 * 1024
LABEL_COLOR = "#6699cc"

GUEST, REPORTER, DEVELOPER, MAINTAINER = 10, 20, 30, 40


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody with an account."""

    username: str
    name: str = ""  #: "" makes one of the username
    email: str = ""  #: "" makes one at example.com
    access_level: int = DEVELOPER  #: in the project; 0 means not a member
    bot: bool = False
    id: int = 0  #: given by the instance


@dataclass(frozen=True, kw_only=True)
class Label:
    id: int
    name: str
    color: str = LABEL_COLOR
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file kept in memory, reachable by its secret."""

    id: int
    secret: str
    name: str  #: as cleaned by the instance
    data: bytes
    by: User

    @property
    def path(self) -> str:
        return f"/uploads/{self.secret}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class SandboxToken:
    """What the access token says of itself."""

    scopes: tuple[str, ...] = ("api",)
    expires_on: date | None = None  #: it ends when that day begins, UTC; None: never
    revoked: bool = False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the project is set to."""

    visibility: str = "private"  #: "internal" or "public"
    archived: bool = False
    issues: str = "enabled"  #: "private": for members; "disabled"


@dataclass(kw_only=True)
class Note:
    id: int
    body: str
    author: User
    created_at: datetime
    updated_at: datetime
    system: bool = False
    internal: bool = False


class Written(NamedTuple):
    """What became of the text of a note."""

    note: Note | None  #: None when it was nothing but quick actions
    commands: tuple[QuickAction, ...]  #: that were carried out


@dataclass(frozen=True, kw_only=True)
class ResourceEvent:
    """A label put on or taken off, or a change of state."""

    id: int
    user: User
    created_at: datetime
    state: str = ""  #: "closed" or "reopened"; "" for a label
    action: str = ""  #: "add" or "remove"; "" for a state
    label: Label | None = None


@dataclass(kw_only=True)
class Issue:
    id: int
    iid: int
    title: str
    author: User
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    issue_type: str = "issue"
    severity: str = "unknown"  #: of incidents only
    confidential: bool = False
    discussion_locked: bool | None = None  #: None: never said
    labels: list[str] = field(default_factory=list)  #: names, sorted
    assignees: list[User] = field(default_factory=list)
    state: str = "opened"  #: or "closed"
    closed_at: datetime | None = None
    closed_by: User | None = None
    moved_to_id: int | None = None  #: closed because it went to another project: the id of the issue there
    duplicate_of: int | None = None  #: closed as a duplicate: the iid of the other one
    notes: list[Note] = field(default_factory=list)  #: oldest first
    events: list[ResourceEvent] = field(default_factory=list)  #: oldest first


class Invalid(Exception):  # noqa: N818 - said of a field: invalid
    """A value GitLab's models refuse; `errors` is what its answer says, field to sentences."""

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        super().__init__(str(errors))
        self.errors = errors


class Taken(Exception):  # noqa: N818
    """A label of that name is there already."""


class Instance:
    """A GitLab with one project.

    Args:
        url: How it is reached, without a slash at the end.
        users: Everybody with an account; the first owns the token.
        event_notes: Labels and states leave a system note too, as in older GitLabs.
        extractors: Of quick actions; the first acts, all are remembered.
        ids: Where the numbers of things come from; shared by the projects of one GitLab.
    """

    def __init__(
        self,
        url: str,
        project: str,
        users: Sequence[User],
        clock: Clock,
        *,
        event_notes: bool = True,
        extractors: Sequence[Extractor] = EXTRACTORS,
        project_id: int = 42,
        ids: Iterator[int] | None = None,
    ) -> None:
        self.url = url
        self.project = project
        # Numbers of different things never meet, so that taking one for another is a 404 and not a success.
        self.project_id = project_id
        self.users = {user.username: _whole(user, number) for number, user in enumerate(users, start=11)}
        self.owner = next(iter(self.users.values()))
        self.created_at = clock()
        self.token = SandboxToken()
        self.settings = Settings()
        self.labels: dict[str, Label] = {}
        self.issues: dict[int, Issue] = {}
        self.uploads: list[Upload] = []
        self.interpreter = Interpreter(extractors)
        self.lock = threading.Condition(threading.RLock())
        self.changes = 0  #: rises with every change; waiters watch it
        self._clock = clock
        self._event_notes = event_notes
        self.ids = count(101) if ids is None else ids

    @contextmanager
    def changing(self) -> Iterator[datetime]:
        """One change: holds the lock, answers its instant, wakes the waiters at the end."""
        with self.lock:
            yield self._clock()
            self.changes += 1
            self.lock.notify_all()

    def wait_for_change(self, seen: int, seconds: float) -> None:
        """Return when `changes` is no longer `seen`, or after `seconds`."""
        with self.lock:
            self.lock.wait_for(lambda: self.changes != seen, seconds)

    def now(self) -> datetime:
        return self._clock()

    def is_token_live(self) -> bool:
        expires_on = self.token.expires_on
        return not self.token.revoked and (expires_on is None or self._clock().date() < expires_on)

    def user(self, username: str) -> User:
        """Raises LookupError, naming those there are."""
        try:
            return self.users[username]
        except KeyError:
            raise LookupError(f"no user {username!r}; there are {', '.join(self.users)}") from None

    def issue(self, iid: int) -> Issue:
        """Raises LookupError, naming those there are."""
        try:
            return self.issues[iid]
        except KeyError:
            raise LookupError(f"no issue {iid}; there are {list(self.issues)}") from None

    def members(self) -> list[User]:
        return [user for user in self.users.values() if user.access_level]

    def add_label(self, name: str, color: str = LABEL_COLOR, description: str | None = None) -> Label:
        with self.changing():
            if name in self.labels:
                raise Taken(name)
            self.labels[name] = Label(id=next(self.ids), name=name, color=color, description=description)
            return self.labels[name]

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
            self._remember_title(actor, issue)
            later = ("labels", "add_labels", "assignees", "severity", "discussion_locked")
            self._apply(actor, issue, {key: wanted[key] for key in later if key in wanted}, now)
            if (text := wanted.get("description")) is not None:
                issue.description, commands = self._interpret(actor, issue, "description", text)
                self._obey(actor, issue, commands, now)
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
            self._apply(actor, issue, wanted, now)
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
                to._note(actor, copy, f"moved from {self.project}#{issue.iid}", now, system=True)
            self._note(actor, issue, f"moved to {to.project}#{copy.iid}", now, system=True)
            self._set_state_event(actor, issue, "close", now)
            issue.moved_to_id = copy.id
            return copy

    def mark_duplicate(self, actor: User, iid: int, of: int) -> None:
        """Close an issue as a duplicate of another one of the project."""
        with self.changing() as now:
            issue = self.issue(iid)
            self._note(actor, issue, f"marked this issue as a duplicate of #{self.issue(of).iid}", now, system=True)
            self._set_state_event(actor, issue, "close", now)
            issue.duplicate_of = of

    def promote_issue(self, actor: User, iid: int, epic: int) -> None:
        """Make an epic of an issue: that one is elsewhere, and the issue is closed."""
        with self.changing() as now:
            issue = self.issue(iid)
            self._note(actor, issue, f"promoted to epic &{epic}", now, system=True)
            self._set_state_event(actor, issue, "close", now)

    def add_note(self, actor: User, iid: int, body: str, *, internal: bool = False) -> Written:
        if len(body) > MAX_NOTE:
            raise Invalid({"note": [f"is too long (maximum is {MAX_NOTE} characters)"]})
        with self.changing() as now:
            issue = self.issue(iid)
            issue.updated_at = now
            text, commands = self._interpret(actor, issue, "note", body)
            note = self._note(actor, issue, text, now, internal=internal) if text else None
            self._obey(actor, issue, commands, now)
            return Written(note, commands)

    def edit_note(self, issue: Issue, note: Note, body: str) -> Written:
        with self.changing() as now:
            text, commands = self._interpret(note.author, issue, "note", body)
            if text:
                note.body, note.updated_at = text, now
            else:
                issue.notes.remove(note)
            self._obey(note.author, issue, commands, now)
            return Written(note if text else None, commands)

    def add_upload(self, actor: User, name: str, data: bytes) -> Upload:
        """Keep a file under a secret path; its name loses what GitLab takes out of names."""
        clean = re.sub(r"[^\w.\-+]", "_", name.replace("\\", "/").rsplit("/", 1)[-1]) or "file"
        with self.changing():
            upload = Upload(id=next(self.ids), secret=secrets.token_hex(16), name=clean, data=data, by=actor)
            self.uploads.append(upload)
            return upload

    # -- texts -----------------------------------------------------------------------------------------------------

    def _interpret(self, actor: User, issue: Issue, where: Where, text: str) -> tuple[str, tuple[QuickAction, ...]]:
        """The text as it is kept, and what it orders."""
        if actor == self.owner:
            self.interpreter.remember(where, issue.iid, text, {upload.path for upload in self.uploads})
        taken = self.interpreter.extract(text)
        return taken.text, taken.commands

    def _remember_title(self, actor: User, issue: Issue) -> None:
        if actor == self.owner:
            self.interpreter.remember("title", issue.iid, issue.title)

    def _obey(self, actor: User, issue: Issue, commands: Sequence[QuickAction], now: datetime) -> None:
        for command in commands:
            assignees = [user.username for user in issue.assignees]
            wanted = effect(command, Before(actor=actor.username, assignees=assignees, labels=issue.labels))
            if "assignees" in wanted:
                wanted["assignees"] = [self.users[name] for name in wanted["assignees"] if name in self.users]
            self._apply(actor, issue, wanted, now)

    # -- the single edits, each leaving its trace ------------------------------------------------------------------

    def _apply(self, actor: User, issue: Issue, wanted: Mapping[str, Any], now: datetime) -> None:
        for key, value in wanted.items():
            getattr(self, f"_set_{key}")(actor, issue, value, now)
        issue.updated_at = now

    def _set_title(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        if value != issue.title:
            self._note(actor, issue, f"changed title from **{issue.title}** to **{value}**", now, system=True)
            issue.title = value
            self._remember_title(actor, issue)

    def _set_description(self, actor: User, issue: Issue, value: str | None, now: datetime) -> None:
        text, commands = (None, ()) if value is None else self._interpret(actor, issue, "description", value)
        if text != issue.description:
            self._note(actor, issue, "changed the description", now, system=True)
            issue.description = text
        self._obey(actor, issue, commands, now)

    def _set_confidential(self, actor: User, issue: Issue, value: bool, now: datetime) -> None:
        if value != issue.confidential:
            said = "made the issue confidential" if value else "made the issue visible to everyone"
            self._note(actor, issue, said, now, system=True)
            issue.confidential = value

    def _set_discussion_locked(self, actor: User, issue: Issue, value: bool, now: datetime) -> None:
        if value != bool(issue.discussion_locked):
            said = "locked" if value else "unlocked"
            self._note(actor, issue, f"{said} the discussion in this issue", now, system=True)
        issue.discussion_locked = value

    def _set_issue_type(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        if value != issue.issue_type:
            self._note(actor, issue, f"changed type from {issue.issue_type} to {value}", now, system=True)
            issue.issue_type = value

    def _set_severity(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        if issue.issue_type == "incident" and value != issue.severity:
            self._note(actor, issue, f"changed the severity to **{value.capitalize()}**", now, system=True)
            issue.severity = value

    def _set_labels(self, actor: User, issue: Issue, value: Sequence[str], now: datetime) -> None:
        added = sorted(set(value) - set(issue.labels))
        removed = sorted(set(issue.labels) - set(value))
        for action, names in (("add", added), ("remove", removed)):
            for name in names:
                label = self.labels.get(name) or self.add_label(name)
                self._event(actor, issue, now, action=action, label=label)
        issue.labels = sorted(set(value))

        said = [f"{verb} {_label_references(self, names)}" for verb, names in _verbs(added, removed)]
        if said and self._event_notes:
            self._note(actor, issue, " and ".join(said), now, system=True)

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
            self._note(actor, issue, " and ".join(said), now, system=True)

    def _set_state_event(self, actor: User, issue: Issue, value: str, now: datetime) -> None:
        state = "closed" if value == "close" else "opened"
        if state == issue.state:
            return
        issue.state = state
        issue.closed_at, issue.closed_by = (now, actor) if state == "closed" else (None, None)
        issue.moved_to_id = issue.duplicate_of = None
        said = "closed" if state == "closed" else "reopened"
        self._event(actor, issue, now, state=said)
        if self._event_notes:
            self._note(actor, issue, said, now, system=True)

    def _event(self, actor: User, issue: Issue, now: datetime, **what: Any) -> None:
        issue.events.append(ResourceEvent(id=next(self.ids), user=actor, created_at=now, **what))

    def _note(
        self, actor: User, issue: Issue, body: str, now: datetime, *, system: bool = False, internal: bool = False
    ) -> Note:
        note = Note(
            id=next(self.ids),
            body=body,
            author=actor,
            created_at=now,
            updated_at=now,
            system=system,
            internal=internal,
        )
        issue.notes.append(note)
        return note


def _whole(user: User, number: int) -> User:
    """The user as stored: with an id, a name and an address."""
    return replace(
        user,
        id=number,
        name=user.name or user.username.capitalize(),
        email=user.email or f"{user.username}@example.com",
    )


def _check(wanted: Mapping[str, Any]) -> None:
    errors: dict[str, list[str]] = {}
    if "title" in wanted and not wanted["title"].strip():
        errors["title"] = ["can't be blank"]
    for name, limit in (("title", MAX_TITLE), ("description", MAX_DESCRIPTION)):
        if len(wanted.get(name) or "") > limit:
            errors[name] = [f"is too long (maximum is {limit} characters)"]
    if errors:
        raise Invalid(errors)


def _verbs(added: Sequence[str], removed: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    return [(verb, names) for verb, names in (("added", added), ("removed", removed)) if names]


def _label_references(instance: Instance, names: Sequence[str]) -> str:
    """As GitLab writes labels in a note: by number, so that a renamed label still reads right."""
    references = " ".join(f"~{instance.labels[name].id}" for name in names)
    return f"{references} {'label' if len(names) == 1 else 'labels'}"
