"""Holding back: what was due is due later, because nobody can say yet whether it still is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from panicmail.incident.model import Change, Entry, Incident, Outcome, State, unchanged

#: Rounds go on from the next multiple of this. Nobody knows which a later copy of the incident has used, and a page of
#: a round that was sent before has its Message-ID, so a mail program would hide it.
ROUNDS_LEFT_OUT = 1000


def hold_back(incident: Incident, until: datetime, why: str) -> Change:
    """Nothing of an unresolved incident is due before `until`; nothing is dropped. Pages not sent yet are void.

    An open incident takes its next step at `until`, as any overdue one; its breach waits too, unless it is on record.
    """
    if incident.state is State.RESOLVED:
        return unchanged(incident, Outcome.CLOSED)
    waits = {
        name: max(at, until) for name in ("next_step_at", "remind_at") if (at := getattr(incident, name)) is not None
    }
    if incident.breached_at is None and incident.state is State.OPEN:
        waits["sla_at"] = max(incident.sla_at, until)
    round_ = -(-incident.round // ROUNDS_LEFT_OUT) * ROUNDS_LEFT_OUT
    facts = {"until": until.isoformat(), "why": why, "round": round_}
    entry = Entry(event="steps.held", actor="panicmail", facts=facts)
    return Change(incident=replace(incident, round=round_, **waits), entries=(entry,), void_pages=True)
