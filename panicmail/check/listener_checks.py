"""The doors: whether panicmail listens there already, could, or somebody else does."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
from collections.abc import Iterator
from functools import partial

from panicmail.check.result import Group, ParallelChecks, PendingAnswer, Row
from panicmail.config import Config
from panicmail.config.schema import ListenerSettings
from panicmail.config.values import Listen, SocketAddress, SystemdSocket, UnixSocket
from panicmail.delivery import http_client
from panicmail.errors import PanicmailError
from panicmail.store import open_store

#: For one door, and for all of them, in seconds.
STEP_SECONDS, SECONDS = 3.0, 6.0
#: Where to knock at a door that is open on every address.
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing is bound
_OURS = b" panicmail "


def rows(config: Config) -> list[Row]:
    serving = open_store.is_served(config)
    asking = ParallelChecks(SECONDS)
    doors = [
        (Group.DOOR, listener.address, asking.ask(partial(is_panicmail, listener)))
        for listener in config.smtp.all_listeners
    ]
    web = config.web.listen
    doors.append((Group.WEB, web, asking.ask(partial(is_panicmail_web, web))))
    return [row for group, at, answer in doors for row in _door(group, at, answer, serving)]


def is_known(at: SocketAddress) -> bool:
    """Whether the configuration says where that is: the system chooses a port 0, and systemd knows its own sockets."""
    return not isinstance(at, SystemdSocket) and (isinstance(at, UnixSocket) or bool(at.port))


def _door(group: Group, at: SocketAddress, answer: PendingAnswer[bool | None], serving: bool) -> Iterator[Row]:
    """`serving`: a `panicmail serve` has this database."""
    subject = f"port {at.port}" if isinstance(at, Listen) else f"{at}"
    if isinstance(at, SystemdSocket):
        yield group.ok(subject, "opened by systemd; systemctl list-sockets says where, and whether it is active")
        return
    try:
        ours = answer.wait() if is_known(at) else None
    except PanicmailError as exc:
        mend = "see what listens there: ss -ltnp"
        yield group.warning(subject, f"{at}: something is there and does not speak ({exc})", mend)
        return
    if ours:
        yield group.ok(subject, f"{at}: panicmail answers there")
    elif serving and is_known(at):
        found = f"{at}: panicmail serve runs, and does not answer there"
        mend = "look at its log; if it was started with another configuration, restart it (ss -ltnp names who listens)"
        yield group.failed(subject, found, mend)
    elif ours is False:
        mend = "stop it (ss -ltnp names it), or listen elsewhere"
        yield group.failed(subject, f"{at} is taken by another program", mend)
    elif isinstance(at, UnixSocket):
        yield _free_path(group, subject, at)
    else:
        yield _free(group, subject, at)


def _free_path(group: Group, subject: str, at: UnixSocket) -> Row:
    folder = at.path.parent
    if not folder.is_dir():
        return group.failed(subject, f"{folder} is not there", "make the folder, for the user panicmail runs as")
    if not os.access(folder, os.W_OK | os.X_OK):
        mend = "run panicmail check as panicmail's user; if it is so for that one, give it the folder"
        return group.warning(subject, f"this user may not make a socket in {folder}", mend)
    return group.ok(subject, f"{at} is free; panicmail serve does not run")


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


def is_panicmail(listener: ListenerSettings) -> bool | None:
    """Whether the mail server there is a panicmail; None when nobody listens, or nobody here knows where that is."""
    try:
        with _knock(listener.address) as door:
            spoken = _unverified().wrap_socket(door) if listener.tls == "implicit" else door
            greeting = spoken.makefile("rb").readline(512)
            spoken.sendall(b"QUIT\r\n")
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    except OSError:
        return False
    return _OURS in greeting


def _knock(at: SocketAddress) -> socket.socket:
    """A connection to what listens there.

    Raises:
        FileNotFoundError: There is nothing that could listen.
    """
    if isinstance(at, Listen):
        return socket.create_connection((_ANYWHERE.get(at.host, at.host), at.port), STEP_SECONDS)
    if isinstance(at, SystemdSocket):
        raise FileNotFoundError
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(STEP_SECONDS)
    try:
        door.connect(str(at.path))
    except OSError:
        door.close()
        raise
    return door


def _unverified() -> ssl.SSLContext:
    """Whoever it is: what it says is looked at. The certificate has rows of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


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
