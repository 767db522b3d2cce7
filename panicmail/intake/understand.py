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
from panicmail.incident.escalation_policy import ANSWER_WITHIN, OTHER_WAY_WITHIN, SAME_MAIL_WITHIN
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

    def __init__(self, ledger: Store, orders: CurrentSettings, readers: ReadsMail) -> None:
        self._ledger = ledger
        self._orders = orders
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
            claimed = self._ledger.write("mails.claim", lambda book: book.claim_mails(1, LEASE, only_new=new))
            for mail in claimed:
                self._in_hand.append(mail.id)
                self._is_alone = mail.attempts > 1
                return replace(mail, attempts=mail.attempts - self._excused[mail.id])
            return None

    def understand(self, mail: AcceptedMail) -> None:
        if mail.attempts < SUSPECT:
            raw = self._ledger.read(lambda book: book.raw(mail.id))
            self.file(mail, raw, self._readers.read(raw, mail.mail_from))
        else:
            self._file(mail, self._glance(mail), hashlib.sha256(mail.id.encode()).hexdigest())

    def file(self, mail: AcceptedMail, raw: bytes, report: Report) -> None:
        """Decide what a mail is that was read, and do what it asks."""
        self._file(mail, report, digest_of(mail, raw))

    def _file(self, mail: AcceptedMail, report: Report, digest: str) -> None:
        self._ledger.write("mails.understand", lambda book: self._decide(book, mail, report, digest))

    def _glance(self, mail: AcceptedMail) -> Report:
        """What can be said of a suspected mail."""
        if mail.attempts >= UNTOUCHED:
            return Report(subject="(a mail panicmail cannot read)", kind=MailKind.HUMAN, lossless=False)
        head = self._ledger.read(lambda book: book.raw(mail.id, LOOKED_AT))
        return bytes_fallback.read_bytes(head, mail_from=mail.mail_from, why="it was not understood twice")

    def _precedes_its_incident(self, book: Transaction, orders: RuntimeSettings, mail: AcceptedMail) -> bool:
        """Whether it answers a page about a mail that is not understood yet.

        So it is with an answer to a call made while the database was away: both came in through spools, perhaps of
        two nodes.
        """
        about = [token for token in _tokens_to(orders, mail) if token.purpose is not Purpose.TEST]
        missing = [token for token in about if _incident_of(book, token) is None]
        if any(book.is_coming(token.incident_id) for token in missing):
            return True
        if not missing:
            self._unknown.pop(mail.id, None)
            return False
        return book.now - self._unknown.setdefault(mail.id, book.now) < UNKNOWN_FOR

    def _decide(self, book: Transaction, mail: AcceptedMail, report: Report, digest: str) -> None:
        if not book.is_waiting(mail.id):
            return
        orders = self._orders()
        if self._precedes_its_incident(book, orders, mail):
            book.postpone(mail, book.now + PRECEDING)
            return
        if mail.attempts > 1:
            _log.error("intake.again", mail=mail.id, attempts=mail.attempts)
            book.tell_operators("intake_again", {"mail": mail.id, "attempts": mail.attempts})
        if mail.attempts < SUSPECT:
            verdict = classify.decide(report, known(book, orders, mail, report, digest))
        else:
            verdict = _by_envelope(book, orders, mail)
        wait = again_after(mail.readings, report.cut_short) if report.cut_short else None
        if wait is not None and verdict.shape in _READ_IN_FULL:
            book.read_again(mail, book.now + wait)
            return
        incident_links.revoke_carried(book, orders, mail, report)
        incident_id = self._shapes[verdict.shape](book, orders, mail, report, verdict)
        _tell_no_avail(book, orders, mail, report, verdict)
        if why := bytes_fallback.unread(report):
            book.tell_operators("reader_failed", {"mail": mail.id, "why": why}, incident_id=incident_id or None)
        if (verdict.shape in _LATER and not _sends_back(report)) or _brings_files(book, report, verdict):
            _attach(book, orders, mail, report, incident_id)
        book.understood(
            mail.id,
            shape=verdict.shape.value,
            incident_id=incident_id or None,
            digest=digest,
            message_id=report.message_id,
            report=report_json.to_json(report),
        )
        if wait is not None and verdict.shape is not MailPurpose.SAME:
            book.read_again(mail, book.now + wait)
        book.logged.append(
            (
                "mail.understood",
                {"mail": mail.id, "shape": verdict.shape.value, "kind": report.kind.value, "incident": incident_id},
            )
        )


