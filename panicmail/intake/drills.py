"""Drills: a panic that is meant as practice, and known to be by a code only panicmail can have made.

A mail that says `drill` and a valid code, in its subject or its text, opens its incident as a drill: its pages, mails
and issue say so, it may follow a policy of its own, and it stays out of the figures. Everything else is as real. The
word without a valid code is a panic like any other, so nobody can play one down.

A code is eight speakable characters out of thirty, good for one mail and for ten minutes; only its digest is kept. Of
one mail a few codes are tried at most, and a wrong one costs its sender a page.

`Progress` is how far a drill has come, read from the database: what `panicmail drill` shows.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from enum import StrEnum
from itertools import islice

from panicmail.incident import ids, sender_proof
from panicmail.incident.classify import Report
from panicmail.incident.model import EffectKind, Incident, State
from panicmail.incident.sender_proof import ProofState, SenderProof
from panicmail.incident.tasks import PUSH
from panicmail.mail.parse import report_json
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response.sender_demands import proof_of
from panicmail.store.rows import AcceptedMail, DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction

LENGTH = 8
LASTS = timedelta(minutes=10)
#: So many codes are tried of a subject, and of a text.
TRIED = 3
#: So much of a text is looked at, in characters.
_LOOKED_AT = 20_000
_HALF = f"([{ids.REF_ALPHABET}]{{{LENGTH // 2}}})"
_CODE = re.compile(rf"\bdrill\b[\s:#-]{{1,5}}{_HALF}[ -]?{_HALF}\b", re.IGNORECASE)


# -- codes


def new_code() -> str:
    return "".join(secrets.choice(ids.REF_ALPHABET) for _ in range(LENGTH))


def spell_code(code: str) -> str:
    """A code as people read and type it: in two halves."""
    return f"{code[: LENGTH // 2]} {code[LENGTH // 2 :]}"


def begin(tx: Transaction, code: str) -> int:
    """Make the code valid from now on; answers the id of its drill."""
    return tx.drills.add(_digest(code), tx.now + LASTS)


def is_drill(tx: Transaction, mail: AcceptedMail, report: Report) -> bool:
    """Whether a code makes this mail a drill. The code is used by it."""
    digests = [_digest(code) for text in (report.subject, report.text[:_LOOKED_AT]) for code in _codes_in(text)]
    return bool(digests) and tx.drills.redeem(digests, mail)


def _codes_in(text: str) -> Iterator[str]:
    return (found[1] + found[2] for found in islice(_CODE.finditer(text), TRIED))


def _digest(code: str) -> str:
    return hashlib.sha256(code.upper().encode()).hexdigest()


def panic(code: str, sender: str, to: str, hostname: str, now: datetime) -> bytes:
    """A mail as a person would write it that begins a drill."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = sender, to
    message["Subject"] = f"Practice, drill {spell_code(code)}"
    message["Date"] = format_datetime(now)
    message["Message-ID"] = f"<drill.{secrets.token_hex(8)}@{hostname}>"
    message.set_content(
        "This is practice; nothing has happened.\n"
        "Whoever is called: please act as if it were real, and close it when you have answered.\n"
    )
    return message.as_bytes()


# -- how far it has come


class DrillOutcome(StrEnum):
    """How far one step has come."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    NONE = "none"  #: it is not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStep:
    """One thing that is to happen."""

    name: str
    fate: DrillOutcome
    text: str = ""  #: what it came to, on one line; strangers' words among it
    at: datetime | None = None  #: when
    key: str = ""  #: tells it from others of its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a drill has come."""

    steps: Sequence[DrillStep]
    incident: Incident | None = None  #: None: no mail with its code was understood

    @property
    def by_machines(self) -> list[DrillStep]:
        """The steps nobody has to do anything for."""
        return [step for step in self.steps if step.name != "reply"]

    @property
    def is_answered(self) -> bool:
        return any(step.name == "reply" and step.fate is DrillOutcome.DONE for step in self.steps)

    def is_through(self) -> bool:
        """Whether everything has happened that needs nobody."""
        return self.incident is not None and all(step.fate is not DrillOutcome.WAITING for step in self.by_machines)


def read_progress(tx: Transaction, settings: RuntimeSettings, drill_id: int) -> Progress:
    """How far the drill has come by now."""
    mail_id = tx.drills.get(drill_id).mail_id
    mail, incident = (tx.mails.get(mail_id), tx.incidents.by_mail(mail_id)) if mail_id else (None, None)
    if mail is None or incident is None:
        return Progress(steps=[DrillStep(name="arrived", fate=DrillOutcome.WAITING)])
    tasks = tx.outbox.of_incident(incident.id)
    steps = [
        _arrived(mail),
        _sender(settings, mail),
        _understood(tx, incident),
        *_pages(settings, incident, tasks),
        _issue(incident, tasks),
        _receipt(settings, incident, tasks, proof_of(settings, mail)),
        _reply(tx, settings, incident),
    ]
    return Progress(steps=steps, incident=incident)


