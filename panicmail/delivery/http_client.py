"""HTTP to the world outside: one question, one answer, both bounded.

Promises: a call ends within `timeout` altogether, whatever the other side does, its name's look-up included, and takes
no more than the octets it was told. When it raises, the exception says what is known:

    Temporary   it did not happen: no connection, 408, 429, a 5xx
    Unknown     it may have: no answer in time, a connection that went after the question was sent, 502, 504
    Permanent   the URL cannot be used, the answer is too long, or the other side refused (3xx, any other 4xx)

Those of them that are `Blocked` are about every question to that URL: 401, 403, 404, 410, and TLS that does not fit.

`get` follows redirects within its scheme, and to another server only where all its addresses are public: whoever can
change an answer outside is not to make us ask inside. A redirected question that changes something would arrive as
another one, so `post_json` follows none. Certificates are verified by the system's authorities (or SSL_CERT_FILE),
proxies are those of the environment (HTTPS_PROXY, NO_PROXY). No cookie is kept or sent. An error names the host and
nothing else of a URL: the rest may be a secret.
"""

from __future__ import annotations

import http.cookiejar
import ipaddress
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from panicmail import certificates
from panicmail.errors import Denied, Gone, LockedOut, PanicmailError, Permanent, Temporary, Unknown

if TYPE_CHECKING:
    import httpx2

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

# -- Calls that may hang, each in a thread of its own: whoever asks waits so long and no longer.
#
# A thread cannot be ended from outside. One that hangs lives on until its call returns by itself, and the end of
# the process does not wait for it. So that a peer that never answers cannot fill the process with threads, only so
# many calls of one name are under way at a time; a further one is refused without being tried.

T = TypeVar("T")


