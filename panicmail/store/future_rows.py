"""Rows that lie ahead of the present: written while the clock stood too far ahead, before it was put back.

Only what is still to be done is looked at and brought back; what is over keeps the times it was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from panicmail.incident import clock_steps
from panicmail.incident.model import EffectKind, State
from panicmail.incident.tasks import ALL_LANES
from panicmail.store.queries import Queries
from panicmail.store.rows import DeliveryState
from panicmail.store.tables import incidents, mails, outbox, timeline

#: The line of a timeline that says the incident's times were brought back.
PUT_BACK = "clock.put_back"

_UNRESOLVED = (State.OPEN.value, State.ACKED.value)
_PENDING = sa.and_(
    outbox.c.lane.in_(ALL_LANES),  # the index begins with it
    outbox.c.state.in_([DeliveryState.QUEUED.value, DeliveryState.TRYING.value]),
)


@dataclass(frozen=True, slots=True)
class InstantColumns:
    """The columns of a table that hold instants of what is still to be done. Its lease is one more."""

    table: sa.Table
    past: tuple[str, ...]  #: of what has happened
    coming: tuple[str, ...]  #: of what is to happen


_OF_MAILS = InstantColumns(mails, past=("accepted_at",), coming=())
_OF_OUTBOX = InstantColumns(outbox, past=("queued_at", "unsure_at"), coming=("due_at", "after_until"))


class FutureRows(Queries):
    """Statements about what lies ahead of now and should not."""

    def lead(self) -> timedelta:
        """How far the newest instant that should be past lies ahead; zero when none does by more than the tolerance."""
        c, line = incidents.c, timeline.c
        unresolved = c.state.in_(_UNRESOLVED)
        queries = [
            sa.select(sa.func.max(mails.c.accepted_at)).where(mails.c.state == "accepted"),
            sa.select(sa.func.max(outbox.c.queued_at)).where(_PENDING),
            *(sa.select(sa.func.max(at)).where(unresolved) for at in (c.accepted_at, c.opened_at, c.steps_from_at)),
            sa.select(sa.func.max(line.at)).where(line.incident_id.in_(sa.select(c.id).where(unresolved)), _is_new()),
        ]
        newest = [self._connection.execute(query).scalar_one() for query in queries]
        lead = max((at - self.now for at in newest if at is not None), default=timedelta())
        return lead if lead > clock_steps.TOLERANCE else timedelta()

    def happened_ahead(self) -> set[str]:
        """Unresolved incidents of whose timeline a line lies ahead, and which were not brought back since."""
        c = timeline.c
        query = (
            sa.select(c.incident_id)
            .distinct()
            .where(
                c.incident_id.in_(sa.select(incidents.c.id).where(incidents.c.state.in_(_UNRESOLVED))),
                c.at > self.now + clock_steps.TOLERANCE,
                _is_new(),
            )
        )
        return set(self._connection.execute(query).scalars())

    def bring_back(self, by: timedelta, longest_lease: timedelta) -> int:
        """Bring back mails that wait to be understood and rows that wait to be carried out; answers how many.

        A lease no longer than `longest_lease` is left alone: it may have been taken since.
        """
        # A look for twins waits for minutes on purpose.
        others = sa.and_(_PENDING, outbox.c.do != EffectKind.TWINS.value)
        twins = sa.and_(
            _PENDING, outbox.c.do == EffectKind.TWINS.value, outbox.c.queued_at > self.now + clock_steps.TOLERANCE
        )
        moved = self._bring_back(_OF_MAILS, mails.c.state == "accepted", by, longest_lease)
        moved += self._bring_back(_OF_OUTBOX, others, by, longest_lease)
        return moved + self._bring_back(_OF_OUTBOX, twins, by, longest_lease)

    def _bring_back(
        self, columns: InstantColumns, where: sa.ColumnElement[bool], by: timedelta, longest_lease: timedelta
    ) -> int:
        table, past, coming = columns.table, columns.past, columns.coming
        ahead = sa.or_(*(table.c[name] > self.now for name in (*past, *coming, "lease_until")))
        moved = 0
        for row in self._connection.execute(sa.select(table).where(where, ahead)).mappings().all():
            right = {name: clock_steps.past(row[name], by, self.now) for name in past if row[name] is not None}
            right |= {name: clock_steps.coming(row[name], by, self.now) for name in coming if row[name] is not None}
            if (until := row["lease_until"]) is not None and until > self.now + longest_lease:
                right["lease_until"] = clock_steps.coming(until, by, self.now)
            moved += self._write(table, row, right)
        return moved

    def _write(self, table: sa.Table, row: sa.RowMapping, right: dict[str, datetime]) -> bool:
        if all(row[name] == at for name, at in right.items()):
            return False
        self._connection.execute(table.update().where(table.c.id == row["id"]).values(right))
        self._woken.add("mails" if table is mails else row["lane"])
        return True


def _is_new() -> sa.ColumnElement[bool]:
    """The line was written since its incident was last brought back, if it ever was."""
    later = timeline.alias("later")
    return ~sa.exists().where(
        later.c.incident_id == timeline.c.incident_id, later.c.event == PUT_BACK, later.c.id > timeline.c.id
    )
