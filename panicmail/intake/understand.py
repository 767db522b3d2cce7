"""Intake: from an accepted mail to what it asks for.

A mail that got its 250 is claimed with a lease, read by a child within two seconds (else byte by byte), decided by
`triage`, and carried into the store in one transaction: the incident with its times and first pages, or a note, an
answer, a delivery report. Understanding a mail twice does nothing the second time.

Whatever goes wrong here the mail stays accepted and is claimed again, and the operators hear. Each claim is counted
before an octet is touched, so the count holds when the process dies of what it does. A mail that was claimed before is
understood with no other beside it, so that one claimed in vain for the second time was alone then: nothing that may
have been the end of it is done again. It is a panic, shown from its first octets; after a third time, from none.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from panicmail.errors import StoreFailed
from panicmail.incident import classify, ids, people, reply_commands, transitions
from panicmail.incident.classify import Author, Classification, KnownFacts, MailKind, MailPurpose, Report, TokenAddress
from panicmail.incident.escalation_policy import ANSWER_WITHIN, OTHER_WAY_WITHIN, SAME_MAIL_WITHIN, Duty
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, Outcome, State, unchanged
from panicmail.incident.people import Person
from panicmail.incident.reply_tokens import Purpose, Token
from panicmail.intake import check_page_replies, drills
from panicmail.mail.parse import bytes_fallback, report_json
from panicmail.mail.parse.normalize import HEADER_OCTETS
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import incident_links, reporter_thread
from panicmail.response.replies import ReplyHandler, automatic_entry, more_entry, written
from panicmail.store.rows import AcceptedMail, DeliveryState
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: A claimed mail nobody finished is free again after this long.
LEASE = timedelta(seconds=30)
#: From this attempt on a mail is suspected of what went wrong: it was alone when it did.
SUSPECT = 3
#: From this attempt on its octets are not touched at all.
UNTOUCHED = 4
#: So many octets of a suspected mail are looked at.
LOOKED_AT = 64 * 1024
#: So many tokens in the text of a delivery report are looked at.
LOOKED_FOR = 20
#: An answer that came before what it answers is looked at again after this long.
PRECEDING = timedelta(seconds=1)
#: And for so long where nothing is known of what it answers: that may still be in another node's spool.
UNKNOWN_FOR = timedelta(seconds=30)
#: One address gets at most this many receipts an hour: an answering machine must not keep us in conversation.
RECEIPTS_AN_HOUR = 5
#: What is no panic and belongs to an incident all the same: files that came with it go where that one's went.
_LATER = frozenset({MailPurpose.MORE, MailPurpose.ANSWER, MailPurpose.ASIDE, MailPurpose.SPEECH})
#: The tokens of the addresses that people write to.
_TO_US = frozenset({Purpose.ANSWER, Purpose.CONVERSATION})
#: What may be somebody's who may not act there.
_OVERHEARD = frozenset({MailPurpose.MORE, MailPurpose.ANSWER, MailPurpose.SPEECH})
#: What somebody meant for us or for the reporter, and what came back from a person's mail server: none is decided by
#: half a reading.
_READ_IN_FULL = frozenset(
    {MailPurpose.ANSWER, MailPurpose.ASIDE, MailPurpose.SPEECH, MailPurpose.UNDELIVERED, MailPurpose.PROOF}
)
#: How long to wait before each further reading of a mail that could not be read for a reason of ours, and how many
#: seconds that reading may take.
_AGAIN = tuple((timedelta(seconds=wait), seconds) for wait, seconds in ((0, 10), (2, 30), (10, 30), (30, 30), (60, 30)))
#: As many further readings as no mail has.
NEVER = len(_AGAIN) + 1
#: An automatic answer is a note on the incident about which its writer had a mail of ours in the last …
MAILED_WITHIN = timedelta(days=1)
#: … else one of each mailbox is paged, and those that follow within this time are notes on its incident.
ANSWER_PAGED_EVERY = timedelta(hours=1)
#: Header fields that differ between two deliveries of the same mail; and the beginning of the names of more.
_TRACE = frozenset(
    (b"received", b"return-path", b"delivered-to", b"x-original-to", b"x-received", b"received-spf",
     b"authentication-results")
)  # fmt: skip
_ARC, _ARC_NAME = b"arc-", frozenset(b"abcdefghijklmnopqrstuvwxyz-")


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


class ReadsMail(Protocol):
    """Reads raw bytes into a report; total, and bounded in time."""

    def read(self, raw: bytes, mail_from: str) -> Report: ...


class Intake:
    """Understands accepted mails, one at a time."""

    def __init__(self, store: Store, settings: CurrentSettings, readers: ReadsMail) -> None:
        self._store = store
        self._settings = settings
        self._readers = readers
        self._turn = threading.Lock()
        self._in_hand: list[str] = []  #: the mails that are claimed in this process
        self._is_alone = False  #: the one in hand was claimed before
        self._excused: Counter[str] = Counter()  #: mail -> claims of it that the database ended
        self._unknown: dict[str, datetime] = {}  #: mail -> since when it waits for what it answers
        self._shapes: Mapping[
            MailPurpose, Callable[[Transaction, RuntimeSettings, AcceptedMail, Report, Classification], str]
        ] = {
            MailPurpose.PANIC: _open,
            MailPurpose.SAME: _join,
            MailPurpose.MORE: _more,
            MailPurpose.ANSWER: _answer,
            MailPurpose.ASIDE: _aside,
            MailPurpose.SPEECH: _speech,
            MailPurpose.UNDELIVERED: _undelivered,
            MailPurpose.PROOF: _prove,
        }

    def work(self) -> bool:
        """Claim one mail and understand it; False when none waits, or none may be begun now."""
        mail = self._begin()
        if mail is None:
            return False
        try:
            self.understand(mail)
        except StoreFailed:  # no fault of the mail
            self._excused[mail.id] += 1
            raise
        finally:
            with self._turn:
                self._in_hand.remove(mail.id)
        self._excused.pop(mail.id, None)
        return True

    def _begin(self) -> AcceptedMail | None:
        """The next mail, claimed; one that was claimed before only when nothing else is in hand, and then nothing else
        is begun: should this process die now, it was alone."""
        with self._turn:
            if self._is_alone and self._in_hand:
                return None
            new = bool(self._in_hand)
            claimed = self._store.write("mails.claim", lambda tx: tx.mails.claim(1, LEASE, only_new=new))
            for mail in claimed:
                self._in_hand.append(mail.id)
                self._is_alone = mail.attempts > 1
                return replace(mail, attempts=mail.attempts - self._excused[mail.id])
            return None

    def understand(self, mail: AcceptedMail) -> None:
        if mail.attempts < SUSPECT:
            raw = self._store.read(lambda tx: tx.mails.raw(mail.id))
            self.file(mail, raw, self._readers.read(raw, mail.mail_from))
        else:
            self._file(mail, self._glance(mail), hashlib.sha256(mail.id.encode()).hexdigest())

    def file(self, mail: AcceptedMail, raw: bytes, report: Report) -> None:
        """Decide what a mail is that was read, and do what it asks."""
        self._file(mail, report, digest_of(mail, raw))

    def _file(self, mail: AcceptedMail, report: Report, digest: str) -> None:
        self._store.write("mails.understand", lambda tx: self._decide(tx, mail, report, digest))

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
        about = [token for token in _tokens_to(settings, mail) if token.purpose is not Purpose.TEST]
        missing = [token for token in about if _incident_of(tx, token) is None]
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
        else:
            verdict = _by_envelope(tx, settings, mail)
        wait = again_after(mail.readings, report.cut_short) if report.cut_short else None
        if wait is not None and verdict.shape in _READ_IN_FULL:
            tx.readings.read_again(mail, tx.now + wait)
            return
        incident_links.revoke_carried(tx, settings, mail, report)
        incident_id = self._shapes[verdict.shape](tx, settings, mail, report, verdict)
        _tell_no_avail(tx, settings, mail, report, verdict)
        if why := bytes_fallback.unread(report):
            tx.queue.tell_operators("reader_failed", {"mail": mail.id, "why": why}, incident_id=incident_id or None)
        if (verdict.shape in _LATER and not _sends_back(report)) or _brings_files(tx, report, verdict):
            _attach(tx, settings, mail, report, incident_id)
        tx.mails.understood(
            mail.id,
            shape=verdict.shape.value,
            incident_id=incident_id or None,
            digest=digest,
            message_id=report.message_id,
            report=report_json.to_json(report),
        )
        if wait is not None and verdict.shape is not MailPurpose.SAME:
            tx.readings.read_again(mail, tx.now + wait)
        tx.context.logged.append(
            (
                "mail.understood",
                {"mail": mail.id, "shape": verdict.shape.value, "kind": report.kind.value, "incident": incident_id},
            )
        )


def _by_envelope(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail) -> Classification:
    """What a suspected mail is: an answer at the address of somebody's page, else a panic. So is, at last, an answer:
    a person must see it."""
    addresses = (_address(tx, settings, recipient) for recipient in mail.recipients)
    own = next((a for a in addresses if a.person and not (a.speaks or a.bounce)), None)
    if own is not None and mail.attempts < UNTOUCHED:
        return Classification(shape=MailPurpose.ANSWER, incident_id=own.incident_id, person=own.person)
    return Classification(shape=MailPurpose.PANIC, flags=("could not be read; the raw message is on the issue",))


def _incident_of(tx: Transaction, token: Token) -> Incident | None:
    """The incident a token is about: the one its mail opened, or the one its mail turned out to belong to."""
    return tx.incidents.get(token.incident_id) or tx.incidents.get(tx.mails.home_of(token.incident_id) or "")


def _tokens_to(settings: RuntimeSettings, mail: AcceptedMail) -> list[Token]:
    """The tokens of ours that verify, of the addresses a mail was sent to."""
    texts = filter(None, map(settings.addresses.token_in, mail.recipients))
    return [token for text in texts if (token := settings.tokens.verify(text, settings.people))]


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


# -- what is known about a mail


def known(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, digest: str) -> KnownFacts:
    addresses = _addresses(tx, settings, mail, report)
    other, came_as = _by_another_way(tx, mail, report)
    conversation = next((a.incident_id for a in addresses if a.incident_id and not a.person), None)
    thread = conversation or _thread(tx, settings, report)
    incident = tx.incidents.get(thread) if thread else None
    return KnownFacts(
        addresses=addresses,
        same_as=tx.mails.same(mail, digest, SAME_MAIL_WITHIN),
        same_by_another_way=other,
        came_as=came_as,
        thread=incident.id if incident else None,
        thread_over=incident is not None and transitions.is_over(incident, tx.now),
        answers_page=_answered_page(tx, settings, report),
        answers_test=check_page_replies.test_of(tx, settings, mail, report) is not None,
        bare_about=_bare_about(tx, settings, report, thread),
        answered=_answered(tx, settings, report) if report.author is Author.ANSWER and thread is None else None,
        known_sender=settings.is_known_sender(report.from_address),
        listed_sender=settings.is_listed_sender(report.from_address),
        list_is_ours=settings.is_own_list(report.lists),
        once_unknown=settings.once_unknown,
    )


def _by_another_way(tx: Transaction, mail: AcceptedMail, report: Report) -> tuple[str | None, str]:
    """The unresolved incident that this very mail already belongs to, by another way; and else the REF of one that was
    paged once for it, which is no reason to page this one once."""
    ref = ""
    for other in tx.mails.named(mail, report.message_id, OTHER_WAY_WITHIN) if report.message_id else ():
        incident = tx.incidents.get(other.incident_id or "")
        if incident is None or not other.report:
            continue
        if not classify.is_same_by_another_way(report, report_json.from_json(other.report)):
            continue
        if incident.state is not State.RESOLVED:
            return incident.id, ""
        ref = incident.ref if incident.once and incident.holder is None else ref
    return None, ref


def _addresses(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report
) -> tuple[TokenAddress, ...]:
    """The recipients as their tokens read; the writer's own token first, should there be several."""
    writer = people.by_address(settings.people, report.from_address)
    addresses = [_address(tx, settings, recipient) for recipient in mail.recipients]
    if not any(map(settings.addresses.token_in, mail.recipients)):
        addresses += _addresses_shown(tx, settings, mail, report)
    return tuple(sorted(addresses, key=lambda a: writer is None or a.person != writer.id))


