"""senders: what is proved of who wrote a mail"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None

_UNCHECKED = sa.text("sender_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("mails", sa.Column("sender", sa.Text))
    op.add_column("mails", sa.Column("sender_at", Instant))
    op.add_column("mails", sa.Column("sender_tries", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_mails_sender_at", "mails", ["sender_at"], sqlite_where=_UNCHECKED, postgresql_where=_UNCHECKED)


def downgrade() -> None:
    op.drop_index("ix_mails_sender_at", "mails")
    for name in ("sender", "sender_at", "sender_tries"):
        op.drop_column("mails", name)
