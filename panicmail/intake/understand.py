"""Intake: from an accepted mail to what it asks for.

A mail that got its 250 is claimed with a lease, read by a child within two seconds (else byte by byte), decided by
`classify`, and carried into the store in one transaction: the incident with its times and first pages, or a note, an
answer, a delivery report. Understanding a mail twice does nothing the second time.

Where a thread has nothing to do a mail is its from the beginning, claimed in the transaction that accepted it and
handed over in memory.

Whatever goes wrong here the mail stays accepted and is claimed again, and the operators hear. Each claim is counted
before an octet is touched, so the count holds when the process dies of what it does. A mail that was claimed before is
understood with no other beside it, so that one claimed in vain for the second time was alone then: nothing that may
have been the end of it is done again. It is a panic, shown from its first octets; after a third time, from none.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from panicmail.errors import StoreFailed
from panicmail.incident import classify, ids, people, reply_commands, sender_proof, transitions
from panicmail.incident.classify import Author, Classification, MailKind, MailPurpose, Report
from panicmail.incident.escalation_policy import Duty, EscalationPolicy
from panicmail.incident.model import Effect, EffectKind, Incident
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose
from panicmail.incident.sender_proof import SenderMethod
from panicmail.incident.triage import TriageFinding
from panicmail.intake import check_senders, drills, mail_triage, same_mail, storm_members, thread_mail
from panicmail.intake.known_facts import address_of, incident_of, known, page_in, tokens_to
from panicmail.intake.same_mail import digest_of
from panicmail.intake.thread_mail import NOT_YOUR_PAGE, Filing, is_for_reporter
from panicmail.mail.authenticate import sender_check
from panicmail.mail.parse import bytes_fallback, report_json
from panicmail.mail.parse.normalize import HEADER_OCTETS, canonical
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import incident_links
from panicmail.response.sender_demands import proof_of
from panicmail.store.mails import LEASE
from panicmail.store.rows import AcceptedMail, ClaimedMail, UnderstoodMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

# -- A panic opens an incident.

#: One address gets at most this many receipts an hour: an answering machine must not keep us in conversation.
RECEIPTS_AN_HOUR = 5


def open_incident(filing: Filing) -> str:
    tx, settings, mail, report, verdict = filing.tx, filing.settings, filing.mail, filing.report, filing.verdict
    linked = tx.incidents.get(verdict.linked_to) if verdict.linked_to else None
    found = mail_triage.found_in(settings, mail, report)
    severity = mail_triage.worst(report, found)
    drill = drills.is_drill(tx, mail, report)
    policy, besides = _policy(filing, severity, found, drill=drill)
    incident = transitions.new(
        id=ids.incident_id(mail.id),
        ref=tx.incidents.free_ref(mail.id),
        mail_id=mail.id,
        accepted_at=mail.accepted_at,
        policy=policy,
        severity=severity,
        subject=report.subject,
        reporter_address=report.from_address,
        reporter_name=report.from_name,
        message_id=report.message_id,
        mailbox=verdict.mailbox,
        once=verdict.once,
        drill=drill,
        linked_to=linked.ref if linked else None,
    )
    change = transitions.open_panic(
        incident,
        Duty(policy, settings.who_at(tx.now), tx.now),
        receipt=may_have_receipt(tx, settings, mail, report),
        entry_facts=_facts(filing, found),
    )
    change = change.then(transitions.call_besides(change.incident, besides, tx.now))
    change = replace(change, effects=(*change.effects, *_graded(severity)))
    if verdict.looping:
        change = replace(change, effects=tuple(effect for effect in change.effects if effect.do is not EffectKind.PAGE))
        tx.queue.tell_operators("mail_loop", {"ref": incident.ref, "sender": report.from_address})
    opened = tx.incidents.add(change)
    if verdict.storm_of is not None:
        storm_members.begin(filing, opened)
    return opened.id


def _graded(severity: int | None) -> tuple[Effect, ...]:
    """The issue is made with its severity; a GitLab that passed over that is told again."""
    effect = Effect(do=EffectKind.SEVERITY, key="severity/opened", facts={"severity": severity})
    return (effect,) if severity is not None else ()


def _facts(filing: Filing, found: TriageFinding) -> dict[str, Any]:
    tx, report, verdict = filing.tx, filing.report, filing.verdict
    is_first = bool(report.from_address) and not tx.search.has_incident_from(report.from_address)
    facts = {"subject": report.subject, "kind": report.kind.value, "flags": list(verdict.flags), "is_first": is_first}
    return {**facts, "triage": triage} if (triage := mail_triage.facts_of(found)) else facts


def _policy(
    filing: Filing, severity: int | None, found: TriageFinding, *, drill: bool
) -> tuple[EscalationPolicy, dict[str, str]]:
    """The policy the panic follows, and who is called beside its first step, person -> role."""
    tx, settings, recipients = filing.tx, filing.settings, filing.mail.recipients
    if drill:
        return settings.policy_for(severity, filing.report.subject, recipients, drill=True), {}
    called = mail_triage.people_of(tx, settings, found.page)
    if filing.verdict.storm_of is not None:  # whatever the one mail says of itself
        return settings.policy, called
    policy = settings.policy_for(severity, filing.report.subject, recipients, drill=False)
    policy = settings.fastest(policy, found.policies)
    besides = policy.besides(settings.addressed_policy(recipients))
    return policy, {**policy.people(besides, settings.who_at(tx.now)), **called}


def may_have_receipt(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> bool:
    """Never to a null sender, a machine, a list, or outside `[receipts]`; and a few an hour to one address. Whether one
    goes to a sender that is not checked yet is decided when it is sent."""
    proof = proof_of(settings, mail)
    if not mail.mail_from or not settings.may_answer(report):
        return False
    if not settings.could_have_receipt(report.from_address, proof):
        return False
    return tx.search.incidents_since(report.from_address, tx.now - timedelta(hours=1)) < RECEIPTS_AN_HOUR


# --

_log = structlog.get_logger()

#: From this attempt on a mail is suspected of what went wrong: it was alone when it did.
SUSPECT = 3
#: From this attempt on its octets are not touched at all.
UNTOUCHED = 4
#: So many octets of a suspected mail are looked at.
LOOKED_AT = 64 * 1024
#: An answer that came before what it answers is looked at again after this long.
PRECEDING = timedelta(seconds=1)
#: And for so long where nothing is known of what it answers: that may still be in another node's spool.
UNKNOWN_FOR = timedelta(seconds=30)
#: What is no panic and belongs to an incident all the same: files that came with it go where that one's went.
_LATER = frozenset({MailPurpose.MORE, MailPurpose.ANSWER, MailPurpose.ASIDE, MailPurpose.SPEECH})
#: What somebody meant for us or for the reporter, and what came back from a person's mail server: none is decided by
#: half a reading.
_READ_IN_FULL = frozenset(
    {
        MailPurpose.ANSWER,
        MailPurpose.ASIDE,
        MailPurpose.SPEECH,
        MailPurpose.UNDELIVERED,
        MailPurpose.PROOF,
        MailPurpose.DIGEST,
    }
)
#: What tokens of these name is no incident.
_OF_NO_INCIDENT = frozenset({Purpose.TEST, Purpose.DIGEST})
#: How long to wait before each further reading of a mail that could not be read for a reason of ours, and how many
#: seconds that reading may take.
_AGAIN = tuple((timedelta(seconds=wait), seconds) for wait, seconds in ((0, 10), (2, 30), (10, 30), (30, 30), (60, 30)))
#: As many further readings as no mail has.
NEVER = len(_AGAIN) + 1


def reading_seconds(readings: int) -> float:
    """How long the `readings`th further reading of a mail may take; the last one's time for any after it."""
    return float(_AGAIN[min(readings, len(_AGAIN)) - 1][1])


