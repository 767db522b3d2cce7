"""Mails that could not be read the first time, for a reason of ours: they are read again, with more time.

The first reading of a mail ends after two seconds, or at once when no reader is free; then its octets alone must do.
The row of the mail says so (`again_at`), whatever crashes, and two kinds of mails are read again by it:

    answers to our people's addresses   wait: nothing is done with one before it is read, or it is certain that it
                                        cannot be; then its writer is told how to answer
    everything else                     is filed and paged already: a full reading amends incident, issue and link page

Each reading is counted before it begins and has at least as much time as the one before. What the last one leaves
unread is certain not to be readable here.

Amending twice is amending once: the transaction that amends takes `again_at` away, and another one finds nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import structlog

from panicmail.gitlab.description import IssueDraft
from panicmail.incident import classify, people, transitions
from panicmail.incident.classify import MailPurpose, Report
from panicmail.incident.model import Change, Entry, Incident, State
from panicmail.intake import mail_triage
from panicmail.intake.known_facts import known
from panicmail.intake.understand import NEVER, SUSPECT, Intake, again_after, may_have_receipt, reading_seconds
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import incident_links
from panicmail.response.incident_draft import draft_of
from panicmail.response.mail_replies import more_entry
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: Where those who read again wait for work.
LANE = "again"
#: A claimed reading nobody finished is free again after this long: the wait for a reader, twice, and two transactions.
LEASE = timedelta(minutes=3)
#: How long one reading may take, in seconds, the wait for a reader and slow transactions included.
WITHIN = 120.0


class ReadsSlowly(Protocol):
    """Reads raw bytes into a report; total, and takes and waits `seconds` at most."""

    def read_slowly(self, raw: bytes, mail_from: str | None, seconds: float) -> Report: ...


class Rereading:
    """Reads mails again, one at a time."""

    def __init__(self, store: Store, settings: CurrentSettings, readers: ReadsSlowly, intake: Intake) -> None:
        self._store = store
        self._settings = settings
        self._readers = readers
        self._intake = intake

    def answers(self) -> bool:
        """Read one answer that waits for it; False when none does."""
        return self._work(understood=False)

    def amendments(self) -> bool:
        """Read one mail that was filed as far as it could be read; False when there is none."""
        return self._work(understood=True)

    def _work(self, *, understood: bool) -> bool:
        if not self._store.read(lambda tx: tx.readings.is_to_be_read(understood=understood)):
            return False
        mail = self._store.write("mails.claim", lambda tx: tx.readings.claim_reading(LEASE, understood=understood))
        if mail is None:
            return False
        if mail.attempts > SUSPECT:  # twice it was in hand when the process ended: its octets are let alone
            self._leave(mail, understood=understood)
            return True
        raw = self._store.read(lambda tx: tx.mails.raw(mail.id))
        report = self._readers.read_slowly(raw, mail.mail_from, reading_seconds(mail.readings))
        _log.info("mail.read_again", mail=mail.id, readings=mail.readings, failed=report.cut_short)
        if understood:
            self._amend(mail, report)
        else:
            self._intake.file(replace(mail, attempts=1), raw, report)
        return True

    def _leave(self, mail: AcceptedMail, *, understood: bool) -> None:
        """Read it no more."""
        _log.error("mail.left_unread", mail=mail.id, readings=mail.readings, attempts=mail.attempts)
        if understood:
            self._amend(replace(mail, readings=NEVER), Report(cut_short="it was in hand when panicmail ended"))
        else:
            self._intake.understand(replace(mail, attempts=SUSPECT))

    def _amend(self, mail: AcceptedMail, report: Report) -> None:
        self._store.write("mails.amend", lambda tx: _amend(tx, self._settings(), mail, report))


def _amend(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> None:
    """What another reading of a mail that is filed already comes to."""
    if report.cut_short and (wait := again_after(mail.readings, report.cut_short)) is not None:
        tx.readings.read_again(mail, tx.now + wait)
        return
    incident = tx.incidents.get(mail.incident_id or "")
    draft = draft_of(tx, settings, incident) if incident is not None and incident.mail_id == mail.id else None
    before = report_json.from_json(mail.report) if mail.report else Report()
    after = replace(before, cut_short="") if report.cut_short else report
    if not tx.readings.reread(mail.id, report_json.to_json(after), after.message_id) or incident is None:
        return  # another one has done it
    incident_links.revoke_carried(tx, settings, mail, after)
    facts = {"unreadable": True} if report.cut_short else _describe_reading(before, after)
    if draft is not None:
        _amend_report(tx, settings, mail, after, _Amended(incident, draft, facts))
    elif not report.cut_short:
        _amend_more(tx, settings, mail, after, incident)


#: What people see of a report, and in which fields of it.
_SHOWN = {
    "subject": ("subject",),
    "sender": ("from_address", "from_name", "from_shown"),
    "text": ("text",),
    "attachments": ("attachments",),
    "phone": ("phones",),
}


def _describe_reading(before: Report, after: Report) -> dict[str, Any]:
    """What the timeline says of a full reading."""
    changed = [what for what, names in _SHOWN.items() if any(getattr(before, n) != getattr(after, n) for n in names)]
    return {"changed": changed, "kind": after.kind.value, "why": list(after.why[:3])}


@dataclass(frozen=True, slots=True)
class _Amended:
    """An incident whose report was read again."""

    incident: Incident
    draft: IssueDraft  #: its issue, from what was read first
    facts: dict[str, Any]


def _amend_report(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, amended: _Amended
) -> None:
    incident = amended.incident
    alone = replace(known(tx, settings, mail, report, ""), same_as=None, same_by_another_way=None)
    verdict = classify.decide(report, alone)
    triage = mail_triage.facts_of(mail_triage.found_in(settings, mail, report))
    facts = {
        **amended.facts,
        **({"triage": triage} if triage else {}),
        "shape": verdict.shape.value,
        "flags": list(verdict.flags),
    }
    change = Change(incident=incident)
    if verdict.shape is MailPurpose.PANIC and not verdict.once:
        change = transitions.give_policy(incident, settings.policy_of(incident), tx.now)
    kept = transitions.amend(
        change.incident,
        Entry(event="report.amended", actor="panicmail", facts=facts, note=False),
        {"title": amended.draft.title, "description": amended.draft.description},
        receipt=may_have_receipt(tx, settings, mail, report),
        files=settings.uploads != "none" and bool(report.attachments),
        subject=report.subject,
        reporter_address=report.from_address,
        reporter_name=report.from_name,
        message_id=report.message_id,
        severity=None,  # `raise_incident` has it
    )
    after = tx.incidents.apply(incident, change.then(kept))
    mail_triage.raise_incident(tx, settings, mail, report, after)


def _amend_more(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident
) -> None:
    """Whoever was told of it as far as it could be read is told the whole, unless it is over."""
    writer = people.by_address(settings.people, report.from_address)
    ours = writer is not None and (writer.id in incident.paged or writer.id == incident.holder)
    entry = replace(more_entry(report, incident, settings.questions), event="more.amended")
    is_automatic = classify.is_surely_automatic(report, null_sender=not mail.mail_from)
    is_news = not is_automatic and not ours and incident.state is not State.RESOLVED
    listeners = [incident.holder] if incident.state is State.ACKED and incident.holder else incident.paged
    tx.incidents.apply(
        incident, transitions.amend_more(incident, entry, mail_id=mail.id, to=listeners if is_news else ())
    )