def _addresses_shown(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report
) -> list[TokenAddress]:
    """Where a mail server on its way dropped the token of the recipient: the addresses in To and Cc whose token is of
    whoever wrote the mail. Anybody else's says nothing there: it may stand in a field that was copied."""
    writer = people.by_address(settings.people, report.from_address)
    if not settings.addresses.carries_token or not (writer or report.references):
        return []
    found = []
    for recipient in reporter_thread.shown_recipients(tx, mail):
        text = settings.addresses.token_in(recipient)
        token = settings.tokens.verify(text, settings.people) if text else None
        incident = _incident_of(tx, token) if token and token.purpose in _TO_US else None
        if token is None or incident is None:
            continue
        is_reporter = bool(report.from_address) and report.from_address == incident.reporter_address
        if (writer is not None and token.person == writer.id) or (not token.person and is_reporter):
            found.append(_proved(token, incident))
    return found


def _address(tx: Transaction, settings: RuntimeSettings, recipient: str) -> TokenAddress:
    text = settings.addresses.token_in(recipient)
    if text is None:
        return TokenAddress()
    token = settings.tokens.verify(text, settings.people)
    if token is not None and token.purpose is Purpose.TEST:  # the test page's: no incident is meant
        return TokenAddress()
    if token is None or token.purpose not in {Purpose.ANSWER, Purpose.BOUNCE, Purpose.CONVERSATION}:
        return TokenAddress(unproved=True)
    incident = _incident_of(tx, token)
    if incident is None:  # a database restored from before that incident
        return TokenAddress(unproved=True)
    return _proved(token, incident)


