"""What one of our people says in GitLab about how grave it is: a label or the field, followed as their "sev 2" is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from panicmail.incident import transitions
from panicmail.incident.model import State
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.transaction import Transaction


class Graded(Protocol):
    @property
    def level(self) -> int | None: ...
    @property
    def username(self) -> str: ...
    @property
    def at(self) -> datetime: ...


def follow_severity(
    tx: Transaction, settings: RuntimeSettings, incident_id: str, graded: Graded, ahead: timedelta
) -> None:
    """Once for each act. Whoever is none of our people grades nothing here.

    Args:
        ahead: So much later than ours GitLab's clock stands.
    """
    incident = tx.incidents.locked(incident_id)
    people = {person.gitlab.casefold(): person for person in settings.people.values() if person.gitlab}
    person, at = people.get(graded.username.casefold()), graded.at - ahead
    if incident is None or incident.state is State.RESOLVED or person is None or graded.level is None:
        return
    said = [line for line in tx.timeline.of_incident(incident.id) if line.event == transitions.SEVERITY_SET]
    if any(datetime.fromisoformat(str(line.facts["at"])) >= at for line in said):
        return
    word = transitions.SaidSeverity(
        level=graded.level,
        by=person.id,
        how=f"set on the issue in GitLab as {graded.username}",
        policy=settings.policy_said(incident, graded.level),
        at=at,
    )
    tx.incidents.apply(incident, transitions.set_severity(incident, word, settings.duty(incident, tx.now)))
