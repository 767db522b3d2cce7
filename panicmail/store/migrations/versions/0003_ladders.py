"""which ladder an incident follows, and the severity its reporter gave"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("ladder", sa.Text(), nullable=False, server_default="default"))
    op.add_column("incidents", sa.Column("severity", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("incidents", "severity")
    op.drop_column("incidents", "ladder")
