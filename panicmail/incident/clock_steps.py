"""Jumps of the clock: whether it made one, and where an instant belongs that was written while it stood ahead.

Pure. A clock that is put forward is followed: what it makes due is taken once, early at worst. When it is put back,
what was written in between lies ahead of the present by the length of the jump, and its steps would come that much
too late; `brought_back` says what it would read had the clock stood right.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from panicmail.incident.model import Incident, PagedPerson

#: A clock that is put right by less is not worth a word: nothing comes later by more than this.
TOLERANCE = timedelta(seconds=5)

#: What an incident remembers of the past, and what it waits for.
_PAST = (
    "accepted_at",
    "opened_at",
    "steps_from_at",
    "words_at",
    "worked_at",
    "acked_at",
    "first_acked_at",
    "breached_at",
)
_COMING = ("next_step_at", "remind_at")


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the clock said, and the seconds since the host's start right before and right after it was asked."""

    now: datetime
    before: float
    after: float


def clock_jump(earlier: ClockReading, later: ClockReading) -> timedelta:
    """How far the clock was put forward between two readings, or back (negative); zero within `TOLERANCE`."""
    went = later.now - earlier.now
    least = timedelta(seconds=later.before - earlier.after)
    most = timedelta(seconds=later.after - earlier.before)
    if went < least - TOLERANCE:
        return went - least
    if went > most + TOLERANCE:
        return went - most
    return timedelta()


def past(at: datetime, by: timedelta, now: datetime) -> datetime:
    """Where an instant belongs that should be past, on a clock that stood `by` ahead. Never ahead of `now`."""
    return min(at - by, now) if _is_ahead(at, now) else at


def _is_ahead(at: datetime, now: datetime) -> bool:
    return at > now + TOLERANCE


def coming(at: datetime, by: timedelta, now: datetime) -> datetime:
    """Where an instant belongs that is waited for, if it was written on a clock that stood `by` ahead.

    Never before `now`, which is soon enough.
    """
    return max(at - by, now) if at > now else at


def brought_back(incident: Incident, by: timedelta, now: datetime, *, touched: bool) -> Incident:
    """The incident as it had to read, had the clock not stood `by` ahead when it was last written.

    One that was not written then stays as it is: its deadlines are right. What a step waits for may come early, when
    it counts from an instant before the jump; early is safer than late.

    Args:
        touched: Whether something happened to it then that its own instants do not show.
    """
    right: dict[str, Any] = {
        name: past(at, by, now) for name in _PAST if (at := getattr(incident, name)) is not None and _is_ahead(at, now)
    }
    paged = {person: _paged(each, by, now) for person, each in incident.paged.items()}
    if not (touched or right or paged != incident.paged):
        return incident
    right |= _promised(incident, right.keys(), by)
    right |= {name: coming(at, by, now) for name in _COMING if (at := getattr(incident, name)) is not None}
    return replace(incident, paged=paged, **right)


def _paged(paged: PagedPerson, by: timedelta, now: datetime) -> PagedPerson:
    return replace(paged, at=past(paged.at, by, now), last_at=past(paged.last_at, by, now))


def _promised(incident: Incident, moved: Collection[str], by: timedelta) -> dict[str, datetime]:
    """The SLA, which counts from the acceptance, or from the reopening when it was promised anew."""
    promised = {}
    if "accepted_at" in moved:
        promised["first_sla_at"] = incident.first_sla_at - by
    was_renewed = incident.sla_at > incident.first_sla_at
    if ("opened_at" if was_renewed else "accepted_at") in moved:
        promised["sla_at"] = incident.sla_at - by
    return promised
