"""Imported by every Python that finds this folder on its path: names are looked up here instead of in the DNS.

While the file FAULTS_NAMES names is there every name is this machine's; without it nothing can be looked up, as when no
name server answers.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

_look_up = socket.getaddrinfo


def _is_number(host: Any) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True


def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host is None or _is_number(host):
        return _look_up(host, *args, **kwargs)
    if not Path(os.environ["FAULTS_NAMES"]).exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _look_up("127.0.0.1", *args, **kwargs)


if "FAULTS_NAMES" in os.environ:  # the reading children have no environment, and look nothing up
    socket.getaddrinfo = getaddrinfo
