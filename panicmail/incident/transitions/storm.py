"""What goes with a storm: its first ones are taken and closed together with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from panicmail.incident.escalation_policy import EscalationPolicy
from panicmail.incident.model import Change, EffectKind, Incident, Outcome, Owed, State, unchanged
from panicmail.incident.transitions.acknowledge import give
from panicmail.incident.transitions.resolve import resolve

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
