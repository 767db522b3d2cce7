"""digests: many pages to one person are one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("mailbox", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "paging_mailboxes",
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("last_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("person", "mailbox", name="pk_paging_mailboxes"),
    )
    op.create_index("ix_paging_mailboxes_person_last_at", "paging_mailboxes", ["person", "last_at"])
    op.create_table(
        "digests",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("made_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_digests"),
    )
    op.create_index("ix_digests_person_channel_made_at", "digests", ["person", "channel", "made_at"])
    op.create_table(
        "digest_pages",
        sa.Column("digest_id", sa.String(16), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("incident_id", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["digest_id"], ["digests.id"], name="fk_digest_pages_digest_id"),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name="fk_digest_pages_incident_id"),
        sa.PrimaryKeyConstraint("digest_id", "number", name="pk_digest_pages"),
    )


def downgrade() -> None:
    op.drop_table("digest_pages")
    op.drop_table("digests")
    op.drop_table("paging_mailboxes")
    op.drop_column("incidents", "mailbox")
