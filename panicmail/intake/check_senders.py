"""Who wrote a mail, found out beside its page and never before it.

A new panic pages at once and says "not checked yet"; a look-up may take seconds, and DNS may be what is broken. What
was found is kept with the mail, amends the issue, and decides about the receipt. An *answer* waits for it, some seconds
at most: what it does cannot be taken back.

What DNS did not answer is asked again after 1, 5 and 15 minutes. An answer that is proved only then acts if its
incident is still open and its writer has said nothing since.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from panicmail.incident import sender_proof
from panicmail.incident.classify import MailPurpose
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident
from panicmail.incident.sender_proof import ProofState, SenderMethod, SenderProof
from panicmail.oncall.runtime_settings import CurrentSettings, RuntimeSettings
from panicmail.response.incident_draft import draft_of
from panicmail.store.rows import AcceptedMail
from panicmail.store.transaction import Transaction
from panicmail.store.unit_of_work import Store

_log = structlog.get_logger()

#: An answer is understood after so long at the latest, whatever DNS does.
ANSWER_WAITS = timedelta(seconds=8)
#: A check that nobody finished is begun again after so long.
LEASE = timedelta(seconds=30)
#: How long one check may take, in seconds, two transactions included.
WITHIN = 60.0
#: When what DNS did not answer is asked again, after each try.
_AGAIN = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))
#: What cannot be taken back, and so waits for its sender.
_WAIT = frozenset({MailPurpose.ANSWER, MailPurpose.SPEECH, MailPurpose.DIGEST, MailPurpose.PROOF})
#: Whose sender is shown to people, and decides about a receipt.
_SHOWN = frozenset({MailPurpose.PANIC, MailPurpose.MEMBER, MailPurpose.MORE})


class ChecksSenders(Protocol):
    """Finds out who wrote a mail; total, and bounded in time."""

    def check(self, raw: bytes, mail: AcceptedMail, settings: RuntimeSettings, now: datetime) -> SenderProof: ...


def waits(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, shape: MailPurpose) -> bool:
    """Whether a mail is understood only when its sender was checked; it is asked for then."""
    if settings.method is not SenderMethod.VERIFY or shape not in _WAIT or mail.sender or mail.sender_tries:
        return False
    tx.senders.ask(mail.id, tx.now)
    tx.mails.postpone(mail, tx.now + ANSWER_WAITS)
    return True


def ask_beside(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, shape: MailPurpose) -> None:
    """Have the sender of a mail checked that was understood without it."""
    if settings.method is SenderMethod.VERIFY and shape in _SHOWN and not mail.sender:
        tx.senders.ask(mail.id, tx.now)


class SenderCheckWorker:
    """Checks the senders of mails, one at a time."""

    def __init__(self, store: Store, settings: CurrentSettings, checks: Callable[[], ChecksSenders]) -> None:
        """`checks` is called when there is a first sender to check: its libraries cost memory."""
        self._store = store
        self._settings = settings
        self._build = checks
        self._checks: ChecksSenders | None = None

    def work(self) -> bool:
        """Check one; False when none is due."""
        if not self._store.read(lambda tx: tx.senders.is_due()):
            return False
        mail = self._store.write("senders.claim", lambda tx: tx.senders.claim(LEASE))
        if mail is None:
            return False
        settings = self._settings()
        raw, now = self._store.read(lambda tx: (tx.mails.raw(mail.id), tx.now))
        if self._checks is None:
            self._checks = self._build()
        proof = self._checks.check(raw, mail, settings, now)
        self._store.write("senders.settle", lambda tx: found(tx, settings, mail.id, proof))
        _log.info("sender.checked", mail=mail.id, state=proof.state.value, domain=proof.domain, why=proof.why)
        return True


def found(tx: Transaction, settings: RuntimeSettings, mail_id: str, proof: SenderProof) -> None:
    """Keep what was found of a mail's sender, and do what follows."""
    mail = tx.mails.get(mail_id)
    if mail is None:
        return
    again_at = None
    if proof.state is ProofState.UNKNOWN and mail.sender_tries <= len(_AGAIN):
        again_at = tx.now + _AGAIN[max(mail.sender_tries, 1) - 1]
    incident = tx.incidents.get(mail.incident_id or "") if mail.shape else None
    is_report = incident is not None and incident.mail_id == mail.id
    draft = draft_of(tx, settings, incident) if incident is not None and is_report else None
    tx.senders.keep(mail.id, sender_proof.to_json(proof), again_at)
    if incident is None or mail.shape is None:
        return
    if draft is not None:
        before = {"title": draft.title, "description": draft.description}
        tx.incidents.apply(incident, _shown(incident, proof, before, mail.sender_tries))
    shape, was = MailPurpose(mail.shape), sender_proof.from_json(mail.sender, settings.method)
    if shape is MailPurpose.MEMBER and proof.state is ProofState.PROVED:
        _leave_storm(tx, settings, mail, incident)
    elif shape in _WAIT and proof.state is ProofState.PROVED and was.state is not ProofState.PROVED:
        tx.senders.understand_again(mail.id)


def _shown(incident: Incident, proof: SenderProof, before: dict[str, str], tries: int) -> Change:
    """The issue says what was found; that a report may be forged is a note on it as well."""
    facts = {"sender": sender_proof.in_words(proof), "state": proof.state.value, "why": proof.why}
    is_odd = proof.state is ProofState.FAILED
    entry = Entry(event="sender.checked", actor="panicmail", facts=facts, note=is_odd)
    effect = Effect(do=EffectKind.AMEND, key=f"amend/sender/{tries}", facts={**before, "of": entry.event})
    return Change(incident=incident, effects=(effect,), entries=(entry,))


def _leave_storm(tx: Transaction, settings: RuntimeSettings, mail: AcceptedMail, storm: Incident) -> None:
    """A mail whose sender is proved is no part of a storm of which nobody knows who sends it: it is a panic of its own,
    with the deadline it had from the start."""
    first = tx.mails.get(storm.mail_id)
    if first is None or sender_proof.from_json(first.sender, settings.method).state is ProofState.PROVED:
        return
    tx.storms.release_one(storm.id, mail.id)
    tx.timeline.add(storm, Entry(event="storm.left", actor="panicmail", facts={"sender": mail.mail_from}))
    tx.log("storm.left", ref=storm.ref, incident=storm.id, mail=mail.id)
