"""Incidents, one by one. An incident changes only `WHERE version = ` the one it was read at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from panicmail.incident import ids
from panicmail.incident.model import Change, EffectKind, Entry, Incident, State
from panicmail.incident.tasks import LANES, alarm_of_effect, alarm_of_entry, change_tasks, issue_tasks, note_task
from panicmail.incident.transitions import due_at
from panicmail.store.outbox import OutboxQueue, mailbox_of
from panicmail.store.pages import AT_ONCE, Pages
from panicmail.store.queries import Conflict, Queries, TransactionContext
from panicmail.store.rows import DeliveryState, TimelineRow, incident_of, row_of, timeline_row_of
from panicmail.store.tables import incidents, outbox, timeline

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


# -- Which incidents: by state, by what is due, by person, by reporter, by issue.

#: What a column of numbers holds at most, in SQLite and PostgreSQL alike.
LARGEST_NUMBER = 2**31 - 1
#: What is due is taken in so many at once; a tick must not keep the next one waiting.
DUE_AT_ONCE = 500


class IncidentSearch(Queries):
    """Statements that find incidents."""

    def __init__(self, context: TransactionContext, pages: Pages) -> None:
        super().__init__(context)
        self._pages = pages

    def loaded(self, query: sa.Select[Any], **parameters: object) -> list[Incident]:
        """The incidents of a query of their rows, in its order, each with whom it paged."""
        rows = self._connection.execute(query, parameters).all()
        paged = self._pages.paged([row.id for row in rows]) if rows else {}
        return [incident_of(row, paged.get(row.id, {})) for row in rows]

    def list_incidents(self, *, states: Iterable[State] = tuple(State), since: datetime | None = None,
                       limit: int | None = None) -> list[Incident]:  # fmt: skip
        """Newest first."""
        query = sa.select(incidents).where(incidents.c.state.in_([s.value for s in states]))
        if since is not None:
            query = query.where(incidents.c.accepted_at >= since)
        query = query.order_by(incidents.c.accepted_at.desc(), incidents.c.id).limit(limit)
        return self.loaded(query)

    def due_incidents(self) -> list[Incident]:
        """Incidents for which time has brought something: a step, a breach, a reminder. Most overdue first.

        `DUE_AT_ONCE` at most; the next tick finds the others.
        """
        c = incidents.c
        due = sa.select(incidents).where(c.due_at <= self.now).order_by(c.due_at).limit(DUE_AT_ONCE)
        return sorted(self.loaded(due), key=lambda incident: incident.sla_at)

    def by_ids(self, incident_ids: Sequence[str]) -> list[Incident]:
        """In the order of `incident_ids`."""
        found: dict[str, Incident] = {}
        for at in range(0, len(incident_ids), AT_ONCE):
            query = sa.select(incidents).where(incidents.c.id.in_(incident_ids[at : at + AT_ONCE]))
            found |= {incident.id: incident for incident in self.loaded(query)}
        return [found[each] for each in incident_ids if each in found]

    def next_open_incidents(self, most: int) -> list[Incident]:
        """The open incidents whose next steps come first."""
        c = incidents.c
        query = sa.select(incidents).where(c.state == State.OPEN.value).order_by(c.next_step_at).limit(most)
        return self.loaded(query)

    def held_by_others(self, people: Collection[str]) -> list[Incident]:
        """Acknowledged incidents whose holder is none of `people`."""
        c = incidents.c
        gone: list[Incident] = []
        holder: str | None = ""
        while holder is not None:  # from one holder to the next by the index, however much each has
            after = sa.select(sa.func.min(c.holder)).where(c.state == State.ACKED.value, c.holder > holder)
            holder = self._connection.execute(after).scalar_one()
            if holder is not None and holder not in people:
                theirs = sa.select(incidents).where(c.state == State.ACKED.value, c.holder == holder)
                gone += self.loaded(theirs)
        return gone

    def has_any(self, person: str) -> bool:
        """Whether somebody holds an incident that is not over."""
        c = incidents.c
        held = sa.exists().where(c.state == State.ACKED.value, c.holder == person)
        return bool(self._connection.execute(sa.select(held)).scalar_one())

    def open_incidents_of(self, person: str, *, besides: str | None = None, limit: int | None = None) -> list[Incident]:
        """Open incidents that `person` was paged for, the latest paged first.

        Args:
            besides: The id of one that is left out.
            limit: None: all of them.
        """
        return self.by_ids(self._pages.open_for(person, besides, limit))

    def open_incidents_from(self, reporter: str, *, besides: str, limit: int) -> list[Incident]:
        """Other open incidents that this address reported, the newest first."""
        c = incidents.c
        theirs = sa.and_(c.reporter_address == reporter, c.id != besides)
        query = sa.select(incidents).where(theirs).order_by(c.accepted_at.desc()).limit(limit)
        return [incident for incident in self.loaded(query) if incident.state is State.OPEN]

    def incidents_since(self, reporter: str, since: datetime) -> int:
        """How many incidents one address has opened since."""
        c = incidents.c
        query = sa.select(sa.func.count()).where(c.reporter_address == reporter, c.accepted_at >= since)
        return int(self._connection.execute(query).scalar_one())

    def has_incident_from(self, reporter: str) -> bool:
        """Whether one address has ever opened an incident."""
        query = sa.select(sa.exists().where(incidents.c.reporter_address == reporter))
        return bool(self._connection.execute(query).scalar_one())

    def last_once(self, reporter: str, since: datetime) -> str | None:
        """The latest incident of this address that was paged once, if it came since."""
        c = incidents.c
        paged_once = sa.and_(c.reporter_address == reporter, c.once.is_(True), c.accepted_at > since)
        query = sa.select(c.id).where(paged_once).order_by(c.accepted_at.desc(), c.id).limit(1)
        return self._connection.execute(query).scalar_one_or_none()

    def last_mailed(self, address: str, person: str | None, since: datetime) -> str | None:
        """The incident about which the relay last took a mail to `address`, a reporter's, or to `person`, since."""
        c = outbox.c
        is_news = c.do.in_([EffectKind.RECEIPT.value, EffectKind.NEWS.value])
        to_reporter = sa.and_(is_news, incidents.c.reporter_address == address) if address else sa.false()
        to_person = c.person == person if person else sa.false()
        # `due_at` is what the index knows; what was taken since was hardly due a day before.
        taken = sa.and_(
            c.state == DeliveryState.ACCEPTED.value, c.due_at > since - timedelta(days=1), c.done_at > since
        )
        query = (
            sa.select(c.incident_id)
            .join(incidents, incidents.c.id == c.incident_id)
            .where(c.lane.in_([LANES[EffectKind.PAGE], LANES[EffectKind.NEWS]]), taken, sa.or_(to_reporter, to_person))
            .order_by(c.done_at.desc(), c.id.desc())
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()

    def near_incidents(self, by: datetime) -> list[Incident]:
        """Unresolved incidents that have an issue and for which something is due by then, the most urgent first."""
        c = incidents.c
        questions = (
            sa.select(c.id).where(c.state == State.OPEN.value, c.next_step_at <= by).order_by(c.next_step_at),
            sa.select(c.id).where(c.state == State.ACKED.value, c.remind_at <= by).order_by(c.remind_at),
        )
        near: dict[str, None] = {}
        for question in questions:
            near |= dict.fromkeys(self._connection.execute(question.limit(DUE_AT_ONCE)).scalars())
        found = [incident for incident in self.by_ids(list(near)) if incident.issue_iid is not None]
        return sorted(found, key=lambda incident: incident.sla_at)

    def incidents_after(self, state: State, after: tuple[datetime, str] | None, most: int) -> list[Incident]:
        """Some incidents in a state, in the order of their acceptance; of resolved ones, of their end.

        Args:
            after: Later ones than this instant, and than this id at it; None: from the first.
        """
        c = incidents.c
        at = c.resolved_at if state is State.RESOLVED else c.accepted_at
        query = sa.select(incidents).where(c.state == state.value).order_by(at, c.id).limit(most)
        if after is not None:
            query = query.where(at >= after[0], sa.or_(at > after[0], c.id > after[1]))
        return self.loaded(query)

    def incidents_of_issues(self, iids: Sequence[int]) -> list[Incident]:
        """Every incident whose issue has one of these numbers, in whatever project and state."""
        known = [iid for iid in iids if iid <= LARGEST_NUMBER]  # a stranger's word: no column holds more
        found: list[Incident] = []
        for at in range(0, len(known), AT_ONCE):
            found += self.loaded(sa.select(incidents).where(incidents.c.issue_iid.in_(known[at : at + AT_ONCE])))
        return found


# -- What happened to an incident, line by line. A line is never changed.

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
