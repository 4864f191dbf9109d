"""The main job, as a site sees it. Read this first: it is the whole system in one page."""

from __future__ import annotations

import json

import pytest
from pydicom import dcmread

from tests.house import house, write_limb_study


@pytest.fixture
def tendon(tmp_path, services):
    """The embedded system at work: it receives from one modality and sends to a PACS and a shared folder."""
    with house(tmp_path, services=services) as started:
        started.start()
        yield started


def test_a_study_goes_in_and_its_results_are_proven_where_people_look(tendon, tmp_path):
    images = write_limb_study(tmp_path / "study")

    tendon.send(images)
    jobs = tendon.settled(2)

    assert {job["pipeline"]: job["state"] for job in jobs} == {"bone_ct": "done", "virtual_biopsy": "done"}
    source = dcmread(images[0])
    results = [dcmread(path) for path in sorted(tendon.pacs_folder.glob("*.dcm"))]
    assert sorted(result.Modality for result in results) == ["SEG", "SEG", "SR"]
    for result in results:
        assert result.PatientID == source.PatientID
        assert result.StudyInstanceUID == source.StudyInstanceUID
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
        assert "AI, not reviewed" in result.SeriesDescription

    bundles = [json.loads(path.read_text()) for path in (tmp_path / "share").glob("*.json")]
    reports = [
        e["resource"] for b in bundles for e in b["entry"] if e["resource"]["resourceType"] == "DiagnosticReport"
    ]
    assert [report["status"] for report in reports] == ["partial", "partial"]


def test_of_any_study_it_can_be_told_what_happened_and_why(tendon, tmp_path):
    tendon.send(write_limb_study(tmp_path / "study", with_region=False))
    (job,) = tendon.settled(1)

    story = tendon.tendon("study", job["study_uid"])

    assert "yes bone_ct" in story
    assert "no  virtual_biopsy" in story
    assert "not has_region (a region is drawn on it)" in story
    assert "Canary" not in story


def test_our_own_results_coming_back_start_nothing(tendon, tmp_path):
    tendon.send(write_limb_study(tmp_path / "study"))
    tendon.settled(2)

    tendon.send(sorted(tendon.pacs_folder.glob("*.dcm")))
    tendon.send(write_limb_study(tmp_path / "other", "two", with_region=False))

    jobs = tendon.settled(3)
    assert len(jobs) == 3


def test_a_late_image_makes_a_new_result_and_a_repeated_one_does_not(tendon, tmp_path):
    images = write_limb_study(tmp_path / "study", with_region=False)
    tendon.send(images[:-1])
    (first,) = tendon.settled(1)

    tendon.send(images)
    second, _ = tendon.settled(2)
    tendon.send(images)
    tendon.send(write_limb_study(tmp_path / "other", "two", with_region=False))

    assert len(tendon.settled(3)) == 3
    assert second["study_uid"] == first["study_uid"]
    stored = [dcmread(path) for path in tendon.pacs_folder.glob("*.dcm")]
    mine = [result for result in stored if result.StudyInstanceUID == first["study_uid"]]
    assert len(mine) == 2
    assert len({result.SeriesInstanceUID for result in mine}) == 1


def test_a_peer_that_is_not_on_the_list_is_rejected(tendon, tmp_path):
    images = write_limb_study(tmp_path / "study", with_region=False)
    to = f"TENDON@127.0.0.1:{tendon.dicom_port}"

    told = tendon.tendon("send", str(images[0]), "--to", to, expect=1, TENDON_AE_TITLE="STRANGER")

    assert "not stored" in told
    assert tendon.jobs() == []
