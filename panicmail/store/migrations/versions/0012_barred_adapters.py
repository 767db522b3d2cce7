"""which rows wait for an adapter that lets nothing through"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.blocked_adapters import adapter_name
from panicmail.store.tables import AnyText

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_IS_BARRED = sa.text("barred IS NOT NULL")


def upgrade() -> None:
    op.add_column("outbox", sa.Column("adapter", AnyText(), nullable=False, server_default=""))
    op.add_column("outbox", sa.Column("barred", AnyText(), nullable=True))
    _name_adapters(op.get_bind())
    op.create_index("ix_outbox_barred", "outbox", ["barred"], sqlite_where=_IS_BARRED, postgresql_where=_IS_BARRED)


def downgrade() -> None:
    op.drop_index("ix_outbox_barred", "outbox")
    op.drop_column("outbox", "barred")
    op.drop_column("outbox", "adapter")


def _name_adapters(connection: sa.Connection) -> None:
    """Of what is still to be sent. The channel of a push stands in its facts."""
    names = {"id": sa.Integer, "lane": sa.String, "person": AnyText, "facts": sa.JSON, "state": sa.String,
             "adapter": AnyText}  # fmt: skip
    rows = sa.table("outbox", *(sa.column(name, kind) for name, kind in names.items()))
    pending = sa.select(rows).where(rows.c.state.in_(["queued", "trying", "parked"]))
    for row in connection.execute(pending).all():
        named = rows.update().where(rows.c.id == row.id)
        connection.execute(named.values(adapter=adapter_name(row.lane, row.person, row.facts)))