def again_after(readings: int, why: str) -> timedelta | None:
    """How long after the last one a mail is read again; None when it is certain that it cannot be read.

    Args:
        readings: How many further readings there were.
        why: Why the last one came to nothing: `Report.cut_short`.
    """
    took_all_its_time = why == "deadline" and readings and reading_seconds(readings) == reading_seconds(len(_AGAIN))
    if took_all_its_time or readings >= len(_AGAIN):
        return None
    return _AGAIN[readings][0]


#: What is done with a mail, by what it is; each answers the id of the incident it now belongs to, "" for none.
_FILES_AS: Mapping[MailPurpose, Callable[[Filing], str]] = {
    MailPurpose.PANIC: open_incident,
    MailPurpose.SAME: same_mail.join,
    MailPurpose.MEMBER: storm_members.join,
    MailPurpose.MORE: thread_mail.more,
    MailPurpose.ANSWER: thread_mail.answer,
    MailPurpose.ASIDE: thread_mail.aside,
    MailPurpose.SPEECH: thread_mail.speech,
    MailPurpose.UNDELIVERED: thread_mail.undelivered,
    MailPurpose.PROOF: thread_mail.prove,
    MailPurpose.DIGEST: thread_mail.answer_digest,
}


class ReadsMail(Protocol):
    """Reads raw bytes into a report; total, and bounded in time."""

    def read(self, raw: bytes, mail_from: str) -> Report: ...


