"""The issue in GitLab: find it, open it, note on it, put files to it.

Promises: nothing is sent twice from here, nothing sleeps, and every failure leaves as one of three:

    Temporary   it surely did not happen: refused, no such host, no connection in time, 429, a failed look-up
    Unknown     it may have happened: no answer or half of one, 5xx, a redirect, an answer that is not GitLab's
    Permanent   GitLab understood and said no: 400, 401, 403, 404, 409, 413, 422 ...

A passing failure of `find`, and of the look of `note`, is always Unknown: who was looking because an outcome is open
knows no more than before.

How: python-gitlab with its retries off (they repeat POST, and sleep for as long as a 429 asks), over a session of
ours that ignores the environment (proxies, .netrc), follows no redirect with a body or to another host (the token
would go along), trusts the system's certificates besides its own, and keeps one deadline for each method of
`Issues`. One instance per thread.

Known limits: the deadline is watched between reads; a server that sends its header one octet at a time outlasts it.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import gitlab
import requests
import requests.adapters

from panicmail.errors import PanicmailError, Permanent, Temporary, Unknown
from panicmail.gitlab.draft import Draft
from panicmail.gitlab.text import carries, file_name

#: A longer wait asked for by a 429 is shortened to this, in seconds.
LONGEST_WAIT = 60.0
#: How far GitLab's clock may be behind ours.
CLOCK_SKEW = timedelta(hours=1)

#: python-gitlab, do it once.
_ONCE: Mapping[str, Any] = {"obey_rate_limit": False, "retry_transient_errors": False, "max_retries": 0}
_UPLOAD_PER_SECOND = 1024 * 1024
_TEXT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class OpenedIssue:
    """An issue that is there."""

    iid: int
    url: str
    #: What GitLab did not keep of what was asked, or a text changed: "type", "confidential", "label x", "assignee x",
    #: "title", "text", "state"; a word, and sometimes the reason in brackets.
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UploadedFile:
    url: str  #: relative to the project, as Markdown wants it
    name: str


class Issues:
    """The issues of one project.

    Args:
        project: Path or number.
        labels: What every issue is expected to carry.
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
        labels: Sequence[str],
        *,
        connect_timeout: float = 5,
        read_timeout: float = 10,
        deadline: float = 30,
        keep_seconds: float = 30,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._project_name = project
        self._labels = tuple(labels)
        self._token = token
        self._deadline = deadline
        self._wire = _Wire(connect_timeout, read_timeout, keep_seconds, ssl_context or ssl.create_default_context())
        self._session = _Session(self._wire)
        self._gitlab = gitlab.Gitlab(
            url,
            private_token=token,
            session=self._session,
            timeout=read_timeout,
            user_agent="panicmail",
            keep_base_url=True,
        )
        self._project: Any = None
        self._user_ids: dict[str, int] = {}

    def close(self) -> None:
        self._session.close()

    # -- what can be asked

    def find(self, marker: str, since: datetime) -> OpenedIssue | None:
        """The newest issue made at most an hour before `since`, or later, that carries the marker.

        Every page is read: under load the issue looked for is not among the newest hundred. GitLab's own search knows
        a text only some time after it was written, so it is a second try and no more.
        """
        self._wire.begin(self._deadline)
        with self._looking():
            issues = self._in_project().issues
            after = f"{(since - CLOCK_SKEW).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            every: dict[str, Any] = {"scope": "all", "state": "all", "order_by": "created_at", "sort": "desc"}
            listed = issues.list(iterator=True, created_after=after, per_page=50, **every, **_ONCE)
            found = _first(listed, "description", marker)
        if found is None:
            found = self._search(issues, marker, every)
        return None if found is None else self._opened(found, _missing(found, self._labels))

    def create(self, draft: Draft) -> OpenedIssue:
        """Open the issue and read it back. An assignee GitLab does not know is left out and named in `dropped`."""
        self._wire.begin(self._deadline)
        with self._reading():
            issues = self._in_project().issues
            assignee = self._user_id(draft.assignee_username)
        asked: dict[str, Any] = {
            "title": draft.title,
            "description": draft.description,
            "issue_type": "incident",
            "confidential": True,
            "labels": list(draft.labels),
        }
        if assignee is not None:
            asked["assignee_ids"] = [assignee]
        with self._acting():
            made = issues.create(asked, **_ONCE).attributes
            _number(made)
        kept = self._read_back(issues, made)
        return self._opened(made, (*_missing(kept, draft.labels), *_changed(kept, draft)))

    def note(self, iid: int, text: str, marker: str, *, look: bool) -> None:
        """Write an internal note. `look`: not if one with this marker is there already."""
        self._wire.begin(self._deadline)
        with self._reading():
            notes = self._in_project().issues.get(iid, lazy=True).notes
        if look and self._has_note(notes, marker):
            return
        with self._acting():
            made = notes.create({"body": text, "internal": True}, **_ONCE)
        if made.attributes.get("id") is None:
            # 202: GitLab found nothing in it but quick actions. Our notes begin with words, so this is no text of ours.
            raise Permanent("GitLab took the note for a command and kept none")

    def upload(self, name: str, data: bytes) -> UploadedFile:
        """Put a file to the project, under a name that is safe in an address."""
        self._wire.begin(self._deadline + len(data) / _UPLOAD_PER_SECOND)
        with self._reading():
            project = self._in_project()
        safe = file_name(name)
        with self._acting():
            url = project.upload(safe, filedata=data, **_ONCE)["url"]
            if not re.fullmatch(r"/\S+", url):
                raise ValueError("an upload without an address")
        return UploadedFile(url=url, name=safe)

    def description(self, iid: int) -> str:
        self._wire.begin(self._deadline)
        with self._reading():
            return str(self._in_project().issues.get(iid, **_ONCE).attributes["description"] or "")

    def describe(self, iid: int, text: str) -> None:
        """Replace the description."""
        self._wire.begin(self._deadline)
        with self._reading():
            issues = self._in_project().issues
        with self._acting():
            _number(issues.update(iid, {"description": text}, **_ONCE))

    # -- how

    def _in_project(self) -> Any:
        """The project by its number, asked for once: an upload to a project by its path is a 404."""
        if self._project is None:
            number: Any = self._project_name
            if not number.isdecimal():
                number = self._gitlab.projects.get(number, **_ONCE).attributes["id"]
            self._project = self._gitlab.projects.get(int(number), lazy=True)
        return self._project

    def _user_id(self, username: str | None) -> int | None:
        """The number of a user; None when GitLab knows none or does not tell us."""
        if username is None:
            return None
        if username not in self._user_ids:
            try:
                with self._reading():
                    users = self._gitlab.users.list(username=username, get_all=False, **_ONCE)
                    self._user_ids |= {u.attributes["username"].casefold(): u.attributes["id"] for u in users}
            except Permanent:
                return None
        return self._user_ids.get(username.casefold())

    def _search(self, issues: Any, marker: str, every: Mapping[str, Any]) -> Mapping[str, Any] | None:
        try:
            with self._reading():
                hits = issues.list(iterator=True, search=marker, **{"in": "description"}, **every, **_ONCE)
                return _first(hits, "description", marker)
        except PanicmailError:
            return None  # the list was read to its end: that was the answer

    def _has_note(self, notes: Any, marker: str) -> bool:
        with self._looking():
            listed = notes.list(iterator=True, sort="desc", activity_filter="only_comments", per_page=100, **_ONCE)
            return _first(listed, "body", marker) is not None

    def _read_back(self, issues: Any, made: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            with self._reading():
                read: Mapping[str, Any] = issues.get(_number(made), **_ONCE).attributes
                return read
        except PanicmailError:
            return made  # it is open, and the first answer says nearly as much

    def _opened(self, issue: Mapping[str, Any], dropped: Iterable[str]) -> OpenedIssue:
        return OpenedIssue(iid=_number(issue), url=str(issue.get("web_url") or ""), dropped=tuple(dropped))

    # -- the border: behind it there are no errors of libraries

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """A failure in here changed nothing."""
        with self._border(Temporary):
            yield

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """A failure in here leaves open what happened, unless it says so."""
        with self._border(Unknown):
            yield

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """A failure in here leaves open what was open before."""
        try:
            with self._reading():
                yield
        except Temporary as exc:
            raise Unknown(f"could not look: {exc}", retry_after=exc.retry_after) from exc

    @contextmanager
    def _border(self, doubt: type[Temporary]) -> Iterator[None]:
        try:
            yield
        except PanicmailError:
            raise
        except Exception as exc:  # whatever a library cannot make of an answer: an answer it was not
            raise self._ours(exc, doubt) from exc

    def _ours(self, exc: Exception, doubt: type[Temporary]) -> PanicmailError:
        if isinstance(exc, gitlab.GitlabError) and exc.response_code is not None:
            return self._answered(exc.response_code, self._clean(exc.error_message), doubt)
        kind = type(exc).__name__
        if isinstance(exc, requests.RequestException):
            if _was_never_sent(exc):
                return Temporary(f"GitLab cannot be reached ({kind})")
            if isinstance(exc, requests.Timeout):
                return doubt("GitLab did not answer in time")
            return doubt(f"the connection to GitLab broke ({kind})")
        return doubt(f"GitLab's answer cannot be read ({kind}); is [gitlab] url right?")

    def _answered(self, status: int, said: str, doubt: type[Temporary]) -> PanicmailError:
        text = f"GitLab answered {status}: {said}"
        if status == 429:
            return Temporary(text, retry_after=self._wire.wait_asked)
        if status == 409 and "resource lock" in said.lower():
            return Temporary(text)  # GitLab's own word for "again, please"
        if status < 400:
            return doubt(f"GitLab answered {status}, a redirect; is [gitlab] url right?")
        if status >= 500 or status == 408:
            return doubt(text, retry_after=self._wire.wait_asked)
        return Permanent(text)

    def _clean(self, said: object) -> str:
        """GitLab's message on one line, without our token should it come back in it."""
        if isinstance(said, Mapping):
            said = "; ".join(f"{field} {_listed(errors)}" for field, errors in said.items())
        text = str(said).replace(self._token, "(token)") if self._token else str(said)
        line = "a web page" if text.lstrip().startswith("<") else " ".join(text.split())
        return "".join(c if c.isprintable() else "?" for c in line)[:_TEXT_LIMIT]


def _listed(errors: object) -> str:
    return ", ".join(map(str, errors)) if isinstance(errors, list) else str(errors)


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """What a `Retry-After` asks for, in seconds from 0 to 60; None when it says nothing readable.

    A date counts from the answer's own `Date`: two clocks need not agree.
    """
    value = headers.get("Retry-After", "").strip()
    seconds = _seconds(value)
    if seconds is None and value:
        seconds = _seconds_until(value, headers.get("Date", ""))
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


def _seconds(value: str) -> float | None:
    try:
        read = float(value)
    except ValueError:
        return None
    return read if math.isfinite(read) else None


def _seconds_until(value: str, date: str) -> float | None:
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    try:
        return until.timestamp() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return LONGEST_WAIT


def _was_never_sent(exc: requests.RequestException) -> bool:
    """Whether it failed before a connection stood. Only then the inner error has a reason (urllib3's MaxRetryError);
    it is asked by its explicit causes, since an implicit one may belong to somebody else's failure."""
    if isinstance(exc, requests.ConnectTimeout):
        return True
    reason = getattr(exc.args[0], "reason", None) if exc.args else None
    causes = (getattr(reason, "__cause__", None), *getattr(reason, "args", ()))
    return any(
        isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError) for cause in causes
    )


