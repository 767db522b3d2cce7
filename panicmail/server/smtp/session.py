"""One client's session: from the greeting to the last word.

Promises:

- `250` after the dot is sent only when `accept` has resolved. A client that hangs up, half-closes or falls silent, and
  a SIGTERM, never cancel that write; what has come in whole is handed to it even when nobody waits for the answer.
- Whatever goes wrong inside is logged as `smtp.failed` and answered with one constant 451 (`replies.FAILED`). What goes
  wrong *while* a mail is being read also closes: the rest of that mail must never be read as commands.
- A mail is a stream of octets, not of lines: no line is too long, nothing in it is changed (see `data`), and memory
  is bounded by the size limit, the budget, and some 400 KiB of read-ahead a session.

How. The class is aiosmtpd's, which keeps the parsing of MAIL and RCPT, the state of a transaction and STARTTLS.
Replaced are the parts that cannot keep those promises: its command loop cancels on end of file and quotes clients and
exceptions in replies; its DATA holds every line; its timer runs on while a mail is read and while a handler works. Here
each wait has its own limit, and none of them ends the work of `accept`.

What can go wrong, and who notices: `accept` slower than `accept_timeout` is answered 451 though the mail may become
durable after all; the sender's second try is then the same mail again, and triage joins them.

Limits by peer (connections, rates, lifetimes) are not drawn here; they belong before the greeting in `_talk`.
"""

# ruff: noqa: N802 - smtp_VERB is how aiosmtpd finds a command

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import traceback
from typing import cast

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session, TLSSetupException

from panicmail import crashpoints
from panicmail.errors import PanicmailError
from panicmail.server.smtp import addresses, reply_table
from panicmail.server.smtp.data import BudgetShare, DataReceiver, received_fields
from panicmail.server.smtp.envelope import Accepted
from panicmail.server.smtp.handler import SmtpHandler
from panicmail.server.smtp.limits import SmtpLimits
from panicmail.server.smtp.reply_table import Reply

_log = structlog.get_logger()
# aiosmtpd logs whole commands, with what a client put into them.
logging.getLogger("mail.log").setLevel(logging.WARNING)

#: Octets a command line may have. RFC 5321 4.5.3.1.4 asks for 512 and room for extensions.
COMMAND_WITHIN = 4096
#: Commands not understood before we hang up; a browser made to speak to us ends here.
MISTAKES_WITHIN = 10
#: Seconds a client has to take our last words and close.
FAREWELL_WITHIN = 5.0
#: The StreamReader pauses the peer above twice this many octets.
_READ_AHEAD = 64 * 1024
#: More than the StreamReader can hold (twice its limit and one receive of at most 256 KiB): a read empties it.
_READ_ALL = 1024 * 1024


class _Over(Exception):  # noqa: N818 - an end, not an error
    """This session is over; `last_word` is what the client still gets."""

    def __init__(self, last_word: Reply | None = None) -> None:
        super().__init__()
        self.last_word = last_word


