"""Rows of the outbox under way: claimed, tried, settled.

A row is locked and claimed in one transaction, with a lease, its attempt counted before the network is touched; what
came of it is written only for that attempt. Rows are never deleted while they matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from panicmail.incident import tasks
from panicmail.incident.model import EffectKind, Incident
from panicmail.incident.tasks import ALL_LANES, AWAITED, PUSH, OperatorAlarm, Task
from panicmail.store.blocked_adapters import (
    IS_BARRED,
    IS_HELD,
    BlockedAdapters,
    Heard,
    adapter_name,
    adapter_of,
    at,
    held_times,
)
from panicmail.store.gaps import LIMIT, OddRow
from panicmail.store.pages import Pages
from panicmail.store.queries import UNHELD, Queries, TransactionContext, free, insert_or_not
from panicmail.store.rows import OVER, DeliveryState, OutboxRow, outbox_row_of
from panicmail.store.tables import incidents, mails, outbox

#: A claimed row whose attempt never reported back is free again after this long: twice the slowest adapter.
LEASE = {
    "page": timedelta(seconds=60),
    "push": timedelta(seconds=40),
    "mail": timedelta(seconds=60),
    "gitlab": timedelta(seconds=240),
}

#: So many rows of a lane are claimed for idle threads at once.
_HANDED = 4
#: What is due so soon goes with what is due.
_NEARLY = timedelta(seconds=3)

_o = outbox.c


def _due() -> sa.ColumnElement[bool]:
    """Whether a row of `lane` may be begun by `owner` at `now`; whatever it waits for."""
    held = sa.or_(_o.lease_until.is_(None), _o.lease_until <= at("now"), _o.lease_by == sa.bindparam("owner"))
    return sa.and_(_o.lane == sa.bindparam("lane"), _o.done_at.is_(None), _o.due_at <= at("now"), held)


def _can_go() -> sa.ColumnElement[bool]:
    """Whether a row that is due waits neither for another nor for its adapter."""
    before = outbox.alias("before")
    over = sa.exists().where(before.c.id == _o.after_id, before.c.state.in_([s.value for s in OVER]))
    return sa.and_(sa.or_(_o.after_id.is_(None), over, _o.after_until <= at("now")), ~IS_HELD)


def _ready() -> sa.Select[Any]:
    """Rows that can be carried out, by rank and turn, `most` of them, locked; each with whether its adapter is found
    barred."""
    query = sa.select(outbox, IS_BARRED.label("is_barred")).where(_due(), _can_go()).order_by(_o.priority, _o.id)
    return query.limit(sa.bindparam("most", type_=sa.Integer)).with_for_update(skip_locked=True)


#: Built once: they are asked often, and mostly in vain.
_IS_DUE = sa.select(sa.exists().where(_due(), _can_go()))
_READY = _ready()
_OF_INCIDENT = sa.select(outbox).where(_o.incident_id == sa.bindparam("incident")).order_by(_o.id)
#: An attempt that counts: no other was made since, and nothing ended the row. Its columns are given as parameters.
_COUNTING = outbox.update().where(
    _o.id == sa.bindparam("task"),
    _o.attempt == sa.bindparam("made"),
    _o.state == DeliveryState.TRYING.value,
)


class Outbox(Queries):
    """Statements about rows that are carried out."""

    def __init__(
        self, context: TransactionContext, adapters: BlockedAdapters, pages: Pages, queue: OutboxQueue
    ) -> None:
        super().__init__(context)
        self._adapters, self._pages, self._queue = adapters, pages, queue

    def get(self, key: str) -> OutboxRow | None:
        row = self._connection.execute(sa.select(outbox).where(outbox.c.key == key)).one_or_none()
        return outbox_row_of(row) if row else None

    def of_incident(self, incident_id: str) -> list[OutboxRow]:
        asked = {"incident": incident_id}
        return self._once(
            ("tasks", incident_id),
            lambda: [outbox_row_of(row) for row in self._connection.execute(_OF_INCIDENT, asked)],
        )

    def is_due(self, lane: str) -> bool:
        """Whether `claim` may find something: no write is begun for nothing."""
        asked = {"lane": lane, "now": self.now, "owner": self._owner, **held_times(self.now)}
        return bool(self._connection.execute(_IS_DUE, asked).scalar_one())

    def claim(self, lane: str, limit: int, lease: timedelta) -> list[OutboxRow]:
        """Rows of `lane` that can be carried out now, by rank and turn, ours for `lease`.

        Their attempt is counted before it is made.
        """
        rows = self._ready(lane, limit, self._owner)
        if any(row.is_barred for row in rows):  # one of them is to find out whether it still is
            barred = self._adapters.begin_probes(lane)
            rows = self._ready(lane, limit, self._owner)
            return self._begun(self._adapters.one_probe([outbox_row_of(row) for row in rows], barred), lease)
        return self._begun([outbox_row_of(row) for row in rows], lease)

    def _ready(self, lane: str, most: int, owner: str | None) -> Sequence[sa.Row[Any]]:
        asked = {"lane": lane, "now": self.now, "owner": owner, "most": most, **held_times(self.now)}
        return self._connection.execute(_READY, asked).all()

    def hand_over(self, lane: str) -> bool:
        """Claim rows of `lane` that can be carried out for threads that have nothing to do, as `claim` does; True when
        that is all there is to do now."""
        thread = self._handed.reserve(lane)
        if thread is None:
            return False
        rows = self._ready(lane, _HANDED, self._handed.owner(thread))
        if any(row.is_barred for row in rows):  # a probe is whoever's who claims it
            return False
        for number, row in enumerate(rows):
            thread = thread if number == 0 else self._handed.reserve(lane)
            if thread is None:
                return False
            (task,) = self._begun([outbox_row_of(row)], LEASE[lane], self._handed.owner(thread))
            self._handed.give(thread, task)
        return len(rows) < _HANDED

    def claim_with(self, task: OutboxRow, limit: int, lease: timedelta) -> list[OutboxRow]:
        """Other pages of the same person by the same adapter that can be carried out now, or nearly, claimed as by
        `claim`: those that failed together are due again a little apart."""
        c = outbox.c
        ready = sa.and_(self._waits_with(task), c.due_at <= self.now + _NEARLY, ~self._adapters.is_held())
        due = sa.select(outbox).where(ready).order_by(c.priority, c.id).limit(limit).with_for_update(skip_locked=True)
        tasks = [outbox_row_of(row) for row in self._connection.execute(due).all()]
        return self._begun(tasks, lease)

    def _begun(self, tasks: Sequence[OutboxRow], lease: timedelta, owner: str | None = None) -> list[OutboxRow]:
        """These rows, leased, their attempts counted; for this thread, unless for another `owner`."""
        if tasks:
            values = {"state": DeliveryState.TRYING.value, "attempt": outbox.c.attempt + 1, "unsure_at": self.now}
            claim = outbox.update().where(outbox.c.id.in_([task.id for task in tasks]))
            self._connection.execute(claim.values(**values, **self._leased(lease, owner)))
        return [replace(task, state=DeliveryState.TRYING, attempt=task.attempt + 1) for task in tasks]

    def hold(self, task: OutboxRow, until: datetime) -> None:
        """A claimed page, and the others of the same person by the same adapter, wait until then: no attempt."""
        c = outbox.c
        unmade = {"state": DeliveryState.QUEUED.value, "attempt": c.attempt - 1, "due_at": until,
                  "unsure_at": task.unsure_at, **UNHELD}  # fmt: skip
        self._connection.execute(outbox.update().where(_counts(task)).values(**unmade))
        sooner = sa.and_(self._waits_with(task), c.due_at < until)
        self._connection.execute(outbox.update().where(sooner).values(due_at=until))

    def _waits_with(self, task: OutboxRow) -> sa.ColumnElement[bool]:
        c = outbox.c
        same = sa.and_(c.lane == task.lane, c.person == task.person, c.do == EffectKind.PAGE.value, c.id != task.id)
        return sa.and_(same, c.adapter == adapter_of(task), c.done_at.is_(None), free(c.lease_until, self.now))

    def refused_pushes(self) -> list[OutboxRow]:
        """Of each person's channels that refused a push and took none since, the last one they refused."""
        c = outbox.c
        latest = sa.func.row_number().over(
            partition_by=[c.person, c.facts["channel"].as_string()],
            order_by=[sa.func.coalesce(c.done_at, c.due_at).desc(), c.id.desc()],
        )
        is_barred = sa.and_(c.barred.is_not(None), c.state == DeliveryState.TRYING.value)
        heard = sa.and_(
            c.lane == PUSH, sa.or_(c.state.in_([DeliveryState.ACCEPTED.value, DeliveryState.FAILED.value]), is_barred)
        )
        last = sa.select(outbox, latest.label("latest")).where(heard).subquery()
        refused = last.c.state != DeliveryState.ACCEPTED.value
        query = sa.select(last).where(last.c.latest == 1, refused).order_by(last.c.id)
        return [outbox_row_of(row) for row in self._connection.execute(query)]

    def is_mine(self, task: OutboxRow) -> bool:
        """Whether this attempt still counts and its lease still runs. Ask right before acting: whoever claimed it may
        have been frozen meanwhile, or cut off and taken for dead."""
        still = sa.and_(_counts(task), outbox.c.lease_until > self.now)
        return bool(self._connection.execute(sa.select(sa.exists().where(still))).scalar_one())

    def settle(self, task: OutboxRow, state: DeliveryState, answer: str) -> bool:
        """Write what came of this attempt; False when another attempt has taken over and this one no longer counts."""
        closed = self._close(task, state=state.value, done_at=self.now, answer=answer, **UNHELD)
        if closed and task.do == EffectKind.PAGE and state in {DeliveryState.ACCEPTED, DeliveryState.FAILED}:
            self._pages.ended(task, accepted=state is DeliveryState.ACCEPTED, answer=answer)
        if closed and state in {
            DeliveryState.ACCEPTED,
            DeliveryState.FAILED,
        }:  # it was listened to, whatever it was told
            self._works(task)
        elif closed:
            self._adapters.probe_with_another(task)
        return closed

    def put_off(
        self, task: OutboxRow, until: datetime, answer: str, *, sure: bool, heard: Heard = Heard.NOT_SURELY
    ) -> bool:
        """This attempt failed: try again at `until`. False as for `settle`.

        Args:
            sure: This attempt had no effect, so what is unsure stays what it was before it. Otherwise the next attempt
                is told that this one may have had its effect.
            heard: What it says of the row's adapter.
        """
        values: dict[str, Any] = {"due_at": until, "answer": answer, **UNHELD}
        if sure:
            values["unsure_at"] = task.unsure_at
        if heard is Heard.NO_TELLING:
            values["barred"] = None
        closed = self._close(task, **values)
        if closed and heard is Heard.YES:
            self._works(task)
        elif closed and heard is Heard.NO_TELLING:
            self._adapters.probe_with_another(task)
        elif closed:
            self._adapters.probe_at(task, until)
        return closed

    def _works(self, task: OutboxRow) -> None:
        """The adapter of `task` listened: if it was barred, what waits goes, and the operators hear that it is over."""
        if not self._adapters.free_all(task):
            return
        kind = adapter_of(task).partition("/")[0]
        c, pending = outbox.c, [DeliveryState.QUEUED.value, DeliveryState.TRYING.value]
        begun = c.key.startswith(f"operators/{kind}_barred/", autoescape=True)
        waiting = sa.and_(
            c.do == EffectKind.OPERATORS.value, c.state.in_(pending), free(c.lease_until, self.now), begun
        )
        over = {"state": DeliveryState.VOID.value, "done_at": self.now, "answer": "it works again", **UNHELD}
        self._connection.execute(outbox.update().where(waiting).values(over))
        about = {"person": task.person} if task.lane == PUSH else {}
        self._queue.tell_operators(f"{kind}_works", about, rings=False)

    def _close(self, task: OutboxRow, **values: Any) -> bool:
        asked = {**values, "task": task.id, "made": task.attempt}
        closed = self._connection.execute(_COUNTING, asked).rowcount == 1
        if closed and values.get("state") and task.do in AWAITED:
            followers = sa.select(outbox.c.lane).where(outbox.c.after_id == task.id)
            self._woken.update(self._connection.execute(followers).scalars())
        return closed