def _proved(token: Token, incident: Incident) -> TokenAddress:
    return TokenAddress(
        incident_id=incident.id,
        person=token.person,
        speaks=token.purpose is Purpose.CONVERSATION and bool(token.person),
        bounce=token.purpose is Purpose.BOUNCE,
    )


def _answered_page(tx: Transaction, settings: RuntimeSettings, report: Report) -> TokenAddress | None:
    """Where reply addresses carry no token, the newest reference that is a page of ours speaks for it."""
    if settings.addresses.carries_token:
        return None
    page = _page_in(settings, report)
    incident = _incident_of(tx, page) if page else None
    return _proved(page, incident) if page and incident else None


def _page_in(settings: RuntimeSettings, report: Report) -> Token | None:
    """The newest reference that is a mail of ours to somebody."""
    tokens = (_message_token(settings, reference) for reference in reversed(report.references))
    return next((token for token in tokens if token and token.person), None)


def _message_token(settings: RuntimeSettings, message_id: str) -> Token | None:
    text = settings.addresses.token_of(message_id)
    token = settings.tokens.verify(text, settings.people) if text else None
    return token if token and token.purpose is Purpose.MESSAGE else None


def _thread(tx: Transaction, settings: RuntimeSettings, report: Report) -> str | None:
    """The incident the mail's references belong to: by our own Message-IDs, else by those of mails it was made of.

    A mail that names itself ties nothing: another may bear the same Message-ID.
    """
    references = [reference for reference in report.references if reference != report.message_id]
    for reference in reversed(references):
        token = _message_token(settings, reference)
        if token and (incident := _incident_of(tx, token)):
            return incident.id
    return tx.mails.incident_of_messages(references)