def _by_envelope(book: Transaction, orders: RuntimeSettings, mail: AcceptedMail) -> Classification:
    """What a suspected mail is: an answer at the address of somebody's page, else a panic. So is, at last, an answer:
    a person must see it."""
    addresses = (_address(book, orders, recipient) for recipient in mail.recipients)
    own = next((a for a in addresses if a.person and not (a.speaks or a.bounce)), None)
    if own is not None and mail.attempts < UNTOUCHED:
        return Classification(shape=MailPurpose.ANSWER, incident_id=own.incident_id, person=own.person)
    return Classification(shape=MailPurpose.PANIC, flags=("could not be read; the raw message is on the issue",))


def _incident_of(book: Transaction, token: Token) -> Incident | None:
    """The incident a token is about: the one its mail opened, or the one its mail turned out to belong to."""
    return book.incident(token.incident_id) or book.incident(book.home_of(token.incident_id) or "")


def _tokens_to(orders: RuntimeSettings, mail: AcceptedMail) -> list[Token]:
    """The tokens of ours that verify, of the addresses a mail was sent to."""
    texts = filter(None, map(orders.addresses.token_in, mail.recipients))
    return [token for text in texts if (token := orders.tokens.verify(text, orders.people))]


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


def known(book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, digest: str) -> KnownFacts:
    addresses = _addresses(book, orders, mail, report)
    other, came_as = _by_another_way(book, mail, report)
    conversation = next((a.incident_id for a in addresses if a.incident_id and not a.person), None)
    thread = conversation or _thread(book, orders, report)
    incident = book.incident(thread) if thread else None
    return KnownFacts(
        addresses=addresses,
        same_as=book.same_mail(mail, digest, SAME_MAIL_WITHIN),
        same_by_another_way=other,
        came_as=came_as,
        thread=incident.id if incident else None,
        thread_over=incident is not None and transitions.is_over(incident, book.now),
        answers_page=_answered_page(book, orders, report),
        answers_test=check_page_replies.test_of(book, orders, mail, report) is not None,
        bare_about=_bare_about(book, orders, report, thread),
        answered=_answered(book, orders, report) if report.author is Author.ANSWER and thread is None else None,
        known_sender=orders.is_known_sender(report.from_address),
        listed_sender=orders.is_listed_sender(report.from_address),
        list_is_ours=orders.is_own_list(report.lists),
        once_unknown=orders.once_unknown,
    )


def _by_another_way(book: Transaction, mail: AcceptedMail, report: Report) -> tuple[str | None, str]:
    """The unresolved incident that this very mail already belongs to, by another way; and else the REF of one that was
    paged once for it, which is no reason to page this one once."""
    ref = ""
    for other in book.mails_named(mail, report.message_id, OTHER_WAY_WITHIN) if report.message_id else ():
        incident = book.incident(other.incident_id or "")
        if incident is None or not other.report:
            continue
        if not classify.is_same_by_another_way(report, report_json.from_json(other.report)):
            continue
        if incident.state is not State.RESOLVED:
            return incident.id, ""
        ref = incident.ref if incident.once and incident.holder is None else ref
    return None, ref


def _addresses(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report
) -> tuple[TokenAddress, ...]:
    """The recipients as their tokens read; the writer's own token first, should there be several."""
    writer = people.by_address(orders.people, report.from_address)
    addresses = [_address(book, orders, recipient) for recipient in mail.recipients]
    if not any(map(orders.addresses.token_in, mail.recipients)):
        addresses += _addresses_shown(book, orders, mail, report)
    return tuple(sorted(addresses, key=lambda a: writer is None or a.person != writer.id))


