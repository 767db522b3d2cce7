"""Adapters that let nothing through: a wrong password, a certificate that does not fit, a project that is gone.

A row whose attempt found this out keeps its state and names the adapter in `barred`. While such a row waits, nothing
else is sent by the same adapter; once a minute the oldest row that waits for it is tried, as a probe. The first that
gets through frees the others, which follow oldest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from panicmail.incident import Do
from panicmail.store.rows import Delivery, Task, task_of
from panicmail.store.statements import UNHELD, Statements, free
from panicmail.store.tables import outbox, timeline

#: A barred adapter is tried this often.
PROBE_EVERY = timedelta(minutes=1)
#: News that had to wait for so long is not sent any more.
OLD_NEWS = timedelta(hours=1)
_NEWS = (Do.NEWS.value, Do.TELL.value, Do.OPERATORS.value)
_PENDING = (Delivery.QUEUED.value, Delivery.TRYING.value)
#: Lane -> the adapter it sends by; a phone's channel is an adapter of its own, any other lane is its own.
_RELAY = {"page": "relay", "mail": "relay"}
_PUSH = "push"


def adapter_of(task: Task) -> str:
    """What has to work for this row: "relay", "gitlab", or one push channel of one person."""
    if task.lane == _PUSH:
        return f"{_PUSH}/{task.person}/{task.facts.get('channel')}"
    return _RELAY.get(task.lane, task.lane)


def lanes_of(adapter: str) -> list[str]:
    """The lanes that send by it."""
    return [lane for lane, by in _RELAY.items() if by == adapter] or [adapter.partition("/")[0]]


def _sends_by(lane: str) -> sa.ColumnElement[str]:
    """`adapter_of` a row of `lane`, in SQL."""
    if lane == _PUSH:
        channel = outbox.c.facts["channel"].as_string()
        return sa.literal(f"{_PUSH}/") + sa.func.coalesce(outbox.c.person, "") + "/" + sa.func.coalesce(channel, "")
    return sa.literal(_RELAY.get(lane, lane))


class Barred(Statements):
    """Statements about rows that wait for an adapter to work again."""

    def park(self, task: Task, answer: str) -> bool:
        """This attempt found that its adapter lets nothing through. False when it no longer counts.

        The next attempt looks for what an earlier one may have done, whatever is known of this one.
        """
        mine = sa.and_(
            outbox.c.id == task.id, outbox.c.attempt == task.attempt, outbox.c.state == Delivery.TRYING.value
        )
        parked = {"barred": adapter_of(task), "due_at": self.now + PROBE_EVERY, "answer": answer,
                  "unsure_at": task.unsure_at or min(task.queued_at, self.now - PROBE_EVERY), **UNHELD}  # fmt: skip
        return self._connection.execute(outbox.update().where(mine).values(parked)).rowcount == 1

    def retry(self, incident_id: str | None = None) -> int:
        """Try now whatever waits to be tried again or was given up for later; answers how many rows.

        Args:
            incident_id: Only of this incident, and what it waits for; None: of all.
        """
        c = outbox.c
        chosen = sa.true() if incident_id is None else c.incident_id == incident_id
        given_up = sa.and_(c.state == Delivery.PARKED.value, chosen)
        again = {"state": Delivery.TRYING.value, "done_at": None, "due_at": self.now, **UNHELD}
        count = self._connection.execute(outbox.update().where(given_up).values(again)).rowcount
        waiting = sa.and_(c.state.in_(_PENDING), free(c.lease_until, self.now))
        rows = self._connection.execute(sa.select(outbox).where(waiting, chosen)).all()
        adapters = {adapter_of(task_of(row)) for row in rows}
        delayed = sa.and_(waiting, c.due_at > self.now, sa.or_(chosen, c.barred.in_(adapters)))
        count += self._connection.execute(outbox.update().where(delayed).values(due_at=self.now)).rowcount
        self.woken.update(lane for adapter in adapters for lane in lanes_of(adapter))
        return count

    def _is_held(self, lane: str) -> sa.ColumnElement[bool]:
        """Whether the adapter of a row of `lane` was found to let nothing through less than a minute ago."""
        found = outbox.alias("found")
        return sa.exists().where(
            found.c.barred == _sends_by(lane),
            found.c.state.in_(_PENDING),
            # Never longer: a clock may have been put back.
            found.c.due_at.between(self.now + timedelta(microseconds=1), self.now + PROBE_EVERY),
        )

    def _begin_probes(self, lane: str) -> set[str]:
        """The adapters of `lane` that are to be tried again; what is too old to be sent is dropped first."""
        c = outbox.c
        due = sa.and_(c.barred.is_not(None), c.state.in_(_PENDING), c.due_at <= self.now)
        barred = self._connection.execute(sa.select(c.barred).where(due).distinct()).scalars().all()
        adapters = {adapter for adapter in barred if lane in lanes_of(adapter)}
        for adapter in adapters:
            self._drop_old_news(adapter)
        return adapters

    def _one_probe(self, tasks: Iterable[Task], barred: set[str]) -> list[Task]:
        """Of these, one for each barred adapter, and all others; that adapter's next probe is a minute off."""
        left, kept = set(barred), []
        for task in tasks:
            adapter = adapter_of(task)
            if adapter in barred and adapter not in left:
                continue
            if adapter in left:
                left.remove(adapter)
                found = sa.and_(outbox.c.barred == adapter, outbox.c.state.in_(_PENDING))
                self._connection.execute(outbox.update().where(found).values(due_at=self.now + PROBE_EVERY))
            kept.append(task)
        return kept

    def _free(self, task: Task) -> None:
        """The adapter of `task` works: what waits for it may go."""
        adapter = adapter_of(task)
        found = sa.and_(outbox.c.barred == adapter, outbox.c.id != task.id, outbox.c.state.in_(_PENDING))
        freed = outbox.update().where(found).values(barred=None, due_at=self.now)
        if self._connection.execute(freed).rowcount or self._is_barred(task):
            self._drop_old_news(adapter)
            self.woken.update(lanes_of(adapter))
            self.logged.append(("adapter.works_again", {"adapter": adapter}))

    def _probe_with_another(self, task: Task) -> None:
        """This row ended unsent, so it told nothing of its adapter: if that was to be tried, the next one tries it."""
        found = sa.and_(outbox.c.barred == adapter_of(task), outbox.c.state.in_(_PENDING))
        unheld = sa.and_(found, free(outbox.c.lease_until, self.now))
        if self._connection.execute(outbox.update().where(unheld).values(due_at=self.now)).rowcount:
            self.woken.update(lanes_of(adapter_of(task)))

    def _is_barred(self, task: Task) -> bool:
        own = sa.select(outbox.c.barred).where(outbox.c.id == task.id)
        return self._connection.execute(own).scalar_one_or_none() is not None

    def _drop_old_news(self, adapter: str) -> None:
        """News nobody could be told for an hour has become history; the timeline says who did not get it."""
        c = outbox.c
        query = sa.select(outbox).where(
            c.lane.in_(lanes_of(adapter)),
            c.state.in_(_PENDING),
            c.do.in_(_NEWS),
            c.queued_at < self.now - OLD_NEWS,
            free(c.lease_until, self.now),
        )
        for task in (task_of(row) for row in self._connection.execute(query).all()):
            if adapter_of(task) == adapter:
                self._drop(task)

    def _drop(self, task: Task) -> None:
        about: dict[str, Any] = {"person": task.person, "what": task.do, "since": task.queued_at.isoformat()}
        over = {"state": Delivery.VOID.value, "done_at": self.now, "answer": "older than an hour", **UNHELD}
        self._connection.execute(outbox.update().where(outbox.c.id == task.id).values(over))
        self.logged.append(("news.dropped", {"incident": task.incident_id, **about}))
        if task.incident_id is not None:
            line = {"incident_id": task.incident_id, "at": self.now, "event": "news.dropped", "actor": "panicmail"}
            self._connection.execute(timeline.insert().values({**line, "facts": about}))
