"""What a node has sent lately is found by its visits."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("associations_of_node", "associations", ["node", "opened_at"])
