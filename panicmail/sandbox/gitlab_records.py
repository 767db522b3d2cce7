"""What the stand-in GitLab keeps: people, labels, files, issues, and what is said and done on them."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import count
from typing import NamedTuple

from panicmail.clock import Clock
from panicmail.sandbox.quick_actions import EXTRACTORS, Extractor, Interpreter, QuickAction

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


# -- A project of the stand-in GitLab with everybody who has an account: what there is, all in memory, under one lock.


class Project:
    """One project and its GitLab.

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
        self.event_notes = event_notes
        self.interpreter = Interpreter(extractors)
        self.lock = threading.Condition(threading.RLock())
        self.changes = 0  #: rises with every change; waiters watch it
        self._clock = clock
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

    def add_upload(self, actor: User, name: str, data: bytes) -> Upload:
        """Keep a file under a secret path; its name loses what GitLab takes out of names."""
        clean = re.sub(r"[^\w.\-+]", "_", name.replace("\\", "/").rsplit("/", 1)[-1]) or "file"
        with self.changing():
            upload = Upload(id=next(self.ids), secret=secrets.token_hex(16), name=clean, data=data, by=actor)
            self.uploads.append(upload)
            return upload


def _whole(user: User, number: int) -> User:
    """The user as stored: with an id, a name and an address."""
    return replace(
        user,
        id=number,
        name=user.name or user.username.capitalize(),
        email=user.email or f"{user.username}@example.com",
    )
