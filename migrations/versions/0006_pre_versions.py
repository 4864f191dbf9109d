"""Other versions of known objects are classed; those that came before are entered, for nobody has looked at them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = sa.text("standing = 'open'")
ENTER = """
    INSERT INTO versions (sop_instance_uid, digest, study_uid, received_at, association_id, due_at)
    SELECT i.sop_instance_uid, i.digest, COALESCE(used.study_uid, i.study_uid), i.received_at, i.association_id,
           i.received_at
    FROM instances i
    LEFT JOIN instances used ON used.sop_instance_uid = i.sop_instance_uid AND used.is_routable
    WHERE NOT i.is_routable AND NOT i.is_own AND EXISTS (
        SELECT 1 FROM instances first WHERE first.sop_instance_uid = i.sop_instance_uid AND first.id < i.id)
    ORDER BY i.id
"""


def upgrade() -> None:
    op.create_table(
        "versions",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("received_at", Instant(), nullable=False),
        sa.Column("association_id", sa.Text(), nullable=False),
        sa.Column("due_at", Instant(), nullable=False),
        sa.Column("difference", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("standing", sa.Text(), server_default="open", nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("decided_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decided_at", Instant()),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("sop_instance_uid", "digest"),
    )
    op.create_index("ix_versions_study_uid", "versions", ["study_uid"])
    op.create_index("versions_open", "versions", ["due_at"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.execute(ENTER)
