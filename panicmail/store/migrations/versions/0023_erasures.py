"""erasures: what was erased, when and by whom"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", Instant, nullable=False),
        sa.Column("what", sa.String(12), nullable=False),
        sa.Column("ref", sa.String(8), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
    )
    op.create_index("ix_erasures_what_at", "erasures", ["what", "at"])


def downgrade() -> None:
    op.drop_table("erasures")
