"""The accounts: which rows do not add up. Every 250 is an incident or a note, an issue and a page; what is here is not.

The questions are asked once a minute, so each goes by an index to what is unresolved, unfinished or of the last days,
and answers at most `LIMIT` rows, the oldest first. `mend_…` put right what the rest of the book has no word for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from panicmail.incident import ids
from panicmail.incident.model import EffectKind, State
from panicmail.store.queries import UNHELD, Queries
from panicmail.store.rows import DeliveryState
from panicmail.store.tables import incidents, mails, outbox, timeline

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
