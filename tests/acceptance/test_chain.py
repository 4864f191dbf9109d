"""A pipeline that builds on the result of another, from the modality to the PACS."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from tests.house import house, write_limb_study

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
RULES = [
    {
        "name": "Bone and its density",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
        "run": ["bone_density", "bone_ct"],
        "send": ["pacs"],
    }
]


@pytest.fixture
def tendon(tmp_path, services):
    with house(tmp_path, RULES, services, TENDON_PIPELINES_DIR=PIPELINES) as started:
        started.start()
        yield started


def test_a_pipeline_measures_what_another_one_outlined_and_both_results_arrive(tendon, tmp_path):
    images = write_limb_study(tmp_path / "study", with_region=False)
    tendon.send(images)
    jobs = {job["pipeline"]: job for job in tendon.settled(2)}
    assert {name: (job["state"], job["reason"]) for name, job in jobs.items()} == {
        "bone_ct": ("done", ""),
        "bone_density": ("done", ""),
    }
    story = tendon.ask("study", jobs["bone_ct"]["study_uid"])
    built_on = [d["reason"] for d in story["decisions"] if d["pipeline"] == "bone_density" and d["yes"]]
    assert built_on[-1].startswith("input bone is the result of bone_ct 1.0.0 on series 1 (CT)")

    received = [dcmread(path) for path in tendon.pacs_folder.glob("*.dcm")]
    outlined, measured = (r for r in received if r.Modality == "SEG")
    assert outlined.SeriesInstanceUID != measured.SeriesInstanceUID
    assert outlined.PixelData == measured.PixelData
    source = dcmread(images[0], stop_before_pixels=True).SeriesInstanceUID
    for result in (outlined, measured):
        assert [series.SeriesInstanceUID for series in result.ReferencedSeriesSequence] == [source]
    (report,) = [r for r in received if r.Modality == "SR"]
    assert "Mean intensity" in str(report)
