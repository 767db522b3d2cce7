"""A flood of one mailbox: its storm begins, grows, and is taken apart. What a storm is: `incident.storm_rules`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from panicmail.errors import Mistake
from panicmail.incident import storm_rules, transitions
from panicmail.incident.classify import Classification, MailPurpose, Report
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident
from panicmail.incident.sender_proof import ProofState
from panicmail.incident.storm_rules import STORM_BEGAN, Storm
from panicmail.intake import drills, mail_triage
from panicmail.intake.thread_mail import Filing
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.sender_demands import proof_of
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction

#: A storm's own panics are receipted as any; its members only where their sender had none for so long.
_RECEIPTS_BEFORE = timedelta(hours=1)


def decide(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> Classification:
    """What a mail is when floods are looked at: as `verdict` says, or one more of a storm, or its beginning.

    Holds the mailbox until the end of the transaction, so that two of its mails understood at once meet.
    """
    limits, is_apart = settings.storm, mail.mailbox == ""
    if verdict.shape is not MailPurpose.PANIC or verdict.looping or is_apart or not limits.members:
        return verdict
    mailbox = storm_rules.storm_mailbox(report.from_address, mail.peer, report.received_from, settings.trusted_relays)
    if report.from_address and proof_of(settings, mail).state is ProofState.PROVED:
        mailbox = f"{report.from_address} proved"  # whoever takes that address in vain has another mailbox
    if not mailbox or drills.is_drill(tx, mail, report):
        return verdict
    # What is paged once for want of a person must not swallow a panic of the same mailbox.
    mailbox = f"{mailbox} once" if verdict.once else mailbox
    verdict = replace(verdict, mailbox=mailbox)
    tx.mails.lock(mailbox)
    storm = tx.storms.latest_of(mailbox, mail.accepted_at - limits.within)
    incident = tx.incidents.get(storm.incident_id) if storm else None
    if storm and incident and storm_rules.takes_in(storm, incident, mail.accepted_at, limits):
        return replace(verdict, shape=MailPurpose.MEMBER, incident_id=incident.id)
    if storm and incident and storm.split_at and storm_rules.is_near(storm, incident, mail.accepted_at, limits):
        tx.storms.keep(replace(storm, last_at=max(storm.last_at, mail.accepted_at)))
        return replace(verdict, mailbox="")  # somebody said that these are no flood
    began, ends = mail.accepted_at - limits.within, mail.accepted_at + limits.within
    known = tx.storms.mails_of(mailbox, began, ends, limits.members)
    if len(known) < limits.members:
        return verdict
    first = dict.fromkeys(incident_id for incident_id, shape in known if shape == MailPurpose.PANIC)
    flag = (
        f"a storm: mail {len(known) + 1} of this sender within {_span(limits.within)}. "
        '"ack" takes those before it too; those after it join it, and page nobody'
    )
    return replace(verdict, storm_of=tuple(first), flags=(flag, *verdict.flags))


def _span(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    return f"{minutes} min" if minutes and not seconds else f"{round(span.total_seconds())} s"


def begin(filing: Filing, incident: Incident) -> None:
    """The incident is a storm from now on."""
    tx, mail, report, verdict = filing.tx, filing.mail, filing.report, filing.verdict
    storm = Storm(
        incident_id=incident.id, mailbox=verdict.mailbox, first=verdict.storm_of or (), last_at=mail.accepted_at
    )
    tx.storms.add(storm)
    first = [one for each in storm.first if (one := tx.incidents.get(each))]
    reports = [known.report for one in first if (known := tx.mails.get(one.mail_id)) and known.report]
    for each in (report, *map(report_json.from_json, reports)):
        tx.storms.add_kind(incident.id, storm_rules.likeness(each.subject, each.text), mail.id, told=True)
    facts = {"sender": report.from_address, "first": [one.ref for one in first]}
    tx.timeline.add(incident, Entry(event=STORM_BEGAN, actor="panicmail", facts=facts))
    tx.log("storm.began", ref=incident.ref, incident=incident.id, first=len(first))


def join(filing: Filing) -> str:
    """One more: it is kept and counted, and told later (`escalation.storm_news`)."""
    tx, mail, report, incident = filing.tx, filing.mail, filing.report, filing.incident
    storm = tx.storms.locked(incident.id)
    if storm is None:
        raise LookupError(f"{incident.id} is no storm")
    is_unlike = tx.storms.add_kind(incident.id, storm_rules.likeness(report.subject, report.text), mail.id, told=False)
    storm = storm_rules.joined(
        storm, mail.accepted_at, tx.now, is_unlike=is_unlike, is_heard=bool(storm_rules.hears(incident))
    )
    if _may_have_receipt(filing, storm):
        storm = replace(storm, receipt_at=tx.now)
        receipt = Effect(do=EffectKind.RECEIPT, key=f"receipt/{mail.id}", facts=_named(mail, report))
        tx.incidents.apply(incident, Change(incident=incident, effects=(receipt,)))
    tx.storms.keep(storm)
    now = tx.incidents.get(incident.id) or incident
    raised = replace(mail_triage.raised_by(tx, filing.settings, mail, report, now), people={})  # they page nobody
    tx.incidents.apply(now, transitions.raise_severity(now, raised, filing.settings.duty(now, tx.now)))
    return incident.id


def _may_have_receipt(filing: Filing, storm: Storm) -> bool:
    tx, settings, mail, report = filing.tx, filing.settings, filing.mail, filing.report
    if not mail.mail_from or not settings.may_answer(report):
        return False
    if not settings.could_have_receipt(report.from_address, proof_of(settings, mail)):
        return False
    is_due = storm_rules.may_have_receipt(storm, tx.now)
    return is_due and not tx.search.incidents_since(report.from_address, tx.now - _RECEIPTS_BEFORE)


def _named(mail: AcceptedMail, report: Report) -> dict[str, str | None]:
    """Which mail a receipt is for."""
    return {"mail": mail.id, "message_id": report.message_id, "at": mail.accepted_at.isoformat()}


def split(tx: Transaction, incident: Incident, by: str) -> int:
    """Take a storm apart: each mail that joined it is an incident of its own, and pages. How many there are.

    Raises:
        Mistake: It is no storm, or was taken apart before.
    """
    storm = tx.storms.locked(incident.id)
    if storm is None:
        raise Mistake(f"{incident.ref} is no storm, so there is nothing to take apart")
    if storm.split_at is not None:
        raise Mistake(f"{incident.ref} was taken apart before, at {storm.split_at:%Y-%m-%d %H:%M:%S} UTC")
    count = tx.storms.release(incident.id)
    tx.storms.keep(replace(storm, split_at=tx.now, tell_at=None))
    tx.timeline.add(incident, Entry(event="storm.split", actor=by, facts={"mails": count}))
    tx.log("storm.split", ref=incident.ref, incident=incident.id, mails=count)
    return count
