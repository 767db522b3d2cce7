"""What a message is about as it is sent: gathered right before, so that it says what is true then."""

from __future__ import annotations

from panicmail import conversation, links
from panicmail.dispatch.lane import flags_of, report_of
from panicmail.incident import Do, Incident, Owed, State, Word
from panicmail.mail.scene import PageSent, Scene
from panicmail.orders import Orders
from panicmail.store.book import Book
from panicmail.store.outbox import PUSH
from panicmail.store.rows import Delivery, Task


def is_wanted(book: Book, incident: Incident, task: Task) -> bool:
    """Whether this page still asks for something: checked right before it is sent."""
    word = Word(task.facts["word"])
    newer = [
        t
        for t in book.tasks_of(incident.id)
        if t.do == Do.PAGE
        and t.person == task.person
        and t.facts["round"] > task.facts["round"]
        and t.state is not Delivery.VOID
        and t.facts["word"] != Word.HANDED
    ]
    if newer:
        return False
    if incident.once:
        return True
    match word:
        case Word.HANDED:
            return incident.handed_to == task.person and incident.state is not State.RESOLVED
        case Word.STILL_YOURS:
            return incident.holder == task.person and incident.owed is Owed.ANSWER
        case Word.STATUS:
            return incident.holder == task.person and incident.owed is Owed.STATUS
        case Word.SILENT_HOLDER:
            return incident.state is State.ACKED
        case _:
            return incident.state is State.OPEN


def scene_of(book: Book, orders: Orders, incident: Incident, task: Task) -> Scene:
    reader = task.person or ""
    others = [i for i in book.list_incidents(states=[State.OPEN]) if i.id != incident.id]
    lines = book.lines_of(incident.id)
    return Scene(
        house=orders.house(book.now, incident),
        incident=incident,
        report=report_of(book, incident),
        facts=task.facts,
        now=book.now,
        pages=[
            PageSent(
                person=t.person or "",
                channel="push" if t.lane == PUSH else "mail",
                at=t.queued_at,
                state=t.state.value,
                answer=t.answer,
            )
            for t in book.tasks_of(incident.id)
            if t.do == Do.PAGE
        ],
        also_open=[i for i in others if reader in i.paged],
        same_reporter=[i for i in others if i.reporter_address and i.reporter_address == incident.reporter_address],
        link=orders.link(incident.id, reader, links.live_round(lines, reader)) if reader else "",
        conversation=conversation.address(book, orders, incident, reader) if reader else "",
        unheard=(conversation.why_none(book, orders, incident, reader) or "") if reader else "",
        flags=flags_of(lines),
    )