def _addresses_shown(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report
) -> list[TokenAddress]:
    """Where a mail server on its way dropped the token of the recipient: the addresses in To and Cc whose token is of
    whoever wrote the mail. Anybody else's says nothing there: it may stand in a field that was copied."""
    writer = people.by_address(orders.people, report.from_address)
    if not orders.addresses.carries_token or not (writer or report.references):
        return []
    found = []
    for recipient in reporter_thread.shown_recipients(book, mail):
        text = orders.addresses.token_in(recipient)
        token = orders.tokens.verify(text, orders.people) if text else None
        incident = _incident_of(book, token) if token and token.purpose in _TO_US else None
        if token is None or incident is None:
            continue
        is_reporter = bool(report.from_address) and report.from_address == incident.reporter_address
        if (writer is not None and token.person == writer.id) or (not token.person and is_reporter):
            found.append(_proved(token, incident))
    return found


def _address(book: Transaction, orders: RuntimeSettings, recipient: str) -> TokenAddress:
    text = orders.addresses.token_in(recipient)
    if text is None:
        return TokenAddress()
    token = orders.tokens.verify(text, orders.people)
    if token is not None and token.purpose is Purpose.TEST:  # the test page's: no incident is meant
        return TokenAddress()
    if token is None or token.purpose not in {Purpose.ANSWER, Purpose.BOUNCE, Purpose.CONVERSATION}:
        return TokenAddress(unproved=True)
    incident = _incident_of(book, token)
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


def _answered_page(book: Transaction, orders: RuntimeSettings, report: Report) -> TokenAddress | None:
    """Where reply addresses carry no token, the newest reference that is a page of ours speaks for it."""
    if orders.addresses.carries_token:
        return None
    page = _page_in(orders, report)
    incident = _incident_of(book, page) if page else None
    return _proved(page, incident) if page and incident else None


def _page_in(orders: RuntimeSettings, report: Report) -> Token | None:
    """The newest reference that is a mail of ours to somebody."""
    tokens = (_message_token(orders, reference) for reference in reversed(report.references))
    return next((token for token in tokens if token and token.person), None)


def _message_token(orders: RuntimeSettings, message_id: str) -> Token | None:
    text = orders.addresses.token_of(message_id)
    token = orders.tokens.verify(text, orders.people) if text else None
    return token if token and token.purpose is Purpose.MESSAGE else None


def _thread(book: Transaction, orders: RuntimeSettings, report: Report) -> str | None:
    """The incident the mail's references belong to: by our own Message-IDs, else by those of mails it was made of.

    A mail that names itself ties nothing: another may bear the same Message-ID.
    """
    references = [reference for reference in report.references if reference != report.message_id]
    for reference in reversed(references):
        token = _message_token(orders, reference)
        if token and (incident := _incident_of(book, token)):
            return incident.id
    return book.incident_of_messages(references)


def _bare_about(book: Transaction, orders: RuntimeSettings, report: Report, thread: str | None) -> str | None:
    """The open incident a bare command of somebody paged is about: the one of its thread, else the latest of theirs.

    A subject of its own makes it a report, and so does an automaton's word.
    """
    person = people.by_address(orders.people, report.from_address)
    if person is None or report.author is not Author.PERSON:
        return None
    if not (reply_commands.read(report.reply_text).bare and _names_no_matter(report)):
        return None
    if thread is not None:
        return thread if book.is_open_for(thread, person.id) else None
    return next((incident.id for incident in book.open_incidents_of(person.id, limit=1)), None)


def _names_no_matter(report: Report) -> bool:
    """Whether the subject says no more than that this is a reply."""
    subject = report.subject.strip()
    return not subject or _REPLY.match(subject) is not None or reply_commands.read(subject).bare


def _answered(book: Transaction, orders: RuntimeSettings, report: Report) -> str | None:
    """The incident an automatic answer without a tie is a note on: about which we mailed its writer, else the one
    that paged an earlier one of the same mailbox. None: it is paged."""
    writer = people.by_address(orders.people, report.from_address)
    mailed = book.last_mailed(report.from_address, writer.id if writer else None, book.now - MAILED_WITHIN)
    return mailed or book.last_once(report.from_address, book.now - ANSWER_PAGED_EVERY)


_REPLY = re.compile(r"(?i)(?:re|aw|sv|antw|rif|r|tr|wg|fwd?)\s*:")


# -- what each shape does; every function answers the id of the incident the mail now belongs to, "" for none


