"""Who may come in and see what: accounts, sessions, tokens, studies by site and by name."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import BY_CODE_POINT, Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STUDIES = sa.table("studies", sa.column("uid"), sa.column("patient_name"), sa.column("patient_name_key"))
AT_ONCE = 1000


def upgrade() -> None:
    op.add_column("audit_events", sa.Column("subject", sa.Text(), server_default=sa.text("''"), nullable=False))
    _accounts()
    _ways_in()
    _searching()


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("sites", sa.JSON(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("provisional_until", Instant()),
        sa.Column("is_disabled", sa.Boolean(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
    )
    op.create_index("accounts_by_subject", "accounts", ["issuer", "subject"])
    op.create_table(
        "sign_in_failures",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
    )
    op.create_index("ix_sign_in_failures_at", "sign_in_failures", ["at"])
    op.create_index("sign_in_failures_of_name", "sign_in_failures", ["name", "at"])


def _ways_in() -> None:
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("seen_at", Instant(), nullable=False),
        sa.Column("confirmed_at", Instant(), nullable=False),
        sa.Column("emergency_until", Instant()),
    )
    op.create_index("ix_sessions_account", "sessions", ["account"])
    op.create_index("ix_sessions_seen_at", "sessions", ["seen_at"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, unique=True),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("expires_at", Instant(), nullable=False),
        sa.Column("used_at", Instant()),
        sa.Column("revoked_at", Instant()),
    )
    op.create_index("ix_tokens_account", "tokens", ["account"])
    op.create_table(
        "answers",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", sa.Text(), server_default=sa.text("''"), nullable=False),
    )
    op.create_index("ix_answers_at", "answers", ["at"])


def _searching() -> None:
    empty = sa.text("''")
    op.add_column("studies", sa.Column("patient_name_key", BY_CODE_POINT, server_default=empty, nullable=False))
    op.drop_index("studies_of_patient", "studies")
    op.create_index("studies_of_patient", "studies", ["patient_id", "patient_issuer"])
    op.create_index("studies_by_name", "studies", ["patient_name_key", "newest_at", "uid"])
    op.drop_index("ix_jobs_state", "jobs")
    op.create_index("jobs_in_state", "jobs", ["state", "number"])
    is_open = sa.text("state <> 'proven'")
    its = ["state", "number"]
    op.create_index("deliveries_not_proven", "deliveries", its, sqlite_where=is_open, postgresql_where=is_open)
    any_one = sa.text("number > 0")
    op.create_index(
        "deliveries_to",
        "deliveries",
        ["destination", "number"],
        sqlite_where=any_one,
        postgresql_where=any_one,
    )
    op.create_table(
        "study_sites",
        sa.Column("study_uid", sa.Text(), primary_key=True),
        sa.Column("site", sa.Text(), primary_key=True),
        sa.Column("newest_at", Instant(), nullable=False),
    )
    op.create_index("studies_of_site", "study_sites", ["site", "newest_at"])
    _key_names(op.get_bind())


def _key_names(connection: sa.Connection) -> None:
    named = sa.select(STUDIES.c.uid, STUDIES.c.patient_name).where(STUDIES.c.patient_name != "")
    keying = (
        sa.update(STUDIES)
        .where(STUDIES.c.uid == sa.bindparam("of_uid"))
        .values(patient_name_key=sa.bindparam("new_key"))
    )
    rows = connection.execute(named).all()
    for first in range(0, len(rows), AT_ONCE):
        keys = [{"of_uid": row.uid, "new_key": _key(row.patient_name)} for row in rows[first : first + AT_ONCE]]
        connection.execute(keying, keys)


def _key(name: str) -> str:
    return re.sub(r"[\^,\s]+", " ", name.partition("=")[0]).strip().casefold()
