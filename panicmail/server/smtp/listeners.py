"""The listener: binds, serves, and leaves without losing what is on its way in.

It runs in the event loop that calls `start`, with no thread of its own (aiosmtpd's Controller cancels every handler
when it stops). On the way out, `drain`: no new connections, 421 to who waits, and mails in flight get their answer as
long as the time given lasts. What is cut off then had no 250, so its sender still has it.

It knows neither database nor configuration: `known` decides about a recipient, `accept` makes a mail durable.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import structlog

from panicmail.server.smtp.connections import Connections, allowed
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.reply_table import Accept, Known, SmtpLimits
from panicmail.server.smtp.session import SmtpSession

_log = structlog.get_logger()

#: So many new connections the loop takes in one go, before any of them can make room: they must be few beside
#: `connections.RESERVED`.
_AT_ONCE = 32
#: So many the kernel holds for us while the loop is busy, or as many as it is allowed to. One for which it has no room
#: waits a second before it knocks again.
_BACKLOG = 1024

#: RFC 5321 6.3 wants at least 100: gateways, hybrid mail servers and lists each add some. Our own loops are found by
#: our own field, `X-Panicmail`.
MAX_HOPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place where mail is taken, and how."""

    at: tuple[str, int] | Path | socket.socket  #: host and port, a path, or a socket that listens already
    tls: ssl.SSLContext | None = None  #: None: no TLS
    tls_at_once: bool = False
    require_tls: bool = False
    lmtp: bool = False

    def __str__(self) -> str:
        if isinstance(self.at, socket.socket):
            return shown(self.at)
        return f"unix:{self.at}" if isinstance(self.at, Path) else _written(self.at)


def shown(listening: socket.socket) -> str:
    """Where a socket listens: "127.0.0.1:25", "[::1]:25", "unix:/run/lmtp.sock"."""
    name = listening.getsockname()
    return f"unix:{os.fsdecode(name)}" if listening.family == socket.AF_UNIX else _written(name[:2])


def _written(at: tuple[str, int]) -> str:
    return f"[{at[0]}]:{at[1]}" if ":" in at[0] else f"{at[0]}:{at[1]}"


