"""which rows wait for an adapter that lets nothing through"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import AnyText

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_IS_BARRED = sa.text("barred IS NOT NULL")


def upgrade() -> None:
    op.add_column("outbox", sa.Column("barred", AnyText(), nullable=True))
    op.create_index("ix_outbox_barred", "outbox", ["barred"], sqlite_where=_IS_BARRED, postgresql_where=_IS_BARRED)


def downgrade() -> None:
    op.drop_index("ix_outbox_barred", "outbox")
    op.drop_column("outbox", "barred")