class Intake:
    """Understands accepted mails, one at a time.

    `claimed` is called when it has one in hand: there may be more.
    """

    def __init__(self, store: Store, settings: CurrentSettings, readers: ReadsMail) -> None:
        self._store = store
        self._settings = settings
        self._readers = readers
        self.claimed: Callable[[], None] = lambda: None
        self._turn = threading.Lock()
        self._in_hand: list[str] = []  #: the mails that are claimed in this process
        self._is_alone = False  #: the one in hand was claimed before
        self._excused: Counter[str] = Counter()  #: mail -> claims of it that the database ended
        self._unknown: dict[str, datetime] = {}  #: mail -> since when it waits for what it answers

    def work(self) -> bool | None:
        """Claim one mail and understand it; False when none waits, None when none may be begun now."""
        with self._turn:
            if self._is_alone and self._in_hand:
                return None
            if not self._store.read(lambda tx: tx.mails.is_any_waiting()):
                return False
            new = bool(self._in_hand)
            claimed = self._store.write("mails.claim", lambda tx: tx.mails.claim(1, LEASE, only_new=new))
            if not claimed:
                return None
            mail = self._begun(claimed[0])
        self.claimed()
        self._do(ClaimedMail(mail))
        return True

    def take(self, handed: ClaimedMail) -> bool | None:
        """Understand a mail that is claimed for this thread; as `work`."""
        with self._turn:
            if self._is_alone and self._in_hand:
                self._store.write("mails.claim", lambda tx: tx.mails.postpone(handed.mail, tx.now))
                return None
            self._begun(handed.mail)
        return self._do(handed)

    def _begun(self, mail: AcceptedMail) -> AcceptedMail:
        """It is in hand; one that was claimed before only when nothing else is, and then nothing else is begun: should
        this process die now, it was alone. Called with the turn held."""
        self._in_hand.append(mail.id)
        self._is_alone = mail.attempts > 1
        return replace(mail, attempts=mail.attempts - self._excused[mail.id])

    def _do(self, claimed: ClaimedMail) -> bool:
        """Understand a mail in hand; False when nothing waited as that was written down."""
        mail = claimed.mail
        try:
            is_any_left = self.understand(mail, claimed.raw)
        except StoreFailed:  # no fault of the mail
            self._excused[mail.id] += 1
            raise
        finally:
            with self._turn:
                self._in_hand.remove(mail.id)
        self._excused.pop(mail.id, None)
        return is_any_left

    def understand(self, mail: AcceptedMail, raw: bytes | None = None) -> bool:
        """Read and file a mail that is claimed; whether others wait.

        Args:
            raw: Its octets; None: they are looked up.
        """
        if mail.attempts >= SUSPECT:
            return self._file(mail, self._glance(mail), hashlib.sha256(mail.id.encode()).hexdigest())
        if raw is None:
            raw = self._store.read(lambda tx: tx.mails.raw(mail.id))
        return self.file(mail, raw, self._readers.read(raw, mail.mail_from))

    def file(self, mail: AcceptedMail, raw: bytes, report: Report) -> bool:
        """Decide what a mail is that was read, and do what it asks; whether others wait."""
        if mail.sender is None and self._settings().method is SenderMethod.TRUSTED:
            mail = replace(mail, sender=_by_our_mail_server(self._settings(), mail, raw))
        return self._file(mail, report, digest_of(mail, raw))

    def _file(self, mail: AcceptedMail, report: Report, digest: str) -> bool:
        def work(tx: Transaction) -> bool:
            self._decide(tx, mail, report, digest)
            return tx.mails.is_any_waiting()

        return self._store.write("mails.understand", work)

    def _glance(self, mail: AcceptedMail) -> Report:
        """What can be said of a suspected mail."""
        if mail.attempts >= UNTOUCHED:
            return Report(subject="(a mail panicmail cannot read)", kind=MailKind.HUMAN, lossless=False)
        head = self._store.read(lambda tx: tx.mails.raw(mail.id, LOOKED_AT))
        return bytes_fallback.read_bytes(head, mail_from=mail.mail_from, why="it was not understood twice")

    def _precedes_its_incident(self, tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail) -> bool:
        """Whether it answers a page about a mail that is not understood yet.

        So it is with an answer to a call made while the database was away: both came in through spools, perhaps of
        two nodes.
        """
        about = [token for token in tokens_to(settings, mail) if token.purpose not in _OF_NO_INCIDENT]
        missing = [token for token in about if incident_of(tx, token) is None]
        if any(tx.mails.is_coming(token.incident_id) for token in missing):
            return True
        if not missing:
            self._unknown.pop(mail.id, None)
            return False
        return tx.now - self._unknown.setdefault(mail.id, tx.now) < UNKNOWN_FOR

    def _decide(self, tx: Transaction, mail: AcceptedMail, report: Report, digest: str) -> None:
        if not tx.mails.is_waiting(mail.id):
            return
        settings = self._settings()
        if self._precedes_its_incident(tx, settings, mail):
            tx.mails.postpone(mail, tx.now + PRECEDING)
            return
        if mail.attempts > 1:
            _log.error("intake.again", mail=mail.id, attempts=mail.attempts)
            tx.queue.tell_operators("intake_again", {"mail": mail.id, "attempts": mail.attempts})
        if mail.attempts < SUSPECT:
            verdict = classify.decide(report, known(tx, settings, mail, report, digest))
            verdict = storm_members.decide(tx, settings, mail, report, verdict)
        else:
            verdict = _by_envelope(tx, settings, mail)
        wait = again_after(mail.readings, report.cut_short) if report.cut_short else None
        if wait is not None and verdict.shape in _READ_IN_FULL:
            tx.readings.read_again(mail, tx.now + wait)
            return
        if check_senders.waits(tx, settings, mail, verdict.shape):
            return
        incident_links.revoke_carried(tx, settings, mail, report)
        incident_id = _filed(Filing(tx, settings, mail, report, verdict))
        tx.mails.understood(
            mail.id,
            UnderstoodMail(
                shape=verdict.shape.value,
                incident_id=incident_id or None,
                digest=digest,
                message_id=report.message_id,
                report=report_json.to_json(report),
                mailbox=verdict.mailbox or mail.mailbox,
                sender=mail.sender,
            ),
        )
        check_senders.ask_beside(tx, settings, mail, verdict.shape)
        if wait is not None and verdict.shape not in {MailPurpose.SAME, MailPurpose.MEMBER}:
            tx.readings.read_again(mail, tx.now + wait)
        shape, kind = verdict.shape.value, report.kind.value
        tx.log("mail.understood", mail=mail.id, shape=shape, kind=kind, incident=incident_id)


