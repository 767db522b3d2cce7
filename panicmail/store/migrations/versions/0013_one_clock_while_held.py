"""one clock for each held incident: what is owed by its holder, and when"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: What a message waited for its answer before others were called.
_ANSWER_WITHIN = timedelta(minutes=10)

_incidents = sa.table(
    "incidents",
    sa.column("id", sa.String),
    sa.column("state", sa.String),
    sa.column("acked_at", Instant),
    sa.column("worked_at", Instant),
    sa.column("remind_at", Instant),
    sa.column("reminded", sa.Boolean),
    sa.column("answer_at", Instant),
    sa.column("owed", sa.String),
    sa.column("words_at", Instant),
)


def upgrade() -> None:
    op.add_column("incidents", sa.Column("owed", sa.String(8), nullable=True))
    op.add_column("incidents", sa.Column("words_at", Instant(), nullable=True))
    c, connection = _incidents.c, op.get_bind()
    for row in connection.execute(sa.select(_incidents).where(c.state == "acked")).all():
        connection.execute(_incidents.update().where(c.id == row.id).values(**_owed(row)))
    op.drop_column("incidents", "reminded")
    op.drop_column("incidents", "answer_at")


def _owed(row: sa.Row) -> dict[str, object]:  # type: ignore[type-arg]
    if row.answer_at is not None:
        due = [row.answer_at, *([row.remind_at] if row.reminded and row.remind_at else [])]
        return {"owed": "answer", "remind_at": min(due), "words_at": row.answer_at - _ANSWER_WITHIN}
    if row.remind_at is not None:
        return {"owed": "answer" if row.reminded else "work"}
    # A sign of work had silenced it for good: it is asked about with the next day.
    return {"owed": "status", "remind_at": row.worked_at or row.acked_at}


def downgrade() -> None:
    op.add_column("incidents", sa.Column("reminded", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("incidents", sa.Column("answer_at", Instant(), nullable=True))
    c, connection = _incidents.c, op.get_bind()
    for row in connection.execute(sa.select(_incidents).where(c.state == "acked")).all():
        old = {
            "reminded": row.owed == "answer" and row.words_at is None,
            "answer_at": row.remind_at if row.words_at else None,
            "remind_at": None if row.owed == "status" or row.words_at else row.remind_at,
        }
        connection.execute(_incidents.update().where(c.id == row.id).values(**old))
    op.drop_column("incidents", "words_at")
    op.drop_column("incidents", "owed")
