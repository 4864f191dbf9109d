"""What is to be told to the receivers of notices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TO_TELL = sa.text("state = 'waiting'")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("notice", sa.Text(), nullable=False),
        sa.Column("happening", sa.JSON(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ended_at", Instant()),
    )
    op.create_index("ix_notices_ended_at", "notices", ["ended_at"])
    op.create_index(
        "notices_to_tell",
        "notices",
        ["notice", "tries", "number"],
        sqlite_where=TO_TELL,
        postgresql_where=TO_TELL,
    )
