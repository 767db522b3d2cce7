"""who holds a lease"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = ("mails", "outbox")
_HELD = sa.text("lease_by IS NOT NULL")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("lease_by", sa.Text(), nullable=True))
        op.create_index(f"ix_{table}_lease_by", table, ["lease_by"], sqlite_where=_HELD, postgresql_where=_HELD)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_index(f"ix_{table}_lease_by", table)
        op.drop_column(table, "lease_by")
