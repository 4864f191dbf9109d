"""The tables. Portable between SQLite and PostgreSQL; changed only together with a migration."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

import orchestrator.store.people  # noqa: F401 - its tables belong to the same metadata
from orchestrator.store.appending import append_only
from orchestrator.store.columns import BY_CODE_POINT, Instant, metadata

associations = Table(
    "associations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("calling_ae", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("closed_at", Instant),
    Column("outcome", Text, nullable=False, default=""),
    Column("called_ae", Text, nullable=False, server_default=text("''")),
    Column("node", Text, nullable=False, server_default=text("''")),
    Index("associations_of_node", "node", "opened_at"),
)

studies = Table(
    "studies",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("is_closed", Boolean, nullable=False),
    Column("newest_at", Instant, nullable=False, index=True),
    Column("retired_at", Instant),
    Column("retirement", JSON(none_as_null=True)),
    *(
        Column(name, Text, nullable=False, server_default=text("''"))
        for name in (
            *("patient_issuer", "patient_id", "patient_name", "patient_birth_date", "patient_sex"),
            *("accession_number", "study_date", "description"),
        )
    ),
    *(Column(name, JSON, nullable=False, server_default=text("'[]'")) for name in ("modalities", "body_parts")),
    Column("patient_name_key", BY_CODE_POINT, nullable=False, server_default=text("''")),
    Column("facts", JSON(none_as_null=True)),
    Index("studies_of_patient", "patient_id", "patient_issuer"),
    Index("studies_by_accession_number", "accession_number"),
    Index("studies_by_name", "patient_name_key", "newest_at", "uid"),
)
NOT_RETIRED: Final = "retired_at IS NULL"
Index(
    "studies_to_retire",
    studies.c.newest_at,
    sqlite_where=text(NOT_RETIRED),
    postgresql_where=text(NOT_RETIRED),
)

study_sites = Table(
    "study_sites",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("site", Text, primary_key=True),
    Column("newest_at", Instant, nullable=False),
    Index("studies_of_site", "site", "newest_at"),
)
"""Sites whose nodes have sent a study, when it was routed."""

series = Table(
    "series",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("study_uid", Text, primary_key=True),
    Column("is_settled", Boolean, nullable=False),
    Column("look_at", Instant, nullable=False),
    Column("newest_at", Instant),
    Column("signal", Text, nullable=False, server_default=text("''")),
    Column("ready_at", Instant),
    Index("series_to_look_at", "is_settled", "look_at"),
)

series_counts = Table(
    "series_counts",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("series_uid", Text, primary_key=True),
    Column("node", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("earlier", Integer),
    Column("earlier_at", Instant),
    Column("ask_again_at", Instant, nullable=False),
)
"""How many instances other nodes have of series that are not settled."""

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", Text, nullable=False),
    Column("digest", Text, nullable=False, index=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("series_uid", Text, nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("association_id", Text, nullable=False, index=True),
    Column("is_own", Boolean, nullable=False),
    Column("is_routable", Boolean, nullable=False),
    Column("header", JSON, nullable=False),
    UniqueConstraint("sop_instance_uid", "digest"),
)
NOT_ROUTABLE: Final = "NOT is_routable"
"""As literal text in the queries too, see `CLAIMABLE`; so is `NOT_RETIRED`."""

Index(
    "instances_not_routable",
    instances.c.received_at,
    sqlite_where=text(NOT_ROUTABLE),
    postgresql_where=text(NOT_ROUTABLE),
)

versions = Table(
    "versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("study_uid", Text, nullable=False, index=True),
    Column("received_at", Instant, nullable=False),
    Column("association_id", Text, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("difference", Text, nullable=False, server_default=text("''")),
    Column("standing", Text, nullable=False, server_default="open"),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("decided_by", Text, nullable=False, server_default=text("''")),
    Column("decided_at", Instant),
    UniqueConstraint("sop_instance_uid", "digest"),
)
OPEN: Final = "standing = 'open'"
"""As literal text in the queries too, see `CLAIMABLE`."""

Index("versions_open", versions.c.due_at, sqlite_where=text(OPEN), postgresql_where=text(OPEN))

own_uids = Table("own_uids", metadata, Column("uid", Text, primary_key=True))

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("rule", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("is_yes", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("code", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("study_uid", Text, nullable=False, index=True),
    Column("study_revision", Integer, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("input_set", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("priority", Text, nullable=False),
    Column("send", JSON, nullable=False),
    Column("release", Text, nullable=False),
    Column("rule_set_version", Integer, nullable=False),
    Column("rules", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("changed_at", Instant),
    Column("package_digest", Text, nullable=False, server_default=text("''")),
    Column("review", Text, nullable=False, server_default="unreviewed"),
    Column("is_stale", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("study_uid", "pipeline", "input_set", "generation"),
    Index("jobs_in_state", "state", "number"),
)

stages = Table(
    "stages",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("not_before", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("attempts_allowed", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until", Instant),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("progress", Float, nullable=False),
    Column("progress_text", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("artefacts", JSON, nullable=False),
    Column("announced_at", Instant),
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
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    UniqueConstraint("job_id", "name"),
)

job_objects = Table(
    "job_objects",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.id"), primary_key=True, index=True),
)
"""Artefacts and outputs by their digest, until the study is retired: what the sweep must leave."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("output_id", Text, ForeignKey("outputs.id"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("proof", Text, nullable=False),
    Column("proven_at", Instant),
    Column("priority", Text, nullable=False, server_default="routine"),
    Column("rank", Integer, nullable=False, server_default="1"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("resumed_at", Instant),
    UniqueConstraint("output_id", "destination"),
)
TO_SEND: Final = "state IN ('waiting', 'sent')"
TO_PROVE: Final = "state = 'accepted' AND proof = ''"
QUARANTINED: Final = "state = 'quarantined'"
"""As literal text in the queries too, see `CLAIMABLE`: what is proven is in none of these indexes."""

