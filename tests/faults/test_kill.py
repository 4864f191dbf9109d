"""Kill what can be killed, at any moment: every study ends with exactly one set of results (I10)."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.house import house, write_limb_study

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
RULES = [
    {
        "name": "slowly",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
        "run": ["slow_bone"],
        "send": ["pacs", "share"],
    }
]


@pytest.fixture
def tendon(tmp_path, services):
    with house(tmp_path, RULES, services, TENDON_PIPELINES_DIR=PIPELINES) as started:
        started.start()
        yield started


def stage_is(tendon, name, state):
    return lambda: any(s["name"] == name and s["state"] == state for job in tendon.jobs() for s in job["stages"])


def assert_one_set_of_results(tendon):
    (job,) = tendon.settled(1)
    assert (job["state"], job["reason"]) == ("done", "")
    assert [s["name"] for s in job["stages"]] == ["wait", "segment", "report"]
    (story,) = tendon.ask("study", job["study_uid"])["jobs"]
    assert {d["state"] for d in story["deliveries"]} == {"proven"}
    assert len({(d["object"], d["destination"]) for d in story["deliveries"]}) == len(story["deliveries"])
    assert [dcmread(path).Modality for path in tendon.pacs_folder.glob("*.dcm")] == ["SEG"]
    assert len(list((tendon.folder / "share").glob("*.json"))) == 1
    return job


def test_a_worker_killed_in_mid_stage_is_replaced_and_the_stage_is_done_once(tendon, tmp_path):
    tendon.send(write_limb_study(tmp_path / "study", with_region=False))
    tendon.until(stage_is(tendon, "wait", "leased"))

    tendon.kill_worker()

    job = assert_one_set_of_results(tendon)
    assert [s["attempt"] for s in job["stages"]] == [2, 1, 1]


@pytest.mark.parametrize("moment", ["acknowledged", "recorded", "leased", "delivering"])
def test_the_whole_system_killed_goes_on_where_it_was(tendon, tmp_path, moment):
    if moment == "delivering":
        tendon.pacs.stop()
    tendon.send(write_limb_study(tmp_path / "study", with_region=False), is_recorded=moment != "acknowledged")
    if moment == "leased":
        tendon.until(stage_is(tendon, "wait", "leased"))
    elif moment == "delivering":
        tendon.until(lambda: any(job["state"] == "delivering" for job in tendon.jobs()))

    tendon.kill()
    if moment == "delivering":
        tendon.restart_pacs()
    tendon.start()

    assert_one_set_of_results(tendon)


def test_no_process_outlives_a_system_killed_while_it_starts(tendon):
    tendon.kill()
    for _ in range(3):
        tendon.start()
        tendon.kill()
    tendon.until(lambda: tendon.processes() == [])


def test_a_worker_that_dies_in_every_attempt_ends_the_job_with_the_reason(tendon, tmp_path):
    tendon.send(write_limb_study(tmp_path / "study", with_region=False))
    for attempt in (1, 2, 3):
        tendon.until(
            lambda n=attempt: any(
                s["state"] == "leased" and s["attempt"] == n for job in tendon.jobs() for s in job["stages"]
            )
        )
        tendon.kill_worker()

    (job,) = tendon.settled(1)

    assert job["state"] == "failed"
    assert "died in every attempt" in job["reason"]
