"""A site of its own for a benchmark, and rows for its tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.domain.job import Job, JobInput, Stage
from orchestrator.domain.queue import PRIORITY_ORDER
from orchestrator.store.records import open_engine
from orchestrator.store.tables import jobs, stages
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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


def fill(system: System, name: str, count: int, *, job: JobState, stage: StageState, lane: Lane) -> None:
    """Put in jobs of one stage each, all in the same state."""
    engine = open_engine(system.settings.database_url)
    with engine.begin() as connection:
        connection.execute(insert(jobs), [asdict(_job(f"{name}{number}", job)) for number in range(count)])
        connection.execute(insert(stages), list(_stage_rows(name, count, stage, lane)))
    engine.dispose()


def _job(identifier: str, state: JobState) -> Job:
    instances = {f"1.2.3.{identifier}.{number}": f"{number:064x}" for number in range(20)}
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


def _stage_rows(name: str, count: int, state: StageState, lane: Lane) -> Iterable[dict[str, object]]:
    rank = PRIORITY_ORDER.index("routine")
    for number in range(count):
        stage = Stage(
            id=f"{name}{number}.segment",
            job_id=f"{name}{number}",
            name="segment",
            lane=lane,
            gpu="no",
            priority="routine",
            created_at=START,
            not_before=START,
            state=state,
        )
        yield {"rank": rank, **asdict(stage)}
