"""storms: a flood of one mailbox is one incident"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    op.add_column("mails", sa.Column("mailbox", sa.Text))
    _index("ix_mails_mailbox", "mails", ["mailbox", "accepted_at"], "mailbox IS NOT NULL")
    op.create_table(
        "storms",
        sa.Column("incident_id", sa.String(16), nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("first", sa.JSON, nullable=False),
        sa.Column("last_at", Instant, nullable=False),
        sa.Column("members", sa.Integer, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
        sa.Column("tell_at", Instant),
        sa.Column("told_at", Instant),
        sa.Column("receipt_at", Instant),
        sa.Column("split_at", Instant),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name="fk_storms_incident_id"),
        sa.PrimaryKeyConstraint("incident_id", name="pk_storms"),
    )
    op.create_index("ix_storms_mailbox_last_at", "storms", ["mailbox", "last_at"])
    _index("ix_storms_tell_at", "storms", ["tell_at"], "tell_at IS NOT NULL")
    op.create_table(
        "storm_kinds",
        sa.Column("incident_id", sa.String(16), nullable=False),
        sa.Column("likeness", sa.String(64), nullable=False),
        sa.Column("mail_id", sa.String(26), nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name="fk_storm_kinds_incident_id"),
        sa.PrimaryKeyConstraint("incident_id", "likeness", name="pk_storm_kinds"),
    )


def downgrade() -> None:
    op.drop_table("storm_kinds")
    op.drop_table("storms")
    op.drop_index("ix_mails_mailbox", "mails")
    op.drop_column("mails", "mailbox")
