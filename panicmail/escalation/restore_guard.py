"""Restoring: noticing that the database is an old copy, before it pages people for what was settled long ago.

The copy's incidents may have been acknowledged or closed since, nobody here can know. So at the start everything
unresolved is held back for one SLA, with a line on its timeline, and goes on then; the operators get the list, and
what is known to be missing. What was to be done in GitLab is looked for there before it is done again.

A database that loses something while panicmail runs (a standby took over that had not heard everything) is an alarm
only: its incidents are minutes old, and paging goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from panicmail.clock import EARLIEST, Clock, HostClock, boot_seconds, wall_clock
from panicmail.escalation.reconciler import LONGEST_LEASE
from panicmail.incident import clock_steps, transitions
from panicmail.incident.clock_steps import TOLERANCE, ClockReading
from panicmail.incident.model import Change, Entry, Incident, State
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.store.future_rows import PUT_BACK
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store
from panicmail.store.watermark import Watermark, WatermarkFile

_log = structlog.get_logger()


class RestoreGuard:
    """Compares the database with the mark kept beside it. `start` once, then `remember` every minute; `accepted` with
    each mail, from whatever thread."""

    def __init__(self, store: Store, settings: CurrentSettings, high_water: WatermarkFile) -> None:
        self._store = store
        self._settings = settings
        self._high_water = high_water
        self._mark: Watermark | None = None
        self._marking = threading.Lock()

    def start(self) -> bool:
        """Hold everything back if the database is an old copy; answers whether it is one.

        Raises:
            StoreFailed: The database does not answer.
        """
        mark = self._high_water.read()
        is_old = mark is not None and self._store.read(lambda tx: tx.watermark.is_behind(mark))
        if mark is not None and is_old:
            facts = self._store.write("copy.hold", lambda tx: self._hold(tx, mark))
            _log.error("database.old_copy", **facts)
        self.remember()
        return is_old

    def remember(self) -> None:
        """Keep how far the database has come; an alarm when it has fallen behind what this process saw.

        Raises:
            StoreFailed: The database does not answer.
        """
        before = self._mark
        mark, lost = self._store.read(
            lambda tx: (tx.watermark.current(), before is not None and tx.watermark.is_behind(before))
        )
        if before is not None and lost:
            _log.error("database.lost", **_describe_missing(before, mark))
            self._store.write(
                "copy.alarm", lambda tx: tx.queue.tell_operators("database_lost", _describe_missing(before, mark))
            )
        with self._marking:
            since = self._mark
            if since is not None and since is not before:  # accepted while the database was asked
                mark = _newer(mark, since)
            self._keep(mark)

    def accepted(self, mails: Sequence[AcceptedMail]) -> None:
        """These are in the database for good, and nobody was told yet: who restores it from before them must hear."""
        if not mails:
            return
        newest = max(mails, key=lambda mail: (mail.accepted_at, mail.id))
        with self._marking:
            mark = self._mark or Watermark(at=newest.accepted_at, line_id=0, mail_id=None, accepted_at=None)
            told = replace(mark, at=newest.accepted_at, mail_id=newest.id, accepted_at=newest.accepted_at)
            self._keep(_newer(mark, told))

    def _keep(self, mark: Watermark) -> None:
        self._mark = mark
        try:
            self._high_water.write(mark)
        except OSError as exc:
            _log.warning("high_water.failed", reason=str(exc))

    def _hold(self, tx: Transaction, mark: Watermark) -> dict[str, Any]:
        """Hold back what is unresolved; answers what the operators are told."""
        until = tx.now + self._settings().policy.sla
        waiting = tx.search.list_incidents(states=[State.OPEN, State.ACKED])
        for incident in waiting:
            if not self._is_held(tx, incident):
                why = "the database is an old copy; nobody knows what was settled since"
                tx.incidents.apply(incident, transitions.hold_back(incident, until, why))
        tx.watermark.doubt_effects()
        facts = _describe_missing(mark, tx.watermark.current()) | {
            "held until": until.isoformat(timespec="seconds"),
            "unresolved in the copy": [_brief(incident) for incident in waiting] or "none",
        }
        tx.queue.tell_operators("old_copy", facts)
        return facts

    def _is_held(self, tx: Transaction, incident: Incident) -> bool:
        """Another node, or a start that was cut short, has done it."""
        since = tx.now - self._settings().policy.sla
        return any(line.event == "steps.held" and line.at > since for line in tx.timeline.of_incident(incident.id))


def _newer(mark: Watermark, other: Watermark) -> Watermark:
    """`mark` with the mail of `other`, should that have been accepted later."""
    if other.accepted_at is None or (mark.accepted_at is not None and other.accepted_at < mark.accepted_at):
        return mark
    return replace(mark, at=max(mark.at, other.at), mail_id=other.mail_id, accepted_at=other.accepted_at)


def _describe_missing(known: Watermark, found: Watermark) -> dict[str, Any]:
    """What is known to have been there, and what there is."""
    return {"last known mail": _mail(known), "last mail here": _mail(found), "last seen": _minute(known.at)}


def _mail(mark: Watermark) -> str:
    return f"{mark.ref}, accepted {_minute(mark.accepted_at)}" if mark.accepted_at else "none"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _brief(incident: Incident) -> str:
    who = f", {incident.holder} has it" if incident.holder and incident.state is State.ACKED else ""
    return f"{incident.ref}, {incident.state.value}, accepted {_minute(incident.accepted_at)}{who}"


# -- Timekeeping: what happens when the clock that counts is moved.
#
#     put forward         what is due by it is taken once, by the tick; the operators hear
#     put back            what was written meanwhile lies ahead of the present, and everything it waits for would come
#                         late by as much: it is brought back, with a line on the timeline; the operators hear
#     wrong at the start  standing before this program was written: SQLite counts on from the last instant it knows, by
#                         CLOCK_BOOTTIME; on PostgreSQL the database's clock rules, and it is taken for one put back
#
# A jump is seen by the next tick, because CLOCK_BOOTTIME does not make it; one made while panicmail was away by the
# rows that lie ahead at the start, or by the mark `WatermarkFile` keeps. Rows that come to lie ahead by an overlap
# (a mail claimed before, understood after) are found within a minute.
#
# On SQLite a wall clock that is put back behind the start of the process is not followed (`clock.HostClock`):
# nothing moves, and nothing comes late. The operators hear that the two are apart.

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
