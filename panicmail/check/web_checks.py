"""The address in the mails: whether a phone somewhere could open it, and whether panicmail is behind it."""

from __future__ import annotations

import ipaddress
import socket
from datetime import datetime
from urllib.parse import urlsplit

from panicmail.check import certificate_checks
from panicmail.check.listener_checks import answers_as_panicmail, is_panicmail_web
from panicmail.check.result import Group, ParallelChecks, PendingAnswer, Row
from panicmail.config import Config
from panicmail.errors import PanicmailError, Temporary

STEP_SECONDS, SECONDS = 3.0, 6.0

_WEB = Group.WEB
OUTSIDE = "let web.url be an address that a phone outside the office can open"
_LEADS = "let web.url lead to web.listen: see the reverse proxy, and the DNS of that name"


def rows(config: Config, now: datetime) -> list[Row]:
    """What is told of the name, the certificate and who answers; nothing without `[web] url`."""
    url = config.web.url
    if not url:
        return []
    parts, asking = urlsplit(url), ParallelChecks(SECONDS)
    host = parts.hostname or ""
    addresses = asking.ask(lambda: _addresses(host))
    here = asking.ask(lambda: is_panicmail_web(config.web.listen))
    answers = asking.ask(lambda: answers_as_panicmail(url))
    ends_at = asking.ask(lambda: certificate_checks.fetch_end_of_certificate(host, parts.port or 443, STEP_SECONDS))
    found = [] if is_literal(host) else [_name(host, addresses)]
    if addresses.or_none() is None:
        return found
    if parts.scheme == "https":
        found.append(certificate_checks.shown(_WEB, "web certificate", host, ends_at.wait, now))
    if here.or_none():  # else nothing could answer
        found.append(_leads(url, bool(answers.or_none())))
    return found


def _name(host: str, addresses: PendingAnswer[list[str]]) -> Row:
    """Where the name leads; a literal address is judged by the configuration alone."""
    try:
        found = addresses.wait()
    except PanicmailError as exc:
        return _WEB.warning("web name", f"{host}: {exc}", "see web.url and the DNS of that name")
    if any(map(is_public, found)):
        return _WEB.ok("web name", f"{host} leads to {', '.join(found)}")
    return _WEB.warning("web name", f"{host} leads to {', '.join(found)}, which is no public address", OUTSIDE)


def _addresses(host: str) -> list[str]:
    try:
        return sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError as exc:
        raise Temporary(f"its name is not known here ({exc.strerror})") from exc


def _leads(url: str, is_panicmail: bool) -> Row:
    if is_panicmail:
        return _WEB.ok("web answer", f"{url} leads to a panicmail")
    return _WEB.warning("web answer", f"{url} does not lead to a panicmail, as seen from this host", _LEADS)


def is_literal(host: str) -> bool:
    """Whether it is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether anybody anywhere may reach it; a name counts as public unless it is this host's own."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address != "localhost" and not address.endswith(".localhost")
    return found.is_global
