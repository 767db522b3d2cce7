"""Calls: one letter or one line to one person, tried until it is taken or nobody needs it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from panicmail.clock import Clock
from panicmail.errors import PanicmailError, Permanent
from panicmail.incident.people import Person
from panicmail.incident.push_channel import PushChannel
from panicmail.mail.compose import ComposedMail

_log = structlog.get_logger()

#: A call the relay did not take is made again after so long.
AGAIN = timedelta(seconds=5)


class Reaches(Protocol):
    """A connection to the relay, for one call."""

    def send(self, message: bytes, mail_from: str, recipient: str) -> str: ...
    def close(self) -> None: ...


#: Sends a line over a channel; what it is about makes repeats one. Answers what the provider said.
Rings = Callable[[PushChannel, str, str], str]


def no_phones(channel: PushChannel, line: str, about: str) -> str:
    """Where mail is the only way."""
    raise Permanent("there is no way to phones")


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackPage:
    """One person to be called about one thing."""

    key: str  #: is called once, until it is forgotten
    person: Person
    write: Callable[[datetime], ComposedMail | None]  #: None: there is nothing to call them for after all
    line: Callable[[datetime], str | None]  #: the same, for a lock screen
    channel: PushChannel | None = None  #: None: by mail
    about: str = ""  #: names what it is about to a service that keeps incidents of its own
    wanted: Callable[[], bool] = lambda: True  #: asked before each try
    when_over: Callable[[], None] = lambda: None  #: told when they were called, or need not or cannot be


@dataclass(slots=True)
class _Try:
    """How far a call has come."""

    call: FallbackPage
    due_at: datetime
    under_way: bool = False


class FallbackPages:
    """Makes calls. Every method may be called from any thread; none waits for the relay.

    Args:
        connect: Makes a connection to the relay; each call has its own.
        ring: Reaches a phone.
        callers: Makes the calls, several at a time: one hanging connection must not hold up the others.
    """

    def __init__(self, connect: Callable[[], Reaches], ring: Rings, clock: Clock, callers: Executor) -> None:
        self._connect = connect
        self._ring = ring
        self._clock = clock
        self._callers = callers
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._tries: dict[str, _Try] = {}  #: of calls that are not over

    def begin(self, call: FallbackPage) -> bool:
        """Make this call, soon, by mail and by each of their channels; False when its key was begun before."""
        with self._lock:
            if call.key in self._begun:
                return False
            by_phone = [replace(call, key=f"{call.key}/{channel.id}", channel=channel) for channel in call.person.push]
            for each in (call, *by_phone):
                self._begun.add(each.key)
                self._tries[each.key] = _Try(each, due_at=self._clock())
            return True

    def forget(self, prefix: str) -> None:
        """Drop what is still to be called under keys that begin so; the next such key is a new one."""
        with self._lock:
            self._begun = {key for key in self._begun if not key.startswith(prefix)}
            self._tries = {key: each for key, each in self._tries.items() if not key.startswith(prefix)}

    def make_due(self) -> None:
        """Make the calls whose time has come."""
        now = self._clock()
        with self._lock:
            due = [each for each in self._tries.values() if each.due_at <= now and not each.under_way]
            for each in due:
                each.under_way = True
        for each in due:
            try:
                self._callers.submit(self._make, each)
            except RuntimeError as exc:  # no thread to be had now
                _log.error("emergency.failed", person=each.call.person.id, reason=str(exc))
                self._end_try(each, over=False)

    def _make(self, each: _Try) -> None:
        over = False
        try:
            over = not each.call.wanted() or self._reach(each.call)
            if over:
                each.call.when_over()
        except Exception:  # ours: tried again, for nobody else is called
            _log.exception("emergency.failed", person=each.call.person.id)
        finally:
            self._end_try(each, over=over)

    def _end_try(self, each: _Try, *, over: bool) -> None:
        with self._lock:
            each.under_way, each.due_at = False, self._clock() + AGAIN
            if over and self._tries.get(each.call.key) is each:
                del self._tries[each.call.key]

    def _reach(self, call: FallbackPage) -> bool:
        """Call once; False when it must be tried again."""
        try:
            answer = self._mail(call) if call.channel is None else self._phone(call, call.channel)
        except Permanent as exc:
            _log.error("emergency.call_refused", person=call.person.id, by=_way(call), reason=str(exc))
            return True
        except PanicmailError as exc:
            _log.warning("emergency.call_put_off", person=call.person.id, by=_way(call), reason=str(exc))
            return False
        if answer is not None:
            _log.warning("emergency.called", person=call.person.id, by=_way(call), answer=answer)
        return True

    def _mail(self, call: FallbackPage) -> str | None:
        letter = call.write(self._clock())
        if letter is None:
            return None
        relay = self._connect()
        try:
            return relay.send(letter.message, letter.mail_from, letter.recipient)
        finally:
            relay.close()

    def _phone(self, call: FallbackPage, channel: PushChannel) -> str | None:
        line = call.line(self._clock())
        return None if line is None else self._ring(channel, line, call.about)


def _way(call: FallbackPage) -> str:
    return call.channel.id if call.channel else "mail"
