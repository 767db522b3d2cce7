"""uvicorn inside a loop that is already running, with limits against slow and hungry clients.

It leaves signals alone: the daemon owns them. uvicorn by itself waits for ever for the first request on a connection
and for the rest of a begun one, and takes any number of connections; the SMTP listener lives in the same process and
needs the file descriptors, so here a client has `patience` to ask its question and there is an end to their number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from email.utils import formatdate

import structlog
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

#: From the connection, or the answer before, to the end of a request.
PATIENCE_SECONDS = 20.0
#: At more, in all or of one peer address, whoever has been idle for longest is hung up on.
MOST_CONNECTIONS, MOST_OF_A_PEER = 200, 50
#: More requests at a time are answered 503; but not those of monitors, which come last to wait.
MOST_REQUESTS = 100
_MONITORED = frozenset({"/healthz", "/readyz"})
#: Of a request line with its headers.
MOST_HEADER_OCTETS = 16 * 1024

_log = structlog.get_logger()


class WebServer:
    """HTTP on one address.

    Args:
        listen: Host and port; port 0 takes a free one, see `address`.
    """

    def __init__(self, app: ASGIApp, listen: tuple[str, int], *, patience: float = PATIENCE_SECONDS) -> None:
        self._listen = listen
        self._server = _Server(_settings(BoundedRequests(app), patience))
        self._task: asyncio.Task[None] | None = None
        self._address = listen

    @property
    def address(self) -> tuple[str, int]:
        """Host and port as bound; before `start` as asked for."""
        return self._address

    async def start(self) -> None:
        """Bind and serve; returns when the first request would be answered.

        Raises:
            OSError: The address cannot be bound; its text names it.
        """
        bound = await _bind(*self._listen)
        self._address = bound.getsockname()[:2]
        self._task = asyncio.create_task(self._server.serve(sockets=[bound]), name="web")
        self._task.add_done_callback(lambda _: self._server.begun.set())
        await self._server.begun.wait()
        if self._task.done():
            self._task.result()
        _log.info("web.listening", address=self._address)

    async def stop(self) -> None:
        """Take no more requests, finish those begun for 3 s at most, hang up. May be called twice, or without start."""
        self._server.leave()
        if self._task is not None:
            await asyncio.wait({self._task})
        self._server.hang_up()


class BoundedRequests:
    """An app that carries out so many requests at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _MONITORED:
            await self._app(scope, receive, send)
        elif self._under_way >= MOST_REQUESTS:
            await PlainTextResponse("Too many requests. Try again.", 503)(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._under_way -= 1


def _settings(app: ASGIApp, patience: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=type("Connection", (_Connection,), {"patience": patience}),
        interface="asgi3",
        lifespan="on",
        ws="none",
        log_config=None,
        log_level="error",  # its warnings are strangers' mistakes, one line each
        access_log=False,
        server_header=False,
        date_header=False,  # `_Connection` has its own: uvicorn's is made anew by a timer, for nobody
        proxy_headers=False,
        backlog=128,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=MOST_HEADER_OCTETS,
    )


async def _bind(host: str, port: int) -> socket.socket:
    """uvicorn would end the process where this raises."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or f"{exc}"
        raise OSError(exc.errno, f"cannot listen on {host}:{port}: {why}") from exc


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """Until it is to leave. uvicorn's own looks ten times a second whether it is."""
        await self._leaving.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    def hang_up(self) -> None:
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


class _Connection(H11Protocol):
    """A client who does not finish a request in time is hung up on; too many, and whoever is idle for longest is."""

    patience = PATIENCE_SECONDS
    _timer: asyncio.TimerHandle | None = None
    idle_since: float | None = None  #: by the loop's clock; None: its request is being carried out

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._time_the_client()
        self._make_room()

    def _make_room(self) -> None:
        """Hang up on somebody where there are too many of one address, or in all; on this one if nobody is idle."""
        others = [each for each in self.connections if isinstance(each, _Connection) and each is not self]
        theirs = [each for each in others if each.peer == self.peer]
        crowded = theirs if len(theirs) >= MOST_OF_A_PEER else others if len(others) >= MOST_CONNECTIONS else []
        if crowded:
            idle = [(each.idle_since, each) for each in crowded if each.idle_since is not None]
            leaves = min(idle, key=lambda pair: pair[0])[1] if idle else self
            leaves.transport.abort()
            self.connections.discard(leaves)  # its end is told later, and others may come before

    @property
    def peer(self) -> str:
        return self.client[0] if self.client else ""

    def data_received(self, data: bytes) -> None:
        dated = (b"date", formatdate(usegmt=True).encode())
        self.server_state.default_headers = [dated, *self.config.encoded_headers]
        super().data_received(data)
        self._time_the_client()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._time_the_client()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _time_the_client(self) -> None:
        """Keep one timer running while it is the client's turn: it starts with the turn, not with every octet."""
        if self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete:
            self._stop_timer()
            self.idle_since = None
        elif self._timer is None:
            self._timer = self.loop.call_later(self.patience, self.transport.abort)
            self.idle_since = self.loop.time()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