class Patience:
    """Waits for calls, but not for ever.

    Args:
        most: So many calls of one name may be under way at a time, hanging ones included.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()
        self._counting = threading.Lock()

    def call(self, name: str, seconds: float, work: Callable[[], T]) -> T:
        """What `work` answers or raises.

        Raises:
            Unknown: No answer within `seconds`. The call goes on, and what comes of it is lost.
            Temporary: Too many calls of this name are under way; this one was not made.
        """
        self._begin(name)
        answer: Future[T] = Future()
        threading.Thread(target=self._run, args=(name, work, answer), name=f"call-{name}", daemon=True).start()
        if not wait([answer], seconds).done:
            raise Unknown(f"{name}: no answer within {seconds:g} s")
        return answer.result()

    def _begin(self, name: str) -> None:
        with self._counting:
            if self._under_way[name] >= self._most:
                raise Temporary(f"{name}: {self._most} calls before this one still wait for their answer")
            self._under_way[name] += 1

    def _run(self, name: str, work: Callable[[], T], answer: Future[T]) -> None:
        try:
            result = work()
        except BaseException as exc:  # it belongs to whoever waits
            failure: BaseException | None = exc
        else:
            failure = None
        with self._counting:
            self._under_way[name] -= 1
        if failure is None:
            answer.set_result(result)
        else:
            answer.set_exception(failure)


# --

#: Redirects that are followed.
_REDIRECTS = 5
#: Of an answer to `post_json`, so much is read.
_ANSWER_LIMIT = 64 * 1024
#: Of the 4xx, those that may pass: time-out, too early, too many.
_PASSING = (408, 425, 429)
#: It does not know us, or not let us in; and it is not there, or no more.
_DENIED, _GONE = frozenset({401, 403}), frozenset({404, 410})
#: A gateway says so when it does not know what became of the question.
_OPEN = (502, 504)

_patience = Patience()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of another side."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, Any] | None = None  #: goes with it as JSON; None: nothing does


@dataclass(frozen=True, slots=True)
class Answer:
    status: int  #: 2xx
    text: str  #: the beginning of it, if it is long


def get(url: str, *, timeout: float, limit: int, whatever: bool = False) -> bytes:
    """What stands at `url`.

    Args:
        timeout: Seconds, for everything.
        limit: Octets; a longer document is refused.
        whatever: Take an answer that is no success for one.
    """
    host = _host(url)

    def work() -> bytes:
        _status, octets = _ask(Question("GET", url), timeout, limit, whatever=whatever)
        if len(octets) > limit:
            raise Permanent(f"{host}: the answer is longer than {limit} octets")
        return octets

    return _patience.call(host, timeout, work)


def post_json(
    url: str, document: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, timeout: float
) -> Answer:
    """Hand over `document`; answers what was said to it."""

    def work() -> Answer:
        status, octets = _ask(Question("POST", url, dict(headers or {}), dict(document)), timeout, _ANSWER_LIMIT)
        return Answer(status, octets[:_ANSWER_LIMIT].decode("utf-8", "replace"))

    return _patience.call(_host(url), timeout, work)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise Permanent("not an http or https URL")
    return host


def _ask(question: Question, timeout: float, limit: int, *, whatever: bool = False) -> tuple[int, bytes]:
    """Status and octets of an answer that is a success, or `whatever` it is; the octets to just over `limit`."""
    import httpx2

    host, ends_at = _host(question.url), time.monotonic() + timeout
    refused = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
    try:
        with httpx2.Client(timeout=timeout, cookies=http.cookiejar.CookieJar(refused)) as client:
            # Unpacked, a small answer may be a large one.
            request = client.build_request(
                question.method, question.url, headers=question.headers, json=question.document
            )
            request.headers["Accept-Encoding"] = "identity"
            response = _follow(client, request, host)
            if not (response.is_success or whatever):
                raise _refusal(host, response)
            return response.status_code, _read(response, limit, ends_at)
    except httpx2.InvalidURL:
        raise Permanent(f"{host}: this URL cannot be used") from None
    except httpx2.ConnectError as exc:
        kind = LockedOut if _is_tls_refused(exc) else Temporary
        raise kind(f"{host} cannot be reached: {_words(exc)}") from exc
    except (httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol) as exc:
        raise Temporary(f"{host} cannot be reached: {_words(exc)}") from exc
    except httpx2.HTTPError as exc:
        raise Unknown(f"{host} gave no answer: {_words(exc)}") from exc


def _is_tls_refused(exc: BaseException | None) -> bool:
    """Whether TLS does not fit, somewhere below."""
    while exc is not None and not certificates.is_refusal(exc):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _words(exc: Exception) -> str:
    """What went wrong, on one line; a broken answer is quoted in it."""
    return ascii(" ".join(f"{exc}".split()))[1:-1][:200] or type(exc).__name__


def _follow(client: httpx2.Client, request: httpx2.Request, host: str) -> httpx2.Response:
    """The response that is the last word."""
    for _ in range(_REDIRECTS + 1):
        response = client.send(request, stream=True)
        following = response.next_request
        if following is None or request.method != "GET":
            break
        if following.url.scheme != request.url.scheme:
            raise Permanent(f"{host} leads to {following.url.scheme}; write that into the URL")
        if _is_elsewhere(following.url, request.url) and _is_private(following.url.host, following.url.port):
            raise Permanent(f"{host} leads to {following.url.host}, a private address; write that into the URL")
        response.close()
        request = following
    else:
        raise Permanent(f"{host} leads on and on")
    return response


def _is_elsewhere(one: httpx2.URL, other: httpx2.URL) -> bool:
    return (one.host, one.port) != (other.host, other.port)


def _is_private(host: str, port: int | None) -> bool:
    """Whether a host has an address within a private network. One that cannot be found is asked for by its name."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(ipaddress.ip_address(address[0]).is_global for *_, address in found)


def _refusal(host: str, response: httpx2.Response) -> PanicmailError:
    status = response.status_code
    said = f"{host} answered {status}"
    if status in _OPEN:
        return Unknown(said)
    if status in _PASSING or status >= 500:
        seconds = response.headers.get("Retry-After", "")
        return Temporary(said, retry_after=float(seconds) if seconds.isdecimal() else None)
    return refusal([status])(said)


def refusal(statuses: Iterable[int]) -> type[Permanent]:
    """What a refusal for good is about, by the statuses answered: who we are, where it goes, or what was asked."""
    given = set(statuses)
    if given <= _DENIED:
        return Denied
    return Gone if given <= _DENIED | _GONE else Permanent


def _read(response: httpx2.Response, limit: int, ends_at: float) -> bytes:
    read = bytearray()
    for piece in response.iter_bytes():
        read += piece
        if len(read) > limit:
            break
        if time.monotonic() > ends_at:
            raise Unknown("no whole answer in time")
    return bytes(read[: limit + 1])
