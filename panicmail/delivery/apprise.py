"""Push: one line to one person by an Apprise URL, with what the provider made of it.

Promises: when `AppriseClient.send` returns, the provider has taken the line on. When it raises, the exception says what
is known:

    Temporary   it was not taken: no connection, 408, 429, a 5xx, or an answer we do not recognise
    Unknown     it may have been: no answer in time, or the connection went after the line was sent
    Permanent   the URL is not understood, or the provider refused for good (3xx, any other 4xx)

`Blocked` with 401, 403, 404, 410 and TLS that does not fit: no line gets through by that URL.

The line is text and nothing else: no escape, emoji code, markup or mention in it is acted on. A URL cannot switch off
the verification of certificates, send again by itself, or count a failure as done (`?verify=no`, `?retry=`,
`?optional=yes`). Nothing is read from or written to disk for Apprise's sake, and no redirect is followed: behind one
stands a log-in page that answers 200.

What a URL holds is a secret, topics and chat ids included. `push_channel.in_words` is all of it that may be told;
neither Apprise's own log nor its words about a failure leave this module.

How: Apprise in a thread for each call, which the caller waits for no longer than `timeout`. Its sockets have that
time-out too, but for each octet anew, so a provider that sends one now and then keeps its thread. Only so many of
those are let be for one provider. The octets of an answer are not limited.

Everything goes out as what Apprise calls a failure: below that some services make a note in place of an alert
(Opsgenie and Jira for `info`).
"""

from __future__ import annotations

import difflib
import functools
import logging
import re
import warnings
from typing import TYPE_CHECKING

from panicmail.delivery import http_client
from panicmail.delivery.http_client import Patience
from panicmail.errors import LockedOut, PanicmailError, Permanent, Temporary, Unknown
from panicmail.incident.push_channel import inert, shown

if TYPE_CHECKING:
    from apprise import AppriseAsset, NotifyBase

#: How Apprise's services tell the status of an answer. ntfy has codes of its own, such as 40301 for a 403.
_STATUS = re.compile(r"\berror=(\d{3})(?:\d\d)?\b")
#: How requests tells of a connection that never came to be: nothing was sent.
_NEVER_SENT = re.compile(r"Caused by (NewConnection|NameResolution|ConnectTimeout|Proxy|SSL)Error")
#: How it tells of TLS that does not fit, with OpenSSL's word for why; a connection that broke meanwhile is none.
_TLS_REFUSED = re.compile(
    r"Caused by SSLError\((?!SSL(?:EOF|ZeroReturn|Syscall)Error)[^\n\[]{0,200}\[SSL: ([A-Z0-9_]{1,80})\]"
)
_NEVER_SENT_WORDS = {
    "NewConnection": "it cannot be reached",
    "NameResolution": "its name is not known",
    "ConnectTimeout": "it cannot be reached in time",
    "Proxy": "the proxy does not reach it",
    "SSL": "no TLS with it",
}
_LOST = "Socket Exception"
#: Of the 4xx, those that may pass: time-out, too many.
_PASSING = (408, 429)


class AppriseClient:
    """Sends lines by Apprise URLs, from any thread.

    Args:
        timeout: Seconds for one call altogether.
        most: So many calls to one provider may be under way at a time.
    """

    def __init__(self, timeout: float = 10.0, *, most: int = 8) -> None:
        self._timeout = timeout
        self._patience = Patience(most)

    def check(self, url: str) -> None:
        """Whether there is a service for this URL; nothing is sent. The first call takes most of a second.

        Raises:
            Permanent: There is none.
        """
        _service(url, self._timeout)

    def send(self, url: str, text: str, link: str = "") -> str:
        """Push `text`, and `link` after it; answers what came of it, on one line.

        Args:
            text: Is made `inert`. How long it may be is the caller's business (mails.md: 120 characters), who makes it
                so before it is cut.
            link: One of our own.
        """
        service = _service(url, self._timeout)
        line = f"{inert(text)} {link}".strip()
        return self._patience.call(shown(url), self._timeout, lambda: _notify(service, line))


