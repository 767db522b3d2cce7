"""A project of the stand-in GitLab with everybody who has an account: what there is, all in memory, under one lock."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count

from panicmail.clock import Clock
from panicmail.sandbox.gitlab_records import LABEL_COLOR, Issue, Label, SandboxToken, Settings, Taken, Upload, User
from panicmail.sandbox.interpreter import Interpreter
from panicmail.sandbox.quick_actions import EXTRACTORS, Extractor


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