def _open(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    linked = book.incident(verdict.linked_to) if verdict.linked_to else None
    severity = classify.severity_in(report.subject)
    drill = drills.is_drill(book, mail, report)
    ladder = orders.ladder_for(severity, report.subject, mail.recipients, drill=drill)
    incident = transitions.new(
        id=ids.incident_id(mail.id),
        ref=book.free_ref(mail.id),
        mail_id=mail.id,
        accepted_at=mail.accepted_at,
        ladder=ladder,
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
        ladder,
        orders.who_at(book.now),
        book.now,
        receipt=may_have_receipt(book, orders, mail, report),
        entry_facts=facts,
    )
    if verdict.looping:
        change = replace(change, effects=tuple(effect for effect in change.effects if effect.do is not EffectKind.PAGE))
        book.tell_operators("mail_loop", {"ref": incident.ref, "sender": report.from_address})
    return book.add_incident(change).id


def may_have_receipt(book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report) -> bool:
    """Never to a null sender, a machine, a list, or outside `[receipts]`; and a few an hour to one address."""
    if not mail.mail_from or not orders.may_answer(report) or not orders.may_have_receipt(report.from_address):
        return False
    return book.incidents_since(report.from_address, book.now - timedelta(hours=1)) < RECEIPTS_AN_HOUR


def _join(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    """The same mail again. By another way it is told to those whose page is out, and stands on what is sent later; the
    same octets are told to whoever has it since, and else are a server's retry."""
    incident, first = _incident(book, verdict), _first_report(book, verdict)
    is_first = first is not None and _is_again(report, first, another_way=verdict.another_way)
    told = _told_again(book, incident, another_way=verdict.another_way) if is_first else []
    if first is not None and not is_first and not verdict.another_way:
        told = _told_of_more_again(book, incident, mail, report)
    facts: dict[str, Any] = {"mail": mail.id}
    if verdict.another_way:
        facts["way"] = "a mailing list" if report.lists else "another way"
        facts["text"] = "" if first is None or report.text == first.text else written(report)
    for person in told:
        about = {"what": "came_again", "way": facts.get("way", ""), "at": book.now.isoformat(), "more": not is_first}
        book.tell(incident, person, f"again/{mail.id}", about)
    book.add_entry(incident, Entry(event="mail.resent", actor=report.from_address, facts={**facts, "told": told}))
    return incident.id


def _first_report(book: Transaction, verdict: Classification) -> Report | None:
    """How the mail that opened the incident was read; None when an older version kept no reading."""
    first = book.mail(_incident(book, verdict).mail_id)
    return report_json.from_json(first.report) if first and first.report else None


def _told_of_more_again(book: Transaction, incident: Incident, mail: AcceptedMail, report: Report) -> list[str]:
    """Who is told that more in the thread came again by the same octets: who has it, else those paged. Nobody of what
    came a moment ago to people who know it: that is a server's retry."""
    copies = [m for m in book.mails_of(incident.id) if m.shape == MailPurpose.MORE and _is_read_as(m, report)]
    is_held = incident.state is State.ACKED
    if not copies or _was_told_again(book, incident):
        return []
    last_at = copies[-1].accepted_at
    is_known = not (is_held and incident.acked_at and last_at < incident.acked_at)
    if is_known and last_at > book.now - ANSWER_WITHIN:
        return []
    return list(filter(None, [incident.holder])) if is_held else list(incident.paged)


def _is_read_as(mail: AcceptedMail, report: Report) -> bool:
    """Whether a mail of the store was read as one that has the octets of this one is."""
    if not mail.report:
        return False
    kept = report_json.from_json(mail.report)
    return (kept.message_id, kept.from_shown, kept.subject, kept.text) == (
        report.message_id, report.from_shown, report.subject, report.text)  # fmt: skip


def _told_again(book: Transaction, incident: Incident, *, another_way: bool) -> list[str]:
    """Who is told that the report came again: nobody whose page says so, and nobody twice within `ANSWER_WITHIN`."""
    if _was_told_again(book, incident):
        return []
    if incident.state is State.ACKED:
        return [incident.holder] if incident.holder else []
    if not another_way:
        return []
    pages = [task for task in book.tasks_of(incident.id) if task.do == EffectKind.PAGE and task.person]
    return list(dict.fromkeys(page.person for page in pages if page.person and page.state is not DeliveryState.QUEUED))


def _was_told_again(book: Transaction, incident: Incident) -> bool:
    lately = [line for line in book.lines_of(incident.id) if line.at > book.now - ANSWER_WITHIN]
    return any(line.event == "mail.resent" and line.facts.get("told") for line in lately)


def _is_again(report: Report, first: Report, *, another_way: bool) -> bool:
    if another_way:
        return classify.is_same_by_another_way(report, first)
    return (report.message_id, report.text) == (first.message_id, first.text)


def _more(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(book, verdict)
    if _is_automatic(mail, report):
        book.apply(incident, unchanged(incident, Outcome.NOTED, automatic_entry(report)))
        return incident.id
    person = people.by_address(orders.people, report.from_address)
    if person is not None and (person.id in incident.paged or person.id == incident.holder):
        _more_of_ours(book, orders, mail, report, incident, person)
        return incident.id
    if person is not None and _is_for_reporter(book, orders, mail, report, incident):
        reporter_thread.turn_away(book, mail, report, incident, person)
    change = transitions.more(
        incident,
        more_entry(report, incident),
        orders.ladder_of(incident),
        orders.who_at(book.now),
        book.now,
        mail_id=mail.id,
        human=True,
        thanks=reply_commands.is_thanks(report.reply_text or report.text),
    )
    return book.apply(incident, change).id


def _brings_files(book: Transaction, report: Report, verdict: Classification) -> bool:
    """Whether the same mail by another way holds files that the first one lost on its way."""
    if not verdict.another_way:
        return False
    first = _first_report(book, verdict)
    had = {each.sha256 for each in first.attachments} if first else set()
    return any(each.sha256 not in had for each in report.attachments)


def _sends_back(report: Report) -> bool:
    """Whether what is attached is a mail of ours that an automaton answers, or nothing anybody looks for."""
    is_away = report.author is Author.ANSWER and report.kind is MailKind.OOO
    return is_away or report.author in (Author.BOUNCE, Author.RECEIPT)


def _is_automatic(mail: AcceptedMail, report: Report) -> bool:
    return classify.is_surely_automatic(report, null_sender=not mail.mail_from)


def _more_of_ours(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident, person: Person
) -> None:
    """More in the thread by somebody paged, or the holder: it counts for nothing here, and goes to nobody else."""
    is_for_reporter = _is_for_reporter(book, orders, mail, report, incident)
    if is_for_reporter and transitions.speaks(incident, person.id):
        reporter_thread.astray(book, mail, report, incident, person)
        return
    why = "it went to the reporter's address, and was not sent on" if is_for_reporter else _NOT_YOUR_PAGE
    ReplyHandler(book, orders).aside(mail, report, incident, person, why)


_NOT_YOUR_PAGE = "it went to an address that is not the one of your page"


def _is_for_reporter(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, incident: Incident
) -> bool:
    """Whether somebody else than the reporter wrote to the reporter's own address for answers."""
    ours = (_address(book, orders, recipient) for recipient in mail.recipients)
    to_theirs = any(a.incident_id == incident.id and not a.person for a in ours)
    return to_theirs and report.from_address != incident.reporter_address


def _speech(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident, person = _incident(book, verdict), _person(orders, verdict)
    hers = person.writes_from(report.from_address)
    if not hers and report.from_address and report.from_address == incident.reporter_address:
        return _more(book, orders, mail, report, verdict)  # she was given this address, and says something
    reporter_thread.hear(book, orders, mail, report, incident, person)
    return incident.id


def _answer(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(book, verdict)
    ReplyHandler(book, orders).by_mail(mail, report, incident, _person(orders, verdict))
    return incident.id


def _aside(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(book, verdict)
    person = people.by_address(orders.people, report.from_address)
    if person is None:  # written by a stranger to the envelope sender of a page
        return _more(book, orders, mail, report, verdict)
    ReplyHandler(book, orders).aside(mail, report, incident, person, _NOT_YOUR_PAGE)
    return incident.id


def _undelivered(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    incident = _incident(book, verdict)
    round_ = _bounced_round(book, orders, mail, report, verdict)
    ReplyHandler(book, orders).undelivered(report, incident, _person(orders, verdict), round_)
    return incident.id


def _bounced_round(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> int:
    """The round of the page a delivery report is about, by the envelope sender it came back to; else the newest whose
    Message-ID it gives. 0 where it says neither."""
    back = [token for token in _tokens_to(orders, mail) if token.purpose is Purpose.BOUNCE]
    texts = filter(None, (*map(orders.addresses.token_of, report.references), *report.carried[:LOOKED_FOR]))
    given = [token for text in texts if (token := orders.tokens.verify(text, orders.people))]
    pages = back or [token for token in given if token.purpose in {Purpose.BOUNCE, Purpose.MESSAGE}]
    homes = [(token, _incident_of(book, token)) for token in pages if token.person == verdict.person]
    return max((token.round for token, home in homes if home and home.id == verdict.incident_id), default=0)


def _tell_no_avail(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> None:
    """Tell somebody of ours who wrote where nothing they say counts for them, and whom no shape has answered; or, of an
    address that is nobody's, whoever's page it answers. Always at the configured address."""
    if verdict.shape not in _OVERHEARD or report.author is not Author.PERSON or report.kind is MailKind.OOO:
        return
    incident, writer = _incident(book, verdict), people.by_address(orders.people, report.from_address)
    is_command = reply_commands.read(report.reply_text).meaning is not reply_commands.Command.NOTHING
    if verdict.person:
        owner = orders.people[verdict.person]
        is_news = is_command or report.from_address != incident.reporter_address
        if writer is not None and writer.id != owner.id and is_news:
            why = f"it went to the address of {owner.name}'s page, which counts for {owner.first_name} alone"
            ReplyHandler(book, orders).told_no_avail(mail, report, incident, writer, why)
    elif is_command:
        _tell_astray(book, orders, mail, report, (incident, writer))


def _tell_astray(
    book: Transaction,
    orders: RuntimeSettings,
    mail: AcceptedMail,
    report: Report,
    about: tuple[Incident, Person | None],
) -> None:
    """Tell of a command in the thread, at no page's address: whoever wrote it, else whoever's page it answers."""
    incident, writer = about
    if writer is not None:
        is_answered = writer.id in {*incident.paged, incident.holder} or _is_for_reporter(
            book, orders, mail, report, incident
        )
        if not is_answered:
            ReplyHandler(book, orders).told_no_avail(mail, report, incident, writer, _NOT_YOUR_PAGE)
        return
    page = _page_in(orders, report)
    if page is not None and page.person in incident.paged and report.from_address != incident.reporter_address:
        why = f"it came from {report.from_address or 'an unclear sender'}, which is not listed for you"
        ReplyHandler(book, orders).told_no_avail(mail, report, incident, orders.people[page.person], why)


def _attach(book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, incident_id: str) -> None:
    """Files that came with a later mail, whatever that came to: a note names them, and they follow onto the issue.

    A mail that was not read in full may have some all the same: they are looked for when they are uploaded.
    """
    incident = book.incident(incident_id)
    if incident is None or (report.lossless and not report.attachments):
        return
    writer = people.by_address(orders.people, report.from_address)
    who = writer.id if writer else report.from_address or report.from_shown or "somebody"
    uploads = orders.uploads != "none"
    facts = {"attachments": report_json.attachments_to_json(report.attachments), "mail": mail.id, "uploads": uploads}
    if report.attachments:
        book.add_entry(incident, Entry(event="mail.attached", actor=who, facts=facts))
    if uploads:  # named first
        follow = Effect(do=EffectKind.FILES, key=f"files/{mail.id}", facts={"mail": mail.id})
        book.apply(incident, Change(incident=incident, effects=(follow,)))


def _prove(
    book: Transaction, orders: RuntimeSettings, mail: AcceptedMail, report: Report, verdict: Classification
) -> str:
    token = check_page_replies.test_of(book, orders, mail, report)
    if token is not None:
        check_page_replies.hear(book, orders, mail, report, token)
    return ""


def _incident(book: Transaction, verdict: Classification) -> Incident:
    incident = book.incident(verdict.incident_id or "")
    if incident is None:
        raise LookupError(f"no incident {verdict.incident_id}")
    return incident


def _person(orders: RuntimeSettings, verdict: Classification) -> Person:
    return orders.people[verdict.person]
