"""The cast of the tests: Ana is the SEOC, Max the SMOC, Bo another engineer; the policy is the contract's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from panicmail.incident import ids, transitions
from panicmail.incident.escalation_policy import Duty, EscalationPolicy, OnCallAt, PolicyStep
from panicmail.incident.model import Change, Effect, EffectKind, Incident

#: Sunday morning, seven past three in Berlin.
T0 = datetime(2026, 11, 22, 2, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

POLICY = EscalationPolicy(
    sla=15 * MINUTE,
    steps=(
        PolicyStep(0 * MINUTE, ("seoc",)),
        PolicyStep(5 * MINUTE, ("seoc",)),
        PolicyStep(10 * MINUTE, ("seoc",)),
        PolicyStep(15 * MINUTE, ("smoc", "seoc")),
    ),
    repeat=5 * MINUTE,
    remind_after=20 * MINUTE,
)
ROSTER = {"seoc": ("ana",), "smoc": ("max",), "engineers": ("bo", "ana"), "nobody": ()}


def who(role: str) -> tuple[str, ...]:
    return ROSTER.get(role, ())


def opened(
    policy: EscalationPolicy = POLICY,
    *,
    at: datetime = T0,
    who: OnCallAt = who,
    once: bool = False,
    receipt: bool = True,
) -> Change:
    """A panic accepted and understood at `at`."""
    mail_id = ids.new_mail_id()
    incident = transitions.new(
        id=ids.incident_id(mail_id),
        ref=ids.ref(mail_id),
        mail_id=mail_id,
        accepted_at=at,
        policy=policy,
        subject="Ransom note on my laptop",
        reporter_address="rita@example.com",
        reporter_name="Rita Lopez",
        once=once,
    )
    return transitions.open_panic(incident, Duty(policy, who, at), receipt=receipt, entry_facts={})


def paged(change: Change) -> list[str]:
    """Who a change pages, in order."""
    return [effect.person or "" for effect in change.effects if effect.do is EffectKind.PAGE]


def pages(change: Change) -> list[Effect]:
    return [effect for effect in change.effects if effect.do is EffectKind.PAGE]


def told(change: Change, what: str) -> list[str]:
    return [e.person or "" for e in change.effects if e.do is EffectKind.TELL and e.facts["what"] == what]


def news(change: Change) -> list[str]:
    return [effect.facts["what"] for effect in change.effects if effect.do is EffectKind.NEWS]


def events(change: Change) -> list[str]:
    return [entry.event for entry in change.entries]


def until(incident: Incident, at: datetime, policy: EscalationPolicy = POLICY, who: OnCallAt = who) -> Incident:
    """Let time pass to `at`, a tick each second that has something due."""
    now = incident.accepted_at
    while now <= at:
        if transitions.is_due(incident, now):
            incident = transitions.pass_time(incident, Duty(policy, who, now)).incident
        now += SECOND
    return incident
