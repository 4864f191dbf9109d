"""Announcing, offices with one holder, alarms, pinned builds, and what depends on a result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BUSY_TABLES = ("stages", "deliveries")


def _let_each_destination_have_its_queue() -> None:
    op.add_column("deliveries", sa.Column("priority", sa.Text(), nullable=False, server_default="routine"))
    op.add_column("deliveries", sa.Column("rank", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("deliveries", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("resumed_at", Instant(), nullable=True))
    for name, columns, where in (
        ("deliveries_to_send", [sa.literal_column("rank DESC"), "number"], "state IN ('waiting', 'sent')"),
        ("deliveries_to_prove", ["due_at"], "state = 'accepted' AND proof = ''"),
        ("deliveries_quarantined", ["number"], "state = 'quarantined'"),
    ):
        op.create_index(
            name, "deliveries", ["destination", *columns], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    op.drop_index("deliveries_due", "deliveries")
    op.create_table(
        "circuits",
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", Instant(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("destination"),
    )


def _let_studies_be_retired() -> None:
    op.add_column("studies", sa.Column("retired_at", Instant(), nullable=True))
    op.add_column("studies", sa.Column("retirement", sa.JSON(none_as_null=True), nullable=True))
    for name, table, columns, where in (
        ("studies_to_retire", "studies", ["newest_at"], "retired_at IS NULL"),
        ("instances_not_routable", "instances", ["received_at"], "NOT is_routable"),
    ):
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.create_index(op.f("ix_instances_digest"), "instances", ["digest"])
    job_objects = op.create_table(
        "job_objects",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"]),
        sa.PrimaryKeyConstraint("digest", "job_id"),
    )
    op.create_index(op.f("ix_job_objects_job_id"), "job_objects", ["job_id"])
    needed = _needed_by_jobs()
    if needed:
        op.bulk_insert(job_objects, [{"digest": digest, "job_id": job_id} for digest, job_id in sorted(needed)])


def _needed_by_jobs() -> set[tuple[str, str]]:
    """Digest and job of every artefact and output so far."""
    stages = sa.table("stages", sa.column("job_id"), sa.column("artefacts", sa.JSON()))
    outputs = sa.table("outputs", sa.column("digest"), sa.column("job_id"))
    bind = op.get_bind()
    needed = {(row.digest, row.job_id) for row in bind.execute(sa.select(outputs.c.digest, outputs.c.job_id))}
    for row in bind.execute(sa.select(stages.c.job_id, stages.c.artefacts)):
        needed |= {(digest, row.job_id) for digest in row.artefacts.values()}
    return needed


def upgrade() -> None:
    op.add_column("jobs", sa.Column("package_digest", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("review", sa.Text(), nullable=False, server_default="unreviewed"))
    op.add_column("jobs", sa.Column("is_stale", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("stages", sa.Column("announced_at", Instant(), nullable=True))
    _let_each_destination_have_its_queue()
    _let_studies_be_retired()
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
