"""Acceptance: how a mail becomes durable. The 250 rests on this.

A mail goes into the database. When the database refuses it, or has not answered within a few seconds, the emergency
spool takes it, under the same id and with an fsync, and that too is a 250. Only when neither takes it is the sender
told 451, keeps the mail in the queue, and somebody is called about panicmail itself.

A write whose outcome nobody heard may have happened: the spool takes the mail all the same, and `take_in` finds it
there. Nothing is stored twice, because the id was made before the first write.

The octets are let go as soon as the mail is durable, or refused: what still waits for a database that hangs then holds
none of them.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from panicmail.clock import Clock
from panicmail.errors import StoreFailed
from panicmail.incident import ids
from panicmail.store.rows import AcceptedMail
from panicmail.store.spool import Spool, Spooled
from panicmail.store.transaction import Transaction

_log = structlog.get_logger()
T = TypeVar("T")

#: So long a sender waits for the database, in seconds. A write to SQLite waits 5 s for another process's lock.
PATIENCE = 8.0
#: And so long once the database has let somebody wait in vain.
LITTLE_PATIENCE = 1.0
#: How often it is looked whose time is up, in seconds, while anybody waits.
LOOK_EVERY = 1.0
_SPOOLERS = 2
#: Of one round of taking in: it ends after so many seconds, or so many mails that could not be moved.
ROUND_SECONDS, ROUND_FAILURES = 3.0, 3


class Stores(Protocol):
    """Transactions on the database."""

    def submit(self, name: str, work: Callable[[Transaction], T]) -> Future[T]: ...
    def write(self, name: str, work: Callable[[Transaction], T]) -> T: ...


class Hears(Protocol):
    """Who is told how it went."""

    def stored(self) -> None: ...
    def spooled(self) -> None: ...
    def not_stored(self, reason: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Arrival:
    """A mail on its way to the disk. Its sender is answered once, whoever is first."""

    mail: AcceptedMail
    came_at: float  #: monotonic
    raw: bytes | None  #: None once the sender has an answer
    outcome: Future[str] = field(default_factory=Future)
    _settling: threading.Lock = field(default_factory=threading.Lock)
    _rescued: bool = False

    def __post_init__(self) -> None:
        self.outcome.set_running_or_notify_cancel()  # whoever waits may give up; the mail does not

    def store(self, tx: Transaction) -> AcceptedMail:
        raw = self.raw
        if raw is None:  # a database that hung comes to it late
            raise StoreFailed("the sender has an answer")
        stored = replace(self.mail, accepted_at=tx.now)
        tx.mails.add(stored, raw)
        return stored  # for the mark of what was accepted

    def rescue_once(self) -> bool:
        """True for the first who asks: the database failed and its time is up may come together."""
        with self._settling:
            first, self._rescued = not self._rescued, True
            return first

    def settle(self, failure: StoreFailed | None = None) -> bool:
        """Answer the sender; False when an answer was given before."""
        with self._settling:
            if self.outcome.done():
                return False
            self.raw = None
            if failure is None:
                self.outcome.set_result(ids.ref(self.mail.id))
            else:
                self.outcome.set_exception(failure)
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMail:
    """One mail as it came over the wire, complete, before anybody has looked into it."""

    mail_from: str  #: "" is the null sender; octets that are no UTF-8 stand as \\xNN; no control characters
    recipients: tuple[str, ...]  #: as given, in order; at least one, each of them `known`
    peer: str  #: the client's IP address such as "127.0.0.1" or "::1"; "" when it had hung up before we could ask
    helo: str  #: what the client called itself; control characters are shown as "?"
    tls: str  #: "" for plaintext, else such as "TLSv1.3 TLS_AES_256_GCM_SHA384"
    raw: bytes  #: the octets between DATA and the dot, dots unstuffed, line ends as they came

    def accepted_at(self, at: datetime) -> AcceptedMail:
        """This mail under a new id, without its octets."""
        return AcceptedMail(
            id=ids.new_mail_id(),
            accepted_at=at,
            mail_from=self.mail_from,
            recipients=self.recipients,
            peer=self.peer,
            helo=self.helo,
            tls=self.tls,
            size=len(self.raw),
        )


class MailAcceptance:
    """Makes mails durable.

    Args:
        hears: Is told of every outcome.
        refused: Called with the reason when neither database nor spool took a mail. Must not block.
        patience: How long a sender waits for the database, in seconds.
        is_answer: Whether a mail answers a page, by its envelope; it is understood before all others.
    """

    def __init__(
        self,
        store: Stores,
        spool: Spool,
        clock: Clock,
        hears: Hears,
        refused: Callable[[str], None],
        patience: float = PATIENCE,
        is_answer: Callable[[AcceptedMail], bool] = lambda mail: False,
    ) -> None:
        self._store = store
        self._spool = spool
        self._clock = clock
        self._hears = hears
        self._refused = refused
        self._patience = patience
        self._is_answer = is_answer
        self._in_vain = False  #: the database let the last one wait in vain
        self._stuck: set[str] = set()  #: ids of mails the database does not take though it answers
        self._arrivals: dict[_Arrival, None] = {}  #: those the database has not answered yet, oldest first
        self._arrived = threading.Condition()
        self._late: queue.SimpleQueue[tuple[_Arrival, str]] = queue.SimpleQueue()
        self._looked_at = time.monotonic()
        self._patient = threading.Thread(target=self._watch_the_time, name="patience", daemon=True)
        self._patient.start()  # all threads now: in an emergency there may be none to be had
        for number in range(_SPOOLERS):
            threading.Thread(target=self._rescue_the_late, name=f"spool-{number}", daemon=True).start()

    def receive(self, got: ReceivedMail) -> Future[str]:
        """A mail as it came over the wire, under a new id; as `accept`. The 250 rests on this."""
        mail = got.accepted_at(self._clock())
        return self.accept(replace(mail, turn=-1) if self._is_answer(mail) else mail, got.raw)

    def accept(self, mail: AcceptedMail, raw: bytes) -> Future[str]:
        """Make a mail durable; the future answers its REF once it is, or raises `StoreFailed`. Returns at once.

        Its `accepted_at` is the database's instant if the database takes it, else this clock's.
        """
        arrival = _Arrival(replace(mail, accepted_at=self._clock()), time.monotonic(), raw)
        with self._arrived:
            if not self._arrivals:  # else whoever watches the time is awake before this one is late
                self._arrived.notify()
            self._arrivals[arrival] = None
        stored = self._submitted(arrival)
        stored.add_done_callback(lambda done: self._database_answered(arrival, done))
        return arrival.outcome

    def _submitted(self, arrival: _Arrival) -> Future[AcceptedMail]:
        try:
            return self._store.submit("mails.accept", arrival.store)
        except Exception as exc:  # not even a thread to ask the database in
            failed: Future[AcceptedMail] = Future()
            failed.set_exception(exc)
            return failed

    def came_round_at(self) -> float:
        """When it last looked whose time is up, or nobody waited, in monotonic seconds; -inf when it has ended."""
        looked_at = self._looked_at if self._arrivals else time.monotonic()
        return looked_at if self._patient.is_alive() else -math.inf

    # -- into the database, later

    def take_in(self, on_progress: Callable[[], None] = lambda: None) -> int:
        """Move what waits in the spool into the database, oldest first, for some seconds; answers how many it moved.

        One that cannot be moved stays and holds up no other. `on_progress` is called after each: many take their time.

        Raises:
            StoreFailed: The database is away; they stay.
        """
        ends_at, moved, failures = time.monotonic() + ROUND_SECONDS, 0, 0
        for spooled in sorted(self._spool.waiting(), key=lambda spooled: spooled.mail_id in self._stuck):
            try:
                moved += self._take_in(spooled)
            except Exception:
                failures += 1
                on_progress()
                moved += self._put_behind(spooled)
            on_progress()
            if time.monotonic() >= ends_at or failures == ROUND_FAILURES:
                break
        return moved

    def _take_in(self, spooled: Spooled) -> bool:
        found = self._spool.read(spooled)
        if found is None:
            return False
        mail, raw = found
        stored = self._store.write("mails.take_in", lambda tx: _taken_in(tx, mail, raw))
        self._spool.remove(spooled)
        self._stuck.discard(mail.id)
        self._in_vain = False  # else one that is always a little slow would never be waited for again
        _log.warning("mail.taken_in", mail=mail.id, ref=ids.ref(mail.id), was_there=stored is None)
        return True

    def _put_behind(self, spooled: Spooled) -> bool:
        """Once more, now that the database takes something else; in vain again, it comes after the others from now on.

        Raises:
            StoreFailed: The database takes nothing: it is not about this mail.
        """
        self._store.write("tick.alarm", lambda tx: None)
        try:
            return self._take_in(spooled)
        except Exception as exc:
            facts = {"mail": spooled.mail_id, "reason": str(exc)}
        self._store.write("tick.alarm", lambda tx: tx.queue.tell_operators("mail_stuck", facts))
        if spooled.mail_id not in self._stuck:
            self._stuck.add(spooled.mail_id)
            _log.error("mail.stuck", ref=ids.ref(spooled.mail_id), **facts)
        return False

    # -- how it goes

    def _database_answered(self, arrival: _Arrival, stored: Future[AcceptedMail]) -> None:
        """In the thread that committed, or failed to."""
        with self._arrived:
            self._arrivals.pop(arrival, None)
        failure = StoreFailed("given up") if stored.cancelled() else stored.exception()
        if failure is not None:
            self._rescue(arrival, str(failure))
            return
        self._in_vain = False
        if arrival.settle():
            _say("mail.accepted", arrival)
            self._hears.stored()

    def _watch_the_time(self) -> None:
        while True:
            self._looked_at = time.monotonic()
            with self._arrived:
                if late := self._whose_time_is_up():
                    self._in_vain = True
                else:
                    self._arrived.wait(self._time_left())
            for arrival in late:
                self._rescue(arrival, "the database does not answer")

    def _whose_time_is_up(self) -> list[_Arrival]:
        """They are waited for no longer."""
        latest = time.monotonic() - self._patience_now()
        late = [arrival for arrival in self._arrivals if arrival.came_at <= latest]
        for arrival in late:
            del self._arrivals[arrival]
        return late

    def _time_left(self) -> float | None:
        """Until the oldest is late, in seconds; never so long that a rest looks like a hang. None: nobody waits, and
        the next one who comes says so."""
        oldest = next(iter(self._arrivals), None)
        if oldest is None:
            return None
        return min(LOOK_EVERY, max(0.0, oldest.came_at + self._patience_now() - time.monotonic()))

    def _patience_now(self) -> float:
        return min(LITTLE_PATIENCE, self._patience) if self._in_vain else self._patience

    def _rescue(self, arrival: _Arrival, reason: str) -> None:
        if arrival.rescue_once():
            self._late.put((arrival, reason))

    def _rescue_the_late(self) -> None:
        while True:
            arrival, reason = self._late.get()
            try:
                self._put(arrival, reason)
            except Exception:  # of whoever was told; the sender has an answer
                _log.exception("mail.rescue_failed", mail=arrival.mail.id)
            del arrival

    def _put(self, arrival: _Arrival, reason: str) -> None:
        raw = arrival.raw
        if raw is None:  # the database was faster after all
            return
        try:
            self._spool.put(arrival.mail, raw)
        except Exception as exc:  # whatever it was: the sender must hear that the mail was not taken
            self._refuse(arrival, reason, f"{reason}; {exc}")
            return
        if arrival.settle():
            _say("mail.accepted", arrival)
            _log.error("mail.spooled", mail=arrival.mail.id, ref=ids.ref(arrival.mail.id), reason=reason)
            self._hears.spooled()

    def _refuse(self, arrival: _Arrival, reason: str, both: str) -> None:
        if arrival.settle(StoreFailed(both)):
            _log.error("mail.not_accepted", mail=arrival.mail.id, peer=arrival.mail.peer, reason=both)
            self._refused(both)
            self._hears.not_stored(reason)


def _say(event: str, arrival: _Arrival) -> None:
    mail = arrival.mail
    _log.info(event, mail=mail.id, ref=ids.ref(mail.id), peer=mail.peer, size=mail.size, tls=bool(mail.tls))


def _taken_in(tx: Transaction, mail: AcceptedMail, raw: bytes) -> AcceptedMail | None:
    """The mail as it is stored; None when it was there."""
    return replace(mail, accepted_at=min(mail.accepted_at, tx.now)) if tx.mails.take_in(mail, raw) else None
