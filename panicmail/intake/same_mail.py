"""The same mail again, by the same way or another."""

from __future__ import annotations

from typing import Any

from panicmail.incident import classify
from panicmail.incident.classify import MailPurpose, Report
from panicmail.incident.escalation_policy import ANSWER_WITHIN
from panicmail.incident.model import EffectKind, Entry, Incident, State
from panicmail.intake.filing import Filing
from panicmail.mail.parse import report_json
from panicmail.response.mail_words import written
from panicmail.store.rows import AcceptedMail, DeliveryState
from panicmail.store.transaction import Transaction


def join(filing: Filing) -> str:
    """The same mail again. By another way it is told to those whose page is out, and stands on what is sent later; the
    same octets are told to whoever has it since, and else are a server's retry."""
    tx, mail, report, verdict = filing.tx, filing.mail, filing.report, filing.verdict
    incident, first = filing.incident, first_report(filing)
    is_first = first is not None and _is_again(report, first, another_way=verdict.another_way)
    told = _told_again(tx, incident, another_way=verdict.another_way) if is_first else []
    if first is not None and not is_first and not verdict.another_way:
        told = _told_of_more_again(filing, incident)
    facts: dict[str, Any] = {"mail": mail.id}
    if verdict.another_way:
        facts["way"] = "a mailing list" if report.lists else "another way"
        facts["text"] = "" if first is None or report.text == first.text else written(report)
    for person in told:
        about = {"what": "came_again", "way": facts.get("way", ""), "at": tx.now.isoformat(), "more": not is_first}
        tx.queue.tell(incident, person, f"again/{mail.id}", about)
    tx.timeline.add(incident, Entry(event="mail.resent", actor=report.from_address, facts={**facts, "told": told}))
    return incident.id


def brings_files(filing: Filing) -> bool:
    """Whether the same mail by another way holds files that the first one lost on its way."""
    report, verdict = filing.report, filing.verdict
    if not verdict.another_way:
        return False
    first = first_report(filing)
    had = {each.sha256 for each in first.attachments} if first else set()
    return any(each.sha256 not in had for each in report.attachments)


def first_report(filing: Filing) -> Report | None:
    """How the mail that opened the incident was read; None when an older version kept no reading."""
    tx = filing.tx
    first = tx.mails.get(filing.incident.mail_id)
    return report_json.from_json(first.report) if first and first.report else None


def _told_of_more_again(filing: Filing, incident: Incident) -> list[str]:
    """Who is told that more in the thread came again by the same octets: who has it, else those paged. Nobody of what
    came a moment ago to people who know it: that is a server's retry."""
    tx, report = filing.tx, filing.report
    copies = [m for m in tx.mails.of_incident(incident.id) if m.shape == MailPurpose.MORE and _is_read_as(m, report)]
    is_held = incident.state is State.ACKED
    if not copies or _was_told_again(tx, incident):
        return []
    last_at = copies[-1].accepted_at
    is_known = not (is_held and incident.acked_at and last_at < incident.acked_at)
    if is_known and last_at > tx.now - ANSWER_WITHIN:
        return []
    return list(filter(None, [incident.holder])) if is_held else list(incident.paged)


def _is_read_as(mail: AcceptedMail, report: Report) -> bool:
    """Whether a mail of the store was read as one that has the octets of this one is."""
    if not mail.report:
        return False
    kept = report_json.from_json(mail.report)
    return (kept.message_id, kept.from_shown, kept.subject, kept.text) == (
        report.message_id, report.from_shown, report.subject, report.text)  # fmt: skip


def _told_again(tx: Transaction, incident: Incident, *, another_way: bool) -> list[str]:
    """Who is told that the report came again: nobody whose page says so, and nobody twice within `ANSWER_WITHIN`."""
    if _was_told_again(tx, incident):
        return []
    if incident.state is State.ACKED:
        return [incident.holder] if incident.holder else []
    if not another_way:
        return []
    pages = [task for task in tx.outbox.of_incident(incident.id) if task.do == EffectKind.PAGE and task.person]
    return list(dict.fromkeys(page.person for page in pages if page.person and page.state is not DeliveryState.QUEUED))


def _was_told_again(tx: Transaction, incident: Incident) -> bool:
    lately = [line for line in tx.timeline.of_incident(incident.id) if line.at > tx.now - ANSWER_WITHIN]
    return any(line.event == "mail.resent" and line.facts.get("told") for line in lately)


def _is_again(report: Report, first: Report, *, another_way: bool) -> bool:
    if another_way:
        return classify.is_same_by_another_way(report, first)
    return (report.message_id, report.text) == (first.message_id, first.text)
