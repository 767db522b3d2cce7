"""Storms: their rows, and the mails that are counted, joined, and taken apart again."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from panicmail.incident.storm_rules import TOLD_EVERY, Storm
from panicmail.store.queries import UNHELD, Queries
from panicmail.store.rows import AcceptedMail, mail_of
from panicmail.store.tables import mails, storm_kinds, storms

#: So many storms are told of in one tick.
AT_ONCE = 50
#: The turn of a mail that waits after everybody's first one.
_LATER_TURN = 1


class Storms(Queries):
    """Statements about storms."""

    def get(self, incident_id: str) -> Storm | None:
        """The storm that this incident is; None: it is none."""
        return self._one(sa.select(storms).where(storms.c.incident_id == incident_id))

    def locked(self, incident_id: str) -> Storm | None:
        """As `get`, and nobody else changes it until the end of the transaction."""
        return self._one(sa.select(storms).where(storms.c.incident_id == incident_id).with_for_update())

    def _one(self, query: sa.Select[Any]) -> Storm | None:
        row = self._connection.execute(query).one_or_none()
        return _storm_of(row) if row else None

    def latest_of(self, mailbox: str, since: datetime) -> Storm | None:
        """The latest storm of a mailbox that had a mail since."""
        c = storms.c
        query = sa.select(storms).where(c.mailbox == mailbox, c.last_at >= since).order_by(c.last_at.desc()).limit(1)
        return self._one(query)

    def mails_of(self, mailbox: str, since: datetime, until: datetime, most: int) -> list[tuple[str, str]]:
        """(id of the incident, shape) of panics and members of a mailbox accepted between the two, the latest first."""
        c = mails.c
        query = (
            sa.select(c.incident_id, c.shape)
            .where(c.mailbox == mailbox, c.accepted_at >= since, c.accepted_at <= until)
            .order_by(c.accepted_at.desc())
            .limit(most)
        )
        return [(row.incident_id, row.shape) for row in self._connection.execute(query)]

    def add(self, storm: Storm) -> None:
        self._connection.execute(storms.insert().values(_row_of(storm)))

    def keep(self, storm: Storm) -> None:
        """Store a changed one, which was read in this transaction."""
        row = _row_of(storm)
        self._connection.execute(storms.update().where(storms.c.incident_id == row.pop("incident_id")).values(row))

    def add_kind(self, incident_id: str, likeness: str, mail_id: str, *, told: bool) -> bool:
        """Whether this is the first mail of a storm that is so."""
        c = storm_kinds.c
        known = sa.select(sa.exists().where(c.incident_id == incident_id, c.likeness == likeness))
        if self._connection.execute(known).scalar_one():
            return False
        row = {"incident_id": incident_id, "likeness": likeness, "mail_id": mail_id, "told": told}
        self._connection.execute(storm_kinds.insert().values(row))
        return True

    def has_untold(self, incident_id: str) -> bool:
        """Whether there is a mail unlike the others of which nobody was told."""
        c = storm_kinds.c
        return bool(
            self._connection.execute(sa.select(sa.exists().where(c.incident_id == incident_id, ~c.told))).scalar_one()
        )

    def tell_untold(self, incident_id: str, most: int) -> tuple[list[AcceptedMail], int]:
        """The first mails unlike the others of which nobody was told, and how many there are. Now all are told."""
        c = storm_kinds.c
        untold = sa.and_(c.incident_id == incident_id, ~c.told)
        count = int(self._connection.execute(sa.select(sa.func.count()).where(untold)).scalar_one())
        query = sa.select(mails).join(storm_kinds, c.mail_id == mails.c.id).where(untold)
        shown = self._connection.execute(query.order_by(mails.c.accepted_at, mails.c.id).limit(most)).all()
        self._connection.execute(storm_kinds.update().where(untold).values(told=True))
        return [mail_of(row) for row in shown], count

    def latest_members(self, incident_id: str, most: int) -> list[AcceptedMail]:
        """The mails that joined last, oldest first."""
        c = mails.c
        query = sa.select(mails).where(c.incident_id == incident_id, c.shape == "member")
        found = self._connection.execute(query.order_by(c.accepted_at.desc(), c.id.desc()).limit(most)).all()
        return [mail_of(row) for row in reversed(found)]

    def tell_soon(self, incident_id: str) -> None:
        """Whoever has it now has not heard of some mails unlike the others."""
        self._connection.execute(storms.update().where(storms.c.incident_id == incident_id).values(tell_at=self.now))

    def is_any_due(self) -> bool:
        """Whether `due` finds something."""
        return bool(self._connection.execute(sa.select(sa.exists().where(self._is_due()))).scalar_one())

    def _is_due(self) -> sa.ColumnElement[bool]:
        """As `storm_rules.is_due`."""
        at = storms.c.tell_at
        return sa.or_(at <= self.now, at > self.now + TOLD_EVERY)

    def due(self) -> list[str]:
        """The incidents that are storms of which there is something to tell now."""
        c = storms.c
        query = sa.select(c.incident_id).where(self._is_due()).order_by(c.tell_at).limit(AT_ONCE)
        return list(self._connection.execute(query).scalars())

    def release_one(self, incident_id: str, mail_id: str) -> None:
        """As `release`, of one mail: it is next, and the storm has one less."""
        c = mails.c
        again: dict[str, Any] = {"state": "accepted", "shape": None, "incident_id": None, "attempts": 0, "readings": 0,
                                 "turn": 0, "mailbox": "", **UNHELD}  # fmt: skip
        left = mails.update().where(c.id == mail_id, c.incident_id == incident_id, c.shape == "member")
        if self._connection.execute(left.values(again)).rowcount:
            s = storms.c
            fewer = storms.update().where(s.incident_id == incident_id).values(members=s.members - 1)
            self._connection.execute(fewer)
            self._connection.execute(storm_kinds.delete().where(storm_kinds.c.mail_id == mail_id))
        self._woken.add("mails")

    def release(self, incident_id: str) -> int:
        """Have every mail that joined understood anew, each for itself; answers how many there are.

        They wait after everybody's first mail, and join no storm again.
        """
        c = mails.c
        again: dict[str, Any] = {"state": "accepted", "shape": None, "incident_id": None, "attempts": 0, "readings": 0,
                                 "turn": _LATER_TURN, "mailbox": "", **UNHELD}  # fmt: skip
        theirs = mails.update().where(c.incident_id == incident_id, c.shape == "member")
        count = self._connection.execute(theirs.values(again)).rowcount
        self._connection.execute(storm_kinds.delete().where(storm_kinds.c.incident_id == incident_id))
        self._woken.add("mails")
        return count


def _storm_of(row: sa.Row[Any]) -> Storm:
    values = {f.name: row._mapping[f.name] for f in fields(Storm)}
    return Storm(**{**values, "first": tuple(values["first"])})


def _row_of(storm: Storm) -> dict[str, Any]:
    return {**asdict(storm), "first": list(storm.first)}
