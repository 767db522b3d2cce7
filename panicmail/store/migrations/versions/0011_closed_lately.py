"""what was closed lately, and whose issue it is, found without reading what was closed long ago"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_incidents_resolved_at"), "incidents", ["resolved_at"])
    op.create_index(op.f("ix_incidents_issue_iid"), "incidents", ["issue_iid"])


def downgrade() -> None:
    op.drop_index(op.f("ix_incidents_issue_iid"), "incidents")
    op.drop_index(op.f("ix_incidents_resolved_at"), "incidents")
