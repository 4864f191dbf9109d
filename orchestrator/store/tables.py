"""The tables. Portable between SQLite and PostgreSQL; changed only together with a migration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect


class Instant(TypeDecorator[datetime]):
    """An aware moment, kept in UTC; SQLite has no zones, so they are put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; without a zone where the database knows none."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Always aware and in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

associations = Table(
    "associations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("calling_ae", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("closed_at", Instant),
    Column("outcome", String(64), nullable=False, default=""),
)

studies = Table(
    "studies",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("is_closed", Boolean, nullable=False),
    Column("newest_at", Instant, nullable=False, index=True),
)

series = Table(
    "series",
    metadata,
    Column("uid", String(64), primary_key=True),
    Column("study_uid", String(64), primary_key=True),
    Column("is_settled", Boolean, nullable=False),
    Column("look_at", Instant, nullable=False),
    Index("series_to_look_at", "is_settled", "look_at"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("series_uid", String(64), nullable=False, index=True),
    Column("size", Integer, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("association_id", String(64), nullable=False, index=True),
    Column("is_own", Boolean, nullable=False),
    Column("is_routable", Boolean, nullable=False),
    Column("header", JSON, nullable=False),
    UniqueConstraint("sop_instance_uid", "digest"),
)

own_uids = Table("own_uids", metadata, Column("uid", String(64), primary_key=True))

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("rule", Text, nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("is_yes", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("code", String(16), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("study_uid", String(64), nullable=False, index=True),
    Column("study_revision", Integer, nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("input_set", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("send", JSON, nullable=False),
    Column("release", String(16), nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("code", String(16), nullable=False),
    Column("changed_at", Instant),
    UniqueConstraint("study_uid", "pipeline", "input_set", "generation"),
)

stages = Table(
    "stages",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("name", String(64), nullable=False),
    Column("lane", String(8), nullable=False),
    Column("gpu", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("rank", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("attempts_allowed", Integer, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("lease_until", Instant),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("progress", Float, nullable=False),
    Column("progress_text", Text, nullable=False),
    Column("code", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("artefacts", JSON, nullable=False),
    UniqueConstraint("job_id", "name"),
)
CLAIMABLE = text("stages.state IN ('ready', 'leased')")
"""As literal text in the claim too: a planner uses a partial index only where it can see its condition."""

Index(
    "stages_to_claim",
    stages.c.lane,
    stages.c.rank.desc(),
    stages.c.number,
    sqlite_where=text("state IN ('ready', 'leased')"),
    postgresql_where=text("state IN ('ready', 'leased')"),
)

outputs = Table(
    "outputs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    UniqueConstraint("job_id", "name"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", String(64), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("output_id", String(64), ForeignKey("outputs.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("code", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("proof", String(16), nullable=False),
    Column("proven_at", Instant),
    UniqueConstraint("output_id", "destination"),
    Index("deliveries_due", "state", "due_at"),
)

site_versions = Table(
    "site_versions",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("author", String(64), nullable=False),
    Column("at", Instant, nullable=False),
)

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
)
