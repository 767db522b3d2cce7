"""The same mail again, by the same way or another."""

from __future__ import annotations

import hashlib
from typing import Any

from panicmail.incident import classify
from panicmail.incident.classify import MailPurpose, Report
from panicmail.incident.escalation_policy import ANSWER_WITHIN
from panicmail.incident.model import EffectKind, Entry, Incident, State
from panicmail.intake.thread_mail import Filing
from panicmail.mail.parse import report_json
from panicmail.mail.parse.normalize import HEADER_OCTETS
from panicmail.response.mail_replies import written
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


# -- What makes two mails the same: a digest of the envelope and the octets, without what changes on the way.

#: Header fields that differ between two deliveries of the same mail; and the beginning of the names of more.
_TRACE = frozenset(
    (b"received", b"return-path", b"delivered-to", b"x-original-to", b"x-received", b"received-spf",
     b"authentication-results")
)  # fmt: skip
_ARC, _ARC_NAME = b"arc-", frozenset(b"abcdefghijklmnopqrstuvwxyz-")


def digest_of(mail: AcceptedMail, raw: bytes) -> str:
    """What makes two mails the same: sender, sorted recipients, and the octets without trace headers.

    Of a header without end only the beginning is looked through; the rest counts as it stands. What takes time is done
    without the interpreter's lock.
    """
    envelope = "\0".join([mail.mail_from.lower(), *sorted(r.lower() for r in mail.recipients)])
    digest = hashlib.sha256(envelope.encode("utf-8", "surrogateescape"))
    end = _header_end(raw)
    digest.update(_without_trace(raw[:end]))
    with memoryview(raw) as octets:
        digest.update(octets[end:])
    return digest.hexdigest()


def _header_end(raw: bytes) -> int:
    """Where the empty line after the header begins, or the last line of the header we look at."""
    begins = [at for empty in (b"\n\n", b"\n\r\n") if (at := raw.find(empty, 0, HEADER_OCTETS)) >= 0]
    if begins:
        at = min(begins)
        return at - 1 if raw[at - 1 : at] == b"\r" else at
    return len(raw) if len(raw) <= HEADER_OCTETS else raw.rfind(b"\n", 0, HEADER_OCTETS) + 1


def _without_trace(head: bytes) -> bytes:
    kept: list[bytes] = []
    traces = False
    for line in head.split(b"\n"):
        if line[:1] not in (b" ", b"\t"):
            traces = _is_trace(line)
        if not traces:
            kept.append(line)
    return b"\n".join(kept).rstrip(b"\r\n")


def _is_trace(line: bytes) -> bool:
    """Whether a header field begins here that each mail server on the way adds."""
    name, colon, _ = line.partition(b":")
    name = name.lower()
    is_arc = name.startswith(_ARC) and name != _ARC and _ARC_NAME.issuperset(name)
    return bool(colon) and (name in _TRACE or is_arc)
