"""A mail that was read only in part has been read in full: what of it changes the incident.

Only ever upwards: nobody is un-paged, no clock is put back, a severity only rises. An incident that is over keeps what
was read, and nobody hears of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from panicmail.incident.escalation_policy import EscalationPolicy
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.transitions.acknowledge import unclaimed


def amend(
    incident: Incident, entry: Entry, issue: Mapping[str, Any], *, receipt: bool, files: bool, **kept: Any
) -> Change:
    """The report was read in full.

    Args:
        issue: The issue as it was drafted from what was read first.
        receipt: The reporter may have one. One that was sent is not sent again.
        files: There are some to be uploaded.
        kept: What the incident keeps of the report: `subject`, `reporter_address`, `reporter_name`, `message_id`,
            `severity`.
    """
    severity = kept.pop("severity")
    severity = (
        incident.severity if incident.severity_by else min(filter(None, (incident.severity, severity)), default=None)
    )
    incident = replace(incident, severity=severity, **kept)
    effects = [Effect(do=EffectKind.AMEND, key="amend", facts=issue)]
    if files:
        effects.append(Effect(do=EffectKind.FILES, key=f"files/{incident.mail_id}", facts={"mail": incident.mail_id}))
    if receipt and not incident.once and incident.state is not State.RESOLVED:
        effects.append(Effect(do=EffectKind.RECEIPT, key="receipt"))
    return Change(incident=incident, effects=tuple(effects), entries=(entry,))


def give_policy(incident: Incident, policy: EscalationPolicy, now: datetime) -> Change:
    """It looked like no colleague's report and was paged once; it is one: the rest of its policy, from acceptance on.

    One that somebody has taken since stays as it is.
    """
    if not unclaimed(incident) or incident.state is not State.RESOLVED:
        return unchanged(incident, Outcome.ALREADY)
    incident = replace(
        incident,
        state=State.OPEN,
        once=False,
        resolved_at=None,
        resolved_by="",
        next_step_at=policy.after_step(incident.steps_from_at, incident.step, now),
    )
    return Change(incident=incident, entries=(Entry(event="incident.has_policy", actor="panicmail"),))


def amend_more(incident: Incident, entry: Entry, *, mail_id: str, to: Iterable[str]) -> Change:
    """A later mail was read in full: a note, and who was told what could be read of it at first is told the whole."""
    facts = {**entry.facts, "what": "more", "mail": mail_id, "reread": True}
    told = tuple(Effect(do=EffectKind.TELL, key=f"tell/reread/{mail_id}/{p}", person=p, facts=facts) for p in to)
    return Change(incident=incident, effects=told, entries=(entry,), outcome=Outcome.NOTED)
