"""Incidents and what happened to them. An incident changes only `WHERE version = ` the one it was read at."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa

from panicmail.incident import ids
from panicmail.incident.model import Change, Effect, EffectKind, Entry, Incident, State
from panicmail.incident.push_channel import PAGERDUTY
from panicmail.store.outbox import ALARMS, LANES, PUSH, OutboxQueries
from panicmail.store.queries import Conflict
from panicmail.store.rows import DeliveryState, TimelineRow, incident_of, row_of, timeline_row_of
from panicmail.store.tables import incidents, outbox, timeline

#: An entry of the timeline as an internal note on the issue.
NOTE = "note"
#: Entries that are said in the log as warnings, under their own names.
ALARMING = frozenset({"sla.breached", "person.unreachable"})
#: What a column of numbers holds at most, in SQLite and PostgreSQL alike.
LARGEST_NUMBER = 2**31 - 1
#: When to look for a second issue after one whose making had an open outcome: GitLab may take its time.
TWINS_AFTER = (timedelta(minutes=1), timedelta(minutes=10))


class IncidentQueries(OutboxQueries):
    """Statements about incidents and their timelines."""

    def incident(self, incident_id: str) -> Incident | None:
        return self._one(incidents.c.id == incident_id)

    def incident_locked(self, incident_id: str) -> Incident | None:
        """As `incident`, and nobody else changes it until the end of the transaction."""
        query = sa.select(incidents).where(incidents.c.id == incident_id).with_for_update()
        row = self._connection.execute(query).one_or_none()
        return incident_of(row) if row else None

    def incident_by_ref(self, ref: str) -> Incident | None:
        return self._one(incidents.c.ref == ids.read_ref(ref))

    def incident_by_mail(self, mail_id: str) -> Incident | None:
        return self._one(incidents.c.mail_id == mail_id)

    def _one(self, where: sa.ColumnElement[bool]) -> Incident | None:
        row = self._connection.execute(sa.select(incidents).where(where)).one_or_none()
        return incident_of(row) if row else None

    def list_incidents(self, *, states: Iterable[State] = tuple(State), since: datetime | None = None,
                       limit: int | None = None) -> list[Incident]:  # fmt: skip
        """Newest first."""
        query = sa.select(incidents).where(incidents.c.state.in_([s.value for s in states]))
        if since is not None:
            query = query.where(incidents.c.accepted_at >= since)
        query = query.order_by(incidents.c.accepted_at.desc(), incidents.c.id).limit(limit)
        return [incident_of(row) for row in self._connection.execute(query)]

    def due_incidents(self) -> list[Incident]:
        """Incidents for which time has brought something: a step, a breach, a reminder. Most overdue first."""
        c = incidents.c
        step = sa.and_(c.state == State.OPEN.value, c.next_step_at <= self.now)
        breach = sa.and_(
            c.state == State.OPEN.value, c.breached_at.is_(None), c.sla_at <= self.now, c.opened_at < c.sla_at
        )
        asked = sa.and_(c.state == State.ACKED.value, c.remind_at <= self.now)
        query = sa.select(incidents).where(sa.or_(step, breach, asked)).order_by(c.sla_at)
        return [incident_of(row) for row in self._connection.execute(query)]

    def held_by_others(self, people: Collection[str]) -> list[Incident]:
        """Acknowledged incidents whose holder is none of `people`."""
        c = incidents.c
        gone = sa.and_(c.state == State.ACKED.value, c.holder.not_in(people))
        return [incident_of(row) for row in self._connection.execute(sa.select(incidents).where(gone))]

    def open_incidents_of(self, person: str) -> list[Incident]:
        """Open incidents that `person` was paged for, oldest first."""
        return [i for i in reversed(self.list_incidents(states=[State.OPEN])) if person in i.paged]

    def incidents_since(self, reporter: str, since: datetime) -> int:
        """How many incidents one address has opened since."""
        c = incidents.c
        query = sa.select(sa.func.count()).where(c.reporter_address == reporter, c.accepted_at >= since)
        return int(self._connection.execute(query).scalar_one())

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

    def free_ref(self, mail_id: str) -> str:
        """The shortest REF of this mail that no other incident has."""
        for length in range(ids.REF_LENGTH, ids.REF_LONGEST):
            ref = ids.ref(mail_id, length)
            if self.incident_by_ref(ref) is None:
                return ref
        return ids.ref(mail_id, ids.REF_LONGEST)

    def add_incident(self, change: Change) -> Incident:
        """Store a new incident with its first effects."""
        incident = change.incident
        self._connection.execute(incidents.insert().values(row_of(incident)))
        self._log_change("new", incident)
        self._add_effects(incident, change.effects)
        self._add_entries(incident, change.entries)
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
            values["version"] = before.version + 1
            guard = sa.and_(incidents.c.id == before.id, incidents.c.version == before.version)
            if self._connection.execute(incidents.update().where(guard).values(values)).rowcount != 1:
                raise Conflict(before.id)
            self._log_change(before.state.value, after)
            if after.state is not before.state:
                self._add_mirror(after, before.version)
        if change.void_pages:
            self._void_pages(after)
        self._add_effects(after, change.effects)
        self._add_entries(after, change.entries)
        return after

    def _add_mirror(self, incident: Incident, version: int) -> None:
        facts = {"state": incident.state.value, "holder": incident.holder, "at": self.now.isoformat()}
        self._add_effects(incident, [Effect(do=EffectKind.MIRROR, key=f"mirror/{version}", facts=facts)])
        for person in incident.paged:
            for channel in self._channels(person):
                if channel.startswith(PAGERDUTY):
                    key, told = f"{incident.id}/mirror/{version}/{channel}", {**facts, "channel": channel}
                    self._add_task(incident.id, PUSH, EffectKind.MIRROR.value, key, person, told)

    def _log_change(self, old: str, incident: Incident) -> None:
        facts = {"ref": incident.ref, "incident": incident.id, "old": old, "new": incident.state.value,
                 "step": incident.step + 1, "round": incident.round, "holder": incident.holder}  # fmt: skip
        self.logged.append(("incident.changed", facts))

    def issue_opened(self, incident: Incident, iid: int, url: str, *, twin_possible: bool = False) -> None:
        """Remember the incident's issue. Not a change of state, so the version stays.

        `twin_possible`: an earlier attempt had an open outcome, so another issue may appear beside it.
        """
        self._connection.execute(
            incidents.update().where(incidents.c.id == incident.id).values(issue_iid=iid, issue_url=url)
        )
        self._add_entries(incident, [Entry(event="issue.opened", actor="panicmail", facts={"url": url}, note=False)])
        if twin_possible:
            for number, wait in enumerate(TWINS_AFTER):
                self._add_task(incident.id, "gitlab", EffectKind.TWINS.value, f"{incident.id}/twins/{number}", None, {},
                               due_at=self.now + wait)  # fmt: skip
        receipt = self.task(f"{incident.id}/receipt")
        if receipt is not None and receipt.state is not DeliveryState.QUEUED:
            late = Effect(do=EffectKind.NEWS, key="news/issue", facts={"what": "issue"})
            self._add_effects(incident, [late])

    def move_issue(self, incident: Incident, iid: int, url: str) -> None:
        """The incident's issue is another one: of two twins the older stays."""
        self._connection.execute(
            incidents.update().where(incidents.c.id == incident.id).values(issue_iid=iid, issue_url=url)
        )

    def watched_incidents(self) -> list[Incident]:
        """Unresolved incidents that have an issue, the most urgent first."""
        c = incidents.c
        query = sa.select(incidents).where(c.state != State.RESOLVED.value, c.issue_iid.is_not(None)).order_by(c.sla_at)
        return [incident_of(row) for row in self._connection.execute(query)]

    def resolved_incidents(self, since: datetime) -> list[Incident]:
        """Incidents resolved after `since` that have an issue."""
        c = incidents.c
        lately = sa.and_(c.state == State.RESOLVED.value, c.resolved_at > since)
        query = sa.select(incidents).where(lately, c.issue_iid.is_not(None)).order_by(c.resolved_at)
        return [incident_of(row) for row in self._connection.execute(query)]

    def incidents_of_issue(self, iid: int) -> list[Incident]:
        """Every incident whose issue has this number, in whatever project and state."""
        if iid > LARGEST_NUMBER:  # a stranger's word: no column holds it
            return []
        query = sa.select(incidents).where(incidents.c.issue_iid == iid)
        return [incident_of(row) for row in self._connection.execute(query)]

    # -- timeline

    def add_entry(self, incident: Incident, entry: Entry) -> None:
        self._add_entries(incident, [entry])

    def _add_entries(self, incident: Incident, entries: Iterable[Entry]) -> None:
        for entry in entries:
            line = {"incident_id": incident.id, "at": self.now, "event": entry.event, "actor": entry.actor,
                    "facts": dict(entry.facts)}  # fmt: skip
            line_id = self._connection.execute(timeline.insert().values(line).returning(timeline.c.id)).scalar_one()
            if event := _alarm(entry):
                about = {"ref": incident.ref, "incident": incident.id, "people": sorted(incident.paged)}
                self.alarmed.append((event, {**about, **entry.facts, "operators": list(self._operators)}))
            if entry.note:
                self._add_task(incident.id, "gitlab", NOTE, f"{incident.id}/note/{line_id}", None, {"line": line_id},
                               after=f"{incident.id}/issue")  # fmt: skip

    def lines_of(self, incident_id: str) -> list[TimelineRow]:
        query = sa.select(timeline).where(timeline.c.incident_id == incident_id).order_by(timeline.c.id)
        return [timeline_row_of(row) for row in self._connection.execute(query)]

    def line(self, line_id: int) -> TimelineRow:
        return timeline_row_of(self._connection.execute(sa.select(timeline).where(timeline.c.id == line_id)).one())


def _alarm(entry: Entry) -> str:
    """What the log calls an entry that an alert may wait for; "" for any other."""
    if entry.event in ALARMING:
        return entry.event
    cause = entry.facts.get("cause") or {}
    return ALARMS.get(str(cause.get("last_resort")), "") if entry.event == "people.paged" else ""
