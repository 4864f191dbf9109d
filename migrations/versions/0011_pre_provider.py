"""What was begun at the identity provider."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("verifier", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False),
        sa.Column("begun_at", Instant(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
    )
    op.create_index("ix_sign_ins_begun_at", "sign_ins", ["begun_at"])
