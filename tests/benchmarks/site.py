"""A site of its own for a benchmark, and rows for its tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import Text, cast, insert, literal, select, true

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.domain.job import Job, JobInput, Stage
from orchestrator.domain.queue import PRIORITY_ORDER
from orchestrator.store.records import open_engine
from orchestrator.store.tables import jobs, stages
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import CTE, ColumnElement, Insert, Table

    from orchestrator.assembly import System
    from orchestrator.domain.job import JobState, StageState
    from orchestrator.domain.queue import Lane


def open_site(folder: Path, **given: str) -> System:
    """The embedded system on its own records, on ports that the system gives; nothing is started."""
    return open_system(
        settings.load(
            environment={},
            overrides={
                "TENDON_DATA_DIR": str(folder),
                "TENDON_DICOM_PORT": "0",
                "TENDON_ADMIN_PORT": "0",
                "TENDON_INSTALLATION": "benchmark",
                "TENDON_ENVIRONMENT": "test",
                **given,
            },
        )
    )


def fill(
    system: System, name: str, count: int, *, job: JobState, stage: StageState, lane: Lane, images: int = 20
) -> None:
    """Put in jobs of one stage each, all in the same state: the first is written out, the database makes the others.

    What so many rows at once leave behind them is done with before anything is measured: a history grows in years.
    """
    first = _job(f"{name}{1}", job, images)
    engine = open_engine(system.settings.database_url)
    with engine.begin() as connection:
        connection.execute(insert(jobs), asdict(first))
        connection.execute(insert(stages), _stage_row(first, stage, lane))
        if count > 1:
            numbers = select(literal(2).label("k")).cte("numbers", recursive=True)
            numbers = numbers.union_all(select(numbers.c.k + 1).where(numbers.c.k < count))
            own = literal(name).concat(cast(numbers.c.k, Text))
            for table, its in (
                (jobs, {"id": own, "study_uid": literal("1.2.3.").concat(own)}),
                (stages, {"id": own.concat(".segment"), "job_id": own}),
            ):
                connection.execute(_copies(table, numbers, its, first.id if table is jobs else f"{first.id}.segment"))
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()


def _copies(table: Table, numbers: CTE, its: Mapping[str, ColumnElement[str]], of: str) -> Insert:
    """Copies of one row with names of their own."""
    names = [column.name for column in table.columns if column.name != "number"]
    rows = select(*(its.get(name, table.c[name]) for name in names)).select_from(table.join(numbers, true()))
    return insert(table).from_select(names, rows.where(table.c.id == of))


def _job(identifier: str, state: JobState, images: int) -> Job:
    instances = {f"1.2.3.{identifier}.{number}": f"{number:064x}" for number in range(images)}
    return Job(
        id=identifier,
        study_uid=f"1.2.3.{identifier}",
        study_revision=1,
        pipeline="bone_ct",
        version="1.0.0",
        inputs=(JobInput("ct", "volume", "1.2.3.1", instances),),
        input_set="0" * 64,
        generation=0,
        priority="routine",
        send=("pacs",),
        release="at_once",
        rule_set_version=1,
        rules=({"name": "CT", "run": ["bone_ct"]},),
        created_at=START,
        state=state,
        changed_at=START,
    )


def _stage_row(job: Job, state: StageState, lane: Lane) -> dict[str, object]:
    stage = Stage(
        id=f"{job.id}.segment",
        job_id=job.id,
        name="segment",
        lane=lane,
        gpu="no",
        priority="routine",
        created_at=START,
        not_before=START,
        state=state,
    )
    return {"rank": PRIORITY_ORDER.index("routine"), **asdict(stage)}
