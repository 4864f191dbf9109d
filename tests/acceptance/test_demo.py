"""`tendon demo` as a person runs it: what it leaves, and what it says of input that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from pydicom import dcmread

from tests.dicom_peers import program
from tests.house import TENDON, write_limb_study


def demo(folder, *arguments, expect=0):
    """Run the demo; gives what it printed."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "300"}
    ran = subprocess.run(
        [TENDON, "demo", "--output", str(folder / "out"), *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == expect, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    return ran.stdout


def summary(folder):
    return json.loads((folder / "out" / "summary.json").read_text())


def results(folder):
    """Every result object at the PACS and in the EHR folder, by name."""
    places = ("pacs", "ehr")
    return {path.name: path.read_bytes() for place in places for path in sorted((folder / "out" / place).iterdir())}


def assert_checkers_accept(folder, allowed=()):
    """dciodvfy finds no error beside those the source brings along, and dsrdump reads every SR."""
    for path in sorted((folder / "out" / "pacs").glob("*.dcm")):
        told = subprocess.run([program("dciodvfy"), "-new", path], capture_output=True, text=True, check=False).stderr
        errors = [line for line in told.splitlines() if line.startswith("Error")]
        assert [e for e in errors if not any(reason in e for reason in allowed)] == []
        if dcmread(path).Modality == "SR":
            subprocess.run([program("dsrdump"), path], capture_output=True, check=True)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    demo(folder)
    return folder


def test_the_synthetic_study_leaves_everything_a_person_looks_at(first_run):
    facts = summary(first_run)
    out = first_run / "out"

    assert {job["pipeline"]: job["state"] for job in facts["jobs"]} == {"bone_ct": "done", "virtual_biopsy": "done"}
    assert sorted(made["kind"] for made in facts["objects"]) == ["seg", "seg", "sr"]
    assert all(made["proven"] for made in facts["objects"])
    for made in facts["objects"]:
        stored = dcmread(out / made["path"])
        assert (stored.SOPClassUID, stored.SOPInstanceUID) == (made["sop_class_uid"], made["sop_instance_uid"])
    assert len(facts["ehr"]) == 2
    assert all(json.loads((out / path).read_text())["resourceType"] == "Bundle" for path in facts["ehr"])
    steps = [facts["seconds"][step] for step in ("received", "complete", "routed", "computed", "delivered")]
    assert steps == sorted(steps)
    assert len(list((out / "preview").glob("*.png"))) == 2
    page = (out / "report.html").read_text()
    assert "AI, not reviewed" in page
    assert "http" not in page


def test_the_numbers_in_the_summary_agree_with_each_other(first_run):
    jobs = {job["pipeline"]: job for job in summary(first_run)["jobs"]}
    (tumour,) = jobs["virtual_biopsy"]["segments"]
    values = {m["code"]: m["value"] for m in jobs["virtual_biopsy"]["measurements"]}

    assert values["IBSI:YEKZ"] / 1000 == pytest.approx(tumour["volume_ml"], abs=0.001)
    assert values["IBSI:RNU0"] == pytest.approx(values["IBSI:YEKZ"], rel=0.02)
    assert tumour["code"] == "SCT:52988006"
    assert [s["code"] for s in jobs["bone_ct"]["segments"]] == ["SCT:272673000"]


def test_independent_checkers_accept_every_object(first_run):
    assert_checkers_accept(first_run)


def test_two_runs_of_one_study_are_equal(first_run, tmp_path):
    demo(tmp_path)
    assert results(tmp_path) == results(first_run)


def test_afterwards_the_study_can_be_asked_about(first_run):
    environment = {"PATH": os.environ["PATH"], "HOME": str(first_run)}
    told = subprocess.run(
        [TENDON, "study", summary(first_run)["study_uid"]],
        env=environment,
        cwd=first_run,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "virtual_biopsy 1.0.0: done" in told.stdout


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    assert "holds no DICOM object" in demo(tmp_path, "--input", "in", expect=1)


def test_a_folder_without_dicom_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing to see")
    told = demo(tmp_path, "--input", "in", expect=1)
    assert "1 files of kind .txt are no DICOM objects" in told
    assert "holds no DICOM object" in told


def test_a_study_without_ct_says_so(tmp_path):
    files = write_limb_study(tmp_path / "in", with_region=False)
    for path in files:
        image = dcmread(path)
        image.Modality = "MR"
        image.save_as(path)
    assert "holds no CT series" in demo(tmp_path, "--input", "in", expect=1)
    assert summary(tmp_path)["jobs"] == []


def test_a_truncated_file_is_named_and_the_rest_is_worked_on(tmp_path):
    files = write_limb_study(tmp_path / "in")
    files[-2].write_bytes(files[-2].read_bytes()[:5000])
    told = demo(tmp_path, "--input", "in", expect=1)
    assert f"{files[-2].name} was not sent: the data set ends too early" in told
    assert {job["state"] for job in summary(tmp_path)["jobs"]} == {"done"}


def test_a_region_on_images_that_are_not_there_is_named_and_bone_is_found_all_the_same(tmp_path):
    other = write_limb_study(tmp_path / "other", "other")
    write_limb_study(tmp_path / "in", with_region=False)
    shutil.copy(other[-1], tmp_path / "in")
    told = demo(tmp_path, "--input", "in", expect=1)
    assert "refers to images that are not in the folder" in told
    assert [(job["pipeline"], job["state"]) for job in summary(tmp_path)["jobs"]] == [("bone_ct", "done")]


def test_two_patients_in_one_folder_are_named_and_each_study_is_worked_on(tmp_path):
    write_limb_study(tmp_path / "in" / "a", "a", with_region=False)
    write_limb_study(tmp_path / "in" / "b", "b", with_region=False, patient_id="P2", patient_name="Canary^Blue")
    told = demo(tmp_path, "--input", "in", expect=1)
    assert "more than one patient" in told
    assert "Canary" not in told
    assert len(list((tmp_path / "out" / "pacs").glob("*.dcm"))) == 2


def test_two_patients_under_one_study_are_held(tmp_path):
    files = write_limb_study(tmp_path / "in", with_region=False)
    for path in files[:3]:
        image = dcmread(path)
        image.PatientID = "P2"
        image.save_as(path)
    told = demo(tmp_path, "--input", "in", expect=1)
    assert "bone_ct ended as held: the objects of this study name different patients" in told
    assert list((tmp_path / "out" / "pacs").glob("*.dcm")) == []


CASES = {
    "knee_STS_042": (11175, 34.8),
    "foot_STS_019": (5564, 17.4),
    "hip_femur_STS_012": (25263, 78.8),
}


@pytest.mark.parametrize("case", CASES)
def test_a_real_sarcoma_study_is_worked_on_as_its_reader_drew_it(sample_data, tmp_path, case):
    voxels, volume_ml = CASES[case]
    demo(tmp_path, "--input", str(sample_data / "msk_sarcoma" / case))

    jobs = {job["pipeline"]: job for job in summary(tmp_path)["jobs"]}
    (tumour,) = jobs["virtual_biopsy"]["segments"]
    (bone,) = jobs["bone_ct"]["segments"]
    assert tumour["volume_ml"] == pytest.approx(volume_ml, abs=0.05)
    assert bone["volume_ml"] > 20
    segs = [dcmread(path) for path in (tmp_path / "out" / "pacs").glob("*.dcm")]
    drawn = next(s for s in segs if s.Modality == "SEG" and s.SegmentSequence[0].SegmentLabel == tumour["label"])
    assert int(np.count_nonzero(drawn.pixel_array)) == voxels
    assert_checkers_accept(tmp_path, allowed=["StudyID", "Study ID"])


def test_images_whose_data_sets_name_no_study_are_stored_and_said_to_be_unroutable(sample_data, tmp_path):
    told = demo(tmp_path, "--input", str(sample_data / "ct_abdomen_labelled" / "dicom"), expect=1)
    assert "20 objects were stored but cannot be routed" in told
