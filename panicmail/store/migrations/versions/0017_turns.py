"""by turns: whose turn a waiting mail and a row of the outbox is"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_WAITING = sa.text("state = 'accepted'")
_PENDING = sa.text("done_at IS NULL")
_LATE = sa.text("state = 'open' AND breached_at IS NOT NULL")


def _index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.add_column("mails", sa.Column("turn", sa.Integer, nullable=False, server_default="0"))
    _index("ix_mails_waiting", "mails", ["turn", "accepted_at", "id"], _WAITING)
    _index("ix_mails_waiting_of", "mails", ["mail_from", "turn"], _WAITING)
    op.add_column("outbox", sa.Column("mailbox", sa.Text, nullable=False, server_default=""))
    op.add_column("outbox", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("ix_outbox_pending", "outbox")
    _index("ix_outbox_pending", "outbox", ["lane", "priority", "id"], _PENDING)
    _index("ix_outbox_pending_of", "outbox", ["lane", "mailbox", "priority"], _PENDING)
    op.drop_index("ix_incidents_late", "incidents")
    op.create_index("ix_incidents_state_breached_at", "incidents", ["state", "breached_at"])


def downgrade() -> None:
    op.drop_index("ix_incidents_state_breached_at", "incidents")
    _index("ix_incidents_late", "incidents", ["breached_at"], _LATE)
    op.drop_index("ix_outbox_pending_of", "outbox")
    op.drop_index("ix_outbox_pending", "outbox")
    op.drop_column("outbox", "priority")
    op.drop_column("outbox", "mailbox")
    _index("ix_outbox_pending", "outbox", ["lane", "id"], _PENDING)
    op.drop_index("ix_mails_waiting_of", "mails")
    op.drop_index("ix_mails_waiting", "mails")
    op.drop_column("mails", "turn")
