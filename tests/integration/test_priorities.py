"""STAT overtakes at the next stage border, and nothing starves. Claims on real databases; stages take no time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.pipeline import StagePlan
from orchestrator.domain.queue import FAIR_TURN, is_fair_turn
from orchestrator.service.working import Workshop, claim_stage, complete_report, complete_stage
from tests.fakes.surroundings import CountingIdentifiers, GivenCatalog, SettableClock
from tests.rows import job_of, stage_of, worker_of
from tests.strategies import START, manifest_of

if TYPE_CHECKING:
    from orchestrator.store.records import DatabaseRecords

STAGES = ("segment", "measure", "report")
MANIFEST = manifest_of("bone_ct", stages=tuple(StagePlan(name, "cpu", 60.0, 1000) for name in STAGES[:-1]))


@dataclass
class Hospital:
    """Jobs of three stages each, and one worker that never rests."""

    records: DatabaseRecords
    clock: SettableClock = field(default_factory=SettableClock)
    finished: list[str] = field(default_factory=list)
    claims: int = 0

    def __post_init__(self) -> None:
        self._workshop = Workshop(self.records, GivenCatalog(MANIFEST), self.clock, CountingIdentifiers(), 15.0)
        self._numbers = count()

    def order(self, priority: str, how_many: int) -> list[str]:
        names = [f"{priority} {next(self._numbers)}" for _ in range(how_many)]
        with self.records.transaction() as unit:
            for name in names:
                job = job_of(name, study_uid=name, priority=priority, send=())
                unit.jobs.add(job)
                unit.jobs.add_stage(stage_of(job))
        return names

    def work(self, claims: int) -> None:
        for _ in range(claims):
            self.clock.moment += timedelta(milliseconds=1)
            fair = is_fair_turn(self.claims)
            claimed = claim_stage(self._workshop, worker_of(), oldest_first=fair)
            assert claimed is not None
            self.claims += 1
            if claimed.stage.name == STAGES[-1]:
                assert complete_report(self._workshop, claimed, [])
                self.finished.append(claimed.job.id)
            else:
                assert complete_stage(self._workshop, claimed, MANIFEST, {})


@pytest.fixture
def hospital(database):
    hospital = Hospital(database)
    assert hospital.clock.moment == START
    return hospital


def test_two_stat_studies_behind_two_hundred_batch_studies_come_out_first(hospital):
    hospital.order("batch", 200)
    hospital.work(5)
    stat = hospital.order("stat", 2)
    hospital.work(3 * FAIR_TURN)
    assert set(stat) <= set(hospital.finished)
    overtaken_by = [name for name in hospital.finished[: hospital.finished.index(stat[-1])] if name not in stat]
    assert len(overtaken_by) <= 2, "only what was under way, or had its fair turn"


def test_batch_goes_on_while_stat_never_ends(hospital):
    batch = hospital.order("batch", 3)
    for _ in range(40):
        hospital.order("stat", 2)
        hospital.work(6)
    assert set(batch) <= set(hospital.finished)


def test_of_one_priority_the_oldest_comes_first(hospital):
    routine = hospital.order("routine", 10)
    hospital.work(10 * len(STAGES))
    assert hospital.finished == routine