@functools.cache
def _asset() -> AppriseAsset:
    """How Apprise is to behave; imports it, which takes most of a second the first time."""
    with warnings.catch_warnings():  # its plugins import what Python 3.13 has no more
        warnings.simplefilter("ignore")
        import apprise

        # Its log tells topics and URLs. What we need of it is asked for, call by call.
        logging.getLogger("apprise").disabled = True
        # urllib3 quotes a whole URL when an answer's header is broken.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        asset = apprise.AppriseAsset(
            app_id="panicmail",
            app_desc="panicmail",
            storage_mode="memory",
            service_timeout=0,  # ours is the time-out: Apprise's pool of threads is full after a few that hang
            async_mode=False,
            interpret_escapes=False,
            interpret_emojis=False,
            http_redirects=False,
            pgp_autogen=False,
            pem_autogen=False,
            allow_templates=False,
            language="en",
        )
        apprise.Apprise.instantiate("json://localhost", asset=asset)  # loads the plugins
    return asset


def _service(url: str, timeout: float) -> NotifyBase:
    from apprise import Apprise

    service = Apprise.instantiate(url, asset=_asset())
    if service is None:
        raise Permanent(f"{shown(url)}: {_not_understood(url)}")
    service.verify_certificate = True
    service.redirects = False
    service.retry = 0
    service.socket_connect_timeout = service.socket_read_timeout = timeout
    # A logger nobody else has: what this one call says, and to us alone.
    service.logger = logging.Logger("panicmail.push", logging.DEBUG)
    return service


def _not_understood(url: str) -> str:
    """Why there is no service for a URL, with the nearest scheme there is."""
    from apprise.plugins import N_MGR

    known: list[str] = N_MGR.schemas()  # type: ignore[no-untyped-call]
    scheme = url.partition(":")[0].lower()
    if scheme in known:
        return "Apprise does not understand this URL of that service, or lacks what the service needs"
    close = difflib.get_close_matches(scheme, known, 1, 0.75)
    meant = f"; expected {close[0]}://" if close else "; Apprise's list of services has the right ones"
    return f"there is no push service of that scheme{meant}"


def _notify(service: NotifyBase, line: str) -> str:
    from apprise import Apprise, AppriseResultStatus, NotifyType

    called = Apprise(service, asset=_asset())
    result = called.notify(line, notify_type=NotifyType.FAILURE, body_format="text", log_level=logging.DEBUG)
    attempts = [attempt for each in result.results for attempt in each.attempts]
    name = f"{service.service_name}"
    # Not the status of the result: that is a success for whatever the URL calls optional.
    if attempts and all(attempt.status == AppriseResultStatus.SUCCESS for attempt in attempts):
        return f"{name} took it"
    raise _failure(name, [entry.message for entry in result.logs()])


def _failure(name: str, said: list[str]) -> PanicmailError:
    """What Apprise's log of a failed call comes to. Its words stay here: topics and paths stand in them."""
    codes = [int(match[1]) for message in said if (match := _STATUS.search(message))]
    if codes:
        return _refusal(name, codes)
    lost = [message for message in said if _LOST in message]
    if not lost:
        return Temporary(f"{name} did not take it, and not for a reason we know")
    never_sent = [match[1] for message in lost if (match := _NEVER_SENT.search(message))]
    if len(never_sent) == len(lost):
        fits_not = [reason[1] for message in lost if (reason := _TLS_REFUSED.search(message))]
        kind = LockedOut if len(fits_not) == len(lost) else Temporary
        why = f" ({fits_not[0]})" if fits_not else ""
        return kind(f"{name}: {_NEVER_SENT_WORDS[never_sent[0]]}{why}")
    why = "did not answer in time" if "timed out" in lost[-1] else "hung up without an answer"
    return Unknown(f"{name} {why}")


def _refusal(name: str, codes: list[int]) -> PanicmailError:
    """One URL may name several recipients, and so have several answers: it has failed for good if all of them have."""
    passing = [code for code in codes if code >= 500 or code in _PASSING]
    if passing:
        return Temporary(f"{name} answered {passing[0]}")
    return http_client.refusal(codes)(f"{name} answered {codes[0]}")