Index(
    "deliveries_to_send",
    deliveries.c.destination,
    deliveries.c.rank.desc(),
    deliveries.c.number,
    sqlite_where=text(TO_SEND),
    postgresql_where=text(TO_SEND),
)
Index(
    "deliveries_to_prove",
    deliveries.c.destination,
    deliveries.c.due_at,
    sqlite_where=text(TO_PROVE),
    postgresql_where=text(TO_PROVE),
)
NOT_PROVEN: Final = "state <> 'proven'"
Index(
    "deliveries_not_proven",
    deliveries.c.state,
    deliveries.c.number,
    sqlite_where=text(NOT_PROVEN),
    postgresql_where=text(NOT_PROVEN),
)
ANY: Final = "number > 0"
"""True of every delivery: only what says so goes by this index, never what should go by those of what is open."""
Index(
    "deliveries_to",
    deliveries.c.destination,
    deliveries.c.number,
    sqlite_where=text(ANY),
    postgresql_where=text(ANY),
)
Index(
    "deliveries_quarantined",
    deliveries.c.destination,
    deliveries.c.number,
    sqlite_where=text(QUARANTINED),
    postgresql_where=text(QUARANTINED),
)

circuits = Table(
    "circuits",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("open_until", Instant),
    Column("reason", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

site_versions = Table(
    "site_versions",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("author", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("reason", Text, nullable=False, server_default=text("''")),
    Column("activated_by", Text, nullable=False, server_default=text("''")),
    Column("activated_at", Instant),
    Column("activation", Integer),
    Index("site_versions_by_activation", "activation", unique=True),
)

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("office", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("term", Integer, nullable=False),
    Column("until", Instant, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("queues", JSON, nullable=False),
    Column("has_gpu", Boolean, nullable=False),
    Column("builds", JSON, nullable=False),
    Column("seen_at", Instant, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("code", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("raised_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("times", Integer, nullable=False),
    Column("cleared_at", Instant),
    Index("alarms_open", "cleared_at", "code"),
)

notices = Table(
    "notices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("notice", Text, nullable=False),
    Column("happening", JSON, nullable=False),
    Column("at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("ended_at", Instant, index=True),
)
TO_TELL: Final = "state = 'waiting'"
Index(
    "notices_to_tell",
    notices.c.notice,
    notices.c.tries,
    notices.c.number,
    sqlite_where=text(TO_TELL),
    postgresql_where=text(TO_TELL),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("event", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False, index=True),
    Column("times", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("called_ae", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("subject", Text, nullable=False, server_default=text("''")),
)
append_only(audit_events)
