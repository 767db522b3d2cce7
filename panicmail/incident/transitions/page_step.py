"""Pages as effects: who is paged in a round, with which word, and the line about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import LATE_AFTER
from panicmail.incident.model import (
    Change,
    Effect,
    EffectKind,
    Entry,
    Incident,
    Outcome,
    PagedPerson,
    PageReason,
    State,
    unchanged,
)


def _page(incident: Incident, person: str, role: str, word: PageReason, **facts: Any) -> Effect:
    return Effect(
        do=EffectKind.PAGE,
        key=f"page/{incident.round}/{person}",
        person=person,
        facts={"round": incident.round, "role": role, "word": word.value, **facts},
    )


def page_all(
    incident: Incident, people: Mapping[str, str], now: datetime, word: PageReason | None = None, **facts: Any
) -> tuple[Incident, tuple[Effect, ...]]:
    """Page `people` (person -> role) in a new round. Without `word`, each gets the one that is true for them."""
    incident = replace(incident, round=incident.round + 1)
    effects = []
    paged = dict(incident.paged)
    for person, role in people.items():
        before = paged.get(person)
        own = word or (
            PageReason.STILL_OPEN if before else PageReason.PAGE if incident.step <= 0 else PageReason.YOURS_NOW
        )
        effects.append(_page(incident, person, role, own, **facts))
        paged[person] = (
            replace(before, last_at=now)
            if before
            else PagedPerson(role=role, round=incident.round, at=now, last_at=now)
        )
    return replace(incident, paged=paged), tuple(effects)


def call_besides(incident: Incident, people: Mapping[str, str], now: datetime) -> Change:
    """Page those of `people` (person -> role) who were not paged yet, beside whoever the steps call."""
    new = {person: role for person, role in people.items() if person not in incident.paged}
    if incident.state is not State.OPEN or not new:
        return unchanged(incident, Outcome.DONE)
    incident, pages = page_all(incident, new, now, PageReason.PAGE)
    return Change(incident=incident, effects=pages, entries=(paged_entry(incident, new, incident.step),))


def role_of(incident: Incident, person: str) -> str:
    """What they were paged as; "" when they have it without having been paged."""
    return incident.paged[person].role if person in incident.paged else ""


def reachable(people: Mapping[str, str], away: Iterable[str]) -> dict[str, str]:
    gone = set(away)
    return {person: role for person, role in people.items() if person not in gone}


def lateness(now: datetime, due: datetime) -> dict[str, Any]:
    late = now - due
    return {"late_seconds": int(late.total_seconds())} if late > LATE_AFTER else {}


def paged_entry(incident: Incident, people: Mapping[str, str], step: int, **facts: Any) -> Entry:
    return Entry(
        event="people.paged",
        actor="panicmail",
        facts={"people": dict(people), "step": step + 1, "round": incident.round, **facts},
    )


def nobody_alarm(incident: Incident, step: int) -> Effect:
    return Effect(
        do=EffectKind.OPERATORS,
        key=f"operators/nobody/{incident.round}",
        facts={"cause": "nobody_on_call", "ref": incident.ref, "step": step + 1},
    )
