"""Rows of the outbox that do not add up: nobody claims them, they wait for nothing, they are held for too long.

Asked once a minute, as the questions of `gaps`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from panicmail.incident.tasks import ALL_LANES
from panicmail.store.blocked_adapters import BlockedAdapters
from panicmail.store.gaps import LIMIT, OddRow
from panicmail.store.queries import UNHELD, Queries, TransactionContext, free
from panicmail.store.rows import OVER, DeliveryState
from panicmail.store.tables import incidents, mails, outbox

_PENDING = (DeliveryState.QUEUED.value, DeliveryState.TRYING.value)
_OVER = tuple(state.value for state in OVER)


class OutboxGaps(Queries):
    """Statements that find rows nobody carries out."""

    def __init__(self, context: TransactionContext, adapters: BlockedAdapters) -> None:
        super().__init__(context)
        self._adapters = adapters

    def stuck_lane(self, lane: str, before: datetime) -> list[OddRow]:
        """One for the lane, if rows of it were due before `before` and nobody claims them."""
        c, first = outbox.c, outbox.alias("first")
        is_over = sa.exists().where(first.c.id == c.after_id, first.c.state.in_(_OVER))
        query = sa.select(sa.func.count(), sa.func.min(c.due_at)).where(
            c.lane == lane,
            c.state.in_(_PENDING),
            c.due_at < before,
            free(c.lease_until, self.now),
            sa.or_(c.after_id.is_(None), is_over, c.after_until < before),
            ~self._adapters.found_by(lambda found: found.due_at >= before),  # its adapter is barred, and probed
        )
        count, since_at = self._connection.execute(query).one()
        return [OddRow(since_at=since_at, lane=lane, count=count)] if count else []

    def waiting_for_nothing(self) -> list[OddRow]:
        """Rows that wait for a row that is not there, by incident."""
        c, first = outbox.c, outbox.alias("first")
        query = (
            sa.select(c.incident_id, sa.func.count().label("rows"), sa.func.min(c.queued_at).label("since_at"))
            .where(*_pending(), c.after_id.is_not(None), ~sa.exists().where(first.c.id == c.after_id))
            .group_by(c.incident_id)
            .limit(LIMIT)
        )
        return [
            OddRow(since_at=row.since_at, incident_id=row.incident_id, ref=self._ref(row.incident_id), count=row.rows)
            for row in self._connection.execute(query).all()
        ]

    def mend_waiting_for_nothing(self, incident_id: str) -> None:
        """Let those rows wait for the incident's issue if that is still to come, else for nothing."""
        c, first = outbox.c, outbox.alias("first")
        issue = sa.select(c.id).where(c.key == f"{incident_id}/issue", c.state.in_(_PENDING))
        lost = sa.and_(
            c.incident_id == incident_id,
            c.state.in_(_PENDING),
            c.after_id.is_not(None),
            ~sa.exists().where(first.c.id == c.after_id),
        )
        after_id = self._connection.execute(issue).scalar_one_or_none()
        self._connection.execute(outbox.update().where(lost).values(after_id=after_id))
        self._woken.update(ALL_LANES)

    def held_too_long(self, beyond: datetime) -> list[OddRow]:
        """One each for mails and lanes, if rows are leased beyond `beyond`, as no claim ever is."""
        count = sa.select(sa.func.count())
        held = {"mails": count.where(mails.c.state == "accepted", mails.c.lease_until > beyond)}
        for lane in ALL_LANES:
            pending = sa.and_(outbox.c.lane == lane, outbox.c.state.in_(_PENDING))
            held[lane] = count.where(pending, outbox.c.lease_until > beyond)
        counts = {name: self._connection.execute(query).scalar_one() for name, query in held.items()}
        return [OddRow(since_at=self.now, lane=name, count=rows) for name, rows in counts.items() if rows]

    def mend_held(self, beyond: datetime) -> None:
        """Free what is leased beyond `beyond`."""
        for table in (mails, outbox):
            self._connection.execute(table.update().where(table.c.lease_until > beyond).values(**UNHELD))
        self._woken.update(["mails", *ALL_LANES])

    def _ref(self, incident_id: str) -> str:
        query = sa.select(incidents.c.ref).where(incidents.c.id == incident_id)
        return self._connection.execute(query).scalar_one_or_none() or ""


def _pending() -> Iterable[sa.ColumnElement[bool]]:
    """Rows that are still to be done; the lanes are named because the index begins with them."""
    return outbox.c.lane.in_(ALL_LANES), outbox.c.state.in_(_PENDING)
