"""in which project an issue is that was moved out of the configured one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import AnyText

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("incidents", sa.Column("issue_project", AnyText(), nullable=True))


def downgrade() -> None:
    op.drop_column("incidents", "issue_project")