def _bare_about(tx: Transaction, settings: RuntimeSettings, report: Report, thread: str | None) -> str | None:
    """The open incident a bare command of somebody paged is about: the one of its thread, else the latest of theirs.

    A subject of its own makes it a report, and so does an automaton's word.
    """
    person = people.by_address(settings.people, report.from_address)
    if person is None or report.author is not Author.PERSON:
        return None
    if not (reply_commands.read(report.reply_text).bare and _names_no_matter(report)):
        return None
    if thread is not None:
        return thread if tx.pages.is_open_for(thread, person.id) else None
    return next((incident.id for incident in tx.search.open_incidents_of(person.id, limit=1)), None)


def _names_no_matter(report: Report) -> bool:
    """Whether the subject says no more than that this is a reply."""
    subject = report.subject.strip()
    return not subject or _REPLY.match(subject) is not None or reply_commands.read(subject).bare


def _answered(tx: Transaction, settings: RuntimeSettings, report: Report) -> str | None:
    """The incident an automatic answer without a tie is a note on: about which we mailed its writer, else the one
    that paged an earlier one of the same mailbox. None: it is paged."""
    writer = people.by_address(settings.people, report.from_address)
    mailed = tx.search.last_mailed(report.from_address, writer.id if writer else None, tx.now - MAILED_WITHIN)
    return mailed or tx.search.last_once(report.from_address, tx.now - ANSWER_PAGED_EVERY)


