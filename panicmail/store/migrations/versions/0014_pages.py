"""pages in a table of their own, and what is due, late or held by an index"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import PAGE_OPEN, PAGE_UNDECIDED, AnyText, Instant

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_AT_ONCE = 500
_LATE = sa.text("state = 'open' AND breached_at IS NOT NULL")
_BREACH_DUE = sa.text("state = 'open' AND breached_at IS NULL AND opened_at < sla_at")
_INDEXED = (
    ["state", "remind_at"],
    ["state", "accepted_at"],
    ["state", "opened_at"],
    ["state", "holder"],
    ["reporter_address", "accepted_at"],
)

_incidents = sa.table(
    "incidents",
    sa.column("id", sa.String),
    sa.column("state", sa.String),
    sa.column("owed", sa.String),
    sa.column("paged", sa.JSON),
    sa.column("away", sa.JSON),
)
_outbox = sa.table(
    "outbox",
    sa.column("id", sa.Integer),
    sa.column("incident_id", sa.String),
    sa.column("do", sa.String),
    sa.column("person", sa.String),
    sa.column("facts", sa.JSON),
    sa.column("state", sa.String),
    sa.column("queued_at", Instant),
    sa.column("done_at", Instant),
    sa.column("answer", sa.String),
)
_pages = sa.table(
    "pages",
    sa.column("id", sa.Integer),
    sa.column("incident_id", sa.String),
    sa.column("person", sa.String),
    sa.column("role", sa.String),
    sa.column("round", sa.Integer),
    sa.column("channel", sa.String),
    sa.column("queued_at", Instant),
    sa.column("accepted_at", Instant),
    sa.column("failed_at", Instant),
    sa.column("answer", sa.String),
    sa.column("is_open", sa.Boolean),
    sa.column("undecided", sa.Boolean),
)


def upgrade() -> None:
    op.create_table(
        "pages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("incident_id", sa.String(16), sa.ForeignKey("incidents.id"), nullable=False),
        sa.Column("person", AnyText(), nullable=False),
        sa.Column("role", AnyText(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("channel", AnyText(), nullable=False),
        sa.Column("queued_at", Instant(), nullable=False),
        sa.Column("accepted_at", Instant(), nullable=True),
        sa.Column("failed_at", Instant(), nullable=True),
        sa.Column("answer", AnyText(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("undecided", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("incident_id", "person", "round", "channel"),
    )
    for some in _in_batches():
        if rows := [row for incident in some for row in _rows(incident)]:
            op.get_bind().execute(_pages.insert(), rows)
    op.drop_column("incidents", "paged")
    partly: list[tuple[str, str, list[str], Any]] = [
        ("ix_pages_open", "pages", ["person", "queued_at"], PAGE_OPEN),
        ("ix_pages_undecided", "pages", ["queued_at"], PAGE_UNDECIDED),
        ("ix_incidents_breach_due", "incidents", ["sla_at"], _BREACH_DUE),
        ("ix_incidents_late", "incidents", ["breached_at"], _LATE),
        ("ix_outbox_pending", "outbox", ["lane", "id"], sa.text("done_at IS NULL")),
    ]
    for name, table, columns, where in partly:
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
    for columns in _INDEXED:
        op.create_index(op.f(f"ix_incidents_{'_'.join(columns)}"), "incidents", columns)


def _in_batches() -> Iterator[list[sa.Row[Any]]]:
    last = ""
    while True:
        query = sa.select(_incidents).where(_incidents.c.id > last).order_by(_incidents.c.id).limit(_AT_ONCE)
        some = list(op.get_bind().execute(query).all())
        if not some:
            return
        yield some
        last = some[-1].id


def _rows(incident: sa.Row[Any]) -> list[dict[str, Any]]:
    """The pages of an incident: what the outbox knows of them, and what only the incident did."""
    c = _outbox.c
    query = sa.select(_outbox).where(c.incident_id == incident.id, c.do == "page").order_by(c.id)
    sent = op.get_bind().execute(query).all()
    reached = {row.person for row in sent if row.state == "accepted"}
    waits = incident.state == "open" or incident.owed == "answer"
    rows: dict[tuple[str, int, str], dict[str, Any]] = {}
    for row in sent:
        round_, channel = int(row.facts.get("round", 0)), str(row.facts.get("channel", "mail"))
        is_known = row.state in ("accepted", "void") or row.person in reached or row.person in incident.away
        rows[row.person, round_, channel] = {
            **_page(incident, row.person, str(row.facts.get("role", "")), round_, channel, row.queued_at),
            "accepted_at": row.done_at if row.state == "accepted" else None,
            "failed_at": row.done_at if row.state == "failed" else None,
            "answer": row.answer,
            "undecided": waits and not is_known,
        }
    for person, paged in incident.paged.items():
        theirs = [page for key, page in rows.items() if key[0] == person]
        at, last_at = (datetime.fromisoformat(paged[name]) for name in ("at", "last_at"))
        if not theirs:
            role, round_ = paged["role"], int(paged["round"])
            rows[person, round_, ""] = _page(incident, person, role, round_, "", at)
            if last_at > at:
                rows[person, round_ + 1, ""] = _page(incident, person, role, round_ + 1, "", last_at)
            continue
        first, last = (end(page["round"] for page in theirs) for end in (min, max))
        for page in theirs:
            if page["round"] == first:
                page.update(queued_at=at, role=paged["role"])
            elif page["round"] == last:
                page["queued_at"] = last_at
    return list(rows.values())


def _page(
    incident: sa.Row[Any], person: str, role: str, round_: int, channel: str, queued_at: datetime
) -> dict[str, Any]:
    return {
        "incident_id": incident.id,
        "person": person,
        "role": role,
        "round": round_,
        "channel": channel,
        "queued_at": queued_at,
        "accepted_at": None,
        "failed_at": None,
        "answer": "",
        "is_open": incident.state == "open",
        "undecided": False,
    }


def downgrade() -> None:
    op.add_column("incidents", sa.Column("paged", sa.JSON(), nullable=False, server_default="{}"))
    for some in _in_batches():
        for incident in some:
            query = sa.select(_pages).where(_pages.c.incident_id == incident.id).order_by(_pages.c.id)
            paged: dict[str, dict[str, Any]] = {}
            for row in op.get_bind().execute(query):
                at = row.queued_at.isoformat()
                before = paged.setdefault(row.person, {"role": row.role, "round": row.round, "at": at, "last_at": at})
                before["last_at"] = max(before["last_at"], at)
            values = _incidents.update().where(_incidents.c.id == incident.id).values(paged=paged)
            op.get_bind().execute(values)
    for columns in _INDEXED:
        op.drop_index(op.f(f"ix_incidents_{'_'.join(columns)}"), "incidents")
    op.drop_index("ix_outbox_pending", "outbox")
    op.drop_index("ix_incidents_late", "incidents")
    op.drop_index("ix_incidents_breach_due", "incidents")
    op.drop_table("pages")
