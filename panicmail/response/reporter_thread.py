"""The conversation: when Slack is down, mail is the room, and it has two sides.

    the reporter   answers the mails they get; more in the thread (`transitions.more`): a note, mailed to the holder
    the holder     writes to an address of their own, which stands in the mail that says they have it, and is the
                   Reply-To of each mail that brings them the reporter's words; what they newly wrote is mailed to the
                   reporter in the thread of the report, and noted on the issue

Whatever else the holder writes, above all to their own page, stays internal, and they are told so. Nobody but these two
ever gets a word of it. At the holder's address a command is one only alone: the whole answer, and not a word more.

Words go out when all of this holds:

* they came to the address of whoever has the incident now, so not to one that the reporter has as well, and not also
  to an address where what comes in stays internal;
* From is the holder's address or a listed alias, proved as their acknowledgement must be, nothing looks like a
  machine, and the mail was read without loss;
* they are more than a command, and hold no address, link or quotation of a mail of ours;
* the reporter gets mail from panicmail: they had a receipt and would have one today.

Only the text goes: no history, no attachment, no address of anybody; of attachments left behind the holder is told.
Whatever does not go out is an internal note, and whose address it came to is told why and what to write, at their
configured address.
"""

from __future__ import annotations

import re

from panicmail.incident import people, sender_proof, transitions
from panicmail.incident.classify import MailKind, Report, is_surely_automatic
from panicmail.incident.model import Incident, Outcome, unchanged
from panicmail.incident.people import Person
from panicmail.incident.redact import looks_carried
from panicmail.incident.reply_tokens import Purpose
from panicmail.incident.transitions import UnsentReason
from panicmail.mail.compose import sanitize
from panicmail.mail.incident_report import write_instead
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import sender_demands
from panicmail.response.mail_replies import MailReplies, automatic_entry, understood, written
from panicmail.response.sender_demands import shown_recipients
from panicmail.store.rows import AcceptedMail, OutboxRow
from panicmail.store.transaction import Transaction

#: A stranger's words as our mails mark them, and the tags of our subjects.
_QUOTED = re.compile(r"(?m)^[^\S\n]*\| |\[PANIC [0-9A-Z]{4,8}\]")


def address(tx: Transaction, settings: RuntimeSettings, incident: Incident, person: str) -> str:
    """Where `person` writes to the reporter; "" when `why_none` says why there is no such address."""
    if why_none(tx, settings, incident, person) is not None:
        return ""
    return settings.addresses.reply_to(settings.tokens.mint(Purpose.CONVERSATION, incident.id, person))


def why_none(tx: Transaction, settings: RuntimeSettings, incident: Incident, person: str) -> UnsentReason | None:
    """Why `person` has no address to write to the reporter: they do not have it, or nothing would go out."""
    if not transitions.speaks(incident, person):
        return UnsentReason.CLOSED if incident.resolved_at else UnsentReason.NOT_YOURS
    return _deaf(tx, settings, incident, person) or (None if settings.addresses.carries_token else UnsentReason.PLAIN)


