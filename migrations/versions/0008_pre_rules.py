"""Rules have drafts; studies are known by patient, and keep the facts that they were routed by."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from orchestrator.store.columns import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

EMPTY = sa.text("''")
NO_CODES = sa.text("'[]'")
WORDS = (
    *("patient_issuer", "patient_id", "patient_name", "patient_birth_date", "patient_sex"),
    *("accession_number", "study_date", "description"),
)
STUDIES = sa.table("studies", sa.column("uid"), *(sa.column(name) for name in (*WORDS, "modalities", "body_parts")))
OF_STUDY = sa.text("""
    SELECT header FROM instances WHERE id IN (
        SELECT MIN(id) FROM instances WHERE study_uid = :uid AND is_routable GROUP BY series_uid)
    ORDER BY id
""")


def upgrade() -> None:
    op.add_column("site_versions", sa.Column("reason", sa.Text(), server_default=EMPTY, nullable=False))
    op.add_column("site_versions", sa.Column("activated_by", sa.Text(), server_default=EMPTY, nullable=False))
    op.add_column("site_versions", sa.Column("activated_at", Instant()))
    op.add_column("site_versions", sa.Column("activation", sa.Integer()))
    op.create_index("site_versions_by_activation", "site_versions", ["activation"], unique=True)
    op.execute("UPDATE site_versions SET activation = version, activated_at = at, activated_by = author")
    for name in WORDS:
        op.add_column("studies", sa.Column(name, sa.Text(), server_default=EMPTY, nullable=False))
    for name in ("modalities", "body_parts"):
        op.add_column("studies", sa.Column(name, sa.JSON(), server_default=NO_CODES, nullable=False))
    op.add_column("studies", sa.Column("facts", sa.JSON(none_as_null=True)))
    op.create_index("studies_of_patient", "studies", ["patient_issuer", "patient_id"])
    op.create_index("studies_by_accession_number", "studies", ["accession_number"])
    _describe(op.get_bind())


def _describe(connection: sa.Connection) -> None:
    """Studies that are there, by the first object of each series."""
    uids = list(connection.execute(sa.text("SELECT uid FROM studies WHERE retired_at IS NULL")).scalars())
    for uid in uids:
        found = connection.execute(OF_STUDY, {"uid": uid}).scalars()
        headers = [json.loads(header) if isinstance(header, str) else header for header in found]
        headers.sort(key=lambda header: header.get("series_number") or float("inf"))
        if headers:
            connection.execute(sa.update(STUDIES).where(STUDIES.c.uid == uid).values(_summary(headers)))


def _summary(headers: list[dict[str, Any]]) -> dict[str, str]:
    patient = next((header["patient"] for header in headers if header.get("patient")), {})

    def said(name: str) -> str:
        return next((header[name].strip() for header in headers if header.get(name, "").strip()), "")

    def codes(name: str) -> str:
        return json.dumps(sorted({header[name].strip().upper() for header in headers if header.get(name, "").strip()}))

    return {
        **{f"patient_{name}": patient.get(name, "") for name in ("issuer", "id", "name", "birth_date", "sex")},
        "accession_number": said("accession_number"),
        "study_date": said("study_date"),
        "description": said("study_description"),
        "modalities": codes("modality"),
        "body_parts": codes("body_part"),
    }
