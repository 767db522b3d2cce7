"""severity: who of our people said how grave an incident is"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("severity_by", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("incidents", "severity_by")
