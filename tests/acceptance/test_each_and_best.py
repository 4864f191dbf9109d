"""Fifty series of one study: fifty jobs where the manifest says each, one where it says best."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orchestrator import settings
from orchestrator.assembly import migrate_site, open_system
from orchestrator.dicom.author import StudyIdentity, write_ct
from orchestrator.dicom.scu import store_files
from orchestrator.domain.delivery import Node
from orchestrator.domain.geometry import Grid, Volume
from orchestrator.domain.result import derive_uid
from orchestrator.domain.site import SiteContent
from orchestrator.rounds import route_due
from orchestrator.service.operating import replace_site, study_story

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.assembly import System
    from orchestrator.service.operating import StudyStory

SERIES = 50
THINNEST = 17
LOOPBACK, MODALITY = "127.0.0.1", "MODALITY"
STUDY_UID = derive_uid("fifty", "study")
MANIFEST = """
name = "{name}"
version = "1.0.0"
title = "{name}"
intended_use = "Shows how many jobs a study makes."
contraindications = "Everything else."
standing = "demonstration"
licence = {{code = "Apache-2.0", weights = "none"}}
runtime = "builtin"
produces = {{}}
stages = [{{name = "work", lane = "cpu", timeout_s = 1, memory_mb = 1}}]
inputs = [{inputs}]
"""
CT = '{name = "ct", kind = "volume", count = "%s", prefer = ["smaller series.slice_step_mm"]}'
ON = '{name = "upstream", kind = "result", pipeline = "%s"}'
PIPELINES = {
    "each_series": CT % "each",
    "best_series": CT % "best",
    "on_each_result": f"{CT % 'each'}, {ON % 'each_series'}",
    "on_best_result": f"{CT % 'each'}, {ON % 'best_series'}",
}


def series_uid(number: int) -> str:
    return derive_uid("fifty", "series", str(number))


def write_study(folder: Path) -> list[str]:
    """Fifty small CT series of three slices, one of them with the smallest slice step."""
    files = []
    for number in range(SERIES):
        grid = Grid((3, 8, 8), np.diag([1.0 if number == THINNEST else 2.0, 1.0, 1.0, 1.0]))
        who = StudyIdentity("P1", "", STUDY_UID, series_uid(number), derive_uid("fifty", "frame"), series_number=number)
        (folder / str(number)).mkdir(parents=True)
        volume = Volume(np.zeros(grid.shape, np.float32), grid, "[hnsf'U]")
        files += write_ct(volume, folder / str(number), identity=who)
    return files


@pytest.fixture
def system(tmp_path, services):
    """An installation with these pipelines, asked for the last one first; no worker runs."""
    for name, inputs in PIPELINES.items():
        (tmp_path / "pipelines" / name).mkdir(parents=True)
        (tmp_path / "pipelines" / name / "manifest.toml").write_text(MANIFEST.format(name=name, inputs=inputs))
    environment = {
        "TENDON_DATA_DIR": str(tmp_path / "data"),
        "TENDON_DICOM_PORT": "0",
        "TENDON_QUIET_SECONDS": "0.01",
        "TENDON_PIPELINES_DIR": str(tmp_path / "pipelines"),
    }
    if services is not None:
        environment |= {"TENDON_DATABASE_URL": services.database_url, "TENDON_BROKER_URL": services.broker_url}
        migrate_site(settings.load(environment))
    opened = open_system(settings.load(environment))
    node = Node("modality", MODALITY, LOOPBACK, 104)
    rule = {"name": "CT", "when": {"all": [{"field": "series.modality", "eq": "CT"}]}, "run": [*reversed(PIPELINES)]}
    replace_site(opened.records, opened.clock, SiteContent(nodes=(node,), rules=({**rule, "send": []},)), "test")
    yield opened
    opened.records.close()


def receive(system: System, files: list[str]) -> None:
    scp = system.scp()
    port = scp.start()
    try:
        results = store_files(files, host=LOOPBACK, port=port, called_ae="TENDON", calling_ae=MODALITY)
        assert {result.outcome for result in results} == {"accepted"}
    finally:
        scp.stop()


def routed(system: System) -> StudyStory:
    """The study's story once rounds have routed it."""
    deadline = time.monotonic() + 60
    while True:
        route_due(system.router())
        story = study_story(system.records, STUDY_UID)
        if story.decisions:
            return story
        assert time.monotonic() < deadline, "the study was never routed"
        time.sleep(0.02)


def test_fifty_series_make_fifty_jobs_where_the_manifest_says_each_and_one_where_it_says_best(system, tmp_path):
    receive(system, write_study(tmp_path / "images"))
    story = routed(system)
    made = {name: [told.job for told in story.jobs if told.job.pipeline == name] for name in PIPELINES}

    assert sorted(job.primary.series_uid for job in made["each_series"]) == sorted(map(series_uid, range(SERIES)))
    assert [job.primary.series_uid for job in made["best_series"]] == [series_uid(THINNEST)]
    passed_over = [d for _, _, _, d in story.decisions if d.pipeline == "best_series" and not d.is_yes]
    assert len(passed_over) == SERIES - 1
    assert {d.reason.partition(":")[0] for d in passed_over} == {"another series was preferred"}

    assert [job.primary.series_uid for job in made["on_each_result"]] == [
        job.primary.series_uid for job in made["each_series"]
    ]
    assert [job.primary.series_uid for job in made["on_best_result"]] == [series_uid(THINNEST)]
    begun = {told.job.pipeline for told in story.jobs if told.stages}
    assert begun == {"each_series", "best_series"}, "the others wait for results"

    with system.records.transaction() as unit:
        unit.studies.look_again(STUDY_UID, system.clock.now())
    route_due(system.router())
    assert len(study_story(system.records, STUDY_UID).jobs) == 2 * SERIES + 2
