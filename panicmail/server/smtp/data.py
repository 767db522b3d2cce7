"""One mail on its way in: where it ends, how much of it is kept, what it was before its dots were stuffed.

Promises: only CRLF.CRLF ends a mail (RFC 5321 4.1.1.4), whatever the chunks look like and whatever mixture of CR, LF
and NUL stands around a dot; that is what closes SMTP smuggling (CVE-2023-51764, CVE-2024-27305). No octet is changed
but for the stuffed dots (RFC 5321 4.5.2). Memory and disk stay bounded whatever is sent: beyond the size limit, or when
there is no room (see `inbound_storage`), the octets are counted and dropped, and only the last four are kept to find
the end.

The whole daemon waits while octets are worked on here. So dots are unstuffed as blocks come in, and nothing ever goes
over the whole mail here.

Nothing here reads a socket: chunks are fed in, so all of it can be tried without one.

The size limit counts stuffed dots too; a mail within a few octets of the limit may be refused for its dots.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import traceback

import structlog

from panicmail.errors import PanicmailError
from panicmail.intake.accept import ReceivedMail
from panicmail.server.smtp import reply_table
from panicmail.server.smtp.inbound_storage import MailOctets
from panicmail.server.smtp.protocol import ClientProtocol, SessionOver
from panicmail.server.smtp.reply_table import Reply, SmtpLimits

_END = b"\r\n.\r\n"
_STUFFED, _UNSTUFFED = b"\r\n.", b"\r\n"
#: The end can begin in the last four octets already here.
_OVERLAP = len(_END) - 1
#: So many octets are gathered before their dots are unstuffed, and kept as one block from then on.
BLOCK = 64 * 1024

#: Trace fields are added on top, so a loop shows here; looking no further keeps a mail without an end of header cheap.
_HEADER_WITHIN = 256 * 1024
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_RECEIVED = re.compile(rb"\nreceived[ \t]*:", re.IGNORECASE)


class DataReceiver:
    """Collects one mail. Feed it chunks until it answers what came after the mail, then look at the rest of it."""

    def __init__(self, *, limit: int, octets: MailOctets) -> None:
        self._limit = limit
        self._octets = octets  #: dots unstuffed
        # Not unstuffed yet. The CRLF that ended the DATA command also begins the first line: it makes the lone dot of
        # an empty mail an end, and a stuffed dot on the first line one like any other.
        self._held = bytearray(b"\r\n")
        self._dropping = False
        self._is_first = True  #: no block was kept yet
        self._size = 0

    @property
    def size(self) -> int:
        """Octets so far, dropped ones included; those of the end too until it has been recognised."""
        return self._size

    @property
    def too_large(self) -> bool:
        return self._size > self._limit

    @property
    def kept(self) -> bool:
        """False: too large, or there was no room for it."""
        return not self._dropping and not self.too_large

    def feed(self, chunk: bytes | bytearray) -> bytes | None:
        """Take the next octets; None while the mail goes on, else what followed its end (often b"")."""
        if not self._dropping and not self._octets.reserve(len(chunk)):
            self.drop()
        known = len(self._held)
        self._held += chunk
        self._size += len(chunk)
        at = self._held.find(_END, max(0, known - _OVERLAP))
        if at >= 0:
            return self._finish(at)
        if self._size - _OVERLAP > self._limit:
            self.drop()
        if self._dropping:
            del self._held[:-_OVERLAP]
        elif len(self._held) >= BLOCK:
            self._settle(self._sure())
        return None

    def _sure(self) -> int:
        """How many of the held octets no coming one can make part of a stuffed dot or of the end."""
        begins = self._held.find(b"\r", len(self._held) - _OVERLAP)
        return begins if begins >= 0 else len(self._held)

    def _settle(self, octets: int) -> None:
        """Unstuff the first so many octets that are held, and keep them as a block."""
        block = bytes(self._held[:octets].replace(_STUFFED, _UNSTUFFED))
        del self._held[:octets]
        if self._is_first:  # the CRLF it begins with is that of the command
            self._is_first, block = False, block[len(_UNSTUFFED) :]
        if not self._octets.append(block):
            self.drop()

    def _finish(self, at: int) -> bytes:
        """Cut the held octets after the CRLF that ends the last line; the octets that follow the dot's CRLF."""
        rest = bytes(self._held[at + len(_END) :])
        self._size -= len(self._held) - at - len(_UNSTUFFED)
        del self._held[at + len(_UNSTUFFED) :]
        if self.too_large:
            self.drop()
        if not self._dropping:
            self._settle(len(self._held))
        return rest

    def drop(self) -> None:
        """Keep no more than what the search for the end needs."""
        self._dropping = True
        self._octets.release()
        # A new, small one: a bytearray that was cut at its front still holds all its memory.
        self._held = self._held[-_OVERLAP:]


def received_fields(raw: bytes) -> int:
    """How many Received fields the header section has: the hops so far (RFC 5321 6.3)."""
    head = b"\n" + raw[:_HEADER_WITHIN]
    end = _EMPTY_LINE.search(head)
    return len(_RECEIVED.findall(head, 0, end.start() if end else len(head)))


# -- One mail on its way in: from the 354 to the answer to its dot.

_log = structlog.get_logger()


