"""aiosmtpd's protocol, made to keep our promises: the one module that knows its private parts.

aiosmtpd keeps the parsing of MAIL and RCPT, the state of a transaction and STARTTLS. Replaced are the parts that cannot
keep the promises of `session`: its command loop cancels on end of file and quotes clients and exceptions in replies;
its timer runs on while a mail is read and while a handler works. What is replaced has no documented hook, so the
version is pinned above and below, and tests hold each use against the stock class, reply by reply.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from panicmail.server.smtp import reply_table
from panicmail.server.smtp.reply_table import Reply, SmtpLimits

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session


# -- What aiosmtpd asks while it parses commands, and our answers.
#
# An exception in here is none of a client's business: `SmtpSession` logs it and answers 451.

#: Longer names are cut; RFC 5321 4.5.3.1.2 allows a domain 255 octets.
_NAME_WITHIN = 255


class SmtpHandler:
    """The handler object of aiosmtpd. It keeps nothing: one serves any number of sessions."""

    def __init__(self, terms: SmtpLimits) -> None:
        self._terms = terms

    async def handle_HELO(  # noqa: N802 - the names are aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, name: str
    ) -> Reply:
        session.host_name = _shown(name)
        return reply_table.hello(self._terms.hostname)

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, name: str, responses: list[str]
    ) -> list[Reply]:
        """Our own list of extensions in place of aiosmtpd's, which lacks some and offers AUTH under TLS."""
        session.host_name = _shown(name)
        extensions = ["PIPELINING", f"SIZE {self._terms.max_message_size}", "8BITMIME", "SMTPUTF8"]
        if self._terms.tls is not None and session.ssl is None:
            extensions.append("STARTTLS")
        return reply_table.extended_hello(self._terms.hostname, [*extensions, "ENHANCEDSTATUSCODES"])

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Reply:
        if reply_table.has_control(address):
            return reply_table.BAD_SENDER
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return reply_table.SENDER_OK

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> Reply:
        if reply_table.has_control(address):
            return reply_table.BAD_ADDRESS
        mailbox = reply_table.plain(address)
        if mailbox is None or not self._terms.known(mailbox):
            return reply_table.UNKNOWN_RECIPIENT
        if len(envelope.rcpt_tos) >= self._terms.max_recipients:
            return reply_table.TOO_MANY_RECIPIENTS
        envelope.rcpt_tos.append(address if address.isascii() else mailbox)
        return reply_table.RECIPIENT_OK


def _shown(name: str) -> str:
    return reply_table.without_control(name)[:_NAME_WITHIN]


# --

# aiosmtpd logs whole commands, with what a client put into them.
logging.getLogger("mail.log").setLevel(logging.WARNING)

#: Octets a command line may have. RFC 5321 4.5.3.1.4 asks for 512 and room for extensions.
COMMAND_WITHIN = 4096
#: The StreamReader pauses the peer above twice this many octets.
_READ_AHEAD = 64 * 1024
#: More than the StreamReader can hold (twice its limit and one receive of at most 256 KiB): a read empties it.
_READ_ALL = 1024 * 1024

Command = Callable[[str | None], Awaitable[None]]


class SessionOver(Exception):  # noqa: N818 - an end, not an error
    """This session is over; `last_word` is what the client still gets."""

    def __init__(self, last_word: Reply | None = None) -> None:
        super().__init__()
        self.last_word = last_word


class _ListsHooks:
    """For each connection aiosmtpd looks through all that it and its handler have, for what is named like a hook: a
    tenth of what a mail costs. They are the same for all of a class."""

    _hooks: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._hooks = tuple(name for name in dir(cls) if name.startswith(("smtp_", "auth_", "handle_")))

    def __dir__(self) -> tuple[str, ...]:
        return self._hooks


class _Handler(_ListsHooks, SmtpHandler):
    pass