def _counts(task: OutboxRow) -> sa.ColumnElement[bool]:
    """No other attempt was made since, and nothing ended the row."""
    return sa.and_(
        outbox.c.id == task.id, outbox.c.attempt == task.attempt, outbox.c.state == DeliveryState.TRYING.value
    )


# -- New rows of the outbox: the tasks that the rules ask for, each written once.

#: Priorities of one rank; as many turns as nobody has.
_RANK = 1_000_000


class OutboxQueue(Queries):
    """Statements that add rows to the outbox."""

    def __init__(self, context: TransactionContext) -> None:
        super().__init__(context)
        self._made: dict[str, int] = {}  #: key -> id of the rows of this transaction

    def add(self, added: Iterable[Task], mailbox: str = "") -> None:
        """Write these tasks down, in order. One whose key is there already stands as it is.

        Rows go by rank, and within a rank by turns: the first incident of each mailbox that waits in the lane, then
        the second ones, so that nobody's flood stands before a colleague's page.

        Args:
            mailbox: Who reported the incident they are about; "": they are about none.
        """
        for task in added:
            before = self._id(task.after) if task.after else None
            if task.only_after and before is None:
                continue
            row = {"incident_id": task.incident_id, "lane": task.lane, "do": task.do, "key": task.key,
                   "person": task.person, "facts": dict(task.facts), "after_id": before,
                   "after_until": self.now + task.waits if task.waits is not None else None,
                   "state": DeliveryState.QUEUED.value, "attempt": 0, "queued_at": self.now,
                   "due_at": self.now + task.delay, "answer": "",
                   "adapter": adapter_name(task.lane, task.person, task.facts),
                   "mailbox": mailbox}  # fmt: skip
            asked = {f"the_{name}": value for name, value in row.items()} | _turn(task, mailbox)
            insert = _insert(is_sqlite=self._is_sqlite, by_turns=bool(mailbox))
            made = self._connection.execute(insert, asked).scalar_one_or_none()
            if made is None:
                continue
            self._made[task.key] = made
            if before is None or task.after not in self._made:  # else it waits for what is not begun yet
                self._woken.add(task.lane)

    def _id(self, key: str) -> int | None:
        return self._made.get(key) or self._connection.execute(_ID_OF, {"key": key}).scalar_one_or_none()

    def tell(self, incident: Incident, person: str, key: str, facts: Mapping[str, Any]) -> None:
        """Answer `person` about an incident; the same `key` once."""
        self.add(tasks.tell_tasks(incident.id, person, key, facts, self._channels), mailbox_of(incident))

    def tell_operators(
        self, cause: str, facts: Mapping[str, Any], *, incident_id: str | None = None, rings: bool = True
    ) -> None:
        """Tell the operators that panicmail needs help: once per cause and hour.

        Args:
            rings: It goes to their phones too.
        """
        alarm = OperatorAlarm(cause=cause, facts=facts, incident_id=incident_id, rings=rings)
        self.add(tasks.operator_tasks(alarm, self._operators, self._channels, self.now))

    def told_operators(self, cause: str, since: datetime) -> bool:
        """Whether the operators were told of this cause since then."""
        query = sa.select(sa.exists().where(outbox.c.key.in_(self._told_by(cause, since)), outbox.c.queued_at > since))
        return bool(self._connection.execute(query).scalar_one())

    def facts_told(self, cause: str, fact: str, since: datetime) -> set[str]:
        """What the operators were told of this cause since then, in the list that is called `fact`."""
        query = sa.select(outbox.c.facts).where(
            outbox.c.key.in_(self._told_by(cause, since)), outbox.c.queued_at > since
        )
        return {str(each) for facts in self._connection.execute(query).scalars() for each in facts.get(fact, ())}

    def _told_by(self, cause: str, since: datetime) -> list[str]:
        """The keys of what tells the operators of a cause since then."""
        hours = [since + timedelta(hours=n) for n in range(int((self.now - since) / timedelta(hours=1)) + 2)]
        return [tasks.operator_key(cause, at, person) for at in hours for person in self._operators]

    def add_list(self, person: str, day: str) -> None:
        """Tell `person` what is open or held, once a day."""
        self.add([tasks.list_task(person, day)])

    def has_list(self, person: str, day: str) -> bool:
        return self._id(tasks.list_task(person, day).key) is not None


