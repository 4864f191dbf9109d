"""What an instance in use makes of the rows of its study and series, and how it is read back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import case
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.domain.search import name_key
from orchestrator.domain.study import Header, Instance, Patient
from orchestrator.domain.summary import Summary, summarised
from orchestrator.store.dialect import is_postgresql
from orchestrator.store.tables import series, studies

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Insert, Row


@cache
def _notes(is_postgresql: bool) -> tuple[Insert, Insert]:  # noqa: FBT001 - the cache's key
    """A study is there, open, in a new revision if it was closed; a series is there and is to be looked at."""
    dialect = postgresql if is_postgresql else sqlite
    study, its = dialect.insert(studies), dialect.insert(series)
    return (
        study.on_conflict_do_update(
            index_elements=[studies.c.uid],
            set_={
                "revision": studies.c.revision + case((studies.c.is_closed, 1), else_=0),
                "is_closed": False,
                "newest_at": study.excluded.newest_at,
                "retired_at": None,
                "retirement": None,
            },
        ),
        its.on_conflict_do_update(
            index_elements=[series.c.uid, series.c.study_uid],
            set_={
                "is_settled": False,
                "look_at": its.excluded.look_at,
                "newest_at": its.excluded.newest_at,
                "signal": "",
                "ready_at": None,
            },
        ),
    )


def note(connection: Connection, header: Header, at: datetime, look_at: datetime, *, is_known: bool = False) -> None:
    """Its study is open and its series to be looked at; of one that is known nothing is told again."""
    note_study, note_series = _notes(is_postgresql(connection))
    told = {"uid": header.study_uid} if is_known else words(summarised(header.study_uid, [header]))
    connection.execute(note_study, {**told, "newest_at": at, "revision": 1, "is_closed": False})
    its = {"uid": header.series_uid, "study_uid": header.study_uid}
    connection.execute(note_series, {**its, "is_settled": False, "look_at": look_at, "newest_at": at})


def words(summary: Summary) -> dict[str, Any]:
    """What a study is known by, as its row has it."""
    patient = summary.patient
    return {
        "uid": summary.uid,
        "patient_issuer": patient.issuer,
        "patient_id": patient.id,
        "patient_name": patient.name,
        "patient_name_key": name_key(patient.name),
        "patient_birth_date": patient.birth_date,
        "patient_sex": patient.sex,
        "accession_number": summary.accession_number,
        "study_date": summary.study_date,
        "description": summary.description,
        "modalities": list(summary.modalities),
        "body_parts": list(summary.body_parts),
    }


def summary_in(row: Row[Any]) -> Summary:
    """What the study of a row is known by."""
    return Summary(
        uid=row.uid,
        patient=Patient(
            id=row.patient_id,
            issuer=row.patient_issuer,
            name=row.patient_name,
            birth_date=row.patient_birth_date,
            sex=row.patient_sex,
        ),
        accession_number=row.accession_number,
        study_date=row.study_date,
        description=row.description,
        modalities=tuple(row.modalities),
        body_parts=tuple(row.body_parts),
    )


def instance_of(row: Row[Any]) -> Instance:
    """The instance of a row of `instances`."""
    return Instance(
        header=Header.from_record(row.header),
        digest=row.digest,
        size=row.size,
        received_at=row.received_at,
        association_id=row.association_id,
        is_own=row.is_own,
    )
