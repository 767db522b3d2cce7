"""The lanes that send mail: pages, and everything else that is written to people."""

from __future__ import annotations

from typing import Protocol

import structlog

from panicmail import crash, daily_list
from panicmail.dispatch import outcomes
from panicmail.dispatch.lane import Lane
from panicmail.dispatch.scenes import is_wanted, scene_of
from panicmail.incident import Do
from panicmail.mail import letters
from panicmail.mail.letters import Letter
from panicmail.orders import Orders, Standing
from panicmail.people import Person
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
        self._ledger.write(f"{self.name}.settle", lambda book: outcomes.sent(book, task, answer))
        _log.info(f"{task.do}.sent", incident=task.incident_id, person=task.person, attempt=task.attempt, answer=answer)

    def _refused(self, task: Task, answer: str) -> None:
        orders = self._orders()
        _log.error(f"{task.do}.refused", **self._about(task), answer=answer)
        self._ledger.write(f"{self.name}.settle", lambda book: outcomes.refused(book, orders, task, answer))


def _compose(book: Book, orders: Orders, task: Task) -> Letter | None:
    """The mail as it must read now; None when there is no reason left to send it."""
    person = orders.people.get(task.person or "")
    if task.do == Do.OPERATORS:
        house = orders.house(book.now)
        return (
            letters.operators(task.facts, house, person, orders.addresses, book.now, key=task.key) if person else None
        )
    if task.do == Do.LIST:
        return _list(book, orders, task, person) if person else None
    if task.do == Do.PROVEN:
        return _proven(book, orders, task, person) if person else None
    incident = book.incident(task.incident_id or "")
    if incident is None or (task.person and person is None):
        return None
    scene = scene_of(book, orders, incident, task)
    if task.do == Do.RECEIPT:
        return letters.receipt(scene, orders.tokens, orders.addresses, key=task.key)
    if task.do == Do.NEWS:
        return letters.news(scene, orders.tokens, orders.addresses, key=task.key)
    if person is None:
        return None
    if task.do == Do.TELL:
        return letters.tell(scene, person, orders.tokens, orders.addresses, key=task.key)
    if not is_wanted(book, incident, task):
        return None
    return letters.page(scene, person, orders.tokens, orders.addresses)


def _list(book: Book, orders: Orders, task: Task, person: Person) -> Letter | None:
    """None when all of it was closed meanwhile, or the day is over."""
    entries = daily_list.listed(book, orders, person.id)
    if not entries or task.facts["day"] != daily_list.day_of(orders, person.id, book.now):
        return None
    return letters.listing(entries, orders.house(book.now), person, orders.addresses, book.now, key=task.key)


def _proven(book: Book, orders: Orders, task: Task, person: Person) -> Letter:
    house = orders.house(book.now)
    return letters.proven(task.facts, house, person, orders.tokens, orders.addresses, book.now, key=task.key)
