"""One project of GitLab, and the connection to it."""

from __future__ import annotations

import copy
import ssl
from typing import Any

from panicmail.errors import Permanent
from panicmail.gitlab.client import ONCE, GitLabClient


class GitLabProject:
    """One project.

    Args:
        project: Path or number.
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
        *,
        connect_timeout: float = 5,
        read_timeout: float = 10,
        deadline: float = 30,
        keep_seconds: float = 30,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._name = project
        self.deadline = deadline
        self.client = GitLabClient(
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
        self.client.close()

    def other(self, project: str) -> GitLabProject:
        """Another project of the same GitLab, by path or number; over the same connection."""
        other = copy.copy(self)
        other._name, other._project = project, None
        return other

    def begin(self, more: float = 0) -> None:
        """One method begins: all its requests together have the deadline, and `more` seconds."""
        self.client.begin(self.deadline + more)

    def get(self) -> Any:
        """The project by its number, asked for once: an upload to a project by its path is a 404."""
        if self._project is None:
            number: Any = self._name
            if not number.isdecimal():
                number = self.client.gitlab.projects.get(number, **ONCE).attributes["id"]
            self._project = self.client.gitlab.projects.get(int(number), lazy=True)
        return self._project

    def user_id(self, username: str | None) -> int | None:
        """The number of a user; None when GitLab knows none or does not tell us."""
        if username is None:
            return None
        if username not in self._user_ids:
            try:
                with self.client.reading():
                    users = self.client.gitlab.users.list(username=username, get_all=False, **ONCE)
                    self._user_ids |= {u.attributes["username"].casefold(): u.attributes["id"] for u in users}
            except Permanent:
                return None
        return self._user_ids.get(username.casefold())

    def own_username(self) -> str:
        if self._own is None:
            self._own = str(self.client.gitlab.http_get("/user", **ONCE)["username"])  # type: ignore[index]
        return self._own
