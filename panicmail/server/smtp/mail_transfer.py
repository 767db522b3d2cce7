"""One mail on its way in: from the 354 to the answer to its dot."""

from __future__ import annotations

import asyncio
import contextlib
import traceback

import structlog

from panicmail.errors import PanicmailError
from panicmail.intake.accept import ReceivedMail
from panicmail.server.smtp import addresses, reply_table
from panicmail.server.smtp.data import DataReceiver, received_fields
from panicmail.server.smtp.inbound_storage import MailOctets
from panicmail.server.smtp.limits import SmtpLimits
from panicmail.server.smtp.protocol import ClientProtocol, SessionOver
from panicmail.server.smtp.reply_table import Reply

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
        sender = self._session.mail_from or addresses.NULL_SENDER
        accepted = ReceivedMail(
            mail_from="" if sender == addresses.NULL_SENDER else sender,
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
