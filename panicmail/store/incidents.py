"""Incidents, one by one. An incident changes only `WHERE version = ` the one it was read at."""

from __future__ import annotations

import sqlalchemy as sa

from panicmail.incident import ids
from panicmail.incident.model import Change, Entry, Incident
from panicmail.incident.tasks import alarm_of_effect, change_tasks, issue_tasks
from panicmail.incident.transitions import due_at
from panicmail.store.enqueue import OutboxQueue, mailbox_of
from panicmail.store.incident_search import IncidentSearch
from panicmail.store.pages import Pages
from panicmail.store.queries import Conflict, Queries, TransactionContext
from panicmail.store.rows import DeliveryState, row_of
from panicmail.store.tables import incidents, outbox
from panicmail.store.timeline import Timeline

#: Built once, as all that is asked with every step of every mail.
_BY_ID = sa.select(incidents).where(incidents.c.id == sa.bindparam("id"))


class Incidents(Queries):
    """Statements about one incident."""

    def __init__(
        self,
        context: TransactionContext,
        search: IncidentSearch,
        pages: Pages,
        queue: OutboxQueue,
        timeline: Timeline,
    ) -> None:
        super().__init__(context)
        self._search, self._pages, self._queue, self._timeline = search, pages, queue, timeline

    def get(self, incident_id: str) -> Incident | None:
        return self._once(
            ("incident", incident_id), lambda: next(iter(self._search.loaded(_BY_ID, id=incident_id)), None)
        )

    def locked(self, incident_id: str) -> Incident | None:
        """As `get`, and nobody else changes it until the end of the transaction."""
        query = sa.select(incidents).where(incidents.c.id == incident_id).with_for_update()
        return next(iter(self._search.loaded(query)), None)

    def by_ref(self, ref: str) -> Incident | None:
        return self._one(incidents.c.ref == ids.read_ref(ref))

    def by_mail(self, mail_id: str) -> Incident | None:
        return self._one(incidents.c.mail_id == mail_id)

    def _one(self, where: sa.ColumnElement[bool]) -> Incident | None:
        return next(iter(self._search.loaded(sa.select(incidents).where(where))), None)

    def free_ref(self, mail_id: str) -> str:
        """The shortest REF of this mail that no other incident has."""
        for length in range(ids.REF_LENGTH, ids.REF_LONGEST):
            ref = ids.ref(mail_id, length)
            if self.by_ref(ref) is None:
                return ref
        return ids.ref(mail_id, ids.REF_LONGEST)

    def add(self, change: Change) -> Incident:
        """Store a new incident with its first effects."""
        incident = change.incident
        self._connection.execute(incidents.insert(), row_of(incident))
        self._log_change("new", incident)
        self._follow(None, change)
        return incident

    def apply(self, before: Incident, change: Change) -> Incident:
        """Store a change of `before`, which was read in this transaction.

        Raises:
            Conflict: Another node changed it meanwhile; `Store.write` starts over.
        """
        after = change.incident
        if after != before:
            # No column that did not change: an issue is written down without a version, perhaps by another node.
            old = row_of(before)
            values = {name: value for name, value in row_of(after).items() if value != old[name]}
            values |= {"version": before.version + 1, "due_at": due_at(after)}
            guard = sa.and_(incidents.c.id == before.id, incidents.c.version == before.version)
            if self._connection.execute(incidents.update().where(guard).values(values)).rowcount != 1:
                raise Conflict(before.id)
            self._log_change(before.state.value, after)
        self._follow(before, change)
        return after

    def _follow(self, before: Incident | None, change: Change) -> None:
        """Write what a change asks for beside the incident: pages, tasks, lines of the timeline."""
        after = change.incident
        if change.void_pages:
            self._pages.void(after)
        self._pages.add(before, after, change.effects)
        self._queue.add(change_tasks(before, change, self._channels, self.now, self._operators), mailbox_of(after))
        for effect in change.effects:
            if event := alarm_of_effect(effect):
                about = {"ref": after.ref, "incident": after.id, "people": sorted(after.paged)}
                self._alarmed.append((event, {**about, **effect.facts, "operators": list(self._operators)}))
        self._timeline.add(after, *change.entries)

    def _log_change(self, old: str, incident: Incident) -> None:
        facts = {"ref": incident.ref, "incident": incident.id, "old": old, "new": incident.state.value,
                 "step": incident.step + 1, "round": incident.round, "holder": incident.holder}  # fmt: skip
        self._logged.append(("incident.changed", facts))

    def issue_opened(self, incident: Incident, iid: int, url: str, *, twin_possible: bool = False) -> None:
        """Remember the incident's issue. Not a change of state, so the version stays.

        `twin_possible`: an earlier attempt had an open outcome, so another issue may appear beside it.
        """
        self._connection.execute(
            incidents.update().where(incidents.c.id == incident.id).values(issue_iid=iid, issue_url=url)
        )
        self._timeline.add(incident, Entry(event="issue.opened", actor="panicmail", facts={"url": url}, note=False))
        was_tried = sa.exists().where(
            outbox.c.key == f"{incident.id}/receipt", outbox.c.state != DeliveryState.QUEUED.value
        )
        is_receipt_out = bool(self._connection.execute(sa.select(was_tried)).scalar_one())
        self._queue.add(
            issue_tasks(incident, twin_possible=twin_possible, is_receipt_out=is_receipt_out, channels=self._channels),
            mailbox_of(incident),
        )

    def move_issue(self, incident: Incident, iid: int, url: str) -> None:
        """The incident's issue is another one: of two twins the older stays."""
        self._connection.execute(
            incidents.update().where(incidents.c.id == incident.id).values(issue_iid=iid, issue_url=url)
        )
