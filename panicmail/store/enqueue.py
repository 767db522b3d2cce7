"""New rows of the outbox: the tasks that the rules ask for, each written once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from panicmail.incident import tasks
from panicmail.incident.model import Incident
from panicmail.incident.tasks import OperatorAlarm, Task
from panicmail.store.blocked_adapters import adapter_name
from panicmail.store.queries import Queries, TransactionContext, insert_or_not
from panicmail.store.rows import DeliveryState
from panicmail.store.tables import outbox

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
