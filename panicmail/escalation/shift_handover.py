"""Handing over: when a shift ends, whatever is open or held is told to both sides.

Looked at once a minute. When those on call now came on is read from the rosters, and what was told from the timeline,
so nothing is forgotten over a restart: a change of shift that fell into an outage is told when it is over, if it is not
older than a day.

Only what a roster itself says counts as a change of shift: other people in `fixed`, by a reload, are none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from panicmail.incident import transitions
from panicmail.incident.model import Change, Incident, Outcome, State, unchanged
from panicmail.incident.transitions import ShiftChange
from panicmail.oncall.runtime_settings import CurrentSettings
from panicmail.oncall.schedules import Schedules
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A change of shift is looked for so far back.
LOOK_BACK = timedelta(days=1)
#: When everybody was told of a change, the incidents are looked through again this much later.
LOOK_AGAIN = timedelta(minutes=15)


class ShiftHandover:
    """Tells both sides of a change of shift what is open or held."""

    def __init__(self, store: Store, settings: CurrentSettings) -> None:
        self._store = store
        self._settings = settings
        self._told: tuple[frozenset[ShiftChange], datetime] = frozenset(), datetime.min.replace(tzinfo=UTC)

    def tell_changes(self) -> int:
        """Tell whatever a change of shift asks for; answers for how many incidents.

        Raises:
            StoreFailed: The database could not be asked.
        """
        concerned = self._store.read(self._concerned)
        return sum(self._tell(incident) for incident in concerned)

    def _concerned(self, tx: Transaction) -> list[Incident]:
        changes, (told, told_at) = self._changes(tx.now), self._told
        if not changes or (changes == told and timedelta() <= tx.now - told_at < LOOK_AGAIN):
            return []
        unresolved = tx.search.list_incidents(states=[State.OPEN, State.ACKED])
        found = [incident for incident in unresolved if self._change(tx, incident).outcome is Outcome.DONE]
        if not found:
            self._told = changes, tx.now
        return found

    def _changes(self, now: datetime) -> frozenset[ShiftChange]:
        """Who came on call lately, in whatever role: without any no incident need be looked at."""
        schedules = self._settings().schedules
        return frozenset(filter(None, (change_of_shift(schedules, role, now) for role in schedules.roles)))

    def _tell(self, incident: Incident) -> bool:
        try:
            self._store.write("tick.move", lambda tx: self._carry_out(tx, incident.id))
        except Exception:  # found again in a minute; the others must not wait for it
            _log.exception("handover.failed", ref=incident.ref)
            return False
        return True

    def _carry_out(self, tx: Transaction, incident_id: str) -> None:
        incident = tx.incidents.get(incident_id)
        if incident is not None:
            tx.incidents.apply(incident, self._change(tx, incident))

    def _change(self, tx: Transaction, incident: Incident) -> Change:
        settings = self._settings()
        policy = settings.policy_of(incident)
        whole = unchanged(incident, Outcome.NOTED)
        for role in transitions.shift_roles(incident, policy):
            change = change_of_shift(settings.schedules, role, tx.now)
            if change is None:
                continue
            next_ = transitions.shift_changed(
                whole.incident, policy, change, tx.timeline.of_incident(incident.id), tx.now
            )
            whole = whole.then(next_) if next_.outcome is Outcome.DONE else whole
        return whole


def change_of_shift(schedules: Schedules, role: str, now: datetime) -> ShiftChange | None:
    """Since when those on call in `role` are; None when they already were a day ago."""
    *earlier, current = schedules.spans(role, now - LOOK_BACK, now + datetime.resolution)
    since = current.start
    for span in reversed(earlier):
        if set(span.people) != set(current.people):
            return ShiftChange(role=role, at=since, people=current.people)
        since = span.start
    return None
