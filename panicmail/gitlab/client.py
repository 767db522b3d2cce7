"""The border to GitLab: behind it there are no errors of libraries, and every failure leaves as one of three.

    Temporary   it surely did not happen: refused, no such host, no connection in time, 429, a failed look-up
    Unknown     it may have happened: no answer or half of one, 5xx, a redirect, an answer that is not GitLab's
    Permanent   GitLab understood and said no: 400, 401, 403, 404, 409, 413, 422; `Spam` when it took it for spam

Those of them that are `Blocked` are about everything we could ask: the token (401, and 403 with a reason), the
project (404), TLS that does not fit. A bare 403 is `Forbidden`: it may be about the one thing that was asked.

How: python-gitlab with its retries off (they repeat POST, and sleep for as long as a 429 asks), over a session of
ours that ignores the environment (proxies, .netrc), follows no redirect with a body or to another host (the token
would go along), trusts the system's certificates besides its own, and keeps one deadline for all that follows
`begin`. One instance per thread.

Known limits: the deadline is watched between reads; a server that sends its header one octet at a time outlasts it.
"""

from __future__ import annotations

import copy
import math
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import gitlab
import requests
import requests.adapters

from panicmail import certificates, crashpoints
from panicmail.clock import wall_clock
from panicmail.errors import (
    Blocked,
    Denied,
    Forbidden,
    Gone,
    LockedOut,
    PanicmailError,
    Permanent,
    Spam,
    Temporary,
    Unknown,
)

#: A clock so little apart from ours counts as the same.
CLOCKS_AGREE = timedelta(seconds=1)
#: A longer wait asked for by a 429 is shortened to this, in seconds.
LONGEST_WAIT = 60.0
#: python-gitlab, do it once.
ONCE: Mapping[str, Any] = {"obey_rate_limit": False, "retry_transient_errors": False, "max_retries": 0}
_TEXT_LIMIT = 300
#: What is told of an answer in HTML.
_PAGE = "a web page"
#: What GitLab says when it gives no reason; `insufficient_scope` and a blocked user are reasons.
_BARE_403 = frozenset({"", "403", "forbidden", "403 forbidden"})


class GitLabClient:
    """One connection to one GitLab, with a deadline, and its errors as ours.

    Args:
        connect_timeout, read_timeout: Seconds for one connection and one read.
        keep_seconds: A connection unused for longer is not used again: a middlebox may have forgotten it, and a create
            into the void costs a time-out and leaves its outcome open.
        ssl_context: Whom to trust; None: the system's certificates and requests' own.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        connect_timeout: float,
        read_timeout: float,
        keep_seconds: float,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._token = token
        self._wire = _HttpAdapter(
            connect_timeout, read_timeout, keep_seconds, ssl_context or ssl.create_default_context()
        )
        self._session = _Session(self._wire)
        self.gitlab = gitlab.Gitlab(
            url,
            private_token=token,
            session=self._session,
            timeout=read_timeout,
            user_agent="panicmail",
            keep_base_url=True,
        )

    def close(self) -> None:
        self._session.close()

    def begin(self, seconds: float) -> None:
        """All that follows has `seconds` together; it may be overrun by one `read_timeout`."""
        self._wire.begin(seconds)

    @property
    def ahead(self) -> timedelta:
        """How much later than ours the server's clock stands, by the last answer; zero while they agree."""
        return self._wire.ahead

    def graphql(self, query: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """One GraphQL request; errors it answers are in the answer."""
        data = {"query": query, "variables": dict(variables)}
        answer: Any = self.gitlab.http_post(f"{self.gitlab.url}/api/graphql", post_data=data, **ONCE)
        return dict(answer)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A failure in here changed nothing."""
        with self._border(Temporary):
            yield

    @contextmanager
    def acting(self) -> Iterator[None]:
        """A failure in here leaves open what happened, unless it says so."""
        with self._border(Unknown):
            yield

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A failure in here leaves open what was open before."""
        try:
            with self.reading():
                yield
        except Blocked:
            raise
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
            if (why := _tls_refusal(exc)) is not None:
                return LockedOut(f"GitLab cannot be reached: no TLS with it ({why})")
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
        if "spam" in said.lower() or "captcha" in said.lower():
            return Spam(text)
        # What stands before a GitLab, or in its place, asks for a password with a page of its own.
        if status in (401, 403) and said != _PAGE:
            return Forbidden(text) if status == 403 and said.lower() in _BARE_403 else Denied(text)
        if status == 404 and "project not found" in said.lower():
            return Gone(text)
        return Permanent(text)

    def _clean(self, said: object) -> str:
        """GitLab's message on one line, without our token should it come back in it."""
        if isinstance(said, Mapping):
            said = "; ".join(f"{field} {_listed(errors)}" for field, errors in said.items())
        text = str(said).replace(self._token, "(token)") if self._token else str(said)
        line = _PAGE if text.lstrip().startswith("<") else " ".join(text.split())
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
    return any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in _causes(exc))


def _tls_refusal(exc: requests.RequestException) -> str | None:
    """Why TLS does not fit; None: that is not what failed."""
    refusals = (cause for cause in _causes(exc) if isinstance(cause, ssl.SSLError) and certificates.is_refusal(cause))
    return next((getattr(each, "verify_message", "") or each.reason or "SSLError" for each in refusals), None)


def _causes(exc: requests.RequestException) -> tuple[object, ...]:
    reason = getattr(exc.args[0], "reason", None) if exc.args else None
    return (getattr(reason, "__cause__", None), *getattr(reason, "args", ()))


# -- the wire


class _Session(requests.Session):
    """A session that knows nothing but what it was told."""

    def __init__(self, wire: _HttpAdapter) -> None:
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


class _HttpAdapter(requests.adapters.HTTPAdapter):
    """Sends requests until a deadline, and remembers what the last answer asked us to wait."""

    def __init__(self, connect: float, read: float, keep: float, context: ssl.SSLContext) -> None:
        self._connect, self._read, self._keep, self._context = connect, read, keep, context
        self._ends_at = self._used_at = math.inf
        self.wait_asked: float | None = None
        self.ahead = timedelta()  #: the server's clock before ours, as the last answer was dated
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
        crashpoints.point("gitlab.asking")
        before = wall_clock()
        response = super().send(request, *args, **kwargs)
        measured = clock_ahead(response.headers.get("Date", ""), before, wall_clock())
        crashpoints.point("gitlab.answered")
        self._used_at = time.monotonic()
        self.wait_asked = wait_asked(response.headers)
        self.ahead = correction(*measured) if measured else timedelta()
        response.raw = _UploadBody(response.raw, self._ends_at)
        return response


def clock_ahead(dated: str, before: datetime, after: datetime) -> tuple[timedelta, timedelta] | None:
    """How much later than ours the clock stands that dated an answer, and how exactly that is known; None: no date.

    The date has no fractions: it may be off by half a second, and by half of what the answer took.
    """
    try:
        said = parsedate_to_datetime(dated)
    except ValueError:
        return None
    if said.tzinfo is None:
        return None
    half, rounded = (after - before) / 2, timedelta(seconds=0.5)
    return said + rounded - (before + half), half + rounded


def correction(ahead: timedelta, within: timedelta) -> timedelta:
    """What to take from its times to have ours. Nothing where the clocks may be the same; else so much that an act
    never seems later than it was."""
    return ahead + within if abs(ahead) > within + CLOCKS_AGREE else timedelta()


class _UploadBody:
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


# -- One project of GitLab, and the connection to it.


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
