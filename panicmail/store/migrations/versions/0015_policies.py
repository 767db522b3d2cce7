"""the escalation policy of an incident under its name"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE incidents RENAME COLUMN ladder TO policy")
    op.execute("ALTER TABLE incidents RENAME COLUMN ladder_at TO steps_from_at")


def downgrade() -> None:
    op.execute("ALTER TABLE incidents RENAME COLUMN steps_from_at TO ladder_at")
    op.execute("ALTER TABLE incidents RENAME COLUMN policy TO ladder")
