"""A panic arrives, and time passes: the breach, the due step, what a holder owes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import DAYTIME, BusinessHours, Duty, EscalationPolicy
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.escalate import take_due_step
from panicmail.incident.transitions.silent_holder import pass_silence


def open_panic(
    incident: Incident,
    duty: Duty,
    *,
    receipt: bool,
    entry_facts: Mapping[str, Any],
) -> Change:
    """A new incident takes its first step: page, open issue, receipt.

    `incident` comes from `new`; what was due between acceptance and `now` (an outage) collapses into this step. On a
    policy whose hours begin later, issue and receipt are all there is until then: nobody is woken.
    """
    opened = Entry(
        event="incident.opened", actor=incident.reporter_address or "reporter", facts=dict(entry_facts), note=False
    )
    first = _first_step(incident, duty)
    incident = first.incident
    if incident.once:
        incident = replace(
            incident,
            state=State.RESOLVED,
            next_step_at=None,
            resolved_at=duty.now,
            resolved_by="panicmail (paged once, no escalation)",
        )
    effects = [Effect(do=EffectKind.ISSUE, key="issue"), Effect(do=EffectKind.FILES, key="files")]
    if receipt and not incident.once:
        effects.append(Effect(do=EffectKind.RECEIPT, key="receipt"))
    change = Change(incident=incident, effects=first.effects + tuple(effects), entries=(opened, *first.entries))
    breach_at = _breach_at(incident)
    if breach_at is None or breach_at > duty.now:
        return change
    # Opened after an outage: a yes may come before time is looked at again, and it is late all the same.
    return replace(change.then(_breach(incident, duty)), outcome=change.outcome)


def _first_step(incident: Incident, duty: Duty) -> Change:
    if incident.once:  # the first step alone, however late it is
        return take_due_step(incident, Duty(replace(duty.policy, steps=duty.policy.steps[:1]), duty.who, duty.now))
    begins_at = incident.next_step_at
    if begins_at is None or begins_at <= duty.now:
        return take_due_step(incident, duty)
    facts = {"policy": duty.policy.name, "until": begins_at.isoformat()}
    return unchanged(incident, Outcome.DONE, Entry(event="policy.waits", actor="panicmail", facts=facts))


def new(
    *,
    id: str,  # noqa: A002 - the column's name
    ref: str,
    mail_id: str,
    accepted_at: datetime,
    policy: EscalationPolicy,
    **about: Any,
) -> Incident:
    """An incident that has not taken its first step yet. Its times count from the acceptance of the mail."""
    return Incident(
        id=id,
        ref=ref,
        mail_id=mail_id,
        state=State.OPEN,
        accepted_at=accepted_at,
        sla_at=policy.sla_at(accepted_at),
        first_sla_at=policy.sla_at(accepted_at),
        opened_at=accepted_at,
        steps_from_at=accepted_at,
        policy=policy.name,
        step=-1,
        next_step_at=policy.step_at(accepted_at, 0),
        **about,
    )


def due_at(incident: Incident) -> datetime | None:
    """When time next brings something to an incident: a step, its breach, a reminder; None: it is resolved."""
    if incident.state is State.OPEN:
        return min(filter(None, (incident.next_step_at, _breach_at(incident))), default=None)
    return incident.remind_at if incident.state is State.ACKED else None


def is_due(incident: Incident, now: datetime) -> bool:
    """Whether `pass_time` would do anything; an instant that equals `now` has passed."""
    at = due_at(incident)
    return at is not None and at <= now


def pass_time(incident: Incident, duty: Duty, daytime: BusinessHours = DAYTIME) -> Change:
    """Everything that `now` makes due: the breach, the step, the reminder, the turn of others.

    Args:
        daytime: Of the holder: when mail comes that can wait.
    """
    change = unchanged(incident, Outcome.DONE)
    breach_at = _breach_at(change.incident)
    if breach_at is not None and breach_at <= duty.now:
        change = change.then(_breach(change.incident, duty))
    if (
        change.incident.state is State.OPEN
        and change.incident.next_step_at
        and change.incident.next_step_at <= duty.now
    ):
        change = change.then(take_due_step(change.incident, duty))
    if change.incident.state is State.ACKED:
        change = change.then(pass_silence(change.incident, duty, daytime))
    return change


def _breach_at(incident: Incident) -> datetime | None:
    """When the SLA of an open incident passes; None when that has happened, or cannot any more."""
    # Acknowledged when the SLA passed and opened again later is not a breach: it was answered in time.
    is_to_come = incident.breached_at is None and incident.opened_at < incident.sla_at
    return incident.sla_at if is_to_come and incident.state is State.OPEN else None


def _breach(incident: Incident, duty: Duty) -> Change:
    incident = replace(incident, breached_at=duty.now)
    news = Effect(
        do=EffectKind.NEWS,
        key=f"news/{incident.version}/breached",
        facts={"what": "breached", "at": duty.now.isoformat()},
    )
    entry = Entry(event="sla.breached", actor="panicmail", facts={"sla_at": incident.sla_at.isoformat()})
    return Change(incident=incident, effects=(news,), entries=(entry,))
