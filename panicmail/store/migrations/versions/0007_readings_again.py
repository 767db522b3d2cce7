"""which mails are to be read again, and when"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

_IS_TO_BE = sa.text("again_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("mails", sa.Column("again_at", Instant(), nullable=True))
    op.add_column("mails", sa.Column("readings", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_mails_again_at", "mails", ["again_at"], sqlite_where=_IS_TO_BE, postgresql_where=_IS_TO_BE)


def downgrade() -> None:
    op.drop_index("ix_mails_again_at", "mails")
    op.drop_column("mails", "readings")
    op.drop_column("mails", "again_at")
