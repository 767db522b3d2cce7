"""The listener: binds, serves, and leaves without losing what is on its way in.

It runs in the event loop that calls `start`, with no thread of its own (aiosmtpd's Controller cancels every handler
when it stops). On the way out, `drain`: no new connections, 421 to who waits, and mails in flight get their answer as
long as the time given lasts. What is cut off then had no 250, so its sender still has it.

It knows neither database nor configuration: `known` decides about a recipient, `accept` makes a mail durable.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from panicmail.server.smtp.connections import Connections, allowed
from panicmail.server.smtp.envelope import Accept, Known
from panicmail.server.smtp.inbound_storage import InboundStorage
from panicmail.server.smtp.limits import SmtpLimits
from panicmail.server.smtp.session import SmtpSession

_log = structlog.get_logger()

#: Connections the kernel holds for us while the loop is busy; the loop takes as many in one go, before any of them can
#: make room, so they must be few beside `connections.RESERVED`.
_BACKLOG = 32

#: RFC 5321 6.3 wants at least 100: gateways, hybrid mail servers and lists each add some. Our own loops are found by
#: our own field, `X-Panicmail`.
MAX_HOPS = 100


class SmtpListener:
    """SMTP on one or more addresses.

    Args:
        listen: Host and port pairs; port 0 takes a free one, see `addresses`.
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
        listen: Sequence[tuple[str, int]],
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
        self._listen = tuple(listen)
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
        most = allowed() if max_connections is None else max_connections
        self._dialogues: Connections[SmtpSession] = Connections(most, max(1, most // 4), is_trusted)
        self._draining = False

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every bound socket, in the order of `listen`; empty before `start` and after `drain`."""
        return tuple(socket.getsockname()[:2] for server in self._servers for socket in server.sockets)

    async def start(self) -> None:
        """Bind every address, or none.

        Raises:
            OSError: One of them cannot be bound; its text names the address.
        """
        loop = asyncio.get_running_loop()
        try:
            for host, port in self._listen:
                self._servers.append(await self._bind(loop, host, port))
        except OSError:
            self._close()
            raise
        _log.info("smtp.listening", addresses=self.addresses)

    async def _bind(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> asyncio.Server:
        try:
            return await loop.create_server(self._dialogue, host, port, backlog=_BACKLOG, reuse_address=True)
        except OSError as exc:  # asyncio tells of the address in words of its own
            why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or f"{exc}"
            raise OSError(exc.errno, f"cannot listen on {host}:{port}: {why}") from exc

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

    def reload_tls(self, cert: Path | str, key: Path | str) -> None:
        """Use another certificate from the next STARTTLS on.

        Raises:
            OSError: The pair cannot be read or does not fit (`ssl.SSLError` is one); the old one stays in use.
            ValueError: The listener was started without TLS.
        """
        if self._terms.tls is None:
            raise ValueError("this listener has no TLS")
        tls_context(cert, key)  # tried on a context of its own first: a pair that fails midway would spoil the live one
        self._terms.tls.load_cert_chain(cert, key, password="")
        _log.info("smtp.tls_reloaded")

    def _dialogue(self) -> SmtpSession:
        dialogue = SmtpSession(self._terms, register=self._dialogues, loop=asyncio.get_running_loop())
        if self._draining:  # the kernel had accepted it before we closed
            dialogue.leave()
        return dialogue

    def _close(self) -> None:
        # No wait_closed(): since Python 3.12 it waits for the clients to leave (aiosmtpd issue 394).
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _empty(self, within: float) -> bool:
        """Wait until no session is left; False when that took longer than `within` seconds."""
        try:
            async with asyncio.timeout(within):
                while self._dialogues:
                    await asyncio.gather(*(dialogue.ended() for dialogue in tuple(self._dialogues)))
        except TimeoutError:
            return False
        return True


def tls_context(cert: Path | str, key: Path | str) -> ssl.SSLContext:
    """A server's context for STARTTLS with this chain and key (PEM files).

    Raises:
        OSError: The pair cannot be read or does not fit; `ssl.SSLError` is one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # "": a key with a passphrase is an error, not a question on the terminal.
    context.load_cert_chain(cert, key, password="")
    return context
