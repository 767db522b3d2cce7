"""One client's session: from the greeting to the last word.

Promises:

- `250` after the dot is sent only when `accept` has resolved. A client that hangs up, half-closes or falls silent, and
  a SIGTERM, never cancel that write; what has come in whole is handed to it even when nobody waits for the answer.
- Whatever goes wrong inside is logged as `smtp.failed` and answered with one constant 451 (`reply_table.FAILED`). What
  goes wrong *while* a mail is being read also closes: the rest of that mail must never be read as commands.
- A mail is a stream of octets, not of lines: no line is too long, nothing in it is changed (see `data`), and memory
  is bounded by `inbound_storage` and some 400 KiB of read-ahead a session.

How. `protocol` has the connection, made of aiosmtpd's class; its DATA, which holds every line, is replaced here. Each
wait has its own limit, and none of them ends the work of `accept`.

What can go wrong, and who notices: `accept` slower than `accept_timeout` is answered 451 though the mail may become
durable after all; the sender's second try is then the same mail again, and `classify` joins them.

Who may connect is `connections`' to say, before the greeting.
"""

# ruff: noqa: N802 - smtp_VERB is how aiosmtpd finds a command

from __future__ import annotations

import asyncio
import contextlib

import structlog
from aiosmtpd.smtp import TLSSetupException

from panicmail import crashpoints
from panicmail.server.smtp import reply_table
from panicmail.server.smtp.connections import Connections
from panicmail.server.smtp.data import MailTransfer, log_failure
from panicmail.server.smtp.protocol import ClientProtocol, SessionOver
from panicmail.server.smtp.reply_table import Reply, SmtpLimits

_log = structlog.get_logger()

#: Commands not understood before we hang up; a browser made to speak to us ends here.
MISTAKES_WITHIN = 10
#: What is carried out without TLS where TLS is required (RFC 3207 section 4).
_BEFORE_TLS = frozenset({"EHLO", "NOOP", "STARTTLS", "QUIT"})
#: What the names of commands mean in LMTP (RFC 2033 section 4.1): nobody says EHLO there.
_IN_LMTP = {"LHLO": "EHLO", "EHLO": "", "HELO": ""}
#: Seconds a client has to take our last words and close.
FAREWELL_WITHIN = 5.0


