"""What came of a message, written down: accepted, refused, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panicmail.incident import push_channel, transitions
from panicmail.incident.model import EffectKind, Entry, Incident
from panicmail.incident.tasks import PUSH
from panicmail.oncall.runtime_settings import RuntimeSettings
from panicmail.response import reporter_thread
from panicmail.store.rows import DeliveryState, OutboxRow
from panicmail.store.transaction import Transaction


def sent(tx: Transaction, task: OutboxRow, answer: str, unencrypted: str = "") -> None:
    """Args: unencrypted: why it was not encrypted for its reader, though they have a key."""
    if unencrypted and task.facts.get("cause") != "not_encrypted":
        not_encrypted(tx, task.person or "", unencrypted)
    if not tx.outbox.settle(task, DeliveryState.ACCEPTED, answer):
        return  # another attempt took over meanwhile; its outcome is the one that counts
    incident = tx.incidents.get(task.incident_id or "")
    if incident is not None and task.do in {EffectKind.PAGE, EffectKind.RECEIPT}:
        event = "page.accepted" if task.do == EffectKind.PAGE else "receipt.accepted"
        facts = {"person": task.person, "answer": answer, "channel": _channel(task)}
        tx.timeline.add(incident, Entry(event=event, actor="panicmail", facts=facts, note=False))
        if task.do == EffectKind.PAGE and task.person:
            tx.incidents.apply(incident, transitions.reached(incident, task.person))


def not_encrypted(tx: Transaction, person: str, why: str) -> None:
    tx.queue.tell_operators("not_encrypted", {"person": person, "answer": why}, rings=False)


def refused(tx: Transaction, settings: RuntimeSettings, task: OutboxRow, answer: str) -> None:
    if not tx.outbox.settle(task, DeliveryState.FAILED, answer):
        return
    incident = tx.incidents.get(task.incident_id or "")
    if incident is not None and task.do == EffectKind.NEWS:
        reporter_thread.not_taken(tx, incident, task, answer)
    if incident is None or task.person is None:
        return
    facts = {"person": task.person, "answer": answer, "channel": _channel(task)}
    tx.timeline.add(incident, Entry(event=f"{task.do}.refused", actor="panicmail", facts=facts))
    if task.do == EffectKind.PAGE:
        _alarm(tx, settings, incident, task, facts)
        lost(tx, settings, incident, task, f"their {'phone' if task.lane == PUSH else 'mail server'} refused the page")


def _alarm(
    tx: Transaction, settings: RuntimeSettings, incident: Incident, task: OutboxRow, facts: Mapping[str, Any]
) -> None:
    """Mail and phones have a cause each: one is told once an hour, and a dead phone must not hide the relay."""
    person = settings.people.get(task.person or "")
    told = {
        **facts,
        "ref": incident.ref,
        "channel": push_channel.in_words(_channel(task), person.push if person else ()),
    }
    tx.queue.tell_operators("push_refused" if task.lane == PUSH else "page_refused", told, incident_id=incident.id)


def lost(tx: Transaction, settings: RuntimeSettings, incident: Incident, task: OutboxRow, why: str) -> None:
    """A page failed for good. Unless another channel of theirs carries it, they are unreachable."""
    if task.person is None or tx.pages.has_another_way(task):
        return
    tx.incidents.apply(incident, transitions.unreachable(incident, task.person, why, settings.duty(incident, tx.now)))


def _channel(task: OutboxRow) -> str:
    return str(task.facts.get("channel", "mail"))
