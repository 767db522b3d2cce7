"""What must be true of all rows at all times, whatever crashed. Slow: it reads every row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from panicmail.incident.model import EffectKind, State
from panicmail.store.queries import Queries
from panicmail.store.tables import incidents, mails, outbox, pages, raws

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
