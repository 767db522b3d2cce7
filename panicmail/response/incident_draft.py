"""The issue of an incident as it would be opened now."""

from __future__ import annotations

from dataclasses import replace

from panicmail.gitlab import description as drafts
from panicmail.gitlab.issue_severity import FIELD, label_for
from panicmail.incident import sender_proof, transitions
from panicmail.incident.model import Incident
from panicmail.mail.incident_report import flags_of, labels_of, remarks_of, report_of
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import sender_demands
from panicmail.store.transaction import Transaction


def draft_of(tx: Transaction, settings: RuntimeSettings, incident: Incident) -> drafts.IssueDraft:
    """Everything the description says, from the store and the settings."""
    mail = tx.mails.get(incident.mail_id)
    first = min(incident.paged.items(), key=lambda item: item[1].round, default=None)
    lines = tx.timeline.of_incident(incident.id)
    severity = label_for(settings.severity_label, incident.severity)
    draft = drafts.draft(
        incident,
        report_of(tx, incident),
        drafts.ReceivedFacts(
            mail_from=mail.mail_from if mail else "",
            peer=mail.peer if mail else "",
            tls=mail.tls if mail else "",
            size=mail.size if mail else 0,
            recipients=mail.recipients if mail else (),
            sender=sender_proof.in_words(sender_demands.proof_of(settings, mail)),
            flags=flags_of(lines),
            remarks=remarks_of((line for line in lines if line.event != transitions.SEVERITY_RAISED), settings.scope),
        ),
        assignee=settings.people.get(first[0]) if first else None,
        labels=tuple(dict.fromkeys([*settings.labels, *labels_of(lines), *([severity] if severity else [])])),
    )
    return replace(draft, severity=FIELD.get(incident.severity or 0, "") if settings.severity_field else "")