_REPLY = re.compile(r"(?i)(?:re|aw|sv|antw|rif|r|tr|wg|fwd?)\s*:")


# -- what each shape does; every function answers the id of the incident the mail now belongs to, "" for none


def _open(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    linked = tx.incidents.get(verdict.linked_to) if verdict.linked_to else None
    severity = classify.severity_in(report.subject)
    drill = drills.is_drill(tx, mail, report)
    policy = settings.policy_for(severity, report.subject, mail.recipients, drill=drill)
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
        once=verdict.once,
        drill=drill,
        linked_to=linked.ref if linked else None,
    )
    facts = {"subject": report.subject, "kind": report.kind.value, "flags": list(verdict.flags)}
    change = transitions.open_panic(
        incident,
        Duty(policy, settings.who_at(tx.now), tx.now),
        receipt=may_have_receipt(tx, settings, mail, report),
        entry_facts=facts,
    )
    if verdict.looping:
        change = replace(change, effects=tuple(effect for effect in change.effects if effect.do is not EffectKind.PAGE))
        tx.queue.tell_operators("mail_loop", {"ref": incident.ref, "sender": report.from_address})
    return tx.incidents.add(change).id


def may_have_receipt(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report) -> bool:
    """Never to a null sender, a machine, a list, or outside `[receipts]`; and a few an hour to one address."""
    if not mail.mail_from or not settings.may_answer(report) or not settings.may_have_receipt(report.from_address):
        return False
    return tx.search.incidents_since(report.from_address, tx.now - timedelta(hours=1)) < RECEIPTS_AN_HOUR