def _arrived(mail: AcceptedMail) -> DrillStep:
    text = f"from <{mail.mail_from}> by {mail.peer}, {mail.tls or 'no TLS'}, {mail.size} octets"
    return DrillStep(name="arrived", fate=DrillOutcome.DONE, text=text, at=mail.accepted_at)


def _sender(settings: RuntimeSettings, mail: AcceptedMail) -> DrillStep:
    report = report_json.from_json(mail.report) if mail.report else Report()
    proof = proof_of(settings, mail)
    fate = DrillOutcome.WAITING if proof.state is ProofState.PENDING else DrillOutcome.DONE
    text = f"{report.from_address or report.reporter_name}, {sender_proof.in_words(proof)}"
    return DrillStep(name="sender", fate=fate, text=text, at=mail.accepted_at)


def _understood(tx: Transaction, incident: Incident) -> DrillStep:
    at = next((line.at for line in tx.timeline.of_incident(incident.id) if line.event == "incident.opened"), None)
    text = f"a drill, on the policy {incident.policy}"
    return DrillStep(
        name="understood", fate=DrillOutcome.DONE, text=f"{text}{', paged once' if incident.once else ''}", at=at
    )


def _pages(settings: RuntimeSettings, incident: Incident, tasks: Sequence[OutboxRow]) -> list[DrillStep]:
    paged = [task for task in tasks if task.do == EffectKind.PAGE and task.state is not DeliveryState.VOID]
    if not paged and not incident.acked_at:
        return [DrillStep(name="page", fate=DrillOutcome.FAILED, text="nobody is on call, so nobody was paged")]
    pushed = any(task.lane == PUSH for task in paged)
    none = (
        []
        if pushed
        else [DrillStep(name="push", fate=DrillOutcome.NONE, text="nobody who was paged has a channel for it")]
    )
    return [*(_page(settings, task) for task in paged), *none]


def _page(settings: RuntimeSettings, task: OutboxRow) -> DrillStep:
    person = settings.people.get(task.person or "")
    again = f", round {task.facts['round']}" if task.facts.get("round", 1) > 1 else ""
    way = f" by {task.facts.get('channel')}" if task.lane == PUSH else ""
    who = f"{person.name if person else task.person}{way}{again}"
    return _of_task("push" if task.lane == PUSH else "page", task, f"{who}: {task.answer or 'on its way'}")


def _issue(incident: Incident, tasks: Sequence[OutboxRow]) -> DrillStep:
    task = next((task for task in tasks if task.do == EffectKind.ISSUE), None)
    if task is None:
        return DrillStep(name="issue", fate=DrillOutcome.FAILED, text="nothing opens it")
    return _of_task("issue", task, incident.issue_url or task.answer or "not there yet")


def _receipt(
    settings: RuntimeSettings, incident: Incident, tasks: Sequence[OutboxRow], proof: SenderProof
) -> DrillStep:
    to = incident.reporter_address or "the sender"
    task = next((task for task in tasks if task.do == EffectKind.RECEIPT), None)
    if task is None:
        allowed = settings.may_have_receipt(incident.reporter_address, proof)
        why = "it looked like a machine's mail, or was one of many" if allowed else "[receipts] does not name it"
        return DrillStep(name="receipt", fate=DrillOutcome.NONE, text=f"{to} gets none: {why}")
    return _of_task("receipt", task, f"{to}: {task.answer or 'on its way'}")


def _of_task(name: str, task: OutboxRow, text: str) -> DrillStep:
    fates = {DeliveryState.ACCEPTED: DrillOutcome.DONE, DeliveryState.VOID: DrillOutcome.NONE}
    waits = task.state in {DeliveryState.QUEUED, DeliveryState.TRYING}
    fate = DrillOutcome.WAITING if waits else fates.get(task.state, DrillOutcome.FAILED)
    return DrillStep(name=name, fate=fate, text=text, at=task.done_at, key=task.key)


def _reply(tx: Transaction, settings: RuntimeSettings, incident: Incident) -> DrillStep:
    acked = next((line for line in tx.timeline.of_incident(incident.id) if line.event == "incident.acked"), None)
    if acked is not None:
        person = settings.people.get(acked.actor or "")
        text = f"{person.name if person else acked.actor} acknowledged: {acked.facts.get('how', '')}"
        return DrillStep(name="reply", fate=DrillOutcome.DONE, text=text, at=acked.at)
    return DrillStep(
        name="reply",
        fate=DrillOutcome.WAITING if incident.state is State.OPEN else DrillOutcome.NONE,
        text="nobody yet",
    )
