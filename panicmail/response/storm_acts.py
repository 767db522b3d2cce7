"""What somebody does to a storm, they do to the first ones of its flood as well."""

from __future__ import annotations

from panicmail.incident import transitions
from panicmail.incident.model import Incident, State
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.transaction import Transaction

#: An incident before and after.
Moved = tuple[Incident, Incident]


def follow(tx: Transaction, settings: RuntimeSettings, before: Incident, after: Incident) -> list[Moved]:
    """Take or close what goes with a storm that was just taken or closed; what moved by it."""
    is_closed = after.state is State.RESOLVED and before.state is State.ACKED
    if not (is_closed or transitions.gave_somebody(before, after)):
        return []
    moved: list[Moved] = []
    told = {*after.paged, *filter(None, (before.holder, after.holder))}
    for one in first_of(tx, after):
        change = transitions.goes_along(
            one, transitions.StormChange(before, after, told), settings.policy_of(one), tx.now
        )
        if change.entries:
            told |= {effect.person for effect in change.effects if effect.person}
            moved.append((one, tx.incidents.apply(one, change)))
    storm = tx.storms.get(after.id)
    if storm is not None and after.state is State.ACKED and tx.storms.has_untold(after.id):
        tx.storms.tell_soon(after.id)
    return moved


def first_of(tx: Transaction, incident: Incident) -> list[Incident]:
    """The first ones of a storm; none when it is none, or was taken apart."""
    storm = tx.storms.get(incident.id)
    if storm is None or storm.split_at is not None:
        return []
    return [one for each in storm.first if (one := tx.incidents.get(each))]
