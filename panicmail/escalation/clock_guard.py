"""Timekeeping: what happens when the clock that counts is moved.

    put forward         what is due by it is taken once, by the tick; the operators hear
    put back            what was written meanwhile lies ahead of the present, and everything it waits for would come
                        late by as much: it is brought back, with a line on the timeline; the operators hear
    wrong at the start  standing before this program was written: SQLite counts on from the last instant it knows, by
                        CLOCK_BOOTTIME; on PostgreSQL the database's clock rules, and it is taken for one put back

A jump is seen by the next tick, because CLOCK_BOOTTIME does not make it; one made while panicmail was away by the
rows that lie ahead at the start, or by the mark `WatermarkFile` keeps. Rows that come to lie ahead by an overlap (a
mail claimed before, understood after) are found within a minute.

On SQLite a wall clock that is put back behind the start of the process is not followed (`clock.HostClock`): nothing
moves, and nothing comes late. The operators hear that the two are apart.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog

from panicmail.clock import EARLIEST, Clock, HostClock, boot_seconds, wall_clock
from panicmail.escalation.reconciler import LONGEST_LEASE
from panicmail.incident import clock_steps
from panicmail.incident.clock_steps import TOLERANCE, ClockReading
from panicmail.incident.model import Change, Entry, State
from panicmail.store.future_rows import PUT_BACK
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import WatermarkFile

_log = structlog.get_logger()

#: How often it is looked for rows that lie ahead, in seconds.
CHECK_EVERY = 60.0
#: The clock that counts and the host's may differ by this much without a word.
APART = timedelta(seconds=30)
#: Nobody is away for so long; a clock that says so is told.
SILENCE = timedelta(days=7)


class ClockGuard:
    """Watches the clock that counts. `start` once, before anything else runs; then `check_clock` every second.

    Args:
        clock: The host's clock as the database has it.
        wall: What the host says, right or wrong.
        boot: CLOCK_BOOTTIME, in seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        high_water: WatermarkFile,
        *,
        wall: Clock = wall_clock,
        boot: Callable[[], float] = boot_seconds,
    ) -> None:
        self._store = store
        self._clock = clock
        self._high_water = high_water
        self._wall = wall
        self._boot = boot
        self._last: ClockReading | None = None
        self._checked = boot()

    def start(self) -> None:
        """Put right what a clock wrong before the start, or wrong now, has done.

        Raises:
            StoreFailed: The database does not answer.
        """
        lead = self._lead_at_start()
        if self._wall() < EARLIEST:
            self._say("clock.wrong", timedelta(), clock=self._wall().isoformat(timespec="seconds"))
            if lead > TOLERANCE and isinstance(self._clock, HostClock):
                self._clock.not_before(self._store.now() + lead)
                lead = self._lead_at_start()
        if lead > TOLERANCE:
            self._put_back(lead)
        elif lead < -SILENCE:
            self._say("clock.jumped", -lead)
        self._last = self._read()

    def _lead_at_start(self) -> timedelta:
        """How far what is known lies ahead of now; negative: how long ago the last sign of life is."""
        mark = self._high_water.read()
        now, lead = self._store.read(lambda tx: (tx.now, tx.future_rows.lead()))
        if mark is None:
            return lead
        return max(lead, mark.at - now) if lead else mark.at - now

    def check_clock(self) -> None:
        """Compare the clock with CLOCK_BOOTTIME, and once a minute with what is written.

        Raises:
            StoreFailed: The database does not answer; a jump is seen by the next look that it answers.
        """
        reading = self._read()
        jumped = clock_steps.clock_jump(self._last, reading) if self._last else timedelta()
        if jumped > timedelta():
            self._say("clock.jumped", jumped)
        elif jumped < timedelta():
            self._put_back(-jumped)
        self._last = reading
        if reading.after - self._checked >= CHECK_EVERY:
            self._checked = reading.after
            self._check(reading)

    def _read(self) -> ClockReading:
        before = self._boot()
        now = self._store.now()
        return ClockReading(now, before, self._boot())

    def _check(self, reading: ClockReading) -> None:
        lead = self._store.read(lambda tx: tx.future_rows.lead())
        if lead:
            self._put_back(lead)
        wall = self._wall()
        if abs(wall - reading.now) > APART:
            self._say("clock.apart", abs(wall - reading.now), clock=wall.isoformat(timespec="seconds"))

    def _put_back(self, by: timedelta) -> None:
        moved = self._store.write("clock.put_back", lambda tx: _bring_back(tx, by))
        _log.error("clock.put_back", seconds=by.total_seconds(), moved=moved)

    def _say(self, event: str, by: timedelta, **facts: Any) -> None:
        told = {"seconds": round(by.total_seconds()) or None, **facts}

        def work(tx: Transaction) -> None:
            counted = tx.now.isoformat(timespec="seconds")
            tx.queue.tell_operators(event.replace(".", "_"), {**told, "panicmail counts": counted})

        self._store.write("clock.alarm", work)
        _log.error(event, **told)


def _bring_back(tx: Transaction, by: timedelta) -> int:
    """Bring back what was written on a clock that stood `by` ahead; answers how many rows."""
    touched = tx.future_rows.happened_ahead()
    moved = tx.future_rows.bring_back(by, LONGEST_LEASE)
    seconds = round(by.total_seconds())
    for incident in tx.search.list_incidents(states=[State.OPEN, State.ACKED]):
        right = clock_steps.brought_back(incident, by, tx.now, touched=incident.id in touched)
        if right == incident and incident.id not in touched:
            continue
        line = Entry(event=PUT_BACK, actor="panicmail", facts={"seconds": seconds}, note=False)
        tx.incidents.apply(incident, Change(incident=right, entries=(line,)))
        moved += 1
    tx.queue.tell_operators("clock_put_back", {"seconds": seconds, "brought back": moved})
    return moved