class MailTransfer:
    """Reads one mail of a session and has it made durable."""

    def __init__(self, session: ClientProtocol, terms: SmtpLimits) -> None:
        self._session = session
        self._terms = terms

    async def take(self) -> Reply:
        """Read one mail to its dot and have it made durable; the answer to it.

        Its room goes back when nobody holds the octets any more: here, or, once `accept` has the mail, when that write
        is done, even if we have stopped waiting for it.
        """
        with contextlib.ExitStack() as on_the_way_out:
            peer = self._session.peer
            octets = MailOctets(self._terms.storage, peer, is_trusted=self._terms.is_trusted(peer))
            on_the_way_out.callback(octets.release)
            mail = DataReceiver(limit=self._terms.max_message_size, octets=octets)
            octets.given_up_by(mail.drop)
            await self._read_whole(mail)
            octets.are_whole()
            try:
                if mail.too_large:
                    return reply_table.TOO_LARGE
                return await self._make_durable(octets, on_the_way_out) if mail.kept else reply_table.NO_ROOM
            except Exception as error:  # the mail has been read to its end: the session can go on
                log_failure(peer, error)
                return reply_table.FAILED

    async def _make_durable(self, octets: MailOctets, on_the_way_out: contextlib.ExitStack) -> Reply:
        ends_at = asyncio.get_running_loop().time() + self._terms.accept_timeout
        try:
            async with asyncio.timeout_at(ends_at):
                raw = await self._in_memory(octets, on_the_way_out)
        except TimeoutError:  # others, as large, were first
            return reply_table.NO_ROOM
        written = self._hand_over(raw)
        del raw  # it is let go as soon as it is durable, however long we wait
        if isinstance(written, Reply):
            return written
        held = on_the_way_out.pop_all()
        written.add_done_callback(lambda done: _settle(held, done))
        return await self._answer(written, ends_at)

    async def _in_memory(self, octets: MailOctets, on_the_way_out: contextlib.ExitStack) -> bytes:
        """The mail as its sender wrote it. A large one waits for its turn; its turn ends on the way out."""
        if not octets.are_on_disk:
            return octets.take_out()()
        turns = self._terms.storage.turns
        await turns.acquire()
        on_the_way_out.callback(turns.release)
        raw = await asyncio.to_thread(octets.take_out())
        octets.release()
        return raw

    async def _read_whole(self, mail: DataReceiver) -> None:
        """Read to the dot, or end the session: what is left of a mail must not be taken for commands."""
        try:
            await self._read_to_the_dot(mail)
        except SessionOver as over:
            if over.last_word is not reply_table.TOO_LARGE:
                _log.info("mail.cut_off", peer=self._session.peer, octets=mail.size)
            raise
        except Exception as error:
            log_failure(self._session.peer, error)
            raise SessionOver(reply_table.FAILED) from error

    async def _read_to_the_dot(self, mail: DataReceiver) -> None:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        while True:
            idle_at, slow_at = clock() + self._terms.idle_timeout, began_at + self._may_take(mail.size)
            try:
                async with asyncio.timeout_at(min(idle_at, slow_at)):
                    chunk = await self._session.read_some()
            except TimeoutError:
                raise SessionOver(reply_table.IDLE if idle_at <= slow_at else reply_table.TOO_SLOW) from None
            if (rest := mail.feed(chunk)) is not None:
                self._session.give_back(rest)
                return
            if mail.size > 2 * self._terms.max_message_size:
                raise SessionOver(reply_table.TOO_LARGE)

    def _may_take(self, octets: int) -> float:
        """So many seconds since DATA a mail of which so much has come may still be read on."""
        return min(self._terms.data_within, self._terms.data_grace + octets / self._terms.data_rate)

    def _hand_over(self, raw: bytes) -> Reply | asyncio.Future[str]:
        """Give the mail to `accept`; or the reason not to."""
        if received_fields(raw) > self._terms.max_hops:
            return reply_table.LOOP
        sender = self._session.mail_from or reply_table.NULL_SENDER
        accepted = ReceivedMail(
            mail_from="" if sender == reply_table.NULL_SENDER else sender,
            recipients=tuple(self._session.recipients),
            peer=self._session.peer,
            helo=self._session.helo,
            tls=self._session.tls,
            raw=raw,
        )
        return asyncio.wrap_future(self._terms.accept(accepted), loop=asyncio.get_running_loop())

    async def _answer(self, written: asyncio.Future[str], ends_at: float) -> Reply:
        # `wait` leaves the write alone when this task is cancelled or the time is up; awaiting it would cancel it.
        await asyncio.wait([written], timeout=max(0.0, ends_at - asyncio.get_running_loop().time()))
        error = _error_of(written)
        if error is None:
            return reply_table.accepted(written.result())
        log_failure(self._session.peer, error)
        return reply_table.FAILED


def log_failure(peer: str, error: BaseException) -> None:
    """Log what went wrong: kind and place, and the text only where it is ours or the system's.

    Others put what they worked on into their texts, and that may be the mail.
    """
    ours = isinstance(error, PanicmailError | OSError)
    _log.error(
        "smtp.failed",
        peer=peer,
        error=type(error).__name__,
        cause=type(error.__cause__).__name__ if error.__cause__ is not None else "",
        text=str(error) if ours else "",
        traceback="".join(traceback.format_tb(error.__traceback__)),
    )


def _settle(held: contextlib.ExitStack, written: asyncio.Future[str]) -> None:
    held.close()
    _error_of(written)  # else asyncio complains, long after the client was told, that nobody looked


def _error_of(written: asyncio.Future[str]) -> BaseException | None:
    """Why there is no REF. Cancelled writes are told apart from a cancelled session: they are not ours to pass on."""
    if not written.done():
        return TimeoutError("accept has not answered in time")
    return asyncio.CancelledError() if written.cancelled() else written.exception()
