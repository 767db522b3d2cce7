"""A shift ends with something open or held: both sides are told, and the incoming one is asked.

The rule, for the role that changed hands:

    acked   held by somebody who was paged as that role and is no longer on call in it: they are told who came on, who
            came on is asked to take it. It stays theirs until somebody does.
    open    the step that stands pages that role: who came on is paged now, as a page of this step; the policy's times
            stay. Who was paged as that role before is told who is called now, and that their yes still counts.

Told once for each change of shift; a change from before it was acknowledged, or opened, is no news.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from panicmail.incident.escalation_policy import EscalationPolicy, OnCallAt
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, Owed, State, unchanged
from panicmail.incident.transitions.acknowledge import give
from panicmail.incident.transitions.page_step import page_all, paged_entry, role_of
from panicmail.incident.transitions.resolve import resolve
from panicmail.incident.transitions.undo import TimelineEntry

#: The line of the timeline that keeps that a change of shift was told.
SHIFT_CHANGED = "shift.changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftChange:
    """Others are on call in a role."""

    role: str
    at: datetime  #: since when
    people: tuple[str, ...]  #: who is on call since; (): nobody

    @property
    def key(self) -> str:
        return f"{self.role}/{self.at.isoformat()}"


def shift_roles(incident: Incident, policy: EscalationPolicy) -> tuple[str, ...]:
    """The roles whose change of shift concerns this incident as it stands."""
    if incident.state is State.ACKED and incident.holder:
        role = role_of(incident, incident.holder)
        return (role,) if role else ()
    if incident.state is State.OPEN and incident.step >= 0:
        return policy.steps[min(incident.step, policy.last)].page
    return ()  # closed, or reopened and its last holder's alone for a moment


def daily_readers(incident: Incident, policy: EscalationPolicy, who: OnCallAt) -> set[str]:
    """Who is reminded each day that it is not resolved: whoever has it, and those on call in its role."""
    roles = shift_roles(incident, policy) or policy.steps[0].page
    has_it = {incident.holder} if incident.state is State.ACKED and incident.holder else set()
    return has_it | {person for role in roles for person in who(role)}


def shift_changed(
    incident: Incident, policy: EscalationPolicy, change: ShiftChange, lines: Sequence[TimelineEntry], now: datetime
) -> Change:
    """What a change of shift asks for. Nothing changes (NOTED) when it is no news for this incident.

    Args:
        lines: The timeline, oldest first.
    """
    since = incident.acked_at if incident.state is State.ACKED else incident.opened_at
    is_old = since is None or change.at <= since
    if is_old or change.role not in shift_roles(incident, policy) or _is_told(change, lines):
        return unchanged(incident, Outcome.NOTED)
    return _held(incident, change) if incident.state is State.ACKED else _open(incident, change, now)


def _is_told(change: ShiftChange, lines: Sequence[TimelineEntry]) -> bool:
    return any(line.event == SHIFT_CHANGED and line.facts.get("key") == change.key for line in lines)


def _held(incident: Incident, change: ShiftChange) -> Change:
    holder = incident.holder or ""
    if holder in change.people:
        return unchanged(incident, Outcome.NOTED)
    asked = [person for person in change.people if person != incident.handed_to]  # who was offered it, is asked already
    began = [_tell(incident, change, person, "shift_began", change.people) for person in asked]
    effects = (_tell(incident, change, holder, "shift_ended", change.people), *began)
    return Change(incident=incident, effects=effects, entries=(_entry(incident, change),))


def _open(incident: Incident, change: ShiftChange, now: datetime) -> Change:
    called = {p for p, paged in incident.paged.items() if paged.last_at >= incident.opened_at}
    coming = {p: change.role for p in change.people if p not in called and p not in incident.away}
    going = [
        p
        for p in incident.paged
        if role_of(incident, p) == change.role
        and p in called
        and p not in change.people
        and p not in incident.away
        and incident.paged[p].last_at < now  # else another role of theirs began at the same instant
    ]
    if not coming and not going:
        return unchanged(incident, Outcome.NOTED)
    came = [p for p in change.people if p not in incident.away]
    told = tuple(_tell(incident, change, person, "shift_ended", came) for person in going)
    entries: tuple[Entry, ...] = (_entry(incident, change),)
    pages: tuple[Effect, ...] = ()
    if coming:
        cause = {"on_call_since": change.at.isoformat()}
        incident, pages = page_all(incident, coming, now, cause=cause)
        entries = (*entries, paged_entry(incident, coming, incident.step, cause=cause))
    return Change(incident=incident, effects=(*pages, *told), entries=entries)


def _tell(incident: Incident, change: ShiftChange, person: str, what: str, came: Sequence[str]) -> Effect:
    facts = {"what": what, "role": change.role, "at": change.at.isoformat(), "people": list(came),
             "holder": incident.holder}  # fmt: skip
    return Effect(do=EffectKind.TELL, key=f"tell/shift/{change.key}/{person}", person=person, facts=facts)


def _entry(incident: Incident, change: ShiftChange) -> Entry:
    holder = incident.holder if incident.state is State.ACKED else None
    facts = {"key": change.key, "role": change.role, "at": change.at.isoformat(), "people": list(change.people),
             "holder": holder}  # fmt: skip
    return Entry(event=SHIFT_CHANGED, actor="panicmail", facts=facts)


# -- Holding back: what was due is due later, because nobody can say yet whether it still is.

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


# -- What goes with a storm: its first ones are taken and closed together with it.

#: The holder of a storm is asked about the storm; about what goes with it by mail alone, after this long.
_ASKED_AFTER = timedelta(hours=12)


def gave_somebody(before: Incident, after: Incident) -> bool:
    """Whether somebody has it who did not have it before."""
    return after.state is State.ACKED and (before.state, before.holder) != (after.state, after.holder)


@dataclass(frozen=True, slots=True)
class StormChange:
    """That a storm was taken or closed."""

    before: Incident
    after: Incident
    told: Collection[str]  #: people who hear of the storm itself, and not of each that goes with it


def goes_along(one: Incident, storm: StormChange, policy: EscalationPolicy, now: datetime) -> Change:
    """One of the first of a storm, when the storm itself changed.

    Whoever takes the storm takes what nobody has, and what the storm's last holder had. Closing it closes what is with
    its holder. What others have is theirs.
    """
    before, after = storm.before, storm.after
    holder, how = after.holder or "", f"with {after.ref}, its storm: {after.acked_how}"
    is_with_it = one.state is State.ACKED and one.holder == before.holder
    if gave_somebody(before, after) and (one.state is State.OPEN or (is_with_it and one.holder != holder)):
        change = give(one, holder, how, policy, now)
        asked_at = policy.later(now, _ASKED_AFTER)
        change = replace(change, incident=replace(change.incident, owed=Owed.STATUS, remind_at=asked_at))
    elif after.state is State.RESOLVED and before.state is State.ACKED and is_with_it:
        change = resolve(one, after.resolved_by, how, policy, now)
    else:
        return unchanged(one, Outcome.ALREADY)
    kept = (each for each in change.effects if each.do is not EffectKind.TELL or each.person not in storm.told)
    return replace(change, effects=tuple(kept))