def mailbox_of(incident: Incident) -> str:
    """Whose turn it is that the incident's rows take; all whose reporter is not clear share one."""
    return incident.reporter_address or "?"


#: Built once: each task asks it.
_ID_OF = sa.select(outbox.c.id).where(outbox.c.key == sa.bindparam("key"))
#: The columns of a new row that are given.
_GIVEN = ("incident_id", "lane", "do", "key", "person", "facts", "after_id", "after_until", "state", "attempt",
          "queued_at", "due_at", "answer", "adapter", "mailbox")  # fmt: skip


@cache
def _insert(*, is_sqlite: bool, by_turns: bool) -> Any:
    """A new row, its columns given as `the_…`. Two nodes may want the same key at once: one of them writes it, the
    other finds it done."""
    insert = insert_or_not(outbox, is_sqlite=is_sqlite)
    values = {name: sa.bindparam(f"the_{name}", type_=outbox.c[name].type) for name in _GIVEN}
    priority = _priority() if by_turns else sa.bindparam("first", type_=sa.Integer)
    adding = insert.values({**values, "priority": priority}).on_conflict_do_nothing(index_elements=["key"])
    return adding.returning(outbox.c.id)


def _turn(task: Task, mailbox: str) -> dict[str, Any]:
    """The parameters of its priority."""
    first = tasks.rank(task) * _RANK
    return {"first": first, "last": first + _RANK - 2} if mailbox else {"first": first}


def _priority() -> sa.ColumnElement[int]:
    """The rank of a task, `first`, and within it the turn of its incident: that of what it has waiting, else one
    behind whatever waits of other incidents of the same mailbox."""
    c = outbox.c
    given = {name: sa.bindparam(f"the_{name}", type_=c[name].type) for name in ("incident_id", "lane", "mailbox")}
    first, last = sa.bindparam("first", type_=sa.Integer), sa.bindparam("last", type_=sa.Integer)
    waiting = sa.and_(c.lane == given["lane"], c.done_at.is_(None), c.priority.between(first, last))
    own = sa.select(sa.func.max(c.priority)).where(c.incident_id == given["incident_id"], waiting)
    others = sa.select(sa.func.max(c.priority) + 1).where(
        c.mailbox == given["mailbox"], c.incident_id != given["incident_id"], waiting
    )
    return sa.func.coalesce(own.scalar_subquery(), others.scalar_subquery(), first)


# -- Rows of the outbox that do not add up: nobody claims them, they wait for nothing, they are held for too long.
#
# Asked once a minute, as the questions of `gaps`.

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
