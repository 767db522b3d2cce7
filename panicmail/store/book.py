"""The book: everything panicmail knows, as statements in one transaction.

`Ledger.write` runs a piece of work in one transaction and hands it a `Book`, whose methods are the statements. What
the work wrote is durable when `write` returns, and wholly undone when it raises. A work may run more than once (two
nodes changed the same incident, the slower one starts over), so it does nothing but read, decide and write.

Guards:

* an incident changes only `WHERE version = ` the one it was read at;
* an outbox row is claimed by one conditional UPDATE, with a lease, its attempt counted before the network is touched;
  what came of it is written only for that attempt;
* a mail is understood once (`UNIQUE(mail_id)`, and a guard on its state).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from panicmail import ids
from panicmail.incident import Change, Do, Effect, Entry, Incident, State
from panicmail.store.rows import OVER, Delivery, Line, Mail, Task, incident_of, line_of, mail_of, row_of, task_of
from panicmail.store.tables import incidents, keys, mails, outbox, raws, timeline

#: Which thread carries out which kind of effect.
LANES = {
    Do.PAGE: "page",
    Do.TELL: "mail",
    Do.RECEIPT: "mail",
    Do.NEWS: "mail",
    Do.OPERATORS: "mail",
    Do.ISSUE: "gitlab",
    Do.FILES: "gitlab",
    Do.MIRROR: "gitlab",
    Do.TWINS: "gitlab",
}
#: An entry of the timeline as an internal note on the issue.
NOTE = "note"
#: When to look for a second issue after one whose making had an open outcome: GitLab may take its time.
TWINS_AFTER = (timedelta(minutes=1), timedelta(minutes=10))
#: The receipt waits this long for the issue's link, then goes without.
RECEIPT_WAITS = timedelta(seconds=10)


class Conflict(Exception):  # noqa: N818 - never leaves this module
    """Somebody else changed the incident since it was read; the work runs again on what is there now."""


class Book:
    """One transaction: what can be read and written in it. `now` is the same instant throughout."""

    def __init__(self, connection: sa.Connection, now: datetime, *, is_sqlite: bool, operators: Sequence[str]) -> None:
        self._connection = connection
        self._is_sqlite = is_sqlite
        self._operators = operators
        self.now = now
        self.woken: set[str] = set()  #: lanes that got work; "mails" when a mail was accepted
        self.logged: list[tuple[str, dict[str, Any]]] = []  #: said aloud after the commit

    # -- mails

    def add_mail(self, mail: Mail, raw: bytes) -> None:
        row = {
            "id": mail.id,
            "accepted_at": mail.accepted_at,
            "mail_from": mail.mail_from,
            "recipients": list(mail.recipients),
            "peer": mail.peer,
            "helo": mail.helo,
            "tls": mail.tls,
            "size": mail.size,
            "state": "accepted",
        }
        self._connection.execute(mails.insert().values(row))
        self._connection.execute(raws.insert().values(mail_id=mail.id, raw=raw))
        self.woken.add("mails")

    def claim_mails(self, limit: int, lease: timedelta) -> list[Mail]:
        """Mails nobody has understood yet, oldest first, ours for `lease`."""
        due = (
            sa.select(mails.c.id)
            .where(mails.c.state == "accepted", _free(mails.c.lease_until, self.now))
            .order_by(mails.c.accepted_at, mails.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claim = (
            mails.update()
            .where(mails.c.id.in_(due), mails.c.state == "accepted", _free(mails.c.lease_until, self.now))
            .values(lease_until=self.now + lease, attempts=mails.c.attempts + 1)
            .returning(*mails.c)
        )
        claimed = [mail_of(row) for row in self._connection.execute(claim)]
        return sorted(claimed, key=lambda mail: (mail.accepted_at, mail.id))

    def raw(self, mail_id: str) -> bytes:
        raw: bytes = self._connection.execute(sa.select(raws.c.raw).where(raws.c.mail_id == mail_id)).scalar_one()
        return bytes(raw)

    def mail(self, mail_id: str) -> Mail | None:
        row = self._connection.execute(sa.select(mails).where(mails.c.id == mail_id)).one_or_none()
        return mail_of(row) if row else None

    def mails_of(self, incident_id: str) -> list[Mail]:
        query = sa.select(mails).where(mails.c.incident_id == incident_id).order_by(mails.c.accepted_at)
        return [mail_of(row) for row in self._connection.execute(query)]

    def is_waiting(self, mail_id: str) -> bool:
        """Whether the mail still wants to be understood; False when another did it meanwhile."""
        query = sa.select(mails.c.state).where(mails.c.id == mail_id)
        return self._connection.execute(query).scalar_one_or_none() == "accepted"

    def understood(
        self,
        mail_id: str,
        *,
        shape: str,
        incident_id: str,
        digest: str,
        message_id: str | None,
        report: str,
    ) -> None:
        """Record what a mail was. Belongs in the transaction that does what it asks."""
        self._connection.execute(
            mails.update()
            .where(mails.c.id == mail_id, mails.c.state == "accepted")
            .values(
                state="understood",
                lease_until=None,
                shape=shape,
                incident_id=incident_id,
                digest=digest,
                message_id=message_id,
                report=report,
            )
        )

    def same_mail(self, mail: Mail, digest: str, within: timedelta) -> str | None:
        """The unresolved incident that the very same mail already belongs to, if it came in the last `within`.

        Locks the digest until the end of the transaction, so that two copies understood at once meet.
        """
        if not self._is_sqlite:
            lock = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8], signed=True)
            self._connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        query = (
            sa.select(mails.c.incident_id)
            .join(incidents, incidents.c.id == mails.c.incident_id)
            .where(
                mails.c.digest == digest,
                mails.c.id != mail.id,
                mails.c.accepted_at > mail.accepted_at - within,
                incidents.c.state != State.RESOLVED.value,
            )
            .order_by(mails.c.accepted_at)
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()

    def incident_of_messages(self, message_ids: Iterable[str]) -> str | None:
        """The latest incident that one of these Message-IDs was accepted for."""
        wanted = [m for m in message_ids if m]
        if not wanted:
            return None
        query = (
            sa.select(mails.c.incident_id)
            .where(mails.c.message_id.in_(wanted), mails.c.incident_id.is_not(None))
            .order_by(mails.c.accepted_at.desc())
            .limit(1)
        )
        return self._connection.execute(query).scalar_one_or_none()

    # -- incidents

    def incident(self, incident_id: str) -> Incident | None:
        return self._one(incidents.c.id == incident_id)

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
        asked = sa.and_(c.state == State.ACKED.value, sa.or_(c.remind_at <= self.now, c.answer_at <= self.now))
        query = sa.select(incidents).where(sa.or_(step, breach, asked)).order_by(c.sla_at)
        return [incident_of(row) for row in self._connection.execute(query)]

    def open_incidents_of(self, person: str) -> list[Incident]:
        """Open incidents that `person` was paged for, oldest first."""
        return [i for i in reversed(self.list_incidents(states=[State.OPEN])) if person in i.paged]

    def incidents_since(self, reporter: str, since: datetime) -> int:
        """How many incidents one address has opened since."""
        c = incidents.c
        query = sa.select(sa.func.count()).where(c.reporter_address == reporter, c.accepted_at >= since)
        return int(self._connection.execute(query).scalar_one())

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
            Conflict: Another node changed it meanwhile; `Ledger.write` starts over.
        """
        after = change.incident
        if after != before:
            values = {**row_of(after), "version": before.version + 1}
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
        self._add_effects(incident, [Effect(do=Do.MIRROR, key=f"mirror/{version}", facts=facts)])

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
                self._add_task(incident.id, "gitlab", Do.TWINS.value, f"{incident.id}/twins/{number}", None, {},
                               due_at=self.now + wait)  # fmt: skip
        receipt = self.task(f"{incident.id}/receipt")
        if receipt is not None and receipt.state is not Delivery.QUEUED:
            late = Effect(do=Do.NEWS, key="news/issue", facts={"what": "issue"})
            self._add_effects(incident, [late])

    # -- timeline

    def add_entry(self, incident: Incident, entry: Entry) -> None:
        self._add_entries(incident, [entry])

    def _add_entries(self, incident: Incident, entries: Iterable[Entry]) -> None:
        for entry in entries:
            line = {"incident_id": incident.id, "at": self.now, "event": entry.event, "actor": entry.actor,
                    "facts": dict(entry.facts)}  # fmt: skip
            line_id = self._connection.execute(timeline.insert().values(line).returning(timeline.c.id)).scalar_one()
            if entry.note:
                self._add_task(incident.id, "gitlab", NOTE, f"{incident.id}/note/{line_id}", None, {"line": line_id},
                               after=f"{incident.id}/issue")  # fmt: skip

    def lines_of(self, incident_id: str) -> list[Line]:
        query = sa.select(timeline).where(timeline.c.incident_id == incident_id).order_by(timeline.c.id)
        return [line_of(row) for row in self._connection.execute(query)]

    def line(self, line_id: int) -> Line:
        return line_of(self._connection.execute(sa.select(timeline).where(timeline.c.id == line_id)).one())

    # -- outbox

    def _add_effects(self, incident: Incident, effects: Iterable[Effect]) -> None:
        for effect in effects:
            key = f"{incident.id}/{effect.key}"
            after, until = self._predecessor(incident, effect.do)
            if effect.do is Do.NEWS and after is None:
                continue  # the reporter had no receipt, so she gets no news either
            if effect.do is Do.OPERATORS:
                self.tell_operators(str(effect.facts["cause"]), effect.facts, incident_id=incident.id)
                continue
            self._add_task(incident.id, LANES[effect.do], effect.do.value, key, effect.person, effect.facts,
                           after=after, until=until)  # fmt: skip

    def _predecessor(self, incident: Incident, do: Do) -> tuple[str | None, datetime | None]:
        """Which row must be over first, and how long to wait for it (None: as long as it takes)."""
        if do in {Do.FILES, Do.MIRROR}:
            return f"{incident.id}/issue", None
        if do is Do.RECEIPT:
            return f"{incident.id}/issue", self.now + RECEIPT_WAITS
        if do is Do.NEWS:
            receipt = f"{incident.id}/receipt"
            return (receipt, None) if self.task(receipt) else (None, None)
        return None, None

    def tell_operators(self, cause: str, facts: Mapping[str, Any], *, incident_id: str | None = None) -> None:
        """Tell the operators that panicmail needs help: once per cause and hour."""
        hour = self.now.strftime("%Y%m%d%H")
        for person in self._operators:
            self._add_task(incident_id, "mail", Do.OPERATORS.value, f"operators/{cause}/{hour}/{person}", person,
                           {"at": self.now.isoformat(), **facts, "cause": cause})  # fmt: skip

    def tell(self, incident: Incident, person: str, key: str, facts: Mapping[str, Any]) -> None:
        """Answer `person` about an incident; the same `key` once."""
        self._add_task(incident.id, "mail", Do.TELL.value, f"{incident.id}/tell/{key}/{person}", person, facts)

    def _add_task(
        self,
        incident_id: str | None,
        lane: str,
        do: str,
        key: str,
        person: str | None,
        facts: Mapping[str, Any],
        *,
        after: str | None = None,
        until: datetime | None = None,
        due_at: datetime | None = None,
    ) -> None:
        if self.task(key) is not None:
            return
        before = self.task(after) if after else None
        row = {"incident_id": incident_id, "lane": lane, "do": do, "key": key, "person": person, "facts": dict(facts),
               "after_id": before.id if before else None, "after_until": until, "state": Delivery.QUEUED.value,
               "attempt": 0, "queued_at": self.now, "due_at": due_at or self.now, "answer": ""}  # fmt: skip
        # Two nodes may want the same key at once: one of them writes it, the other finds it done.
        insert = postgresql.insert(outbox) if not self._is_sqlite else sqlite.insert(outbox)
        self._connection.execute(insert.values(row).on_conflict_do_nothing(index_elements=["key"]))
        self.woken.add(lane)

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

    def task(self, key: str) -> Task | None:
        row = self._connection.execute(sa.select(outbox).where(outbox.c.key == key)).one_or_none()
        return task_of(row) if row else None

    def tasks_of(self, incident_id: str) -> list[Task]:
        query = sa.select(outbox).where(outbox.c.incident_id == incident_id).order_by(outbox.c.id)
        return [task_of(row) for row in self._connection.execute(query)]

    def claim(self, lane: str, limit: int, lease: timedelta) -> list[Task]:
        """Rows of `lane` that can be carried out now, ours for `lease`; their attempt is counted before it is made."""
        c = outbox.c
        before = outbox.alias("before")
        over = sa.exists().where(before.c.id == c.after_id, before.c.state.in_([s.value for s in OVER]))
        ready = sa.and_(
            c.lane == lane,
            c.state.in_([Delivery.QUEUED.value, Delivery.TRYING.value]),
            c.due_at <= self.now,
            _free(c.lease_until, self.now),
            sa.or_(c.after_id.is_(None), over, c.after_until <= self.now),
        )
        due = sa.select(outbox).where(ready).order_by(c.id).limit(limit).with_for_update(skip_locked=True)
        tasks = [task_of(row) for row in self._connection.execute(due)]
        if tasks:
            claim = outbox.update().where(c.id.in_([task.id for task in tasks]))
            self._connection.execute(
                claim.values(
                    state=Delivery.TRYING.value,
                    attempt=c.attempt + 1,
                    lease_until=self.now + lease,
                    unsure_at=self.now,
                )
            )
        return [replace(task, state=Delivery.TRYING, attempt=task.attempt + 1) for task in tasks]

    def settle(self, task: Task, state: Delivery, answer: str) -> bool:
        """Write what came of this attempt; False when another attempt has taken over and this one no longer counts."""
        return self._close(task, state=state.value, done_at=self.now, lease_until=None, answer=answer)

    def put_off(self, task: Task, until: datetime, answer: str, *, sure: bool) -> bool:
        """This attempt failed: try again at `until`. False as for `settle`.

        `sure`: this attempt had no effect, so what is unsure stays what it was before it. Otherwise the next attempt
        is told that this one may have had its effect.
        """
        values: dict[str, Any] = {"due_at": until, "lease_until": None, "answer": answer}
        if sure:
            values["unsure_at"] = task.unsure_at
        return self._close(task, **values)

    def release_leases(self) -> None:
        """Free everything claimed: whoever claimed it is gone. Only where one process at a time uses the database."""
        for table in (mails, outbox):
            self._connection.execute(table.update().where(table.c.lease_until.is_not(None)).values(lease_until=None))

    def _close(self, task: Task, **values: Any) -> bool:
        mine = sa.and_(
            outbox.c.id == task.id, outbox.c.attempt == task.attempt, outbox.c.state == Delivery.TRYING.value
        )
        closed = self._connection.execute(outbox.update().where(mine).values(**values)).rowcount == 1
        if closed and values.get("state"):
            followers = sa.select(outbox.c.lane).where(outbox.c.after_id == task.id).distinct()
            self.woken.update(self._connection.execute(followers).scalars())
        return closed

    def _void_pages(self, incident: Incident) -> None:
        unsent = sa.and_(
            outbox.c.incident_id == incident.id,
            outbox.c.do == Do.PAGE.value,
            outbox.c.state.in_([Delivery.QUEUED.value, Delivery.TRYING.value]),
            _free(outbox.c.lease_until, self.now),
        )
        self._connection.execute(outbox.update().where(unsent).values(state=Delivery.VOID.value, done_at=self.now))

    def undelivered_pages(self, after: timedelta) -> list[Task]:
        """Pages of open incidents that nothing accepted within `after` of their queueing, or that failed for good."""
        c = outbox.c
        stale = sa.and_(c.state.in_([Delivery.QUEUED.value, Delivery.TRYING.value]), c.queued_at <= self.now - after)
        query = (
            sa.select(outbox)
            .join(incidents, incidents.c.id == c.incident_id)
            .where(
                c.do == Do.PAGE.value,
                incidents.c.state == State.OPEN.value,
                sa.or_(stale, c.state == Delivery.FAILED.value),
            )
            .order_by(c.id)
        )
        return [task_of(row) for row in self._connection.execute(query)]

    # -- keys and figures

    def signing_keys(self) -> list[tuple[str, bytes]]:
        """(kid, secret), newest first."""
        query = sa.select(keys.c.kid, keys.c.secret).order_by(keys.c.made_at.desc())
        return [(row.kid, bytes(row.secret)) for row in self._connection.execute(query)]

    def add_signing_key(self, kid: str, secret: bytes) -> None:
        self._connection.execute(keys.insert().values(kid=kid, secret=secret, made_at=self.now))

    def counts(self) -> dict[str, dict[str, int]]:
        """How many rows stand where: incidents and mails by state, outbox by "lane state"."""
        figures: dict[str, dict[str, int]] = {}
        for name, table in (("incidents", incidents), ("mails", mails)):
            grouped = self._connection.execute(sa.select(table.c.state, sa.func.count()).group_by(table.c.state))
            figures[name] = {row[0]: row[1] for row in grouped}
        c = outbox.c
        lanes = self._connection.execute(sa.select(c.lane, c.state, sa.func.count()).group_by(c.lane, c.state))
        figures["outbox"] = {f"{row[0]} {row[1]}": row[2] for row in lanes}
        return figures

    def pages_since(self, since: datetime) -> int:
        query = sa.select(sa.func.count()).where(outbox.c.do == Do.PAGE.value, outbox.c.queued_at >= since)
        return int(self._connection.execute(query).scalar_one())


def _free(lease_until: sa.Column[Any], now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(lease_until.is_(None), lease_until <= now)