def _by_our_mail_server(settings: RuntimeSettings, mail: AcceptedMail, raw: bytes) -> str:
    """What our own mail server in front found of the sender; it takes no look-up, so even the page knows it."""
    sent = sender_check.envelope_of(mail, settings)
    return sender_proof.to_json(sender_check.trust(canonical(raw[:HEADER_OCTETS]), sent, settings.authserv_ids))


def _filed(filing: Filing) -> str:
    """Do what the mail asks; the id of the incident it now belongs to, "" for none."""
    tx, mail, report, verdict = filing.tx, filing.mail, filing.report, filing.verdict
    incident_id = _FILES_AS[verdict.shape](filing)
    tell_no_avail(filing)
    if why := bytes_fallback.unread(report):
        tx.queue.tell_operators("reader_failed", {"mail": mail.id, "why": why}, incident_id=incident_id or None)
    if (verdict.shape in _LATER and not thread_mail.sends_back(report)) or same_mail.brings_files(filing):
        thread_mail.attach(filing, incident_id)
    return incident_id


def _by_envelope(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail) -> Classification:
    """What a suspected mail is: an answer at the address of somebody's page, else a panic. So is, at last, an answer:
    a person must see it."""
    addresses = (address_of(tx, settings, recipient) for recipient in mail.recipients)
    own = next((a for a in addresses if a.person and not (a.speaks or a.bounce)), None)
    if own is not None and mail.attempts < UNTOUCHED:
        return Classification(shape=MailPurpose.ANSWER, incident_id=own.incident_id, person=own.person)
    return Classification(shape=MailPurpose.PANIC, flags=("could not be read; the raw message is on the issue",))


