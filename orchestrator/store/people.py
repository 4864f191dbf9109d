"""The tables of who may come in: accounts, sessions, sign-ins begun, tokens, and answers to requests with a key."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Index, Integer, Table, Text, text

from orchestrator.store.columns import Instant, metadata

accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("sites", JSON, nullable=False),
    Column("password", Text, nullable=False),
    Column("provisional_until", Instant),
    Column("is_disabled", Boolean, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Index("accounts_by_subject", "issuer", "subject"),
)

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Index("sign_in_failures_of_name", "name", "at"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("account", Text, nullable=False, index=True),
    Column("csrf", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False, index=True),
    Column("confirmed_at", Instant, nullable=False),
    Column("emergency_until", Instant),
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("browser", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("verifier", Text, nullable=False),
    Column("page", Text, nullable=False),
    Column("begun_at", Instant, nullable=False, index=True),
    Column("session", Text, nullable=False),
)
"""What was begun at the identity provider and not finished yet."""

answers = Table(
    "answers",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("status", Integer),
    Column("body", Text, nullable=False, server_default=text("''")),
)
"""What was answered to requests that carry an idempotency key; without a status they are still at work."""

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
    Column("revoked_at", Instant),
)
