"""How grave an incident is: what our people say of it, and what a report's words raise.

What one of our people says stands: it may call people later, and no word of a report changes it any more. A report's
words only ever raise: a worse severity, a faster policy, more people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import Duty, EscalationPolicy
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.page_step import call_besides, reachable
from panicmail.incident.transitions.resolve import concerned

#: The lines of the timeline that say it: one of ours said so, or a report's words raised it.
SEVERITY_SET, SEVERITY_RAISED = "severity.set", "severity.raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidSeverity:
    """One of our people says how grave it is."""

    level: int  #: 1, the worst, to 4
    by: str
    how: str  #: how that was verified, in words
    policy: EscalationPolicy  #: the one for it
    at: datetime  #: when they said it


@dataclass(frozen=True, slots=True, kw_only=True)
class RaisedByWords:
    """What the words of a report, or of more in its thread, ask for."""

    severity: int | None
    policy: EscalationPolicy  #: nothing of it is slower than the one it follows
    people: Mapping[str, str]  #: person -> role: called beside the steps
    mail_id: str
    facts: Mapping[str, Any]  #: what was found in it, for the timeline
    labels: tuple[str, ...] = ()  #: new ones for the issue


def set_severity(incident: Incident, said: SaidSeverity, duty: Duty) -> Change:
    """One of our people says how grave it is, and it follows the policy for that from now on, be it slower."""
    if incident.severity == said.level and incident.severity_by and incident.policy == said.policy.name:
        return unchanged(incident, Outcome.ALREADY)
    after = follow(replace(incident, severity=said.level, severity_by=said.by), said.policy, duty, may_slow=True)
    at = said.at.isoformat()
    facts = {"severity": said.level, "before": incident.severity, "by": said.by, "how": said.how, "at": at,
             **_changed_policy(incident, after)}  # fmt: skip
    written = Effect(do=EffectKind.SEVERITY, key=f"severity/{incident.version}", facts=facts)
    told = _told(after, f"{incident.version}", facts, besides=said.by)
    return Change(
        incident=after, effects=(written, *told), entries=(Entry(event=SEVERITY_SET, actor=said.by, facts=facts),)
    )


def raise_severity(incident: Incident, raised: RaisedByWords, duty: Duty) -> Change:
    """A report's words raise it; whoever has it, or those paged, are told. What one of ours said stays."""
    if incident.state is State.RESOLVED or incident.drill:
        return unchanged(incident, Outcome.NOTED)
    after = incident
    if not incident.severity_by:
        worst = min(filter(None, (incident.severity, raised.severity)), default=None)
        after = follow(replace(incident, severity=worst), raised.policy, duty, may_slow=False)
    calls = call_besides(after, reachable(raised.people, after.away), duty.now)
    if after == incident and not calls.effects and not raised.labels:
        return unchanged(incident, Outcome.NOTED)
    facts = {**raised.facts, "severity": after.severity, "before": incident.severity, "labels": list(raised.labels),
             "mail": raised.mail_id, "at": duty.now.isoformat(), **_changed_policy(incident, after)}  # fmt: skip
    effects: tuple[Effect, ...] = ()
    if after.severity != incident.severity or raised.labels:
        effects = (Effect(do=EffectKind.SEVERITY, key=f"severity/{raised.mail_id}", facts=facts),)
    if after != incident:
        effects += _told(after, raised.mail_id, facts)
    entry = Entry(event=SEVERITY_RAISED, actor="panicmail", facts=facts)
    return Change(incident=after, effects=effects, entries=(entry,)).then(calls)


def follow(incident: Incident, policy: EscalationPolicy, duty: Duty, *, may_slow: bool) -> Incident:
    """The incident on another policy, whose times count from where its own did.

    What of that is due by now and calls somebody who was not paged yet is taken at once. An SLA that passed already is
    not moved, and a shorter one counts from now.
    """
    if policy.name == incident.policy or incident.once or incident.drill:
        return incident
    was_next, incident = incident.next_step_at, replace(incident, policy=policy.name)
    if incident.state is not State.OPEN or was_next is None:
        return incident
    taken = policy.overdue(incident.steps_from_at, -1, duty.now).stop - 1
    due = policy.people(tuple(role for step in policy.steps[: taken + 1] for role in step.page), duty.who)
    if reachable(due, {*incident.away, *incident.paged}):
        taken, next_at = -1, duty.now
    elif taken < 0:
        next_at = policy.step_at(incident.steps_from_at, 0)
    else:
        next_at = policy.after_step(incident.steps_from_at, taken, duty.now)
    incident = replace(incident, step=taken, next_step_at=next_at if may_slow else min(next_at, was_next))
    return _promised(incident, policy, duty.now) if may_slow else incident


def _promised(incident: Incident, policy: EscalationPolicy, now: datetime) -> Incident:
    """With the SLA of `policy`; what the figures count moves with it unless it was promised anew before."""
    if incident.breached_at is not None:
        return incident
    asked = policy.sla_at(incident.opened_at)
    sla = asked if asked > incident.sla_at else max(asked, min(incident.sla_at, policy.sla_at(now)))
    first = sla if incident.first_sla_at == incident.sla_at else incident.first_sla_at
    return replace(incident, sla_at=sla, first_sla_at=first)


def _changed_policy(before: Incident, after: Incident) -> dict[str, str]:
    return {"policy": after.policy} if after.policy != before.policy else {}


def _told(incident: Incident, name: str, facts: Mapping[str, Any], besides: str = "") -> tuple[Effect, ...]:
    told = {"what": "severity", **facts}
    return tuple(
        Effect(do=EffectKind.TELL, key=f"tell/severity/{name}/{person}", person=person, facts=told)
        for person in concerned(incident)
        if person != besides
    )
