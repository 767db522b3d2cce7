"""How much there is, for `/metrics` and reports. Nothing here counts farther than it is asked to."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from panicmail.incident.model import EffectKind, State
from panicmail.incident.tasks import ALL_LANES
from panicmail.store.queries import Queries
from panicmail.store.rows import DeliveryState
from panicmail.store.tables import incidents, mails, outbox

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Figures(Queries):
    """Statements that count."""

    def totals(self) -> dict[str, dict[str, int]]:
        """How many rows stand where: incidents, drills left out, and mails by state, outbox by "lane state"."""
        figures: dict[str, dict[str, int]] = {}
        real = incidents.c.drill.is_(False)
        for name, table, counted in (("incidents", incidents, real), ("mails", mails, sa.true())):
            query = sa.select(table.c.state, sa.func.count()).where(counted).group_by(table.c.state)
            figures[name] = {row[0]: row[1] for row in self._connection.execute(query)}
        c = outbox.c
        lanes = self._connection.execute(sa.select(c.lane, c.state, sa.func.count()).group_by(c.lane, c.state))
        figures["outbox"] = {f"{row[0]} {row[1]}": row[2] for row in lanes}
        return figures

    def waiting(self, most: int) -> dict[str, dict[str, int]]:
        """How much is under way, by state: incidents, drills left out, mails, and the outbox by "lane state". Each is
        counted to `most` and no farther."""
        i, m, o = incidents.c, mails.c, outbox.c
        unresolved = (State.OPEN.value, State.ACKED.value)
        return {
            "incidents": {
                s: self._count(sa.and_(i.state == s, i.drill.is_(False)), incidents, most) for s in unresolved
            },
            "mails": {"accepted": self._count(m.state == "accepted", mails, most)},
            "outbox": {
                f"{lane} {state.value}": self._count(sa.and_(o.lane == lane, o.state == state.value), outbox, most)
                for lane in ALL_LANES
                for state in (DeliveryState.QUEUED, DeliveryState.TRYING, DeliveryState.PARKED, DeliveryState.FAILED)
            },
        }

    def late_open(self, most: int) -> int:
        """How many incidents are open and past their SLA, drills left out, counted to `most`."""
        c = incidents.c  # a span of instants, not IS NOT NULL: its index is chosen for that
        late = sa.and_(c.state == State.OPEN.value, c.breached_at > _LONG_AGO, c.drill.is_(False))
        return self._count(late, incidents, most)

    def _count(self, which: sa.ColumnElement[bool], table: sa.Table, most: int) -> int:
        some = sa.select(sa.literal(1)).select_from(table).where(which).limit(most).subquery()
        return int(self._connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())

    def open_since(self) -> datetime | None:
        """When the incident opened that is open for longest, drills left out; None when none is open."""
        c = incidents.c
        query = sa.select(c.opened_at).where(c.state == State.OPEN.value, c.drill.is_(False)).order_by(c.opened_at)
        at: datetime | None = self._connection.execute(query.limit(1)).scalar_one_or_none()
        return at

    def pages_since(self, since: datetime) -> int:
        """How many pages were queued since, drills left out."""
        counted = sa.select(sa.func.count()).join_from(outbox, incidents, outbox.c.incident_id == incidents.c.id)
        query = counted.where(
            outbox.c.do == EffectKind.PAGE.value, outbox.c.queued_at >= since, incidents.c.drill.is_(False)
        )
        return int(self._connection.execute(query).scalar_one())

    def accepted_since(self, since: datetime) -> int:
        """How many mails got their 250 since."""
        query = sa.select(sa.func.count()).where(mails.c.state.in_(["accepted", "understood"]))
        return int(self._connection.execute(query.where(mails.c.accepted_at >= since)).scalar_one())
