"""Acts in the order of their own time: what is told late must not beat what was done since.

Each way in has a clock of its own, and may tell what somebody did long after it was done. The line of an act says in
`acted_at` when that was, where it was not at once. Clocks differ a little; that must never let an older act win, so
times are compared as they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from panicmail.incident.model import Change
from panicmail.incident.transitions.undo import TimelineEntry

#: What somebody did: event -> in words that follow a name.
ACTS: Mapping[str, str] = {
    "person.declined": "said no",
    "incident.escalated": "asked for more people",
    "incident.offered": "offered it to somebody",
    "incident.acked": "acknowledged it",
    "incident.taken": "took it",
    "incident.resolved": "closed it",
    "ack.undone": "undid an acknowledgement",
    "take.undone": "undid taking it",
    "resolve.undone": "undid closing it",
}
#: What overtakes an older yes of anybody: others were asked for since.
_ASKED_ANEW = frozenset({"incident.escalated", "incident.reopened"})
#: What overtakes an older "escalate", "take" or "resolve" of anybody: somebody has it since.
_GIVEN = frozenset({"incident.acked", "incident.taken"})


class DatedLine(TimelineEntry, Protocol):
    """A line of the timeline, with when it was written."""

    @property
    def at(self) -> datetime: ...


def own_time(line: DatedLine) -> datetime:
    """When it was done, as far as the line says; else when it was written."""
    said = line.facts.get("acted_at")
    # Never later than it was written: where the clock was put back, the columns were brought back and no fact.
    return min(datetime.fromisoformat(said), line.at) if isinstance(said, str) else line.at


def dated(change: Change, acted_at: datetime | None) -> Change:
    """The change with, on the lines of acts, when they were done; None: now."""
    if acted_at is None:
        return change
    said = {"acted_at": acted_at.isoformat()}
    entries = (replace(e, facts={**e.facts, **said}) if e.event in ACTS else e for e in change.entries)
    return replace(change, entries=tuple(entries))


def overtaken_by(lines: Sequence[DatedLine], person: str, at: datetime, *, is_yes: bool) -> DatedLine | None:
    """The latest line that stands against what `person` did at `at`; None when it still counts.

    Args:
        is_yes: It would only acknowledge. Whatever else it is would change who has it.
    """
    others = _ASKED_ANEW if is_yes else _ASKED_ANEW | _GIVEN
    against = [
        line
        for line in lines
        if (line.event in others or (line.event in ACTS and line.actor == person)) and own_time(line) > at
    ]
    return max(against, key=own_time, default=None)
