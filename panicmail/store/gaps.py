"""The accounts: which rows do not add up. Every 250 is an incident or a note, an issue and a page; what is here is not.

The questions are asked once a minute, so each goes by an index to what is unresolved, unfinished or of the last days,
and answers at most `LIMIT` rows, the oldest first. `mend_…` put right what the rest of the book has no word for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from panicmail.incident import ids
from panicmail.incident.model import EffectKind, State
from panicmail.incident.tasks import ALL_LANES
from panicmail.store.queries import UNHELD, Queries
from panicmail.store.rows import DeliveryState
from panicmail.store.tables import incidents, mails, outbox, pages, raws, timeline

#: So many rows of a kind are looked at at once.
LIMIT = 100

_PENDING = (DeliveryState.QUEUED.value, DeliveryState.TRYING.value)
_UNRESOLVED = (State.OPEN.value, State.ACKED.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class OddRow:
    """Something that does not add up, and since when."""

    since_at: datetime
    mail_id: str | None = None
    incident_id: str | None = None
    ref: str = ""  #: as people know it; of a mail the REF its 250 said
    lane: str = ""
    count: int = 1  #: how many rows this is about


class Gaps(Queries):
    """Statements that find what is missing."""

    # -- mails

    def unread_mails(self, before: datetime) -> list[OddRow]:
        """Mails accepted before `before` that nothing has understood: not claimed, or claimed again and again.

        One that waits to be read again is among them when nobody did so since `before`.
        """
        c = mails.c
        overdue = sa.or_(c.again_at.is_(None), c.again_at < before)
        query = sa.select(c.id, c.accepted_at).where(c.state == "accepted", c.accepted_at < before, overdue)
        rows = self._connection.execute(query.order_by(c.accepted_at).limit(LIMIT))
        return [OddRow(since_at=row.accepted_at, mail_id=row.id, ref=ids.ref(row.id)) for row in rows]

    def unfiled_mails(self, since: datetime) -> list[OddRow]:
        """Mails accepted from `since` on that were understood, and no incident has them."""
        c, own = mails.c, incidents.alias("own")
        anothers = sa.and_(c.shape == "panic", incidents.c.mail_id != c.id)
        query = (
            sa.select(c.id, c.accepted_at)
            .outerjoin(incidents, incidents.c.id == c.incident_id)
            .where(
                c.state == "understood",
                c.accepted_at >= since,
                c.shape.is_distinct_from("proof"),  # an answer to a test page belongs to no incident
                sa.or_(incidents.c.id.is_(None), anothers),
                ~sa.exists().where(own.c.mail_id == c.id),
            )
        )
        rows = self._connection.execute(query.order_by(c.accepted_at).limit(LIMIT))
        return [OddRow(since_at=row.accepted_at, mail_id=row.id, ref=ids.ref(row.id)) for row in rows]

    def mend_unfiled(self, mail_id: str) -> None:
        """Have the mail understood anew."""
        taken = mails.update().where(mails.c.id == mail_id, mails.c.state == "understood")
        self._connection.execute(taken.values(state="accepted", attempts=0, again_at=None, **UNHELD))
        self._woken.add("mails")

    def misfiled_incidents(self) -> list[OddRow]:
        """Unresolved incidents whose mail does not say that it is theirs."""
        c = mails.c
        query = (
            sa.select(*_NAMED)
            .outerjoin(mails, c.id == incidents.c.mail_id)
            .where(
                incidents.c.state.in_(_UNRESOLVED),
                sa.or_(c.incident_id.is_(None), c.incident_id != incidents.c.id, c.state != "understood"),
            )
        )
        return self._incidents(query)

    def mend_misfiled(self, incident_id: str) -> None:
        """Let the mail of this incident say so."""
        mail_id = sa.select(incidents.c.mail_id).where(incidents.c.id == incident_id).scalar_subquery()
        filed = {"state": "understood", "shape": "panic", "incident_id": incident_id, **UNHELD}
        self._connection.execute(mails.update().where(mails.c.id == mail_id).values(filed))

    # -- issues

    def issueless_incidents(self, since: datetime) -> list[tuple[OddRow, DeliveryState | None]]:
        """Unresolved incidents, and those accepted from `since` on, that have no issue; with how far the row has come
        that is to open it (None: there is no such row), and since when."""
        issue = outbox.alias("issue")
        query = (
            sa.select(*_NAMED, issue.c.state, sa.func.coalesce(issue.c.queued_at, incidents.c.accepted_at).label("at"))
            .outerjoin(issue, issue.c.key == incidents.c.id + "/issue")
            .where(incidents.c.issue_iid.is_(None))
            .order_by(issue.c.id.is_not(None), issue.c.state.in_(_PENDING), incidents.c.accepted_at)
            .limit(LIMIT)
        )
        # Two questions, as each has its index; an OR of them would read every row.
        halves = (incidents.c.state.in_(_UNRESOLVED), incidents.c.accepted_at >= since)
        rows = {row.id: row for half in halves for row in self._connection.execute(query.where(half))}
        return [
            (OddRow(since_at=row.at, incident_id=row.id, ref=row.ref), DeliveryState(row.state) if row.state else None)
            for row in rows.values()
        ]

    # -- pages and steps

    def unpaged_incidents(self) -> list[tuple[OddRow, bool]]:
        """Open incidents nobody is being called for: no page of the current round was taken or is on its way.

        True with those whose pages are not there though somebody was to be paged; False with those whose pages were
        all refused or let go, or whose step named nobody. Held back ones are none of both.
        """
        mine = sa.and_(outbox.c.incident_id == incidents.c.id, outbox.c.do == EffectKind.PAGE.value)
        of_round = sa.and_(mine, outbox.c.facts["round"].as_integer() == incidents.c.round)
        idle = outbox.c.state.in_([DeliveryState.FAILED.value, DeliveryState.PARKED.value, DeliveryState.VOID.value])
        latest = sa.select(sa.func.max(sa.func.coalesce(outbox.c.done_at, outbox.c.queued_at))).where(mine)
        query = sa.select(
            *_NAMED, incidents.c.round, sa.exists().where(of_round).label("has_pages"),
            sa.func.coalesce(latest.scalar_subquery(), incidents.c.opened_at).label("latest_at"),
        ).where(
            incidents.c.state == State.OPEN.value,
            incidents.c.round > 0,  # 0: its policy begins at its opening hours
            ~sa.exists().where(of_round, ~idle),
        )  # fmt: skip
        found = []
        for row in self._connection.execute(query.order_by(incidents.c.accepted_at).limit(LIMIT)).all():
            lines = self._lines_of_round(row.id, row.round)
            is_lost = not row.has_pages and all(facts.get("people") for facts in lines.values())
            if "steps.held" not in lines:
                found.append((OddRow(since_at=row.latest_at, incident_id=row.id, ref=row.ref), is_lost))
        return found

    def _lines_of_round(self, incident_id: str, round_: int) -> dict[str, Mapping[str, Any]]:
        """What the timeline says about who was to be called in a round: event -> facts."""
        c = timeline.c
        query = sa.select(c.event, c.facts).where(
            c.incident_id == incident_id, c.event.in_(["people.paged", "steps.held"])
        )
        return {row.event: row.facts for row in self._connection.execute(query) if row.facts.get("round") == round_}

    def late_steps(self, before: datetime) -> list[OddRow]:
        """Incidents of which something was due before `before`: the tick does not move them."""
        c = incidents.c
        step = sa.and_(c.state == State.OPEN.value, c.next_step_at < before)
        asked = sa.and_(c.state == State.ACKED.value, c.remind_at < before)
        query = sa.select(*_NAMED, c.next_step_at, c.remind_at).where(sa.or_(step, asked)).limit(LIMIT)
        return sorted(
            (
                OddRow(since_at=min(filter(None, (row.next_step_at, row.remind_at))),
                    incident_id=row.id, ref=row.ref)
                for row in self._connection.execute(query)
            ),
            key=lambda odd: odd.since_at,
        )  # fmt: skip

    def unset_steps(self, beyond: Mapping[str, datetime]) -> list[OddRow]:
        """Open incidents without a next step, or with one farther off than their policy puts any.

        Args:
            beyond: By the name of a policy; of one that a reload took away the latest counts.
        """
        c = incidents.c
        too_far = [sa.and_(c.policy == name, c.next_step_at > at) for name, at in beyond.items()]
        gone = sa.and_(c.policy.not_in(list(beyond)), c.next_step_at > max(beyond.values()))
        unset = sa.or_(c.next_step_at.is_(None), *too_far, gone)
        return self._incidents(sa.select(*_NAMED).where(c.state == State.OPEN.value, unset))

    def _incidents(self, query: sa.Select[Any]) -> list[OddRow]:
        rows = self._connection.execute(query.order_by(incidents.c.accepted_at).limit(LIMIT))
        return [OddRow(since_at=row.accepted_at, incident_id=row.id, ref=row.ref) for row in rows]


_NAMED = (incidents.c.id, incidents.c.ref, incidents.c.accepted_at)


# -- How much there is, for `/metrics` and reports. Nothing here counts farther than it is asked to.

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


# -- What must be true of all rows at all times, whatever crashed. Slow: it reads every row.

#: So many rows that break an invariant are named.
NAMED = 1000
#: A SQLite file up to this size is read through for damage as well: a second's work at most.
CHECKED_SIZE = 256 * 1024 * 1024

_i, _m, _o = incidents.c, mails.c, outbox.c
_again = incidents.alias("again")
_round = _o.facts["round"].as_integer()
_channel = _o.facts["channel"].as_string()
_is_open = _i.state == State.OPEN.value
_is_page = _o.do == EffectKind.PAGE.value

#: Invariant -> a query for what breaks it: REFs, ids of mails, keys of rows.
_BROKEN_BY: Mapping[str, sa.Select[Any]] = {
    "an incident is open exactly when it has a next step": sa.select(_i.ref).where(
        sa.or_(sa.and_(_is_open, _i.next_step_at.is_(None)), sa.and_(~_is_open, _i.next_step_at.is_not(None)))
    ),
    "an incident that is not over is due at some time": sa.select(_i.ref).where(
        (_i.state == State.RESOLVED.value) != _i.due_at.is_(None)
    ),
    "an incident has its mail and the octets of it": (
        sa.select(_i.ref)
        .outerjoin(mails, _m.id == _i.mail_id)
        .outerjoin(raws, raws.c.mail_id == _i.mail_id)
        .where(sa.or_(_m.id.is_(None), raws.c.mail_id.is_(None)))
    ),
    "a mail opens one incident": sa.select(_i.mail_id).group_by(_i.mail_id).having(sa.func.count() > 1),
    "what was understood belongs to an incident": (
        sa.select(_m.id)
        .outerjoin(incidents, _i.id == _m.incident_id)
        .where(_m.state == "understood", _m.shape.is_distinct_from("proof"), _i.id.is_(None))
    ),
    "a panic has an incident of its own": (
        sa.select(_m.id).outerjoin(_again, _again.c.mail_id == _m.id).where(_m.shape == "panic", _again.c.id.is_(None))
    ),
    "an incident has an issue or a row that opens it": (
        sa.select(_i.ref).outerjoin(outbox, _o.key == _i.id + "/issue").where(_i.issue_iid.is_(None), _o.id.is_(None))
    ),
    "a person is paged once in a round": (
        sa.select(sa.func.min(_o.key))
        .where(_is_page)
        .group_by(_o.incident_id, _o.lane, _o.person, _round, _channel)
        .having(sa.func.count() > 1)
    ),
    "a page knows whether its incident is open": (
        sa.select(_i.ref).join(pages, pages.c.incident_id == _i.id).where(pages.c.is_open != _is_open).distinct()
    ),
    "no page is of a round to come": (
        sa.select(_o.key).join(incidents, _i.id == _o.incident_id).where(_is_page, _round > _i.round)
    ),
    "who acknowledged and how is on record": sa.select(_i.ref).where(
        _i.state == State.ACKED.value, sa.or_(_i.holder.is_(None), _i.acked_how == "", _i.acked_at.is_(None))
    ),
    "when it was resolved is on record": sa.select(_i.ref).where(
        _i.state == State.RESOLVED.value, _i.resolved_at.is_(None)
    ),
    "what is to be done is about an incident that is there": (
        sa.select(_o.key)
        .outerjoin(incidents, _i.id == _o.incident_id)
        .where(_o.incident_id.is_not(None), _i.id.is_(None))
    ),
}


class Invariants(Queries):
    """Statements that hold everything against what must be true."""

    def violations(self) -> dict[str, list[str]]:
        """The invariants that are broken, each with what breaks it, `NAMED` of them at most."""
        found = {
            invariant: list(self._connection.execute(query.limit(NAMED)).scalars())
            for invariant, query in _BROKEN_BY.items()
        }
        return {invariant: broken for invariant, broken in found.items() if broken}

    def damage(self) -> list[str]:
        """What SQLite finds wrong with its file; nothing on PostgreSQL, and of a file too large to read through."""
        if not self._is_sqlite:
            return []
        pages, size = (self._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in _SIZES)
        if pages * size > CHECKED_SIZE:
            return []
        said = self._connection.exec_driver_sql("PRAGMA quick_check(3)").scalars()
        return [str(line) for line in said if line != "ok"]


_SIZES = ("page_count", "page_size")
