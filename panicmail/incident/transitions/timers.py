"""A panic arrives, and time passes: the breach, the due step, what a holder owes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.business_hours import BusinessHours
from panicmail.incident.escalation_policy import DAYTIME, EscalationPolicy, OnCallAt
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.escalate import take_due_step
from panicmail.incident.transitions.silent_holder import pass_silence


def open_panic(
    incident: Incident,
    policy: EscalationPolicy,
    who: OnCallAt,
    now: datetime,
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
    first = _first_step(incident, policy, who, now)
    incident = first.incident
    if incident.once:
        incident = replace(
            incident,
            state=State.RESOLVED,
            next_step_at=None,
            resolved_at=now,
            resolved_by="panicmail (paged once, no escalation)",
        )
    effects = [Effect(do=EffectKind.ISSUE, key="issue"), Effect(do=EffectKind.FILES, key="files")]
    if receipt and not incident.once:
        effects.append(Effect(do=EffectKind.RECEIPT, key="receipt"))
    return Change(incident=incident, effects=first.effects + tuple(effects), entries=(opened, *first.entries))


def _first_step(incident: Incident, policy: EscalationPolicy, who: OnCallAt, now: datetime) -> Change:
    if incident.once:  # the first step alone, however late it is
        return take_due_step(incident, replace(policy, steps=policy.steps[:1]), who, now)
    begins_at = incident.next_step_at
    if begins_at is None or begins_at <= now:
        return take_due_step(incident, policy, who, now)
    facts = {"policy": policy.name, "until": begins_at.isoformat()}
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


def is_due(incident: Incident, now: datetime) -> bool:
    """Whether `pass_time` would do anything; an instant that equals `now` has passed."""
    if incident.state is State.OPEN:
        return _is_breaching(incident, now) or (incident.next_step_at is not None and incident.next_step_at <= now)
    if incident.state is State.ACKED:
        return incident.remind_at is not None and incident.remind_at <= now
    return False


def pass_time(
    incident: Incident, policy: EscalationPolicy, who: OnCallAt, now: datetime, daytime: BusinessHours = DAYTIME
) -> Change:
    """Everything that `now` makes due: the breach, the step, the reminder, the turn of others.

    Args:
        daytime: Of the holder: when mail comes that can wait.
    """
    change = unchanged(incident, Outcome.DONE)
    if _is_breaching(change.incident, now):
        change = change.then(_breach(change.incident, policy, who, now))
    if change.incident.state is State.OPEN and change.incident.next_step_at and change.incident.next_step_at <= now:
        change = change.then(take_due_step(change.incident, policy, who, now))
    if change.incident.state is State.ACKED:
        change = change.then(pass_silence(change.incident, policy, who, now, daytime))
    return change


def _is_breaching(incident: Incident, now: datetime) -> bool:
    # Acknowledged when the SLA passed and opened again later is not a breach: it was answered in time.
    return incident.state is State.OPEN and incident.breached_at is None and incident.opened_at < incident.sla_at <= now


def _breach(incident: Incident, policy: EscalationPolicy, who: OnCallAt, now: datetime) -> Change:
    incident = replace(incident, breached_at=now)
    news = Effect(
        do=EffectKind.NEWS, key=f"news/{incident.version}/breached", facts={"what": "breached", "at": now.isoformat()}
    )
    entry = Entry(event="sla.breached", actor="panicmail", facts={"sla_at": incident.sla_at.isoformat()})
    return Change(incident=incident, effects=(news,), entries=(entry,))
