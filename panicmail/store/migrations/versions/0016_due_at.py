"""when time next brings something to an incident, as the rules say it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from panicmail.store.tables import Instant

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_DUE = sa.text("due_at IS NOT NULL")
_BREACH_DUE = sa.text("state = 'open' AND breached_at IS NULL AND opened_at < sla_at")


def upgrade() -> None:
    op.add_column("incidents", sa.Column("due_at", Instant))
    op.execute(
        "UPDATE incidents SET due_at = CASE"
        " WHEN state = 'open' AND breached_at IS NULL AND opened_at < sla_at AND sla_at < next_step_at THEN sla_at"
        " WHEN state = 'open' THEN next_step_at"
        " WHEN state = 'acked' THEN remind_at END"
    )
    op.drop_index("ix_incidents_breach_due", "incidents")
    op.create_index("ix_incidents_due_at", "incidents", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE)


def downgrade() -> None:
    op.drop_index("ix_incidents_due_at", "incidents")
    op.drop_column("incidents", "due_at")
    op.create_index(
        "ix_incidents_breach_due", "incidents", ["sla_at"], sqlite_where=_BREACH_DUE, postgresql_where=_BREACH_DUE
    )
