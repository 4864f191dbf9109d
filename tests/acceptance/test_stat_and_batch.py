"""STAT comes out first whatever waits, and batch goes on whatever is urgent: with real stages, in both modes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.house import ENDED, house
from tests.load.arrivals import WARM_UP
from tests.load.sending import store
from tests.load.studies import Template, core_of, study_uid

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
CT = {"field": "series.modality", "eq": "CT"}
STAT = {"field": "series.description", "matches": "STAT"}
RULES = [
    {"name": "urgent", "when": {"all": [CT, STAT]}, "run": ["quick_bone"], "send": ["share"], "priority": "stat"},
    {"name": "by night", "when": CT, "run": ["quick_bone"], "send": ["share"], "priority": "batch"},
]
SEED, IMAGES = 1, 4
BATCH = range(200)
TWO = range(1000, 1002)
CONSTANT = range(2000, 2016)


@pytest.fixture
def tendon(tmp_path, services):
    with house(tmp_path, RULES, services, TENDON_PIPELINES_DIR=PIPELINES, TENDON_LEASE_SECONDS="15") as started:
        started.start()
        yield started


def send(tendon, numbers, *, is_stat):
    template = Template.made(IMAGES)
    planned = [replace(WARM_UP, number=number, images=IMAGES, is_stat=is_stat) for number in numbers]
    with ThreadPoolExecutor(2) as modalities:
        list(modalities.map(lambda study: store(template.objects(study, SEED), tendon.dicom_port), planned))


def jobs_of(tendon, numbers):
    with tendon.records.reading() as unit:
        return [job for number in numbers for job in unit.jobs.of_study(study_uid(core_of(SEED, number)))]


def stages_of(tendon, numbers):
    with tendon.records.reading() as unit:
        return [stage for job in jobs_of(tendon, numbers) for stage in unit.jobs.stages(job.id)]


def all_done(tendon, numbers):
    jobs = jobs_of(tendon, numbers)
    return len(jobs) == len(numbers) and all(job.state == "done" for job in jobs)


def test_stat_overtakes_two_hundred_batch_studies_and_does_not_starve_them(tendon):
    send(tendon, BATCH, is_stat=False)
    tendon.until(lambda: len(jobs_of(tendon, BATCH)) == len(BATCH), 120)

    send(tendon, TWO, is_stat=True)
    tendon.until(lambda: all_done(tendon, TWO))
    assert sum(job.state not in ENDED for job in jobs_of(tendon, BATCH)) > 50, "there was somebody to overtake"
    begun = min(job.created_at for job in jobs_of(tendon, TWO))
    ended = max(stage.finished_at for stage in stages_of(tendon, TWO))
    meanwhile = [s for s in stages_of(tendon, BATCH) if s.started_at and begun < s.started_at < ended]
    assert len(meanwhile) <= 3, "only what had its fair turn, or came between the routing of the two"

    send(tendon, CONSTANT, is_stat=True)
    tendon.until(lambda: all_done(tendon, CONSTANT), 120)
    urgent = stages_of(tendon, CONSTANT)
    begun, ended = min(s.created_at for s in urgent), max(s.started_at for s in urgent)
    meanwhile = [s for s in stages_of(tendon, BATCH) if s.started_at and begun < s.started_at < ended]
    assert len(meanwhile) >= 2, "every eighth stage is the one that waited longest"
    assert all(stage.state != "failed" for stage in stages_of(tendon, BATCH))