class SmtpSession(SMTP):
    """The protocol of one connection. `register` holds it from the first moment until the connection is gone."""

    line_length_limit = _READ_AHEAD  # what aiosmtpd gives its StreamReader as limit

    def __init__(self, terms: SmtpLimits, *, register: set[SmtpSession], loop: asyncio.AbstractEventLoop) -> None:
        # aiosmtpd's own is one dict for all sessions, and each EHLO adds to it.
        self.command_size_limits = collections.defaultdict(lambda: COMMAND_WITHIN)
        super().__init__(
            SmtpHandler(terms),
            data_size_limit=terms.max_message_size,
            enable_SMTPUTF8=True,
            decode_data=False,
            hostname=terms.hostname,
            ident="panicmail ESMTP",
            tls_context=terms.tls,
            loop=loop,
        )
        self._terms = terms
        self._register = register
        self._gone = asyncio.Event()
        self._ahead = bytearray()  # read from the wire, not yet understood
        self._mistakes = 0
        self._peer = ""
        self._leaving = False
        self._command_wait: asyncio.Timeout | None = None

    # -- from outside

    def leave(self) -> None:
        """Say 421 and close as soon as no mail is on its way in; at once when waiting for a command."""
        self._leaving = True
        if self._command_wait is not None and not self._command_wait.expired():
            self._command_wait.reschedule(self.loop.time())

    def drop(self) -> None:
        """Close now, without a word. A write that `accept` has begun goes on."""
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        self._abort()

    async def wait_until_closed(self) -> None:
        """Wait until the session is over and its connection closed."""
        if self._handler_coroutine is not None:
            await asyncio.wait([self._handler_coroutine])

    # -- the connection, as asyncio tells it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._register.add(self)
        peername = transport.get_extra_info("peername")  # None when the client has already hung up
        self._peer = peername[0] if peername else ""
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        """A half-close. aiosmtpd would cancel the session; but what came before it still counts, and is answered."""
        keep_open = asyncio.StreamReaderProtocol.eof_received(self)
        # TLS cannot be half-closed, and asyncio warns when told to.
        return keep_open and self._tls_protocol is None

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

    # -- the dialogue

    async def _handle_client(self) -> None:
        """aiosmtpd's task for this connection."""
        try:
            await self._talk()
        except _Over as over:
            await self._say_last(over.last_word)
        except Exception as error:  # a mistake of ours outside any command: nothing to resume
            self._failed(error)
            await self._say_last(reply_table.FAILED)
        finally:
            try:
                await self._hang_up()
            finally:
                self._register.discard(self)

    async def _talk(self) -> None:
        if self._leaving:
            raise _Over(reply_table.SHUTTING_DOWN)
        await self.push(reply_table.greeting(self.hostname))
        while True:
            line = await self._next_command()
            try:
                await self._obey(line)
            except TLSSetupException as error:
                _log.info("smtp.tls_failed", peer=self._peer, error=type(error.__cause__).__name__)
                self._abort()
                raise _Over from error
            except _Over:
                raise
            except Exception as error:  # RFC 5321 4.2.1: 4yz invites a retry, so our mistakes are 451
                self._failed(error)
                await self.push(reply_table.FAILED)
            # Whoever pipelines thousands of commands does not hold up the other sessions.
            await asyncio.sleep(0)

    async def _next_command(self) -> bytes:
        """The next line without its end; a line that is too long comes as b"", which no command is."""
        if self._leaving:
            raise _Over(reply_table.SHUTTING_DOWN)
        try:
            async with asyncio.timeout(self._terms.idle_timeout) as self._command_wait:
                return await self._read_line()
        except TimeoutError:
            raise _Over(reply_table.SHUTTING_DOWN if self._leaving else reply_table.IDLE) from None
        finally:
            self._command_wait = None

    async def _read_line(self) -> bytes:
        too_long = False
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > COMMAND_WITHIN:
                too_long = True
                self._ahead.clear()
            self._ahead += await self._read()
        line = bytes(self._ahead[:end]).removesuffix(b"\r")
        del self._ahead[: end + 1]
        return b"" if too_long or len(line) > COMMAND_WITHIN else line

    async def _obey(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        command = self._smtp_methods.get(verb.decode("ascii", "replace").upper())
        if command is None:
            self._mistakes += 1
            if self._mistakes > MISTAKES_WITHIN:
                raise _Over(reply_table.TOO_MANY_MISTAKES)
            await self.push(reply_table.NOT_UNDERSTOOD)
            return
        # Senders with octets that are no UTF-8 exist; escaped they do no harm in logs and databases.
        await command(argument.strip().decode("utf-8", "backslashreplace") or None)

    async def _read(self) -> bytes:
        """Some octets from the wire, at least one."""
        octets = await self._reader.read(_READ_ALL)
        if not octets:
            raise _Over
        return octets

    async def push(self, status: str | bytes) -> None:
        """Send one reply. Nobody there any more: no matter, the session ends when it reads on."""
        reply = status if isinstance(status, Reply) else reply_table.instead_of(_text(status))
        if reply in reply_table.REASONS:
            _log.info("mail.refused", code=reply[:9], reason=reply_table.REASONS[reply], peer=self._peer)
        if self.transport is None:
            return
        self._writer.write(reply.encode("ascii") + b"\r\n")
        try:
            async with asyncio.timeout(self._terms.idle_timeout):
                with contextlib.suppress(ConnectionError):
                    await self._writer.drain()
        except TimeoutError:
            raise _Over from None

    async def _say_last(self, reply: Reply | None) -> None:
        if reply is not None:
            with contextlib.suppress(_Over):
                await self.push(reply)

    async def _hang_up(self) -> None:
        """Close, and see it closed: who does not take our last words is cut off."""
        if self.transport is not None:
            self.transport.close()
        try:
            async with asyncio.timeout(FAREWELL_WITHIN):
                await self._gone.wait()
        except TimeoutError:
            self._abort()

    def _abort(self) -> None:
        # After STARTTLS the original transport is the one with the socket.
        transport = self._original_transport or self.transport
        if transport is not None:
            cast(asyncio.WriteTransport, transport).abort()
        if self._original_transport is not None and self._client.ssl is None:
            # In mid-handshake asyncio does not tell us when the connection is lost.
            self._gone.set()

    # -- commands

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """aiosmtpd's parser of paths, replaced: see `addresses`."""
        return addresses.split_path(arg) or (None, None)

    async def smtp_STARTTLS(self, arg: str) -> None:
        if self._tls_protocol is not None:
            await self.push(reply_table.OUT_OF_ORDER)
            return
        # RFC 3207 4.2: what came in plaintext behind the command may be somebody else's.
        self._ahead.clear()
        await super().smtp_STARTTLS(arg)

    async def smtp_QUIT(self, arg: str) -> None:
        if arg:
            await self.push(reply_table.BAD_ARGUMENT)
            return
        raise _Over(reply_table.BYE)

    async def smtp_VRFY(self, arg: str) -> None:
        await self.push(reply_table.NOT_VERIFIED)

    async def smtp_HELP(self, arg: str) -> None:
        await self.push(reply_table.HELP)

    async def smtp_AUTH(self, arg: str) -> None:
        await self.push(reply_table.NOT_OFFERED)

    async def smtp_DATA(self, arg: str) -> None:
        if await self.check_helo_needed():
            return
        if not self._transaction.rcpt_tos:
            await self.push(reply_table.OUT_OF_ORDER)
            return
        if arg:
            await self.push(reply_table.BAD_ARGUMENT)
            return
        await self.push(reply_table.SEND_THE_MAIL)
        reply = await self._take_mail()
        self.envelope = self._create_envelope()
        crashpoints.point("smtp.answering")
        await self.push(reply)
        crashpoints.point("smtp.answered")

    # -- one mail

    async def _take_mail(self) -> Reply:
        """Read one mail to its dot and have it made durable; the answer to it.

        Its share of the budget goes back when nobody holds the octets any more: here, or, once `accept` has the
        mail, when that write is done, even if we have stopped waiting for it.
        """
        with contextlib.ExitStack() as on_the_way_out:
            share = self._terms.budget.share()
            on_the_way_out.callback(share.release)
            mail = DataReceiver(limit=self._terms.max_message_size, share=share)
            await self._read_whole(mail)
            try:
                outcome = self._hand_over(mail)
                if isinstance(outcome, Reply):
                    return outcome
                on_the_way_out.pop_all()
                outcome.add_done_callback(lambda written: _settle(share, written))
                return await self._answer(outcome)
            except Exception as error:  # the mail has been read to its end: the session can go on
                self._failed(error)
                return reply_table.FAILED

    async def _read_whole(self, mail: DataReceiver) -> None:
        """Read to the dot, or end the session: what is left of a mail must not be taken for commands."""
        try:
            await self._read_to_the_dot(mail)
        except _Over as over:
            if over.last_word is not reply_table.TOO_LARGE:
                _log.info("mail.cut_off", peer=self._peer, octets=mail.size)
            raise
        except Exception as error:
            self._failed(error)
            raise _Over(reply_table.FAILED) from error

    async def _read_to_the_dot(self, mail: DataReceiver) -> None:
        chunk: bytes | bytearray = self._ahead
        self._ahead = bytearray()
        while (rest := mail.feed(chunk)) is None:
            if mail.size > 2 * self._terms.max_message_size:
                raise _Over(reply_table.TOO_LARGE)
            try:
                async with asyncio.timeout(self._terms.idle_timeout):
                    chunk = await self._read()
            except TimeoutError:
                raise _Over(reply_table.IDLE) from None
        self._ahead += rest

    def _hand_over(self, mail: DataReceiver) -> Reply | asyncio.Future[str]:
        """Give the mail to `accept`; or the reason not to."""
        if mail.too_large:
            return reply_table.TOO_LARGE
        if not mail.kept:
            return reply_table.NO_ROOM
        raw = mail.raw()
        if received_fields(raw) > self._terms.max_hops:
            return reply_table.LOOP
        sender = self._transaction.mail_from or addresses.NULL_SENDER
        accepted = Accepted(
            mail_from="" if sender == addresses.NULL_SENDER else sender,
            recipients=tuple(self._transaction.rcpt_tos),
            peer=self._peer,
            helo=self._client.host_name or "",
            tls=self._tls_facts(),
            raw=raw,
        )
        return asyncio.wrap_future(self._terms.accept(accepted), loop=self.loop)

    async def _answer(self, written: asyncio.Future[str]) -> Reply:
        # `wait` leaves the write alone when this task is cancelled or the time is up; awaiting it would cancel it.
        await asyncio.wait([written], timeout=self._terms.accept_timeout)
        error = _error_of(written)
        if error is None:
            return reply_table.accepted(written.result())
        self._failed(error)
        return reply_table.FAILED

    @property
    def _client(self) -> Session:
        return cast(Session, self.session)  # there from connection_made on

    @property
    def _transaction(self) -> Envelope:
        return cast(Envelope, self.envelope)

    def _tls_facts(self) -> str:
        facts = self._client.ssl
        return f"{facts['ssl_object'].version()} {facts['cipher'][0]}" if facts else ""

    def _failed(self, error: BaseException) -> None:
        """Log what went wrong: kind and place, and the text only where it is ours or the system's.

        Others put what they worked on into their texts, and that may be the mail.
        """
        ours = isinstance(error, PanicmailError | OSError)
        _log.error(
            "smtp.failed",
            peer=self._peer,
            error=type(error).__name__,
            cause=type(error.__cause__).__name__ if error.__cause__ is not None else "",
            text=str(error) if ours else "",
            traceback="".join(traceback.format_tb(error.__traceback__)),
        )


def _settle(share: BudgetShare, written: asyncio.Future[str]) -> None:
    share.release()
    _error_of(written)  # else asyncio complains, long after the client was told, that nobody looked


def _error_of(written: asyncio.Future[str]) -> BaseException | None:
    """Why there is no REF. Cancelled writes are told apart from a cancelled session: they are not ours to pass on."""
    if not written.done():
        return TimeoutError("accept has not answered in time")
    return asyncio.CancelledError() if written.cancelled() else written.exception()


def _text(status: str | bytes) -> str:
    return status if isinstance(status, str) else status.decode("ascii", "replace")
