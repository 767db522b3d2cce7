"""What the report of an incident says, as it was read last."""

from __future__ import annotations

from collections.abc import Iterable

from panicmail.incident.classify import Report
from panicmail.incident.model import Incident
from panicmail.mail.parse import report_json
from panicmail.store.rows import TimelineRow
from panicmail.store.transaction import Transaction


def report_of(tx: Transaction, incident: Incident) -> Report:
    """The panic as it was read."""
    mail = tx.mails.get(incident.mail_id)
    return report_json.from_json(mail.report) if mail and mail.report else Report(subject=incident.subject)


def is_first_of(lines: Iterable[TimelineRow]) -> bool:
    """Whether the panic was the first from its address."""
    return any(line.event == "incident.opened" and line.facts.get("is_first") for line in lines)


def flags_of(lines: Iterable[TimelineRow]) -> tuple[str, ...]:
    """What is odd about the panic, by its latest reading; and by which ways it came again."""
    flags: tuple[str, ...] = ()
    ways: dict[str, None] = {}
    for line in lines:
        if line.event in {"incident.opened", "report.amended"}:
            flags = tuple(line.facts.get("flags", ()))
        elif line.event == "mail.resent" and line.facts.get("way"):
            ways[line.facts["way"]] = None
    return (*flags, *(f"came again by {way}" for way in ways))