class SmtpSession(ClientProtocol):
    """The dialogue of one connection. `register` holds it from the first moment until the connection is gone."""

    def __init__(
        self, terms: SmtpLimits, *, register: Connections[SmtpSession], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(terms, loop)
        self._terms = terms
        self._register = register
        self._mistakes = self._commands = 0
        self._is_refused = False
        self._waits_since: float | None = loop.time()  #: None: a command is being carried out
        self._leaving, self._farewell = False, reply_table.SHUTTING_DOWN
        self._command_wait: asyncio.Timeout | None = None

    # -- from outside

    def leave(self, farewell: Reply = reply_table.SHUTTING_DOWN) -> None:
        """Say 421 and close as soon as no mail is on its way in; at once when waiting for a command."""
        self._leaving, self._farewell = True, farewell
        if self.is_mute:
            self.abort()
        if self._command_wait is not None and not self._command_wait.expired():
            self._command_wait.reschedule(self.loop.time())

    def drop(self) -> None:
        """Close now, without a word. A write that `accept` has begun goes on."""
        self.cancel()
        self.abort()

    @property
    def idle_since(self) -> float | None:
        """Since when it waits for a command without a transaction, by the loop's clock; None: it does not."""
        return self._waits_since if self.mail_from is None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.is_encrypted:  # else it is the same connection, after STARTTLS
            self._is_refused = not self._register.admit(self)

    # -- the dialogue

    async def converse(self) -> None:
        """From the greeting to the last word."""
        try:
            await self._talk()
        except SessionOver as over:
            await self._say_last(over.last_word)
        except Exception as error:  # a mistake of ours outside any command: nothing to resume
            log_failure(self.peer, error)
            await self._say_last(reply_table.FAILED)
        finally:
            try:
                await self._hang_up()
            finally:
                self._register.discard(self)

    async def _talk(self) -> None:
        if self._terms.tls_at_once:
            await self._begin_tls_at_once()
        if self._leaving:
            raise SessionOver(self._farewell)
        if self._is_refused:
            raise SessionOver(reply_table.TOO_MANY_CONNECTIONS)
        await self.push(reply_table.greeting(self.hostname, lmtp=self._terms.lmtp))
        while True:
            line = await self._next_command()
            try:
                await self._obey(line)
            except TLSSetupException as error:
                raise self._tls_failed(error) from error
            except SessionOver:
                raise
            except Exception as error:  # RFC 5321 4.2.1: 4yz invites a retry, so our mistakes are 451
                log_failure(self.peer, error)
                await self.push(reply_table.FAILED)
            # Whoever pipelines thousands of commands does not hold up the other sessions.
            await asyncio.sleep(0)

    async def _begin_tls_at_once(self) -> None:
        """Before anything is said; who cannot be served is cut off, for words in the clear would not be understood."""
        if self._leaving or self._is_refused:
            raise SessionOver
        try:
            await self.begin_tls()
        except TLSSetupException as error:
            raise self._tls_failed(error) from error

    def _tls_failed(self, error: TLSSetupException) -> SessionOver:
        _log.info("smtp.tls_failed", peer=self.peer, error=type(error.__cause__).__name__)
        self.abort()
        return SessionOver()

    async def _next_command(self) -> bytes:
        """As `read_line`."""
        if self._leaving:
            raise SessionOver(self._farewell)
        self._waits_since = self.loop.time()
        try:
            async with asyncio.timeout(self._terms.idle_timeout) as self._command_wait:
                return await self.read_line()
        except TimeoutError:
            raise SessionOver(self._farewell if self._leaving else reply_table.IDLE) from None
        finally:
            self._command_wait = None

    async def _obey(self, line: bytes) -> None:
        self._waits_since = None
        self._commands += 1
        if self._commands > self._terms.max_commands:
            raise SessionOver(reply_table.TOO_MANY_COMMANDS)
        verb, argument = _parted(line, lmtp=self._terms.lmtp)
        command = self.command_named(verb)
        if command is None or line.endswith(b"\n"):
            self._mistakes += 1
            if self._mistakes > MISTAKES_WITHIN:
                raise SessionOver(reply_table.TOO_MANY_MISTAKES)
            await self.push(reply_table.BARE_LINE_FEED if line.endswith(b"\n") else reply_table.NOT_UNDERSTOOD)
            return
        if self._terms.require_tls and not self.is_encrypted and verb not in _BEFORE_TLS:
            await self.push(reply_table.WITHOUT_TLS)
            return
        await command(argument or None)

    async def push(self, status: str | bytes) -> None:
        """Send one reply. Nobody there any more: no matter, the session ends when it reads on."""
        reply = status if isinstance(status, Reply) else reply_table.instead_of(_text(status))
        if reply in reply_table.REASONS:
            _log.info("mail.refused", code=reply[:9], reason=reply_table.REASONS[reply], peer=self.peer)
        if self.is_gone or self.is_mute:
            return
        try:
            async with asyncio.timeout(self._terms.idle_timeout):
                with contextlib.suppress(ConnectionError):
                    await self.write(reply.encode("ascii") + b"\r\n")
        except TimeoutError:
            raise SessionOver from None

    async def _say_last(self, reply: Reply | None) -> None:
        if reply is not None:
            with contextlib.suppress(SessionOver):
                await self.push(reply)

    async def _hang_up(self) -> None:
        """Close, and see it closed: who does not take our last words is cut off."""
        if self.transport is not None:
            self.transport.close()
        try:
            async with asyncio.timeout(FAREWELL_WITHIN):
                await self.closed()
        except TimeoutError:
            self.abort()

    # -- commands

    async def smtp_STARTTLS(self, arg: str) -> None:
        if self.is_encrypted:
            await self.push(reply_table.OUT_OF_ORDER)
            return
        # RFC 3207 4.2: what came in plaintext behind the command may be somebody else's.
        self.forget_ahead()
        await super().smtp_STARTTLS(arg)

    async def smtp_QUIT(self, arg: str) -> None:
        if arg:
            await self.push(reply_table.BAD_ARGUMENT)
            return
        raise SessionOver(reply_table.BYE)

    async def smtp_VRFY(self, arg: str) -> None:
        await self.push(reply_table.NOT_VERIFIED)

    async def smtp_HELP(self, arg: str) -> None:
        await self.push(reply_table.HELP)

    async def smtp_AUTH(self, arg: str) -> None:
        await self.push(reply_table.NOT_OFFERED)

    async def smtp_DATA(self, arg: str) -> None:
        if await self.check_helo_needed():
            return
        if not self.recipients:
            await self.push(reply_table.OUT_OF_ORDER)
            return
        if arg:
            await self.push(reply_table.BAD_ARGUMENT)
            return
        await self.push(reply_table.SEND_THE_MAIL)
        reply = await MailTransfer(self, self._terms).take()
        answers = len(self.recipients) if self._terms.lmtp else 1  # RFC 2033 section 4.2
        self.end_transaction()
        self._commands = 0
        crashpoints.point("smtp.answering")
        for _ in range(answers):
            await self.push(reply)
        crashpoints.point("smtp.answered")


def _parted(line: bytes, *, lmtp: bool) -> tuple[str, str]:
    """A command's verb, as SMTP has it, and its argument."""
    verb, _, argument = line.partition(b" ")
    word = verb.decode("ascii", "replace").upper()
    # Senders with octets that are no UTF-8 exist; escaped they do no harm in logs and databases.
    return _IN_LMTP.get(word, word) if lmtp else word, argument.strip().decode("utf-8", "backslashreplace")


def _text(status: str | bytes) -> str:
    return status if isinstance(status, str) else status.decode("ascii", "replace")
