"""The lanes that send mail: pages, and everything else that is written to people."""

from __future__ import annotations

from typing import Protocol

import structlog

from panicmail import crash, states
from panicmail.dispatch.lane import Lane, report_of
from panicmail.incident import Do, Entry, Incident, State, Word
from panicmail.mail import letters
from panicmail.mail.letters import Letter
from panicmail.mail.scene import PageSent, Scene
from panicmail.orders import Orders, Standing
from panicmail.store.book import Book
from panicmail.store.ledger import Ledger
from panicmail.store.rows import Delivery, Task

_log = structlog.get_logger()


class Sends(Protocol):
    """Hands a mail to the relay; answers what the relay said after the dot."""

    def send(self, message: bytes, mail_from: str, recipient: str) -> str: ...


class MailLane(Lane):
    """Pages, or all other mail: composed when they are sent, from what is true then."""

    def __init__(self, name: str, ledger: Ledger, orders: Standing, relay: Sends) -> None:
        super().__init__(name, ledger)
        self._orders = orders
        self._relay = relay

    def _carry_out(self, task: Task) -> None:
        orders = self._orders()
        if task.do == Do.PAGE and task.person not in orders.people:  # a reload took her out of [people]
            self._refused(task, "there is no such person any more")
            return
        mine, letter = self._ledger.read(lambda book: (book.is_mine(task), _compose(book, orders, task)))
        if not mine:  # we were frozen, or cut off: whoever has it now sends it
            _log.warning("claim.lost", lane=self.name, do=task.do, attempt=task.attempt)
            return
        if letter is None:
            self._settle(task, Delivery.VOID, "it lost its reason before it was sent")
            return
        crash.point(f"{self.name}.sending")
        answer = self._relay.send(letter.message, letter.mail_from, letter.recipient)
        crash.point(f"{self.name}.sent")
        self._ledger.write(f"{self.name}.settle", lambda book: _sent(book, task, answer))
        _log.info(f"{task.do}.sent", incident=task.incident_id, person=task.person, attempt=task.attempt, answer=answer)

    def _refused(self, task: Task, answer: str) -> None:
        orders = self._orders()
        _log.error(f"{task.do}.refused", incident=task.incident_id, person=task.person, answer=answer)
        self._ledger.write(f"{self.name}.settle", lambda book: _mail_refused(book, orders, task, answer))


def _compose(book: Book, orders: Orders, task: Task) -> Letter | None:
    """The mail as it must read now; None when there is no reason left to send it."""
    person = orders.people.get(task.person or "")
    if task.do == Do.OPERATORS:
        house = orders.house(book.now)
        return (
            letters.operators(task.facts, house, person, orders.addresses, book.now, key=task.key) if person else None
        )
    incident = book.incident(task.incident_id or "")
    if incident is None or (task.person and person is None):
        return None
    scene = _scene(book, orders, incident, task)
    if task.do == Do.RECEIPT:
        return letters.receipt(scene, orders.tokens, orders.addresses, key=task.key)
    if task.do == Do.NEWS:
        return letters.news(scene, orders.tokens, orders.addresses, key=task.key)
    if person is None:
        return None
    if task.do == Do.TELL:
        return letters.tell(scene, person, orders.tokens, orders.addresses, key=task.key)
    if not _is_wanted(book, incident, task):
        return None
    return letters.page(scene, person, orders.tokens, orders.addresses)


def _is_wanted(book: Book, incident: Incident, task: Task) -> bool:
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
            return incident.state is State.ACKED and incident.holder == task.person and incident.reminded
        case Word.SILENT_HOLDER:
            return incident.state is State.ACKED
        case _:
            return incident.state is State.OPEN


def _scene(book: Book, orders: Orders, incident: Incident, task: Task) -> Scene:
    reader = task.person or ""
    others = [i for i in book.list_incidents(states=[State.OPEN]) if i.id != incident.id]
    opened = next((line for line in book.lines_of(incident.id) if line.event == "incident.opened"), None)
    return Scene(
        house=orders.house(book.now),
        incident=incident,
        report=report_of(book, incident),
        facts=task.facts,
        now=book.now,
        pages=[
            PageSent(person=t.person or "", channel="mail", at=t.queued_at, state=t.state.value, answer=t.answer)
            for t in book.tasks_of(incident.id)
            if t.do == Do.PAGE
        ],
        also_open=[i for i in others if reader in i.paged],
        same_reporter=[i for i in others if i.reporter_address and i.reporter_address == incident.reporter_address],
        link=orders.link(incident.id, reader) if reader else "",
        flags=tuple(opened.facts.get("flags", ())) if opened else (),
    )


def _sent(book: Book, task: Task, answer: str) -> None:
    if not book.settle(task, Delivery.ACCEPTED, answer):
        return  # another attempt took over meanwhile; its outcome is the one that counts
    incident = book.incident(task.incident_id or "")
    if incident is not None and task.do in {Do.PAGE, Do.RECEIPT}:
        event = "page.accepted" if task.do == Do.PAGE else "receipt.accepted"
        facts = {"person": task.person, "answer": answer}
        book.add_entry(incident, Entry(event=event, actor="panicmail", facts=facts, note=False))
        if task.do == Do.PAGE and task.person:
            book.apply(incident, states.reached(incident, task.person))


def _mail_refused(book: Book, orders: Orders, task: Task, answer: str) -> None:
    if not book.settle(task, Delivery.FAILED, answer):
        return
    incident = book.incident(task.incident_id or "")
    if incident is None or task.person is None:
        return
    entry = Entry(event=f"{task.do}.refused", actor="panicmail", facts={"person": task.person, "answer": answer})
    book.add_entry(incident, entry)
    if task.do == Do.PAGE:
        book.tell_operators(
            "page_refused", {"ref": incident.ref, "person": task.person, "answer": answer}, incident_id=incident.id
        )
        why = "her mail server refused the page"
        change = states.unreachable(incident, task.person, why, orders.ladder, orders.who_at(book.now), book.now)
        book.apply(incident, change)
