"""What came of a message, written down: accepted, refused, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panicmail import channels, conversation, states
from panicmail.incident import Do, Entry, Incident
from panicmail.orders import Orders
from panicmail.store.book import Book
from panicmail.store.outbox import PUSH
from panicmail.store.rows import Delivery, Task


def sent(book: Book, task: Task, answer: str) -> None:
    if not book.settle(task, Delivery.ACCEPTED, answer):
        return  # another attempt took over meanwhile; its outcome is the one that counts
    incident = book.incident(task.incident_id or "")
    if incident is not None and task.do in {Do.PAGE, Do.RECEIPT}:
        event = "page.accepted" if task.do == Do.PAGE else "receipt.accepted"
        facts = {"person": task.person, "answer": answer, "channel": _channel(task)}
        book.add_entry(incident, Entry(event=event, actor="panicmail", facts=facts, note=False))
        if task.do == Do.PAGE and task.person:
            book.apply(incident, states.reached(incident, task.person))


def refused(book: Book, orders: Orders, task: Task, answer: str) -> None:
    if not book.settle(task, Delivery.FAILED, answer):
        return
    incident = book.incident(task.incident_id or "")
    if incident is not None and task.do == Do.NEWS:
        conversation.not_taken(book, incident, task, answer)
    if incident is None or task.person is None:
        return
    facts = {"person": task.person, "answer": answer, "channel": _channel(task)}
    book.add_entry(incident, Entry(event=f"{task.do}.refused", actor="panicmail", facts=facts))
    if task.do == Do.PAGE:
        _alarm(book, orders, incident, task, facts)
        lost(book, orders, incident, task, f"her {'phone' if task.lane == PUSH else 'mail server'} refused the page")


def _alarm(book: Book, orders: Orders, incident: Incident, task: Task, facts: Mapping[str, Any]) -> None:
    """Mail and phones have a cause each: one is told once an hour, and a dead phone must not hide the relay."""
    person = orders.people.get(task.person or "")
    told = {**facts, "ref": incident.ref, "channel": channels.in_words(_channel(task), person.push if person else ())}
    book.tell_operators("push_refused" if task.lane == PUSH else "page_refused", told, incident_id=incident.id)


def lost(book: Book, orders: Orders, incident: Incident, task: Task, why: str) -> None:
    """A page failed for good. Unless another channel of theirs carries it, they are unreachable."""
    if task.person is None or book.has_another_way(task):
        return
    ladder, who = orders.ladder_of(incident), orders.who_at(book.now)
    book.apply(incident, states.unreachable(incident, task.person, why, ladder, who, book.now))


def _channel(task: Task) -> str:
    return str(task.facts.get("channel", "mail"))
