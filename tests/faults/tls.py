"""Certificates of an authority of the tests', good ones and ended ones, and TLS in front of a plain server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import trustme

from panicmail.sandbox.tcp_listener import HOST, Connection, TcpListener
from tests.program import World

_AUTHORITY = trustme.CA()


def trusted_by(town: World) -> None:
    """Programs started from here on trust the authority as they do the system's."""
    file = town.folder / "authority.pem"
    _AUTHORITY.cert_pem.write_to_path(file)
    town.environ["SSL_CERT_FILE"] = str(file)


def server(*, ended: bool) -> ssl.SSLContext:
    """What a server on loopback shows: a certificate that is good, or that ended yesterday."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _issued(ended).configure_cert(context)
    return context


def write_pair(folder: Path, *, ended: bool = False, ends_at: datetime | None = None) -> None:
    """`tls.crt` and `tls.key` for our own listener.

    Args:
        ends_at: Of one that is good so far; None: that of the tests' authority, years off.
    """
    issued = _issued(ended) if ends_at is None else _AUTHORITY.issue_cert(HOST, not_after=ends_at)
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "tls.key").chmod(0o600)


def _issued(ended: bool) -> trustme.LeafCert:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    if ended:
        return _AUTHORITY.issue_cert(HOST, not_before=yesterday - timedelta(days=90), not_after=yesterday)
    return _AUTHORITY.issue_cert(HOST)


class Front:
    """TLS before a plain server on loopback; `context` may be changed while it runs."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.context = context
        self._behind = (HOST, port)
        self._listener = TcpListener(0, self._answer)
        self.port = self._listener.port

    def __enter__(self) -> Self:
        self._listener.up()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _answer(self, connection: Connection) -> None:
        connection.sock.settimeout(30)
        connection.sock = self.context.wrap_socket(connection.sock, server_side=True)
        with socket.create_connection(self._behind, 10) as behind:
            back = threading.Thread(target=_pour, args=(behind, connection.sock), daemon=True)
            back.start()
            _pour(connection.sock, behind)
            back.join(10)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            sink.sendall(octets)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def client() -> ssl.SSLContext:
    """A client that trusts the authority, and asks for the right name."""
    context = ssl.create_default_context()
    _AUTHORITY.configure_trust(context)
    return context