class ReporterMail:
    """A mail that came to an address for the reporter. Works inside the caller's transaction."""

    def __init__(self, tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> None:
        self._tx, self._settings = tx, settings
        self._mail, self._report = mail, report

    def hear(self, incident: Incident, person: Person) -> None:
        """A mail to the address `person` was given to write to the reporter, whoever wrote it."""
        tx, settings, mail, report = self._tx, self._settings, self._mail, self._report
        if is_surely_automatic(report, null_sender=not mail.mail_from) or report.hops:
            tx.incidents.apply(incident, unchanged(incident, Outcome.NOTED, automatic_entry(report)))
            return
        if _is_command(settings, report, incident, person):
            MailReplies(tx, settings, mail, report).by_mail(incident, person, outward=True)
            return
        why = self._why_unsent(incident, person)
        if why is not None:
            self._keep(incident, person, why)
            return
        proved = sender_proof.in_words(sender_demands.proof_of(settings, mail))
        how = f"mail from {report.from_address} to the address given to the holder; sender {proved}"
        left = report_json.attachments_to_json(report.attachments)
        speech = transitions.Speech(
            person=person.id,
            text=report.reply_text,
            how=how,
            mail_id=mail.id,
            left=left,
            about={"in_reply_to": report.message_id},
        )
        said = transitions.speak(incident, speech, settings.policy_of(incident), tx.now)
        tx.incidents.apply(incident, said)

    def astray(self, incident: Incident, person: Person) -> None:
        """The holder wrote to the reporter's own address for answers: whoever knows that one is nobody's proof."""
        self._keep(incident, person, UnsentReason.ASTRAY)

    def turn_away(self, incident: Incident, person: Person) -> None:
        """Somebody of ours who has nothing to do with it wrote to the reporter's address: they are told. It is kept as
        anybody's words are."""
        tx, mail, report = self._tx, self._mail, self._report
        facts = {"what": "unsent", "why": UnsentReason.NOT_YOURS.value, "in_reply_to": report.message_id}
        tx.queue.tell(incident, person.id, f"unsent/{mail.id}", facts)

    def _keep(self, incident: Incident, person: Person, why: UnsentReason) -> None:
        tx, mail, report = self._tx, self._mail, self._report
        is_theirs = person.writes_from(report.from_address)
        writer = person.id if is_theirs else report.from_address or report.from_shown or "somebody"
        text = written(report)
        about = {"detail": "" if is_theirs else writer, "in_reply_to": report.message_id if is_theirs else None}
        change = transitions.leave_unsaid(
            incident, person.id, transitions.Unsent(why=why, writer=writer, text=text, mail_id=mail.id, about=about)
        )
        tx.incidents.apply(incident, change)

    def _why_unsent(self, incident: Incident, person: Person) -> UnsentReason | None:
        """Why these words do not go out; None when they do."""
        tx, settings, mail, report = self._tx, self._settings, self._mail, self._report
        if not person.writes_from(report.from_address):
            return UnsentReason.STRANGER
        if sender_demands.doubt(tx, settings, mail, report, person):
            return UnsentReason.UNPROVED
        if not report.lossless:
            return UnsentReason.LOSSY
        if report.kind is not MailKind.HUMAN:
            return UnsentReason.MACHINE
        if not transitions.speaks(incident, person.id):
            return UnsentReason.CLOSED if incident.resolved_at else UnsentReason.NOT_YOURS
        if write_instead(tx.timeline.of_incident(incident.id)) is not None:
            return UnsentReason.QUIET
        if _is_internal(tx, settings, mail):
            return UnsentReason.BOTH
        return _unfit(settings, report.reply_text, person) or _deaf(tx, settings, incident, person.id)


def _is_command(settings: RuntimeSettings, report: Report, incident: Incident, person: Person) -> bool:
    """Whether it is for panicmail: a command alone. Who does not have it says nothing to the reporter anyway, so there
    friendly words beside it do not matter."""
    if not person.writes_from(report.from_address) or not report.lossless:
        return False
    said = understood(settings, report, incident, person)
    return said.alone or (said.bare and not transitions.speaks(incident, person.id))


def not_taken(tx: Transaction, incident: Incident, task: OutboxRow, answer: str) -> None:
    """The relay refused for good a mail to the reporter; if somebody wrote it, they are told."""
    if task.facts.get("what") == "said":
        change = transitions.refused(incident, str(task.facts["by"]), answer, str(task.facts["mail"]))
        tx.incidents.apply(incident, change)


def _is_internal(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail) -> bool:
    """Whether it went to somebody's own token address as well, by its envelope or, where a mail server on its way
    sent a copy to each recipient, by its header."""
    texts = filter(None, map(settings.addresses.token_in, (*mail.recipients, *shown_recipients(tx, mail))))
    tokens = (settings.tokens.verify(text, settings.people) for text in texts)
    return any(token is not None and token.purpose in {Purpose.ANSWER, Purpose.BOUNCE} for token in tokens)


def _unfit(settings: RuntimeSettings, text: str, person: Person) -> UnsentReason | None:
    """What is wrong with the text itself."""
    colleagues = [a for p in settings.people.values() if p.id != person.id for a in (p.email, *p.aliases)]
    if looks_carried(text) or _QUOTED.search(text) or any(a in text.lower() for a in colleagues):
        return UnsentReason.OURS  # history that nothing marked as such, most likely
    shown = sanitize.report_lines(text)
    if not shown:
        return UnsentReason.EMPTY
    return UnsentReason.LONG if shown[-1] == sanitize.MARK + sanitize.CUT else None


def _deaf(tx: Transaction, settings: RuntimeSettings, incident: Incident, person: str) -> UnsentReason | None:
    """Why the reporter cannot be written to."""
    to = incident.reporter_address
    reporter = people.by_address(settings.people, to)
    if reporter is not None and reporter.id == person:
        return UnsentReason.YOURSELF
    if not to or settings.addresses.is_ours(to) or not _reads(tx, settings, incident):
        return UnsentReason.NO_ADDRESS
    proof = sender_demands.proof_of(settings, tx.mails.get(incident.mail_id))
    if not settings.may_have_receipt(to, proof) or tx.outbox.get(f"{incident.id}/receipt") is None:
        return UnsentReason.NOT_ALLOWED
    return None


def _reads(tx: Transaction, settings: RuntimeSettings, incident: Incident) -> bool:
    """Whether a person wrote the report, who can be answered."""
    mail = tx.mails.get(incident.mail_id)
    if mail is None or not mail.mail_from or not mail.report:
        return False
    return settings.may_answer(report_json.from_json(mail.report))
