"""The link pages in this process, and a browser's part of HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import ASGIApp

from panicmail.server.http import WebServer

T = TypeVar("T")


TOKEN = "l1-abcdefghijklmnop-1-qrstuvwxyz234567"


@dataclass
class Client:
    """A client of the server on loopback, without a library in between."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, http.client.HTTPMessage, str]:
        return self.ask("GET", path)

    def press(self, word: str, path: str = f"/i/{TOKEN}") -> tuple[int, http.client.HTTPMessage, str]:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, f"word={word}".encode(), form)


@contextlib.contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(10)


@contextlib.contextmanager
def listening(app: ASGIApp, *, patience: float = 5.0) -> Iterator[int]:
    """The application served on the port that is answered."""
    with running_loop() as loop:
        server = WebServer(app, ("127.0.0.1", 0), patience=patience)
        wait_for(loop, server.start())
        try:
            yield server.address[1]
        finally:
            wait_for(loop, server.stop())
