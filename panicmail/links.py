"""The page of one incident for one person: what is behind the link in a page, and what its buttons do.

The bearer of the link acts, nobody else is asked for; so it is recorded, and told to everybody paged, as "by link,
not authenticated", and whose link it is has the answer by mail and push as well: it may have been a stranger. What she
acknowledged, took or closed she may undo for two minutes (`states.undo`).

A link is good for this page and nothing else: its token is no address, and no other token opens the page. It is good
as long as the incident is not over: until a week after it was resolved. One that is opened again in that week keeps
its links; more that comes later is a new incident, with links of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from panicmail import states
from panicmail.acks import Acks, Answer, Way
from panicmail.dispatch.lane import flags_of, report_of
from panicmail.errors import PanicmailError
from panicmail.incident import Incident, Outcome, State
from panicmail.mail.tokens import Purpose
from panicmail.orders import UNVERIFIED, Orders, Standing
from panicmail.people import Person
from panicmail.store.book import Book
from panicmail.store.ledger import Ledger
from panicmail.store.rows import Line
from panicmail.triage import Report
from panicmail.words import Meaning, Said

#: The buttons, and what each says.
BUTTONS = {
    "ack": Meaning.YES,
    "no": Meaning.NO,
    "escalate": Meaning.ESCALATE,
    "take": Meaning.TAKE,
    "resolve": Meaning.RESOLVE,
}
#: What is offered, by where the incident stands for the reader.
OFFERED = {
    State.OPEN: ("ack", "no", "escalate"),
    State.ACKED: ("take", "escalate"),
    State.RESOLVED: (),
}
HELD = ("resolve", "escalate", "no")
#: Takes back what was done by link; beside the buttons, as no word of a mail says it.
UNDO = "undo"
HOW = "by link, not authenticated"
#: How long a link outlives its incident.
EXPIRES_AFTER = timedelta(days=7)


class LinkExpired(PanicmailError):  # noqa: N818
    """A link of ours, whose incident was resolved more than a week ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the bearer of a link sees."""

    incident: Incident
    person: Person
    report: Report
    lines: tuple[Line, ...]
    orders: Orders
    next_call: states.NextCall | None
    flags: tuple[str, ...]
    acts: tuple[str, ...]
    undo_until: datetime | None  #: she may undo what she did until then; None: there is nothing to undo
    verified: str = UNVERIFIED


class Links:
    """Answers for link tokens."""

    def __init__(self, ledger: Ledger, orders: Standing) -> None:
        self._ledger = ledger
        self._orders = orders

    def look(self, token: str) -> View | None:
        """What is behind the link; None when it is not one of ours. Changes nothing.

        Raises:
            LinkExpired: It was one.
        """
        orders = self._orders()
        return self._ledger.read(lambda book: _view(book, orders, token))

    def act(self, token: str, button: str) -> Outcome | None:
        """Press a button; None when the link is not one of ours.

        Raises:
            KeyError: There is no such button.
            LinkExpired: It was one.
        """
        said = None if button == UNDO else Said(BUTTONS[button], button)
        orders = self._orders()

        def work(book: Book) -> Outcome | None:
            view = _view(book, orders, token)
            if view is None:
                return None
            key = f"{view.person.id}/{view.incident.version}/{button}"
            way = Way(channel="link", how=HOW, key=key, may_undo=True)
            return _press(book, orders, view, said, way).outcome

        return self._ledger.write("link.act", work)


def _press(book: Book, orders: Orders, view: View, said: Said | None, way: Way) -> Answer:
    """`said` None: undo."""
    acks = Acks(book, orders)
    if said is None:
        return acks.undo(view.incident, view.person, way)
    return acks.act(view.incident, view.person, said, way)


def _view(book: Book, orders: Orders, text: str) -> View | None:
    token = orders.tokens.verify(text, orders.people)
    if token is None or token.purpose is not Purpose.LINK or not token.person:
        return None
    incident = book.incident(token.incident_id)
    if incident is None:
        return None
    if incident.resolved_at is not None and book.now - incident.resolved_at >= EXPIRES_AFTER:
        raise LinkExpired(incident.ref)
    lines = tuple(book.lines_of(incident.id))
    return View(
        incident=incident,
        person=orders.people[token.person],
        report=report_of(book, incident),
        lines=lines,
        orders=orders,
        next_call=states.next_call(incident, orders.ladder_of(incident), orders.who_at(book.now), token.person),
        flags=flags_of(lines),
        acts=_acts(incident, token.person),
        undo_until=states.undo_until(incident, token.person, lines, book.now),
    )


def _acts(incident: Incident, person: str) -> tuple[str, ...]:
    if incident.state is State.ACKED and incident.holder == person:
        return HELD
    return OFFERED[incident.state]
