"""Announcing, offices with one holder, alarms, pinned builds, and what depends on a result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.tables import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BUSY_TABLES = ("stages", "deliveries")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("package_digest", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("review", sa.Text(), nullable=False, server_default="unreviewed"))
    op.add_column("jobs", sa.Column("is_stale", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("stages", sa.Column("announced_at", Instant(), nullable=True))
    op.add_column("deliveries", sa.Column("priority", sa.Text(), nullable=False, server_default="routine"))
    op.create_table(
        "leases",
        sa.Column("office", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("until", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("office"),
    )
    op.create_table(
        "alarms",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("raised_at", Instant(), nullable=False),
        sa.Column("last_at", Instant(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("cleared_at", Instant(), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("alarms_open", "alarms", ["cleared_at", "code"])
    if op.get_bind().dialect.name == "postgresql":
        for table in _BUSY_TABLES:
            op.execute(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01)")
