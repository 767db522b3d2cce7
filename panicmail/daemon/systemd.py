"""What passes between systemd and a service: how it goes, sd_notify(3), and opened sockets, sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import structlog

from panicmail.errors import Mistake

_log = structlog.get_logger()

#: The first descriptor that systemd hands over.
_FIRST = 3


def tell(state: str) -> None:
    """Send `state` to the socket systemd named; nothing when it named none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        try:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.sendall(state.encode())
        except OSError as exc:
            _log.warning("systemd.unreachable", reason=str(exc))


def take_sockets(environ: MutableMapping[str, str] = os.environ) -> list[tuple[str, socket.socket]]:
    """The sockets a socket unit hands over, each with its name: sd_listen_fds_with_names(3). Once; no child gets them.

    Raises:
        Mistake: One of them is not for mail.
    """
    given = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if given["LISTEN_PID"] != str(os.getpid()) or not given["LISTEN_FDS"].isdecimal():
        return []
    names = given["LISTEN_FDNAMES"].split(":")
    taken = []
    for number in range(int(given["LISTEN_FDS"])):
        name = names[number] if number < len(names) else ""
        os.set_inheritable(_FIRST + number, False)
        handed = socket.socket(fileno=_FIRST + number)
        if handed.type != socket.SOCK_STREAM or not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise Mistake(f"systemd hands over {name or 'a socket'}, which takes no connections; see its socket unit")
        taken.append((name, handed))
    return taken
