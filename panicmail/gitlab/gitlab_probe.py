"""Questions to GitLab that change nothing: can it be reached, what may the token do, who can open an issue.

Every method is one question over a connection of its own, so that they can be asked at once, each in its thread.
Failures are the three of `errors`, and as nothing is changed none of them leaves anything open.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from panicmail.clock import Clock, wall_clock
from panicmail.errors import Permanent
from panicmail.gitlab.client import ONCE, GitLabClient, clock_ahead

#: GitLab's levels of access to a project (Planner is of GitLab 17.7).
GUEST, PLANNER, REPORTER, DEVELOPER = 10, 15, 20, 30
_ROLES = {0: "no member", 5: "Minimal access", 10: "Guest", 15: "Planner", 20: "Reporter", 25: "Security Manager",
          30: "Developer", 40: "Maintainer", 50: "Owner", 60: "Admin"}  # fmt: skip
#: Members are listed so many at a time.
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLabServer:
    version: str
    ahead: timedelta | None  #: its clock before ours; None: its answer has no date
    within: timedelta = timedelta()  #: how far off `ahead` may be


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    name: str
    scopes: tuple[str, ...]  #: may be empty: GitLab has tokens that are told in other words
    is_active: bool
    ends_on: date | None  #: it ends when this day begins, UTC; None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOwner:
    """The token's user in the project."""

    username: str
    level: int  #: of access; 0: no member


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    path: str
    visibility: str  #: "private", "internal" or "public"
    is_archived: bool
    has_issues: bool


def role(level: int) -> str:
    return _ROLES.get(level, f"access level {level}")


class Probe:
    """Asks about one project.

    Args:
        project: Path or number.
        timeout: Seconds for one question altogether.
        ssl_context: Whom to trust; None: the system's certificates.
        clock: This host's.
    """

    def __init__(
        self,
        url: str,
        project: str,
        token: str,
        *,
        timeout: float = 6,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        self._url, self._project, self._token = url, project, token
        self._timeout = timeout
        self._ssl_context = ssl_context
        self._clock = clock

    def server(self) -> GitLabServer:
        with self._asking() as border:
            before = self._clock()
            answer: Any = border.gitlab.http_request("get", "/metadata", **ONCE)
            after = self._clock()
            return _server(str(answer.json()["version"]), answer.headers.get("Date", ""), before, after)

    def token(self) -> TokenFacts:
        """
        Raises:
            Permanent: This GitLab, or a token of this sort, does not tell.
        """
        with self._asking() as border:
            told: Any = border.gitlab.http_get("/personal_access_tokens/self", **ONCE)
            ends_on = told.get("expires_at")
            return TokenFacts(
                name=str(told.get("name") or ""),
                scopes=tuple(map(str, told.get("scopes") or ())),
                is_active=bool(told.get("active", True)) and not told.get("revoked"),
                ends_on=date.fromisoformat(ends_on[:10]) if ends_on else None,
            )

    def project(self) -> ProjectFacts:
        """
        Raises:
            Permanent: There is none of that name, or the token's user may not see it.
        """
        with self._asking() as border:
            told = border.gitlab.projects.get(self._project, **ONCE).attributes
            return ProjectFacts(
                path=str(told["path_with_namespace"]),
                visibility=str(told.get("visibility") or ""),
                is_archived=bool(told.get("archived")),
                has_issues=bool(told.get("issues_enabled", True)) and told.get("issues_access_level") != "disabled",
            )

    def owner(self) -> TokenOwner:
        """The token's user, and their level in the project."""
        with self._asking() as border:
            user: Any = border.gitlab.http_get("/user", **ONCE)
            level = _level(border, self._project, int(user["id"]))
            return TokenOwner(username=str(user["username"]), level=level)

    def labels(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Those of `wanted` that the project has not."""
        with self._asking() as border:
            there = _in(border, self._project).labels.list(iterator=True, per_page=_PAGE, **ONCE)
            names = {str(label.attributes["name"]).casefold() for label in there}
            return tuple(label for label in wanted if label.casefold() not in names)

    def levels(self, usernames: Collection[str]) -> dict[str, int | None]:
        """The level of each user in the project: 0 for no member, None for nobody with an account."""
        with self._asking() as border:
            left = {name.casefold(): name for name in usernames}
            found: dict[str, int | None] = {}
            for member in _members(border, self._project):
                if (name := left.pop(str(member["username"]).casefold(), None)) is not None:
                    found[name] = int(member["access_level"])
                if not left:
                    break
            strangers = {name: 0 if _has_account(border, name) else None for name in left.values()}
            return {**found, **strangers}

    @contextmanager
    def _asking(self) -> Iterator[GitLabClient]:
        border = GitLabClient(
            self._url,
            self._token,
            connect_timeout=self._timeout,
            read_timeout=self._timeout,
            keep_seconds=self._timeout,
            ssl_context=self._ssl_context,
        )
        border.begin(self._timeout)
        try:
            with border.reading():
                yield border
        finally:
            border.close()


def _server(version: str, dated: str, before: datetime, after: datetime) -> GitLabServer:
    measured = clock_ahead(dated, before, after)
    if measured is None:
        return GitLabServer(version=version, ahead=None)
    return GitLabServer(version=version, ahead=measured[0], within=measured[1])


def _in(border: GitLabClient, project: str) -> Any:
    return border.gitlab.projects.get(project, lazy=True)


def _level(border: GitLabClient, project: str, user_id: int) -> int:
    try:
        with border.reading():
            return int(_in(border, project).members_all.get(user_id, **ONCE).attributes["access_level"])
    except Permanent:  # no member, but perhaps one of a group that was invited
        with border.reading():
            told = border.gitlab.projects.get(project, **ONCE).attributes.get("permissions") or {}
        ways = (told.get("project_access"), told.get("group_access"))
        return max((int(way["access_level"]) for way in ways if way), default=0)


def _members(border: GitLabClient, project: str) -> Iterator[Any]:
    listed = _in(border, project).members_all.list(iterator=True, per_page=_PAGE, **ONCE)
    return (member.attributes for member in listed)


def _has_account(border: GitLabClient, username: str) -> bool:
    found: Any = border.gitlab.users.list(username=username, get_all=False, **ONCE)
    return any(str(user.attributes["username"]).casefold() == username.casefold() for user in found)
