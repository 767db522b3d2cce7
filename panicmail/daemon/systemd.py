"""Telling systemd how it goes: sd_notify(3)."""

from __future__ import annotations

import os
import socket

import structlog

_log = structlog.get_logger()


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