class ClientProtocol(_ListsHooks, SMTP):
    """One connection: octets in and out, TLS, and the transaction. What is said is `converse`, which a subclass has."""

    line_length_limit = _READ_AHEAD  # what aiosmtpd gives its StreamReader as limit

    def __init__(self, limits: SmtpLimits, loop: asyncio.AbstractEventLoop) -> None:
        # aiosmtpd's own is one dict for all sessions, and each EHLO adds to it.
        self.command_size_limits = collections.defaultdict(lambda: COMMAND_WITHIN)
        super().__init__(
            _Handler(limits),
            data_size_limit=limits.max_message_size,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname=limits.hostname,
            ident="panicmail ESMTP",
            tls_context=limits.tls,
            loop=loop,
        )
        self.peer = ""  #: the address of the client; "" when it hung up before we knew it
        self.is_mute = False  #: in a handshake that comes before all else: nothing can be said
        self._tls_at_once = limits.tls_at_once
        self._gone = asyncio.Event()
        self._ahead = bytearray()  # read from the wire, not yet understood

    async def converse(self) -> None:
        """The whole dialogue. It ends with the connection closed."""
        raise NotImplementedError

    # -- the connection, as asyncio tells it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.peer = _peer_of(transport)
        super().connection_made(transport)
        if self._tls_at_once and not self.is_encrypted:  # what comes first is for TLS to read, once it is in place
            cast(asyncio.Transport, transport).pause_reading()

    def eof_received(self) -> bool | None:
        """A half-close. aiosmtpd would cancel the session; but what came before it still counts, and is answered."""
        keep_open = asyncio.StreamReaderProtocol.eof_received(self)
        # TLS cannot be half-closed, and asyncio warns when told to.
        return keep_open and not self.is_encrypted

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone. aiosmtpd would cancel the session, and with it a mail whose dot has come.

        The reader is told of a plain end of file, even after a reset, so that what was received stays readable.
        """
        if self._original_transport is not None:
            self._original_transport.close()
        asyncio.StreamReaderProtocol.connection_lost(self, None)
        self.transport = None
        self._gone.set()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Nothing: aiosmtpd's timer knows neither that a mail is arriving nor that `accept` is at work."""

    async def _handle_client(self) -> None:
        """aiosmtpd's task for this connection."""
        await self.converse()

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """aiosmtpd's parser of paths, replaced: see `addresses`."""
        return reply_table.split_path(arg) or (None, None)

    # -- what a session needs

    @property
    def is_encrypted(self) -> bool:
        return self._tls_protocol is not None

    @property
    def is_gone(self) -> bool:
        """The client has closed, or was cut off."""
        return self.transport is None

    def command_named(self, verb: str) -> Command | None:
        """The method that carries out a command, `smtp_VERB`; None when there is none."""
        found: Any = self._smtp_methods.get(verb)
        return cast(Command | None, found)

    async def read_line(self) -> bytes:
        """The next line without its CRLF; with the line feed when that stands alone. One that is too long comes as b"",
        which no command is."""
        too_long = False
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > COMMAND_WITHIN:
                too_long = True
                self._ahead.clear()
            self._ahead += await self._receive()
        line = bytes(self._ahead[: end + 1]).removesuffix(b"\r\n")
        del self._ahead[: end + 1]
        return b"" if too_long or len(line) > COMMAND_WITHIN else line

    async def begin_tls(self) -> None:
        """Speak TLS from the first octet: what STARTTLS does after its answer.

        Raises:
            TLSSetupException: The handshake failed.
        """
        if self.is_gone:
            raise SessionOver
        self.loop.call_soon(cast(asyncio.Transport, self.transport).resume_reading)  # when TLS is in place
        self.is_mute = True
        try:
            await super().smtp_STARTTLS("")
        finally:
            self.is_mute = False
        if self._session.ssl is None:  # we cut it off ourselves: asyncio calls that an end without an error
            raise SessionOver

    async def read_some(self) -> bytes | bytearray:
        """Some octets, at least one."""
        if not self._ahead:
            return await self._receive()
        ahead, self._ahead = self._ahead, bytearray()
        return ahead

    def give_back(self, octets: bytes | bytearray) -> None:
        """They were read too far, and are the first to be read next."""
        self._ahead[:0] = octets

    def forget_ahead(self) -> None:
        """Drop what was read from the wire and is not understood yet."""
        self._ahead.clear()

    async def _receive(self) -> bytes:
        octets: bytes = await self._reader.read(_READ_ALL)
        if not octets:
            raise SessionOver
        return octets

    async def write(self, octets: bytes) -> None:
        """Send, and wait until the client takes it.

        Raises:
            ConnectionError: Nobody is there any more.
        """
        self._writer.write(octets)
        await self._writer.drain()

    def abort(self) -> None:
        """Cut the connection off, now."""
        # After STARTTLS the original transport is the one with the socket.
        transport = self._original_transport or self.transport
        if transport is not None:
            cast(asyncio.WriteTransport, transport).abort()
        if self._original_transport is not None and self._session.ssl is None:
            # In mid-handshake asyncio does not tell us when the connection is lost.
            self._gone.set()

    async def closed(self) -> None:
        """Wait until the connection is closed."""
        await self._gone.wait()

    def cancel(self) -> None:
        """End the dialogue where it stands."""
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    async def ended(self) -> None:
        """Wait until the dialogue is over."""
        if self._handler_coroutine is not None:
            await asyncio.wait([self._handler_coroutine])

    # -- the transaction

    @property
    def mail_from(self) -> str | None:
        return cast(Envelope, self.envelope).mail_from

    @property
    def recipients(self) -> list[str]:
        return list(cast(Envelope, self.envelope).rcpt_tos)

    @property
    def helo(self) -> str:
        return self._session.host_name or ""

    @property
    def tls(self) -> str:
        """The version of TLS and the cipher, in words; "" in the clear."""
        facts = self._session.ssl
        return f"{facts['ssl_object'].version()} {facts['cipher'][0]}" if facts else ""

    def end_transaction(self) -> None:
        """Forget sender and recipients: the mail is done with."""
        self.envelope = self._create_envelope()

    @property
    def _session(self) -> Session:
        return cast(Session, self.session)  # there from connection_made on


def _peer_of(transport: asyncio.BaseTransport) -> str:
    """The address of a client. Who comes through a socket of the file system is on this host, and called so."""
    listening = transport.get_extra_info("socket")
    if listening is not None and listening.family == socket.AF_UNIX:
        return "127.0.0.1"
    peername = transport.get_extra_info("peername")  # None when the client has already hung up
    return peername[0] if peername else ""
