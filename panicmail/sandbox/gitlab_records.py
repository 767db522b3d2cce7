"""What the stand-in GitLab keeps: people, labels, files, issues, and what is said and done on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

from panicmail.sandbox.quick_actions import QuickAction

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
