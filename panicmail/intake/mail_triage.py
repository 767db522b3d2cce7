"""What the words of a mail raise: found by rules and data (`incident.triage`), carried out on its incident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from panicmail.incident import classify, transitions
from panicmail.incident.classify import Report
from panicmail.incident.model import Incident
from panicmail.incident.transitions import RaisedByWords
from panicmail.incident.triage import MailWords, TriageFinding, find
from panicmail.mail.incident_report import answers_of, labels_of
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction


def found_in(
    settings: RuntimeSettings, mail: AcceptedMail, report: Report, answers: Mapping[int, str] | None = None
) -> TriageFinding:
    """What rules and words find in a mail. What could not be read of it is not looked at before it is read again."""
    topics = (recipient.lower().rpartition("@")[0].partition("+")[2] for recipient in mail.recipients)
    said = MailWords(
        subject=report.subject,
        text=report.text,
        newly=report.reply_text,
        sender=report.from_address,
        topics=frozenset(filter(None, topics)),
        answers=answers or {},
    )
    return find(settings.rules, said, settings.engaged_severity)


def worst(report: Report, found: TriageFinding) -> int | None:
    """The worst severity that the reporter or a rule names."""
    return min(filter(None, (classify.severity_named(report), found.severity)), default=None)


def facts_of(found: TriageFinding) -> dict[str, Any]:
    """For the timeline; {} where nothing was found."""
    facts = {
        "rules": list(found.rules),
        "labels": list(found.labels),
        "kind": found.kind.value if found.kind else "",
        "engaged": found.is_engaged,
    }
    return facts if any(facts.values()) else {}


def people_of(tx: Transaction, settings: RuntimeSettings, named: Sequence[str]) -> dict[str, str]:
    """Whom rules call, person -> role; "" of whoever they name by themselves."""
    who = settings.who_at(tx.now)
    people: dict[str, str] = {}
    for name in named:
        for person, role in {name: ""}.items() if name in settings.people else ((p, name) for p in who(name)):
            people.setdefault(person, role)
    return people


def raise_incident(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident
) -> Incident:
    """What more in the thread of an incident raises of it, or its report read again."""
    incident = tx.incidents.get(incident.id) or incident  # with the version it has by now
    raised = raised_by(tx, settings, mail, report, incident)
    return tx.incidents.apply(incident, transitions.raise_severity(incident, raised, settings.duty(incident, tx.now)))


def raised_by(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident
) -> RaisedByWords:
    """What a mail that belongs to an incident asks for."""
    lines = tx.timeline.of_incident(incident.id)
    answers = {number: answer for number, _question, answer in answers_of(lines)}
    found = found_in(settings, mail, report, answers)
    severity = worst(report, found)
    named = [*found.policies]
    named += [one.name for one in settings.policies.values() if one.choice.is_named(severity, report.subject)]
    return RaisedByWords(
        severity=severity,
        policy=settings.fastest(settings.policy_of(incident), named),
        people=people_of(tx, settings, found.page),
        mail_id=mail.id,
        facts=facts_of(found),
        labels=tuple(label for label in found.labels if label not in labels_of(lines)),
    )