def _join(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    """The same mail again. By another way it is told to those whose page is out, and stands on what is sent later; the
    same octets are told to whoever has it since, and else are a server's retry."""
    incident, first = _incident(tx, verdict), _first_report(tx, verdict)
    is_first = first is not None and _is_again(report, first, another_way=verdict.another_way)
    told = _told_again(tx, incident, another_way=verdict.another_way) if is_first else []
    if first is not None and not is_first and not verdict.another_way:
        told = _told_of_more_again(tx, incident, mail, report)
    facts: dict[str, Any] = {"mail": mail.id}
    if verdict.another_way:
        facts["way"] = "a mailing list" if report.lists else "another way"
        facts["text"] = "" if first is None or report.text == first.text else written(report)
    for person in told:
        about = {"what": "came_again", "way": facts.get("way", ""), "at": tx.now.isoformat(), "more": not is_first}
        tx.queue.tell(incident, person, f"again/{mail.id}", about)
    tx.timeline.add(incident, Entry(event="mail.resent", actor=report.from_address, facts={**facts, "told": told}))
    return incident.id


def _first_report(tx: Transaction, verdict: Classification) -> Report | None:
    """How the mail that opened the incident was read; None when an older version kept no reading."""
    first = tx.mails.get(_incident(tx, verdict).mail_id)
    return report_json.from_json(first.report) if first and first.report else None


def _told_of_more_again(tx: Transaction, incident: Incident, mail: AcceptedMail, report: Report) -> list[str]:
    """Who is told that more in the thread came again by the same octets: who has it, else those paged. Nobody of what
    came a moment ago to people who know it: that is a server's retry."""
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


def _more(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(tx, verdict)
    if _is_automatic(mail, report):
        tx.incidents.apply(incident, unchanged(incident, Outcome.NOTED, automatic_entry(report)))
        return incident.id
    person = people.by_address(settings.people, report.from_address)
    if person is not None and (person.id in incident.paged or person.id == incident.holder):
        _more_of_ours(tx, settings, mail, report, incident, person)
        return incident.id
    if person is not None and _is_for_reporter(tx, settings, mail, report, incident):
        reporter_thread.turn_away(tx, mail, report, incident, person)
    change = transitions.more(
        incident,
        transitions.MoreMail(
            entry=more_entry(report, incident),
            mail_id=mail.id,
            human=True,
            thanks=reply_commands.is_thanks(report.reply_text or report.text),
        ),
        settings.duty(incident, tx.now),
    )
    return tx.incidents.apply(incident, change).id


def _brings_files(tx: Transaction, report: Report, verdict: Classification) -> bool:
    """Whether the same mail by another way holds files that the first one lost on its way."""
    if not verdict.another_way:
        return False
    first = _first_report(tx, verdict)
    had = {each.sha256 for each in first.attachments} if first else set()
    return any(each.sha256 not in had for each in report.attachments)


def _sends_back(report: Report) -> bool:
    """Whether what is attached is a mail of ours that an automaton answers, or nothing anybody looks for."""
    is_away = report.author is Author.ANSWER and report.kind is MailKind.OOO
    return is_away or report.author in (Author.BOUNCE, Author.RECEIPT)


def _is_automatic(mail: AcceptedMail, report: Report) -> bool:
    return classify.is_surely_automatic(report, null_sender=not mail.mail_from)


def _more_of_ours(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident, person: Person
) -> None:
    """More in the thread by somebody paged, or the holder: it counts for nothing here, and goes to nobody else."""
    is_for_reporter = _is_for_reporter(tx, settings, mail, report, incident)
    if is_for_reporter and transitions.speaks(incident, person.id):
        reporter_thread.astray(tx, mail, report, incident, person)
        return
    why = "it went to the reporter's address, and was not sent on" if is_for_reporter else _NOT_YOUR_PAGE
    ReplyHandler(tx, settings).aside(mail, report, incident, person, why)


_NOT_YOUR_PAGE = "it went to an address that is not the one of your page"


def _is_for_reporter(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident
) -> bool:
    """Whether somebody else than the reporter wrote to the reporter's own address for answers."""
    ours = (_address(tx, settings, recipient) for recipient in mail.recipients)
    to_theirs = any(a.incident_id == incident.id and not a.person for a in ours)
    return to_theirs and report.from_address != incident.reporter_address


def _speech(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident, person = _incident(tx, verdict), _person(settings, verdict)
    is_theirs = person.writes_from(report.from_address)
    if not is_theirs and report.from_address and report.from_address == incident.reporter_address:
        return _more(tx, settings, mail, report, verdict)  # they were given this address, and say something
    reporter_thread.hear(tx, settings, mail, report, incident, person)
    return incident.id


def _answer(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(tx, verdict)
    ReplyHandler(tx, settings).by_mail(mail, report, incident, _person(settings, verdict))
    return incident.id


def _aside(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(tx, verdict)
    person = people.by_address(settings.people, report.from_address)
    if person is None:  # written by a stranger to the envelope sender of a page
        return _more(tx, settings, mail, report, verdict)
    ReplyHandler(tx, settings).aside(mail, report, incident, person, _NOT_YOUR_PAGE)
    return incident.id


def _undelivered(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(tx, verdict)
    round_ = _bounced_round(tx, settings, mail, report, verdict)
    ReplyHandler(tx, settings).undelivered(report, incident, _person(settings, verdict), round_)
    return incident.id


def _bounced_round(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> int:
    """The round of the page a delivery report is about, by the envelope sender it came back to; else the newest whose
    Message-ID it gives. 0 where it says neither."""
    back = [token for token in _tokens_to(settings, mail) if token.purpose is Purpose.BOUNCE]
    texts = filter(None, (*map(settings.addresses.token_of, report.references), *report.carried[:LOOKED_FOR]))
    given = [token for text in texts if (token := settings.tokens.verify(text, settings.people))]
    pages = back or [token for token in given if token.purpose in {Purpose.BOUNCE, Purpose.MESSAGE}]
    homes = [(token, _incident_of(tx, token)) for token in pages if token.person == verdict.person]
    return max((token.round for token, home in homes if home and home.id == verdict.incident_id), default=0)


def _tell_no_avail(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> None:
    """Tell somebody of ours who wrote where nothing they say counts for them, and whom no shape has answered; or, of an
    address that is nobody's, whoever's page it answers. Always at the configured address."""
    if verdict.shape not in _OVERHEARD or report.author is not Author.PERSON or report.kind is MailKind.OOO:
        return
    incident, writer = _incident(tx, verdict), people.by_address(settings.people, report.from_address)
    is_command = reply_commands.read(report.reply_text).meaning is not reply_commands.Command.NOTHING
    if verdict.person:
        owner = settings.people[verdict.person]
        is_news = is_command or report.from_address != incident.reporter_address
        if writer is not None and writer.id != owner.id and is_news:
            why = f"it went to the address of {owner.name}'s page, which counts for {owner.first_name} alone"
            ReplyHandler(tx, settings).told_no_avail(mail, report, incident, writer, why)
    elif is_command:
        _tell_astray(tx, settings, mail, report, (incident, writer))


def _tell_astray(
    tx: Transaction,
    settings: RuntimeSettings,
    mail: AcceptedMail,
    report: Report,
    about: tuple[Incident, Person | None],
) -> None:
    """Tell of a command in the thread, at no page's address: whoever wrote it, else whoever's page it answers."""
    incident, writer = about
    if writer is not None:
        is_answered = writer.id in {*incident.paged, incident.holder} or _is_for_reporter(
            tx, settings, mail, report, incident
        )
        if not is_answered:
            ReplyHandler(tx, settings).told_no_avail(mail, report, incident, writer, _NOT_YOUR_PAGE)
        return
    page = _page_in(settings, report)
    if page is not None and page.person in incident.paged and report.from_address != incident.reporter_address:
        why = f"it came from {report.from_address or 'an unclear sender'}, which is not listed for you"
        ReplyHandler(tx, settings).told_no_avail(mail, report, incident, settings.people[page.person], why)


def _attach(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, incident_id: str) -> None:
    """Files that came with a later mail, whatever that came to: a note names them, and they follow onto the issue.

    A mail that was not read in full may have some all the same: they are looked for when they are uploaded.
    """
    incident = tx.incidents.get(incident_id)
    if incident is None or (report.lossless and not report.attachments):
        return
    writer = people.by_address(settings.people, report.from_address)
    who = writer.id if writer else report.from_address or report.from_shown or "somebody"
    uploads = settings.uploads != "none"
    facts = {"attachments": report_json.attachments_to_json(report.attachments), "mail": mail.id, "uploads": uploads}
    if report.attachments:
        tx.timeline.add(incident, Entry(event="mail.attached", actor=who, facts=facts))
    if uploads:  # named first
        follow = Effect(do=EffectKind.FILES, key=f"files/{mail.id}", facts={"mail": mail.id})
        tx.incidents.apply(incident, Change(incident=incident, effects=(follow,)))


def _prove(
    tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    token = check_page_replies.test_of(tx, settings, mail, report)
    if token is not None:
        check_page_replies.hear(tx, settings, mail, report, token)
    return ""


def _incident(tx: Transaction, verdict: Classification) -> Incident:
    incident = tx.incidents.get(verdict.incident_id or "")
    if incident is None:
        raise LookupError(f"no incident {verdict.incident_id}")
    return incident


def _person(settings: RuntimeSettings, verdict: Classification) -> Person:
    return settings.people[verdict.person]
