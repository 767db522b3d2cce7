"""A panic opens an incident."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from panicmail.incident import ids, transitions
from panicmail.incident.classify import Report
from panicmail.incident.escalation_policy import Duty, EscalationPolicy
from panicmail.incident.model import Effect, EffectKind
from panicmail.incident.triage import TriageFinding
from panicmail.intake import drills, mail_triage, storm_members
from panicmail.intake.filing import Filing
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.sender_demands import proof_of
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

#: One address gets at most this many receipts an hour: an answering machine must not keep us in conversation.
RECEIPTS_AN_HOUR = 5


def open_incident(filing: Filing) -> str:
    tx, settings, mail, report, verdict = filing.tx, filing.settings, filing.mail, filing.report, filing.verdict
    linked = tx.incidents.get(verdict.linked_to) if verdict.linked_to else None
    found = mail_triage.found_in(settings, mail, report)
    severity = mail_triage.worst(report, found)
    drill = drills.is_drill(tx, mail, report)
    policy, besides = _policy(filing, severity, found, drill=drill)
    incident = transitions.new(
        id=ids.incident_id(mail.id),
        ref=tx.incidents.free_ref(mail.id),
        mail_id=mail.id,
        accepted_at=mail.accepted_at,
        policy=policy,
        severity=severity,
        subject=report.subject,
        reporter_address=report.from_address,
        reporter_name=report.from_name,
        message_id=report.message_id,
        mailbox=verdict.mailbox,
        once=verdict.once,
        drill=drill,
        linked_to=linked.ref if linked else None,
    )
    change = transitions.open_panic(
        incident,
        Duty(policy, settings.who_at(tx.now), tx.now),
        receipt=may_have_receipt(tx, settings, mail, report),
        entry_facts=_facts(filing, found),
    )
    change = change.then(transitions.call_besides(change.incident, besides, tx.now))
    change = replace(change, effects=(*change.effects, *_graded(severity)))
    if verdict.looping:
        change = replace(change, effects=tuple(effect for effect in change.effects if effect.do is not EffectKind.PAGE))
        tx.queue.tell_operators("mail_loop", {"ref": incident.ref, "sender": report.from_address})
    opened = tx.incidents.add(change)
    if verdict.storm_of is not None:
        storm_members.begin(filing, opened)
    return opened.id


def _graded(severity: int | None) -> tuple[Effect, ...]:
    """The issue is made with its severity; a GitLab that passed over that is told again."""
    effect = Effect(do=EffectKind.SEVERITY, key="severity/opened", facts={"severity": severity})
    return (effect,) if severity is not None else ()


def _facts(filing: Filing, found: TriageFinding) -> dict[str, Any]:
    tx, report, verdict = filing.tx, filing.report, filing.verdict
    is_first = bool(report.from_address) and not tx.search.has_incident_from(report.from_address)
    facts = {"subject": report.subject, "kind": report.kind.value, "flags": list(verdict.flags), "is_first": is_first}
    return {**facts, "triage": triage} if (triage := mail_triage.facts_of(found)) else facts


def _policy(
    filing: Filing, severity: int | None, found: TriageFinding, *, drill: bool
) -> tuple[EscalationPolicy, dict[str, str]]:
    """The policy the panic follows, and who is called beside its first step, person -> role."""
    tx, settings, recipients = filing.tx, filing.settings, filing.mail.recipients
    if drill:
        return settings.policy_for(severity, filing.report.subject, recipients, drill=True), {}
    called = mail_triage.people_of(tx, settings, found.page)
    if filing.verdict.storm_of is not None:  # whatever the one mail says of itself
        return settings.policy, called
    policy = settings.policy_for(severity, filing.report.subject, recipients, drill=False)
    policy = settings.fastest(policy, found.policies)
    besides = policy.besides(settings.addressed_policy(recipients))
    return policy, {**policy.people(besides, settings.who_at(tx.now)), **called}


def may_have_receipt(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> bool:
    """Never to a null sender, a machine, a list, or outside `[receipts]`; and a few an hour to one address. Whether one
    goes to a sender that is not checked yet is decided when it is sent."""
    proof = proof_of(settings, mail)
    if not mail.mail_from or not settings.may_answer(report):
        return False
    if not settings.could_have_receipt(report.from_address, proof):
        return False
    return tx.search.incidents_since(report.from_address, tx.now - timedelta(hours=1)) < RECEIPTS_AN_HOUR
