"""What the report of an incident says, as it was read last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from panicmail.incident.classify import Report
from panicmail.incident.model import Incident
from panicmail.incident.transitions import SEVERITY_RAISED
from panicmail.mail.parse import report_json
from panicmail.store.rows import TimelineRow
from panicmail.store.transaction import Transaction

#: Lines of the timeline: the reporter's mailbox may not be theirs any more, and: it is.
QUIETED, UNQUIETED = "reporter.quieted", "reporter.unquieted"


def report_of(tx: Transaction, incident: Incident) -> Report:
    """The panic as it was read."""
    mail = tx.mails.get(incident.mail_id)
    return report_json.from_json(mail.report) if mail and mail.report else Report(subject=incident.subject)


def is_first_of(lines: Iterable[TimelineRow]) -> bool:
    """Whether the panic was the first from its address."""
    return any(line.event == "incident.opened" and line.facts.get("is_first") for line in lines)


def labels_of(lines: Iterable[TimelineRow]) -> tuple[str, ...]:
    """The labels that rules of `[[triage]]` gave the issue."""
    return tuple(dict.fromkeys(label for line in lines for label in _found(line).get("labels", ())))


def _found(line: TimelineRow) -> Mapping[str, Any]:
    """What rules and words found in a report, or in more of its thread."""
    found = line.facts.get("triage") if line.event in {"incident.opened", "report.amended"} else line.facts
    return found or {} if line.event in {"incident.opened", "report.amended", SEVERITY_RAISED} else {}


def remarks_of(lines: Iterable[TimelineRow], scope: Mapping[str, str]) -> tuple[str, ...]:
    """Where what was reported belongs, by the words of `scope`, and that the reporter acted on a phish."""
    kinds: dict[str, str] = {}
    is_engaged = False
    for line in lines:
        found = _found(line)
        is_engaged = is_engaged or bool(found.get("engaged"))
        kinds |= {found["kind"]: scope.get(found["kind"], "")} if found.get("kind") else {}
    if is_engaged:
        kinds.pop("phishing", None)
    acted = "They say they acted on it: clicked, replied, entered something or paid."
    return (*filter(None, kinds.values()), *([acted] if is_engaged else []))


def answers_of(lines: Iterable[TimelineRow]) -> tuple[tuple[int, str, str], ...]:
    """What the reporter answered to the questions of the receipt: number, question, answer; the latest of each."""
    answers: dict[int, tuple[int, str, str]] = {}
    for line in lines:
        if line.event in {"thread.more", "more.amended"}:
            answers |= {int(n): (int(n), str(q), str(a)) for n, q, a in line.facts.get("answers") or ()}
    return tuple(answers[n] for n in sorted(answers))


def write_instead(lines: Iterable[TimelineRow]) -> str | None:
    """Where to write in place of the reporter's mailbox, which is to get no mail of ours for this incident: an address,
    or "" where nobody named one. None: it gets mail as any does."""
    instead = None
    for line in lines:
        if line.event == QUIETED:
            instead = str(line.facts.get("instead") or "")
        elif line.event == UNQUIETED:
            instead = None
    return instead


def flags_of(lines: Iterable[TimelineRow]) -> tuple[str, ...]:
    """What is odd about the panic, by its latest reading; how it came again; whether its mailbox is theirs."""
    lines = tuple(lines)
    instead = write_instead(lines)
    flags: tuple[str, ...] = ()
    ways: dict[str, None] = {}
    for line in lines:
        if line.event in {"incident.opened", "report.amended"}:
            flags = tuple(line.facts.get("flags", ()))
        elif line.event == "mail.resent" and line.facts.get("way"):
            ways[line.facts["way"]] = None
    where = f": write to {instead} instead" if instead else ""
    quiet = [] if instead is None else [f"no mail to the reporter's address{where}"]
    return (*quiet, *flags, *(f"came again by {way}" for way in ways))