def _first(listed: Iterable[Any], field: str, marker: str) -> Mapping[str, Any] | None:
    """The first of the objects whose `field` carries the marker, as its attributes."""
    for one in listed:
        attributes: Mapping[str, Any] = one.attributes
        if carries(str(attributes.get(field) or ""), marker):
            return attributes
    return None


def _number(issue: Any) -> int:
    """Its iid; an answer without one is no answer."""
    return int(issue["iid"])


def _missing(issue: Mapping[str, Any], labels: Sequence[str]) -> Iterator[str]:
    """What every issue of ours has and this one has not."""
    kind = str(issue.get("issue_type") or issue.get("type") or "incident").lower()
    if kind != "incident":
        yield f"type (it is {kind})"
    if issue.get("confidential") is not True:
        yield "confidential"
    kept = {str(label).casefold() for label in issue.get("labels") or ()}
    yield from (f"label {label}" for label in labels if label.casefold() not in kept)
    if issue.get("state") == "closed":
        yield "state (it is closed)"


def _changed(issue: Mapping[str, Any], draft: Draft) -> Iterator[str]:
    """What is otherwise than the draft: somebody's text acted, or somebody may not what we asked."""
    wanted = draft.assignee_username
    kept = {str(user.get("username")).casefold() for user in issue.get("assignees") or ()}
    if wanted is not None and wanted.casefold() not in kept:
        yield f"assignee {wanted}"
    if str(issue.get("title")).split() != draft.title.split():
        yield "title"
    if str(issue.get("description")).split() != draft.description.split():
        yield "text"


