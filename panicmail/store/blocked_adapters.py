"""Adapters that let nothing through: a wrong password, a certificate that does not fit, a project that is gone.

A row whose attempt found this out keeps its state and names the adapter in `barred`, until something gets through,
also when it has lost its reason meanwhile. As long as there is such a row nothing else is sent by the same adapter;
once a minute, at its `due_at`, the oldest row that waits is tried as a probe. The first that gets through frees the
others, which follow oldest first. A page waits only behind what a page found: what other mail came to must not hold it
up for its first minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import sqlalchemy as sa

from panicmail.incident.model import EffectKind
from panicmail.incident.tasks import NEWS_KINDS, OLD_NEWS, PUSH, is_stale_news
from panicmail.store.queries import UNHELD, Queries, free
from panicmail.store.rows import DeliveryState, OutboxRow, outbox_row_of
from panicmail.store.tables import incidents, outbox, timeline

#: A barred adapter is tried this often.
PROBE_EVERY = timedelta(minutes=1)
#: What nobody probed for so long, because nothing waited, holds nothing up: the next row finds out for itself.
FORGOTTEN_AFTER = timedelta(days=1)
_PENDING = (DeliveryState.QUEUED.value, DeliveryState.TRYING.value)
#: Lane -> the adapter it sends by; a phone's channel is an adapter of its own, any other lane is its own.
_RELAY = {"page": "relay", "mail": "relay"}


class Heard(Enum):
    """Whether the adapter of a row that is put off listened to it."""

    YES = "yes"  #: it understood, and said no to this one thing
    NOT_SURELY = "not surely"  #: a passing failure; if it is barred, it stays so
    NO_TELLING = "no telling"  #: it refused this one thing as it might refuse all


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """An adapter that lets nothing through."""

    adapter: str  #: see `adapter_name`
    since_at: datetime  #: when the first row was queued that found it
    answer: str  #: to the latest probe


def adapter_name(lane: str, person: str | None, facts: Mapping[str, Any]) -> str:
    """What has to work for a row of the outbox: "relay", "gitlab", or one push channel of one person."""
    if lane == PUSH:
        return f"{PUSH}/{person}/{facts.get('channel')}"
    return _RELAY.get(lane, lane)


def adapter_of(task: OutboxRow) -> str:
    return adapter_name(task.lane, task.person, task.facts)


def lanes_of(adapter: str) -> list[str]:
    """The lanes that send by it."""
    return [lane for lane, by in _RELAY.items() if by == adapter] or [adapter.partition("/")[0]]


def _found_by(*more: Callable[[Any], sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
    found = outbox.alias("found")
    # A page waits for what a page found: other mail may be refused for what it is.
    counts = sa.or_(outbox.c.do != EffectKind.PAGE.value, found.c.do == EffectKind.PAGE.value)
    return sa.exists().where(found.c.barred == outbox.c.adapter, counts, *(each(found.c) for each in more))


def held_times(now: datetime) -> dict[str, datetime]:
    """The parameters of `IS_HELD`. Never longer than a probe is off: a clock may have been put back."""
    return {"held_from": now + timedelta(microseconds=1), "held_to": now + PROBE_EVERY}


def at(name: str) -> sa.BindParameter[datetime]:
    """An instant that a statement which is built once is given."""
    return sa.bindparam(name, type_=outbox.c.due_at.type)


#: As `BlockedAdapters.is_held`, for statements that are built once; with `held_times`.
IS_HELD = _found_by(lambda c: c.due_at.between(at("held_from"), at("held_to")))
#: Whether the adapter of a row was found to let nothing through, whenever that was.
IS_BARRED = _found_by()
_PROBED = (
    sa.select(outbox.c.barred)
    .where(outbox.c.barred > "", outbox.c.due_at.between(at("since"), at("now")))
    .order_by(outbox.c.barred, outbox.c.id)
    .with_for_update()
)


class BlockedAdapters(Queries):
    """Statements about rows that wait for an adapter to work again."""

    def park(self, task: OutboxRow, answer: str) -> bool:
        """This attempt found that its adapter lets nothing through. False when it no longer counts.

        The next attempt looks for what an earlier one may have done, whatever is known of this one.
        """
        mine = sa.and_(
            outbox.c.id == task.id, outbox.c.attempt == task.attempt, outbox.c.state == DeliveryState.TRYING.value
        )
        parked = {"barred": adapter_of(task), "due_at": self.now + PROBE_EVERY, "answer": answer,
                  "unsure_at": task.unsure_at or min(task.queued_at, self.now - PROBE_EVERY), **UNHELD}  # fmt: skip
        return self._connection.execute(outbox.update().where(mine).values(parked)).rowcount == 1

    def barred(self) -> dict[str, Bar]:
        """The adapters that let nothing through, by name, each as long as something waits that found it."""
        c = outbox.c
        found = sa.and_(c.barred.is_not(None), c.state.in_(_PENDING))
        query = sa.select(c.barred, c.queued_at, c.answer).where(found).order_by(c.due_at, c.id)
        bars: dict[str, Bar] = {}
        for adapter, queued_at, answer in self._connection.execute(query):
            since_at = min(queued_at, bars[adapter].since_at) if adapter in bars else queued_at
            bars[adapter] = Bar(adapter=adapter, since_at=since_at, answer=answer)
        return bars

    def retry(self, incident_id: str | None = None) -> int:
        """Try now whatever waits to be tried again or was given up for later; answers how many rows that concerns.

        What waits for an adapter that is barred goes when the oldest of it gets through.

        Args:
            incident_id: Only of this incident, and what it waits for; None: of all.
        """
        c = outbox.c
        chosen = sa.true() if incident_id is None else c.incident_id == incident_id
        given_up = sa.and_(c.state == DeliveryState.PARKED.value, chosen)
        again = {"state": DeliveryState.TRYING.value, "done_at": None, "due_at": self.now, **UNHELD}
        parked = [outbox_row_of(row) for row in self._connection.execute(sa.select(outbox).where(given_up)).all()]
        self._connection.execute(outbox.update().where(given_up).values(again))
        waiting = sa.and_(c.state.in_(_PENDING), free(c.lease_until, self.now))
        rows = self._connection.execute(sa.select(outbox).where(waiting, chosen, c.id.not_in([t.id for t in parked])))
        tasks, barred = [outbox_row_of(row) for row in rows.all()], self.barred()
        # What was never tried and is due later is so on purpose.
        stands = [t for t in tasks if adapter_of(t) in barred or (t.attempt > 0 and t.due_at > self.now)]
        adapters = {adapter_of(task) for task in (*stands, *parked)}
        delayed = sa.and_(waiting, c.id.in_([task.id for task in stands]), c.due_at > self.now)
        probed = sa.and_(c.barred.in_(adapters), free(c.lease_until, self.now), c.due_at > self.now)
        self._connection.execute(outbox.update().where(sa.or_(delayed, probed)).values(due_at=self.now))
        self._woken.update(lane for adapter in adapters for lane in lanes_of(adapter))
        return len(stands) + len(parked)

    def found_by(self, *more: Callable[[Any], sa.ColumnElement[bool]]) -> sa.ColumnElement[bool]:
        """Whether a row of which `more` is true found the adapter of a row barred."""
        return _found_by(*more)

    def is_held(self) -> sa.ColumnElement[bool]:
        """Whether the adapter of a row was found to let nothing through less than a minute ago."""
        times = held_times(self.now)
        return self.found_by(lambda c: c.due_at.between(times["held_from"], times["held_to"]))

    def begin_probes(self, lane: str) -> set[str]:
        """The adapters of `lane` that are to be tried again; what is too old to be sent is dropped first.

        Their rows are locked, so that of two nodes one probes, and the other sees that it did.
        """
        times = {"since": self.now - FORGOTTEN_AFTER, "now": self.now}
        barred = set(self._connection.execute(_PROBED, times).scalars())
        adapters = {adapter for adapter in barred if lane in lanes_of(adapter)}
        for adapter in adapters:
            self._drop_old_news(adapter)
        return adapters

    def one_probe(self, tasks: Iterable[OutboxRow], barred: set[str]) -> list[OutboxRow]:
        """Of these, one for each barred adapter, and all others; that adapter's next probe is a minute off."""
        left, kept = set(barred), []
        for task in tasks:
            adapter = adapter_of(task)
            if adapter in barred and adapter not in left:
                continue
            if adapter in left:
                left.remove(adapter)
                found = outbox.update().where(outbox.c.barred == adapter)
                self._connection.execute(found.values(due_at=self.now + PROBE_EVERY))
            kept.append(task)
        return kept

    def free_all(self, task: OutboxRow) -> bool:
        """The adapter of `task` works: what waits for it may go. False when nothing knew it otherwise."""
        adapter, c = adapter_of(task), outbox.c
        due_at = sa.case((c.id == task.id, c.due_at), else_=self.now)
        found = outbox.update().where(c.barred == adapter)
        freed = self._connection.execute(found.values(barred=None, due_at=due_at)).rowcount
        if freed:
            self._drop_old_news(adapter)
            self._woken.update(lanes_of(adapter))
            self._logged.append(("adapter.works_again", {"adapter": adapter}))
        return freed > 0

    def probe_at(self, task: OutboxRow, at: datetime) -> None:
        """This attempt says nothing sure of its adapter: if that is barred, the next probe is at `at`, in a minute at
        most."""
        found = outbox.update().where(outbox.c.barred == adapter_of(task))
        self._connection.execute(found.values(due_at=min(at, self.now + PROBE_EVERY)))

    def probe_with_another(self, task: OutboxRow) -> None:
        """This row ended unsent, so it told nothing of its adapter: if that was to be tried, the next one tries it."""
        unheld = sa.and_(outbox.c.barred == adapter_of(task), free(outbox.c.lease_until, self.now))
        if self._connection.execute(outbox.update().where(unheld).values(due_at=self.now)).rowcount:
            self._woken.update(lanes_of(adapter_of(task)))

    def _drop_old_news(self, adapter: str) -> None:
        """News nobody could be told for an hour has become history; the timeline says who did not get it."""
        c = outbox.c
        query = sa.select(outbox).where(
            c.adapter == adapter,
            c.lane.in_(lanes_of(adapter)),  # what the index begins with
            c.state.in_(_PENDING),
            c.do.in_([kind.value for kind in NEWS_KINDS]),
            c.queued_at < self.now - OLD_NEWS,
            free(c.lease_until, self.now),
        )
        for task in (outbox_row_of(row) for row in self._connection.execute(query).all()):
            if is_stale_news(task.facts):
                self._drop(task)

    def _drop(self, task: OutboxRow) -> None:
        about: dict[str, Any] = {"person": task.person, "what": task.do, "since": task.queued_at.isoformat()}
        over = {"state": DeliveryState.VOID.value, "done_at": self.now, "answer": "older than an hour", **UNHELD}
        self._connection.execute(outbox.update().where(outbox.c.id == task.id).values(over))
        named = sa.select(incidents.c.ref).where(incidents.c.id == task.incident_id)
        ref = self._connection.execute(named).scalar_one_or_none()
        self._logged.append(("news.dropped", {"ref": ref, "incident": task.incident_id, **about}))
        if task.incident_id is not None:
            line = {"incident_id": task.incident_id, "at": self.now, "event": "news.dropped", "actor": "panicmail"}
            self._connection.execute(timeline.insert().values({**line, "facts": about}))
