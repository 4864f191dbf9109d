"""What was ordered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("accession_number", sa.Text(), primary_key=True),
        sa.Column("patient_id", sa.Text(), primary_key=True),
        sa.Column("patient_id_issuer", sa.Text(), nullable=False),
        sa.Column("procedure_code", sa.Text(), nullable=False),
        sa.Column("procedure_description", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("scheduled_station", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
    )
    op.create_index("ix_orders_at", "orders", ["at"])
