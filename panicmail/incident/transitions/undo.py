"""Undoing: what was done by link and was a mistake, taken back by whoever's link it was done with.

A link acts for whoever holds it, and a thumb slips. For two minutes its bearer may say "it was not me" of what was
acknowledged, taken from somebody else or closed by it. Then that counts as never done: whoever had the incident has
it again, or nobody; the same step, the same deadlines and reminders, the same figures. Only the record keeps who it
was. It is the latest of these acts that is undone, and once.

"no" and "escalate" call people, and that cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, Owed, State, unchanged
from panicmail.incident.transitions.acknowledge import others_paged
from panicmail.incident.transitions.page_step import page_all, paged_entry, role_of
from panicmail.incident.transitions.silent_holder import NOTHING_OWED, owe_answer

#: What was done may be undone for so long (contract.md 5); an instant that is exactly so much later is in time.
UNDO_WITHIN = timedelta(minutes=2)
#: The line of the timeline that keeps what an act changed; it follows the line of that one.
UNDOABLE = "ack.undoable"
#: What can be undone -> the line that says it was.
UNDONE = {"ack": "ack.undone", "take": "take.undone", "resolve": "resolve.undone"}
_TURNS = frozenset({"incident.acked", "incident.taken", "incident.resolved", UNDOABLE, *UNDONE.values()})


class TimelineEntry(Protocol):
    """A line of the timeline."""

    @property
    def event(self) -> str: ...
    @property
    def actor(self) -> str | None: ...
    @property
    def facts(self) -> Mapping[str, Any]: ...


def undoable(before: Incident, after: Incident) -> Entry | None:
    """What to keep of an act so that it can be undone; None when it gave the incident to nobody and did not close it.

    Times are kept as seconds from the act: its own instant is brought back with the incident when the clock is put
    back.
    """
    done_at, actor = _done_at(after), _actor(after)
    is_given = after.state is State.ACKED and (before.state, before.holder) != (State.ACKED, actor)
    is_closed = after.state is State.RESOLVED and before.state is State.ACKED
    if done_at is None or actor is None or before.state is State.RESOLVED or not (is_given or is_closed):
        return None
    facts = {
        "step_in": _seconds(done_at, before.next_step_at),
        "acked_before": _seconds(before.acked_at, done_at),
        "acked_how": before.acked_how,
        "is_first": before.first_acked_at is None,
        "handed_to": before.handed_to,
        "away": before.away.get(actor),
        "held": _held(before, done_at) if before.state is State.ACKED else None,
    }
    return Entry(event=UNDOABLE, actor=actor, facts=facts, note=False)


def undo_until(incident: Incident, person: str, lines: Sequence[TimelineEntry], now: datetime) -> datetime | None:
    """Until when `person` may undo; None when there is nothing of theirs to undo, or no longer."""
    done_at = _done_at(incident)
    if done_at is None or _kept(incident, person, lines) is None:
        return None
    return done_at + UNDO_WITHIN if now <= done_at + UNDO_WITHIN else None


def is_undone(lines: Sequence[TimelineEntry]) -> bool:
    """Whether the latest acknowledgement was undone, and nobody has acknowledged since. `lines`: oldest first."""
    last = _last_turn(lines)
    return last is not None and last.event == UNDONE["ack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """`person` takes back what they did."""

    person: str
    how: str  #: how it was verified that it is theirs, in words
    missed: Iterable[str] = ()  #: whose page lost its reason by an acknowledgement before it was sent


def undo(incident: Incident, undoing: Undoing, lines: Sequence[TimelineEntry], now: datetime) -> Change:
    """As if `person` had not acknowledged, taken or closed it; whoever heard of that hears that it is undone.

    Those whose page was `missed` are paged now, if nobody has it again: nobody was asked yet who should have been.
    Nothing changes when nothing of theirs is to be undone (ALREADY: undone before, somebody else has it), when it is
    too late (NOTED), or when either is so and it is closed (CLOSED).

    Args:
        lines: The timeline, oldest first.
    """
    person, how = undoing.person, undoing.how
    done_at, kept = _done_at(incident), _kept(incident, person, lines)
    if kept is None or done_at is None or now > done_at + UNDO_WITHIN:
        nothing = Outcome.ALREADY if kept is None else Outcome.NOTED
        return unchanged(incident, Outcome.CLOSED if incident.state is State.RESOLVED else nothing)
    before = _as_before(incident, person, kept, done_at, now)
    what = "ack" if before.state is State.OPEN else "take" if incident.state is State.ACKED else "resolve"
    holder = before.holder if before.state is State.ACKED else None
    facts = {"undid": what, "holder": holder, "how": how, "at": now.isoformat(), "done_at": done_at.isoformat()}
    entries = [Entry(event=UNDONE[what], actor=person, facts=facts)]
    if before.state is State.OPEN:
        again = {"last_holder": person}
        entries.append(Entry(event="incident.opened_again", actor="panicmail", facts=again, note=False))
    change = Change(incident=before, effects=_told(incident, before, person, facts), entries=tuple(entries))
    return change.then(_paged(before, undoing.missed if before.state is State.OPEN else (), now))


# -- what is kept of an act


def _done_at(incident: Incident) -> datetime | None:
    """When it came to stand as it does."""
    return incident.resolved_at or incident.acked_at


def _actor(incident: Incident) -> str | None:
    """By whom."""
    return incident.resolved_by if incident.state is State.RESOLVED else incident.holder


def _held(before: Incident, done_at: datetime) -> Mapping[str, Any]:
    """What was due from whoever had it."""
    return {
        "holder": before.holder,
        "remind_in": _seconds(done_at, before.remind_at),
        "owed": before.owed.value if before.owed else None,
        "words_before": _seconds(before.words_at, done_at),
        "worked_before": _seconds(before.worked_at, done_at),
    }


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return (until - since).total_seconds() if since and until else None


def _kept(incident: Incident, person: str, lines: Sequence[TimelineEntry]) -> Mapping[str, Any] | None:
    last = _last_turn(lines)
    if incident.state is State.OPEN or last is None or last.event != UNDOABLE:
        return None
    return last.facts if last.actor == person == _actor(incident) else None


def _last_turn(lines: Sequence[TimelineEntry]) -> TimelineEntry | None:
    return next((line for line in reversed(lines) if line.event in _TURNS), None)


# -- what comes of it


def _as_before(incident: Incident, person: str, kept: Mapping[str, Any], done_at: datetime, now: datetime) -> Incident:
    """`opened_at` stays: it was open all the time, so the SLA may turn out to have passed meanwhile."""
    why = kept["away"]
    before = replace(
        incident,
        handed_to=kept["handed_to"],
        acked_at=_earlier(done_at, kept["acked_before"]),
        first_acked_at=None if kept["is_first"] else incident.first_acked_at,
        acked_how=kept["acked_how"],
        resolved_at=None,
        resolved_by="",
        away={**incident.away, person: why} if why else incident.away,
    )
    if held := kept.get("held"):
        return _held_before(before, held, done_at, now)
    next_at = _later(done_at, kept["step_in"], now)
    return replace(before, state=State.OPEN, next_step_at=next_at, worked_at=None, **NOTHING_OWED)


def _held_before(incident: Incident, held: Mapping[str, Any], done_at: datetime, now: datetime) -> Incident:
    """Words that came meanwhile still wait for their answer."""
    before = replace(
        incident,
        state=State.ACKED,
        holder=held["holder"],
        remind_at=_later(done_at, held["remind_in"], now) or now,
        owed=Owed(held.get("owed") or Owed.WORK),
        words_at=_earlier(done_at, held.get("words_before")),
        worked_at=_earlier(done_at, held["worked_before"]),
    )
    return owe_answer(before, incident.words_at) if incident.words_at else before


def _earlier(at: datetime, seconds: float | None) -> datetime | None:
    return at - timedelta(seconds=seconds) if seconds is not None else None


def _later(at: datetime, seconds: float | None, now: datetime) -> datetime | None:
    """Never before `now`, which is soon enough."""
    return max(at + timedelta(seconds=seconds), now) if seconds is not None else None


def _told(incident: Incident, before: Incident, person: str, facts: Mapping[str, Any]) -> tuple[Effect, ...]:
    """The others, who heard of it; the reporter too, if told of it before and told anything at all."""
    tells = [
        Effect(
            do=EffectKind.TELL,
            key=f"tell/{incident.version}/undone/{other}",
            person=other,
            facts={"what": "undone", "by": person, **facts},
        )
        for other in others_paged(incident, person, facts["holder"])
    ]
    heard = {"ack": "reopened", "resolve": "not_closed"}.get(facts["undid"])
    if heard is None:
        return tuple(tells)
    news = {"what": heard, "at": facts["at"]}
    return (*tells, Effect(do=EffectKind.NEWS, key=f"news/{incident.version}/undone", facts=news))


def _paged(incident: Incident, missed: Iterable[str], now: datetime) -> Change:
    people = {person: role_of(incident, person) for person in missed}
    if not people:
        return unchanged(incident, Outcome.DONE)
    incident, pages = page_all(incident, people, now)
    return Change(incident=incident, effects=pages, entries=(paged_entry(incident, people, incident.step),))