# -- the wire


class _Session(requests.Session):
    """A session that knows nothing but what it was told."""

    def __init__(self, wire: _Wire) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("https://", wire)
        self.mount("http://", wire)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Only what a GET may follow on the same host: a project that was renamed."""
        target = super().get_redirect_target(resp)
        here = urlsplit(resp.url)
        there = urlsplit(target or "")
        same = not there.netloc or (there.scheme, there.netloc) == (here.scheme, here.netloc)
        return target if target and same and resp.request.method == "GET" else None


class _Wire(requests.adapters.HTTPAdapter):
    """Sends requests until a deadline, and remembers what the last answer asked us to wait."""

    def __init__(self, connect: float, read: float, keep: float, context: ssl.SSLContext) -> None:
        self._connect, self._read, self._keep, self._context = connect, read, keep, context
        self._ends_at = self._used_at = math.inf
        self.wait_asked: float | None = None
        super().__init__()

    def begin(self, seconds: float) -> None:
        """All that follows has `seconds` together."""
        now = time.monotonic()
        if now - self._used_at > self._keep:
            self.close()  # the pool of connections; it fills again
        self._ends_at = now + seconds

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise requests.ConnectTimeout("no time is left")
        kwargs["timeout"] = (min(self._connect, left), min(self._read, left))
        self.wait_asked = None
        response = super().send(request, *args, **kwargs)
        self._used_at = time.monotonic()
        self.wait_asked = wait_asked(response.headers)
        response.raw = _Body(response.raw, self._ends_at)
        return response


class _Body:
    """The body of an answer, read in what pieces come, until a deadline."""

    def __init__(self, raw: Any, ends_at: float) -> None:
        self._raw = raw
        self._ends_at = ends_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, amt: int, decode_content: bool | None = None) -> Iterator[bytes]:
        while piece := self._raw.read1(amt, decode_content=decode_content):
            yield piece
            if time.monotonic() > self._ends_at:
                raise requests.ReadTimeout("the answer takes too long")
