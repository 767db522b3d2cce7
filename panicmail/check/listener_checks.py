"""The doors: whether panicmail listens there already, could, or somebody else does."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable, Iterator

from panicmail.check.parallel import ParallelChecks, PendingAnswer
from panicmail.check.result import Group, Row
from panicmail.config import Config
from panicmail.config.values import Listen
from panicmail.delivery import http_client
from panicmail.errors import PanicmailError
from panicmail.store import open_store

#: For one door, and for all of them, in seconds.
STEP_SECONDS, SECONDS = 3.0, 6.0
#: Where to knock at a door that is open on every address.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing is bound
_OURS = b" panicmail ESMTP"


def rows(config: Config) -> list[Row]:
    serving = open_store.is_served(config)
    asking = ParallelChecks(SECONDS)
    doors = [(Group.DOOR, f"port {at.port}", at, asking.ask(_smtp(at))) for at in config.smtp.listen]
    web = config.web.listen
    doors.append((Group.WEB, f"port {web.port}", web, asking.ask(lambda: is_panicmail_web(web))))
    return [row for group, subject, at, answer in doors for row in _door(group, subject, at, answer, serving)]


def _smtp(at: Listen) -> Callable[[], bool | None]:
    return lambda: is_panicmail(at)


def _door(group: Group, subject: str, at: Listen, answer: PendingAnswer[bool | None], serving: bool) -> Iterator[Row]:
    """`serving`: a `panicmail serve` has this database."""
    try:
        ours = answer.wait() if at.port else None
    except PanicmailError as exc:
        mend = "see what listens there: ss -ltnp"
        yield group.warning(subject, f"{at}: something is there and does not speak ({exc})", mend)
        return
    if ours:
        yield group.ok(subject, f"{at}: panicmail answers there")
    elif serving and at.port:
        found = f"{at}: panicmail serve runs, and does not answer there"
        mend = "look at its log; if it was started with another configuration, restart it (ss -ltnp names who listens)"
        yield group.failed(subject, found, mend)
    elif ours is False:
        mend = "stop it (ss -ltnp names it), or listen elsewhere"
        yield group.failed(subject, f"{at} is taken by another program", mend)
    else:
        yield _free(group, subject, at)


def _free(group: Group, subject: str, at: Listen) -> Row:
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    try:
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((at.host, at.port))
    except PermissionError:
        mend = "run panicmail check as panicmail's user; systemd needs AmbientCapabilities=CAP_NET_BIND_SERVICE for it"
        return group.warning(subject, f"{at}: this user may not listen there", mend)
    except OSError as exc:
        why = "it is no address of this host" if exc.errno == errno.EADDRNOTAVAIL else exc.strerror or f"{exc}"
        return group.failed(subject, f"{at}: {why}", "listen on an address of this host, or on 0.0.0.0")
    return group.ok(subject, f"{at} is free; panicmail serve does not run")


def is_panicmail(at: Listen) -> bool | None:
    """Whether the SMTP server there is a panicmail; None when nobody listens."""
    host = _ANYWHERE.get(at.host, at.host)
    try:
        with socket.create_connection((host, at.port), STEP_SECONDS) as door:
            greeting = door.makefile("rb").readline(512)
            door.sendall(b"QUIT\r\n")
    except ConnectionRefusedError:
        return None
    except OSError:
        return False
    return _OURS in greeting


def is_panicmail_web(at: Listen) -> bool | None:
    """The same of the web server."""
    host = _ANYWHERE.get(at.host, at.host)
    try:
        with socket.create_connection((host, at.port), STEP_SECONDS):
            pass
    except ConnectionRefusedError:
        return None
    except OSError:
        return False
    return answers_as_panicmail(f"http://{Listen(host, at.port)}")


def answers_as_panicmail(url: str) -> bool:
    """Whether a panicmail tells its health there."""
    try:
        told = http_client.get(f"{url}/healthz", timeout=STEP_SECONDS, limit=1024, whatever=True)
        return "alive" in json.loads(told)  # one that is not well answers 503, and is a panicmail
    except (PanicmailError, ValueError, TypeError):
        return False