class SmtpListener:
    """SMTP or LMTP at one or more places.

    Args:
        listen: Host and port pairs, for which `tls` holds, or places that say all; port 0 takes a free one, see
            `addresses`.
        hostname: What we call ourselves in the greeting.
        max_message_size: In octets. Announced, refused in MAIL (SIZE=) and at the dot; beyond twice as much we hang up.
        tls: Switches STARTTLS on; plaintext stays possible, for an expired certificate must not stop a panic.
        storage: Where mails are on their way in; one for which there is no room is answered 452.
        idle_timeout: Seconds; then 421.
        accept_timeout: Seconds; then 451, though the write may still succeed.
        max_connections: At a time; a quarter of them of one peer address. None: what there are descriptors for.
        is_trusted: Whether that address is a mail server of ours: it has as many connections as it wants, and an eighth
            of all is for such servers alone. None: there are none.
        limits: As of `SmtpLimits`.
    """

    def __init__(
        self,
        *,
        listen: Sequence[tuple[str, int] | Endpoint],
        hostname: str,
        known: Known,
        accept: Accept,
        max_message_size: int,
        tls: ssl.SSLContext | None,
        storage: InboundStorage,
        idle_timeout: float = 300.0,
        accept_timeout: float = 30.0,
        max_recipients: int = 100,
        max_hops: int = MAX_HOPS,
        max_connections: int | None = None,
        is_trusted: Callable[[str], bool] | None = None,
        **limits: float,
    ) -> None:
        self._endpoints = [each if isinstance(each, Endpoint) else Endpoint(at=each, tls=tls) for each in listen]
        self._terms = SmtpLimits(
            hostname=hostname,
            known=known,
            accept=accept,
            max_message_size=max_message_size,
            storage=storage,
            tls=tls,
            idle_timeout=idle_timeout,
            accept_timeout=accept_timeout,
            max_recipients=max_recipients,
            max_hops=max_hops,
            is_trusted=is_trusted or (lambda peer: False),
            **limits,  # type: ignore[arg-type]
        )
        self._servers: list[asyncio.Server] = []
        self._made: list[Path] = []  #: sockets in the file system that are ours to take away
        most = allowed() if max_connections is None else max_connections
        self._dialogues: Connections[SmtpSession] = Connections(most, max(1, most // 4), is_trusted)
        self._draining = False

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every bound socket that has them, in the order of `listen`; empty before `start` and after
        `drain`."""
        return tuple(each.getsockname()[:2] for each in self._sockets() if each.family != socket.AF_UNIX)

    @property
    def places(self) -> list[str]:
        """The same in words, sockets of the file system included."""
        return [shown(each) for each in self._sockets()]

    def _sockets(self) -> Iterator[socket.socket]:
        return (each for server in self._servers for each in cast(Sequence[socket.socket], server.sockets))

    async def start(self) -> None:
        """Bind every address, or none.

        Raises:
            OSError: One of them cannot be bound; its text names the address.
        """
        try:
            for endpoint in self._endpoints:
                self._servers.append(await self._bind(endpoint))
            for listening in self._sockets():
                with listening.dup() as same:  # asyncio has one number for both
                    same.listen(_BACKLOG)
        except OSError:
            self._close()
            raise
        _log.info("smtp.listening", addresses=self.addresses, places=self.places)

    async def _bind(self, endpoint: Endpoint) -> asyncio.Server:
        terms = replace(
            self._terms,
            tls=endpoint.tls,
            tls_at_once=endpoint.tls_at_once,
            require_tls=endpoint.require_tls,
            lmtp=endpoint.lmtp,
        )
        loop, begin = asyncio.get_running_loop(), partial(self._dialogue, terms)
        try:
            if isinstance(endpoint.at, socket.socket):
                return await loop.create_server(begin, sock=endpoint.at, backlog=_AT_ONCE)
            if isinstance(endpoint.at, Path):
                opened = _unix_socket(endpoint.at)
                self._made.append(endpoint.at)
                return await loop.create_server(begin, sock=opened, backlog=_AT_ONCE)
            host, port = endpoint.at
            return await loop.create_server(begin, host, port, backlog=_AT_ONCE, reuse_address=True)
        except OSError as exc:  # asyncio tells of the address in words of its own
            why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or f"{exc}"
            raise OSError(exc.errno, f"cannot listen on {endpoint}: {why}") from exc

    async def drain(self, within: float) -> None:
        """Stop accepting, let mails in flight finish for up to `within` seconds, then drop the rest.

        Sessions waiting for a command are told 421 at once; the others after the answer to their mail. Returns when
        every connection is closed. A write that `accept` has begun is never cancelled, but after this no client hears
        of its end. May be called twice.
        """
        self._draining = True
        self._close()
        for dialogue in tuple(self._dialogues):
            dialogue.leave()
        if await self._empty(within):
            return
        _log.warning("smtp.dropped", sessions=len(self._dialogues))
        for dialogue in tuple(self._dialogues):
            dialogue.drop()
        await self._empty(within=1.0)

    def _dialogue(self, terms: SmtpLimits) -> SmtpSession:
        dialogue = SmtpSession(terms, register=self._dialogues, loop=asyncio.get_running_loop())
        if self._draining:  # the kernel had accepted it before we closed
            dialogue.leave()
        return dialogue

    def _close(self) -> None:
        # No wait_closed(): since Python 3.12 it waits for the clients to leave (aiosmtpd issue 394).
        for server in self._servers:
            server.close()
        self._servers.clear()
        while self._made:
            self._made.pop().unlink(missing_ok=True)

    async def _empty(self, within: float) -> bool:
        """Wait until no session is left; False when that took longer than `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while self._dialogues:
                    await asyncio.gather(*(dialogue.ended() for dialogue in tuple(self._dialogues)))
        except TimeoutError:
            return False
        return True


def _unix_socket(path: Path) -> socket.socket:
    """A socket in the file system; what an ended process left there is taken away.

    Everybody on this host may connect, as to a port of 127.0.0.1: mail servers drop the groups they have, so that the
    folder alone can say who may.

    Raises:
        OSError: Somebody listens there, there is something else, or the folder may not be written.
    """
    made = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            _expect_nobody(path)
            path.unlink()
        made.bind(str(path))
        path.chmod(0o666)
    except OSError:
        made.close()
        raise
    return made


def _expect_nobody(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as tried:
        tried.settimeout(1.0)
        try:
            tried.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:  # there is somebody, if one that does not answer
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


# -- The certificate of a listener: read at the start, and again while connections come and go.

#: What Mozilla's "intermediate" says for Postfix: TLS 1.2 with these, and TLS 1.3; the client chooses among them.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
)


def tls_context(cert: Path | str, key: Path | str) -> ssl.SSLContext:
    """A server's context with this chain and key (PEM files).

    Raises:
        OSError: The pair cannot be read or does not fit; `ssl.SSLError` is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # "": a key with a passphrase is an error, not a question on the terminal.
    context.load_cert_chain(cert, key, password="")
    return context


class ServerCertificate:
    """A chain and its key, and the context that shows them.

    Raises:
        OSError: As of `tls_context`.
    """

    def __init__(self, cert: Path | str, key: Path | str) -> None:
        self._files = Path(cert), Path(key)
        self._seen = self._stamp()
        self.context = tls_context(cert, key)

    def reload(self, cert: Path | str, key: Path | str) -> None:
        """Show this one from the next handshake on.

        Raises:
            OSError: As of `tls_context`; the old one stays in use.
        """
        files = Path(cert), Path(key)
        tls_context(cert, key)  # tried on a context of its own first: a pair that fails midway would spoil the live one
        self._files = files
        self._seen = self._stamp()
        self.context.load_cert_chain(cert, key, password="")
        _log.info("smtp.tls_reloaded", certificate=str(cert))

    def renew(self) -> None:
        """Read the files again if they have changed; what cannot be used yet is tried again at the next call."""
        try:
            if self._stamp() != self._seen:
                self.reload(*self._files)
        except OSError as exc:
            _log.warning("smtp.tls_not_reloaded", certificate=str(self._files[0]), reason=str(exc))

    def _stamp(self) -> tuple[tuple[int, int, int], ...]:
        """What tells one state of the files from another."""
        stats = (file.stat() for file in self._files)
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
