"""The issue of an incident as it would be opened now."""

from __future__ import annotations

from panicmail.gitlab import description as drafts
from panicmail.incident import sender_proof
from panicmail.incident.model import Incident
from panicmail.mail.incident_report import flags_of, report_of
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import sender_demands
from panicmail.store.transaction import Transaction


def draft_of(tx: Transaction, settings: RuntimeSettings, incident: Incident) -> drafts.IssueDraft:
    """Everything the description says, from the store and the settings."""
    mail = tx.mails.get(incident.mail_id)
    first = min(incident.paged.items(), key=lambda item: item[1].round, default=None)
    return drafts.draft(
        incident,
        report_of(tx, incident),
        drafts.ReceivedFacts(
            mail_from=mail.mail_from if mail else "",
            peer=mail.peer if mail else "",
            tls=mail.tls if mail else "",
            size=mail.size if mail else 0,
            recipients=mail.recipients if mail else (),
            sender=sender_proof.in_words(sender_demands.proof_of(settings, mail)),
            flags=flags_of(tx.timeline.of_incident(incident.id)),
        ),
        assignee=settings.people.get(first[0]) if first else None,
        labels=settings.labels,
    )
