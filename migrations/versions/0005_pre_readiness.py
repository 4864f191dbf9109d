"""The signal by which a series was found ready, and how many instances other nodes have of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("series", sa.Column("newest_at", Instant(), nullable=True))
    op.add_column("series", sa.Column("signal", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("series", sa.Column("ready_at", Instant(), nullable=True))
    op.create_table(
        "series_counts",
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("earlier", sa.Integer(), nullable=True),
        sa.Column("earlier_at", Instant(), nullable=True),
        sa.Column("ask_again_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "series_uid", "node"),
    )