# -- People of ours who wrote where nothing they say counts are told so.

#: What may be somebody's who may not act there.
_OVERHEARD = frozenset({MailPurpose.MORE, MailPurpose.ANSWER, MailPurpose.SPEECH})


def tell_no_avail(filing: Filing) -> None:
    """Tell somebody of ours who wrote where nothing they say counts for them, and whom no shape has answered; or, of an
    address that is nobody's, whoever's page it answers. Always at the configured address."""
    settings, report, verdict = filing.settings, filing.report, filing.verdict
    if verdict.shape not in _OVERHEARD or report.author is not Author.PERSON or report.kind is MailKind.OOO:
        return
    incident, writer = filing.incident, people.by_address(settings.people, report.from_address)
    is_command = reply_commands.read(report.command_text).meaning is not reply_commands.Command.NOTHING
    if verdict.person:
        owner = settings.people[verdict.person]
        is_news = is_command or report.from_address != incident.reporter_address
        if writer is not None and writer.id != owner.id and is_news:
            why = f"it went to the address of {owner.name}'s page, which counts for {owner.first_name} alone"
            filing.replies.tell_no_avail(incident, writer, why)
    elif is_command:
        _tell_astray(filing, incident, writer)


def _tell_astray(filing: Filing, incident: Incident, writer: Person | None) -> None:
    """Tell of a command in the thread, at no page's address: whoever wrote it, else whoever's page it answers."""
    settings, report = filing.settings, filing.report
    if writer is not None:
        is_answered = writer.id in {*incident.paged, incident.holder} or is_for_reporter(filing, incident)
        if not is_answered:
            filing.replies.tell_no_avail(incident, writer, NOT_YOUR_PAGE)
        return
    page = page_in(settings, report)
    if page is not None and page.person in incident.paged and report.from_address != incident.reporter_address:
        why = f"it came from {report.from_address or 'an unclear sender'}, which is not listed for you"
        filing.replies.tell_no_avail(incident, settings.people[page.person], why)
