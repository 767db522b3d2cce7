"""The lanes that send mail: pages, and everything else that is written to people."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from panicmail import crashpoints
from panicmail.delivery import outbox_worker
from panicmail.delivery.outbox_worker import OutboxWorker, PageBundle, is_flooded, is_wanted, notice_context
from panicmail.incident.model import EffectKind
from panicmail.incident.people import Person, by_address
from panicmail.incident.sender_proof import ProofState
from panicmail.mail import compose, encryption
from panicmail.mail.compose import ComposedMail, catalogue
from panicmail.mail.compose.digest_page import DigestEntry
from panicmail.mail.compose.letterhead import Letterhead, incident_within, within
from panicmail.mail.compose.notice_context import organisation_at
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response import daily_list, incident_links
from panicmail.response.sender_demands import proof_of
from panicmail.store.rows import AcceptedMail, DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()


#: A receipt waits for the check of its sender, looking again after the first, for no longer than the second.
_CHECKED_SOON, _CHECKED_WITHIN = timedelta(seconds=1), timedelta(seconds=15)
#: Receipts an hour: to one mailbox, whatever its subaddresses, and in all.
_RECEIPTS_TO_ONE, _RECEIPTS_TO_ALL = 5, 500


class ReceiptLimit:
    """How many receipts go out an hour. One thread at a time; a restart forgets what was sent."""

    def __init__(self) -> None:
        self._sent: deque[tuple[datetime, str]] = deque()

    def allows(self, address: str, now: datetime) -> bool:
        """Whether one more may go to this address now; it is counted if so."""
        local, _, domain = address.lower().rpartition("@")
        mailbox = f"{local.partition('+')[0]}@{domain}"
        while self._sent and not timedelta() <= now - self._sent[0][0] < timedelta(hours=1):
            self._sent.popleft()
        to_it = sum(to == mailbox for _, to in self._sent)
        if to_it >= _RECEIPTS_TO_ONE or len(self._sent) >= _RECEIPTS_TO_ALL:
            _log.warning("receipt.limited", to_mailbox=to_it, in_all=len(self._sent))
            return False
        self._sent.append((now, mailbox))
        return True


class _SenderPending(Exception):  # noqa: N818 - a wait, not an error
    """Who wrote the report is still being checked."""


class SendsMail(Protocol):
    """Hands a mail to the relay; answers what the relay said after the dot."""

    def send(self, message: bytes, mail_from: str, recipient: str) -> str: ...


#: Composes a mail anew, by other settings.
_Composes = Callable[[Transaction, RuntimeSettings], ComposedMail | None]


class EmailWorker(OutboxWorker):
    """Pages, or all other mail: composed when they are sent, from what is true then."""

    def __init__(self, name: str, store: Store, settings: CurrentSettings, relay: SendsMail) -> None:
        super().__init__(name, store)
        self._settings = settings
        self._relay = relay
        self._receipts = ReceiptLimit()
        catalogue.compile_first("page", "reporter")

    def _carry_out(self, task: OutboxRow) -> None:
        settings = self._settings()
        if task.do == EffectKind.PAGE and task.person not in settings.people:  # a reload took them out of [people]
            self._refused(task, "there is no such person any more")
            return
        try:
            composed = self._store.read(
                lambda tx: None if is_flooded(tx, settings, task) else _composed(tx, settings, task)
            )
        except _SenderPending as why:
            text = str(why)
            self._end("outbox.put_off", lambda tx: tx.outbox.put_off(task, tx.now + _CHECKED_SOON, text, sure=True))
            return
        if composed is None:
            self._bundle(task, settings)
        else:
            self._send(task, *composed)

    def _carry_out_alone(self, task: OutboxRow, settings: RuntimeSettings) -> None:
        self._send(task, *self._store.read(lambda tx: _composed(tx, settings, task)))

    def _send(self, task: OutboxRow, mine: bool, letter: ComposedMail | None, now: datetime) -> None:
        if not mine:  # we were frozen, or cut off: whoever has it now sends it
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
        if letter is not None and task.do == EffectKind.RECEIPT and not self._receipts.allows(letter.recipient, now):
            letter = None
        letter, unencrypted = self._for_reader(letter, now, lambda tx, settings: _compose(tx, settings, task))
        if letter is None:
            self._settle(task, DeliveryState.VOID, "it lost its reason before it was sent")
            return
        crashpoints.point(f"{self.name}.sending")
        answer = self._relay.send(letter.message, letter.mail_from, letter.recipient)
        crashpoints.point(f"{self.name}.sent")
        self._end(f"{self.name}.settle", lambda tx: outbox_worker.sent(tx, task, answer, unencrypted))
        _log.info(f"{task.do}.sent", incident=task.incident_id, person=task.person, attempt=task.attempt, answer=answer)

    def _send_bundle(self, bundle: PageBundle, settings: RuntimeSettings) -> str:
        first, made_at = self._store.read(lambda tx: _digest(tx, settings, bundle)), bundle.digest.made_at
        letter, unencrypted = self._for_reader(first, made_at, lambda tx, settings: _digest(tx, settings, bundle))
        letter = letter or first
        answer = self._relay.send(letter.message, letter.mail_from, letter.recipient)
        if unencrypted:
            self._store.write(
                "outbox.put_off", lambda tx: outbox_worker.not_encrypted(tx, bundle.digest.person, unencrypted)
            )
        return answer

    def _for_reader(
        self, letter: ComposedMail | None, now: datetime, anew: _Composes
    ) -> tuple[ComposedMail | None, str]:
        """The mail, encrypted where it goes to one of our people with a key; and why it is not, as `for_reader`."""
        settings = self._settings()
        person = by_address(settings.people, letter.recipient) if letter is not None else None
        if person is None:
            return letter, ""

        def write(reader: Person) -> ComposedMail | None:
            if reader is person:
                return letter
            shown = replace(settings, people={**settings.people, reader.id: reader})
            return self._store.read(lambda tx: anew(tx, shown))

        return encryption.for_reader(write, person, now)

    def _refused(self, task: OutboxRow, answer: str) -> None:
        settings = self._settings()
        _log.error(f"{task.do}.refused", **self._about(task), answer=answer)
        self._end(f"{self.name}.settle", lambda tx: outbox_worker.refused(tx, settings, task, answer))


def _composed(
    tx: Transaction, settings: RuntimeSettings, task: OutboxRow
) -> tuple[bool, ComposedMail | None, datetime]:
    """Whether it is still ours to send, the mail, and what time it is.

    Raises:
        _SenderPending: Whether it may be sent is not known yet.
    """
    if _waits_for_sender(tx, settings, task):
        raise _SenderPending("its sender is being checked")
    mine = tx.outbox.is_mine(task)
    return mine, _compose(tx, settings, task) if mine else None, tx.now


def _waits_for_sender(tx: Transaction, settings: RuntimeSettings, task: OutboxRow) -> bool:
    """Whether it is not known yet if this may be sent: its reporter is being checked, some seconds at most."""
    if task.do != EffectKind.RECEIPT or tx.now - task.queued_at > _CHECKED_WITHIN:
        return False
    return proof_of(settings, _reported(tx, task)).state is ProofState.PENDING


def _reported(tx: Transaction, task: OutboxRow) -> AcceptedMail | None:
    """The mail that a receipt is for."""
    incident = tx.incidents.get(task.incident_id or "")
    return tx.mails.get(str(task.facts.get("mail") or (incident.mail_id if incident else "")))


def _compose(tx: Transaction, settings: RuntimeSettings, task: OutboxRow) -> ComposedMail | None:
    """The mail as it must read now; None when there is no reason left to send it."""
    person = settings.people.get(task.person or "")
    if task.do == EffectKind.OPERATORS:
        return _alarm(tx, settings, task, person) if person else None
    if task.do == EffectKind.LIST:
        return _list(tx, settings, task, person) if person else None
    if task.do == EffectKind.PROVEN:
        return _proven(tx, settings, task, person) if person else None
    incident = tx.incidents.get(task.incident_id or "")
    if incident is None or (task.person and person is None):
        return None
    if task.do in {EffectKind.RECEIPT, EffectKind.NEWS} and not settings.may_have_receipt(
        incident.reporter_address, proof_of(settings, _reported(tx, task))
    ):
        return None
    context = notice_context(tx, settings, incident, task)
    if task.do in {EffectKind.RECEIPT, EffectKind.NEWS} and context.instead is not None:
        return None  # the mailbox may not be the reporter's any more
    if task.person is None and (one := by_address(settings.people, incident.reporter_address)):
        context = within(context, one.detail)
    if task.do == EffectKind.RECEIPT:
        return compose.receipt(context, settings.reply_routes, key=task.key)
    if task.do == EffectKind.NEWS:
        return compose.news(context, settings.reply_routes, key=task.key)
    if person is None:
        return None
    if task.do == EffectKind.TELL:
        return compose.tell(context, person, settings.reply_routes, key=task.key)
    if not is_wanted(tx, incident, task):
        return None
    return compose.page(context, person, settings.reply_routes)


def _digest(tx: Transaction, settings: RuntimeSettings, bundle: PageBundle) -> ComposedMail:
    person = settings.people[bundle.digest.person]
    entries = [
        DigestEntry(
            incident_within(incident, person.detail),
            settings.link(
                incident.id, person.id, incident_links.live_round(tx.timeline.of_incident(incident.id), person.id)
            ),
            incident.breached_at is not None,
        )
        for _, incident in bundle.pages
    ]
    head = Letterhead(settings.page_sender, person, tx.now)
    return compose.digest_page(bundle.digest, entries, organisation_at(settings, tx.now), head, settings.reply_routes)


def _alarm(tx: Transaction, settings: RuntimeSettings, task: OutboxRow, person: Person) -> ComposedMail:
    return compose.operators(task.facts, Letterhead(settings.sender, person, tx.now), settings.addresses, key=task.key)


def _list(tx: Transaction, settings: RuntimeSettings, task: OutboxRow, person: Person) -> ComposedMail | None:
    """None when all of it was closed meanwhile, or the day is over."""
    entries = daily_list.listed(tx, settings, person.id)
    if not entries or task.facts["day"] != daily_list.day_of(settings, person.id, tx.now):
        return None
    organisation, head = organisation_at(settings, tx.now), Letterhead(settings.sender, person, tx.now)
    return compose.listing(entries, organisation, head, settings.addresses, key=task.key)


def _proven(tx: Transaction, settings: RuntimeSettings, task: OutboxRow, person: Person) -> ComposedMail:
    return compose.proven(task.facts, Letterhead(settings.sender, person, tx.now), settings.reply_routes, key=task.key)
