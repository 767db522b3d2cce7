"""An HTTP server on loopback that does as its paths say, and remembers who asked for what.

    /403            that status        /hang     no answer until `release`    /reset   the connection is reset
    /200            an answer          /drip     one octet now and then       /close   closed without an answer
    /302?to=URL     leads there        /long?n=  so many octets               /slow?s= an answer after a while

Without a number in front a path is answered 200. `status` replaces that, to change its mind between two questions.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One question."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Whoever asked went away."""


class Provider:
    """From `with` to its end."""

    def __init__(self, *, tls: SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.status = 200
        self.answer = b'{"id": "kept"}'
        self.headers: dict[str, str] = {}  #: of every answer
        self._came = threading.Condition()
        self._released = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider._handle(self)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def release(self) -> None:
        """Answer everybody who hangs."""
        self._released.set()

    def wait(self, count: int = 1, within: float = 15.0) -> Asked:
        """The `count`-th question, whether it came already or comes yet."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.asked) >= count, within), f"only {self.asked}"
            return self.asked[count - 1]

    def _handle(self, to: BaseHTTPRequestHandler) -> None:
        body = to.rfile.read(int(to.headers.get("Content-Length") or 0))
        with self._came:
            self.asked.append(Asked(to.command, to.path, dict(to.headers), body))
            self._came.notify_all()
        word = urlsplit(to.path).path.strip("/").partition("/")[0]
        query = {key: values[0] for key, values in parse_qs(urlsplit(to.path).query).items()}
        behave: Callable[..., None] | None = getattr(self, f"_do_{word}", None)
        with contextlib.suppress(OSError):  # whoever asked went away
            if behave is not None:
                behave(to, query)
            else:
                self._respond(to, int(word) if word.isdecimal() else self.status, query)

    def _respond(self, to: BaseHTTPRequestHandler, status: int, query: Mapping[str, str]) -> None:
        to.send_response(status)
        for name, value in {**self.headers, "Content-Length": str(len(self.answer))}.items():
            to.send_header(name, value)
        if "to" in query:
            to.send_header("Location", query["to"])
        to.end_headers()
        to.wfile.write(self.answer)

    def _do_hang(self, to: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
        self._released.wait(30)
        self._respond(to, 200, query)

    def _do_slow(self, to: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
        self._released.wait(float(query["s"]))
        self._respond(to, 200, query)

    def _do_drip(self, to: BaseHTTPRequestHandler, _: Mapping[str, str]) -> None:
        to.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self._released.wait(0.02):
            to.wfile.write(b"x")
        to.close_connection = True

    def _do_reset(self, to: BaseHTTPRequestHandler, _: Mapping[str, str]) -> None:
        to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        to.close_connection = True

    def _do_close(self, to: BaseHTTPRequestHandler, _: Mapping[str, str]) -> None:
        to.close_connection = True

    def _do_long(self, to: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
        to.send_response(200)
        to.end_headers()
        for _ in range(int(query["n"]) // 1000):
            to.wfile.write(b"x" * 1000)
        to.close_connection = True


def closed_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def until(question: Callable[[], object], within: float = 15.0) -> None:
    """Wait for it to be true."""
    ends_at = time.monotonic() + within
    while not question():
        assert time.monotonic() < ends_at, "in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def hanging_up() -> Iterator[int]:
    """The port of a server that takes every connection, hears a little and closes it in good order."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                with client:
                    client.recv(65536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield int(server.getsockname()[1])
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(30)
