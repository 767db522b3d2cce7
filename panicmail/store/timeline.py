"""What happened to an incident, line by line. A line is never changed."""

from __future__ import annotations

import sqlalchemy as sa

from panicmail.incident.model import Entry, Incident
from panicmail.incident.tasks import alarm_of_entry, note_task
from panicmail.store.enqueue import OutboxQueue, mailbox_of
from panicmail.store.queries import Queries, TransactionContext
from panicmail.store.rows import TimelineRow, timeline_row_of
from panicmail.store.tables import timeline

#: Built once: every change asks them.
_ADD = timeline.insert().returning(timeline.c.id)
_OF_INCIDENT = sa.select(timeline).where(timeline.c.incident_id == sa.bindparam("incident")).order_by(timeline.c.id)


class Timeline(Queries):
    """Statements about timelines."""

    def __init__(self, context: TransactionContext, queue: OutboxQueue) -> None:
        super().__init__(context)
        self._queue = queue

    def add(self, incident: Incident, *entries: Entry) -> None:
        """Write these lines, with their notes on the issue; the log says aloud what an alert may wait for."""
        for entry in entries:
            line = {"incident_id": incident.id, "at": self.now, "event": entry.event, "actor": entry.actor,
                    "facts": dict(entry.facts)}  # fmt: skip
            line_id = self._connection.execute(_ADD, line).scalar_one()
            if event := alarm_of_entry(entry):
                about = {"ref": incident.ref, "incident": incident.id, "people": sorted(incident.paged)}
                self._alarmed.append((event, {**about, **entry.facts, "operators": list(self._operators)}))
            if entry.note:
                self._queue.add([note_task(incident.id, line_id)], mailbox_of(incident))

    def of_incident(self, incident_id: str) -> list[TimelineRow]:
        asked = {"incident": incident_id}
        return self._once(
            ("lines", incident_id),
            lambda: [timeline_row_of(row) for row in self._connection.execute(_OF_INCIDENT, asked)],
        )

    def get(self, line_id: int) -> TimelineRow:
        return timeline_row_of(self._connection.execute(sa.select(timeline).where(timeline.c.id == line_id)).one())
