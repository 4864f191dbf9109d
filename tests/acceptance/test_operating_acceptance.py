"""What an operator does with `tendon study`, `retry`, `cancel` and `reroute`, as she meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydicom import dcmread

from tests.house import house, write_limb_study

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
CT = {"field": "series.modality", "eq": "CT"}
WHERE = ["pacs", "share"]
RULES = [
    {
        "name": "a stage that never ends",
        "when": {"all": [CT, {"field": "study.description", "eq": "ENDLESS"}]},
        "run": ["endless_bone"],
        "send": WHERE,
        "stop": True,
    },
    {
        "name": "a person looks first",
        "when": {"all": [CT, {"field": "study.description", "eq": "REVIEW"}]},
        "run": ["slow_bone"],
        "send": WHERE,
        "release": "after_review",
        "stop": True,
    },
    {"name": "all others", "when": CT, "run": ["slow_bone"], "send": WHERE},
]


@pytest.fixture
def tendon(tmp_path, services):
    """The system at work: it receives from one modality and sends to a PACS and a shared folder."""
    with house(tmp_path, RULES, services, TENDON_PIPELINES_DIR=PIPELINES) as started:
        started.start()
        yield started


def import_site(tendon, rules=None, **pacs):
    """The site file with other rules, or with other settings of the destination named pacs."""
    site = yaml.safe_load((tendon.folder / "site.yaml").read_text())
    site["rules"] = rules or site["rules"]
    site["destinations"][0] |= pacs
    (tendon.folder / "changed.yaml").write_text(yaml.safe_dump(site))
    tendon.tendon("import", str(tendon.folder / "changed.yaml"))


def stage_is(tendon, name, state):
    return lambda: any(s["name"] == name and s["state"] == state for job in tendon.jobs() for s in job["stages"])


def job_is(tendon, state):
    return lambda: any(job["state"] == state for job in tendon.jobs())


def results(tendon):
    """What lies at the PACS, and how many reports in the shared folder."""
    stored = [dcmread(path) for path in tendon.pacs_folder.glob("*.dcm")]
    return stored, len(list((tendon.folder / "share").glob("*.json")))


# cancel


def test_a_cancelled_stage_stops_leaves_no_result_and_the_worker_goes_on(tendon, tmp_path):
    tendon.send(write_limb_study(tmp_path / "a", "endless", with_region=False, study_description="ENDLESS"))
    tendon.until(stage_is(tendon, "search", "leased"))
    (endless,) = tendon.jobs()

    told = tendon.ask("cancel", endless["id"][:8], "--reason", "the wrong rule")
    next_study = write_limb_study(tmp_path / "b", "next", with_region=False)
    tendon.send(next_study)
    tendon.until(job_is(tendon, "done"))

    assert (told["id"], told["state"], told["withdrawn"], told["sent"]) == (endless["id"], "cancelled", 0, {})
    done, cancelled = tendon.jobs()
    assert (done["state"], cancelled["state"]) == ("done", "cancelled")
    assert "the wrong rule" in cancelled["reason"]
    assert [(s["name"], s["state"]) for s in cancelled["stages"]] == [("search", "failed")]
    stored, reports = results(tendon)
    assert {result.StudyInstanceUID for result in stored} == {dcmread(next_study[0]).StudyInstanceUID}
    assert reports == 1
    assert "cancelled before" in tendon.tendon("cancel", endless["id"])


def test_what_has_left_is_counted_and_the_rest_never_leaves(tendon, tmp_path):
    tendon.pacs.stop()
    tendon.send(write_limb_study(tmp_path / "study", with_region=False))
    tendon.until(has_left_for(tendon, "share"))
    (job,) = tendon.jobs()

    told = tendon.ask("cancel", job["id"])
    tendon.restart_pacs()
    tendon.send(write_limb_study(tmp_path / "next", "next", with_region=False))
    tendon.until(job_is(tendon, "done"))

    assert told["sent"]["share"] >= 1
    assert told["withdrawn"] + told["sent"].get("pacs", 0) == 1, "what was being sent in that moment counts as sent"
    stored, _ = results(tendon)
    assert job["study_uid"] not in {result.StudyInstanceUID for result in stored}


def has_left_for(tendon, destination):
    """Whether all that goes to a destination is there."""

    def look():
        with tendon.records.reading() as unit:
            states = {
                d.state
                for job in tendon.jobs()
                for d in unit.deliveries.of_job(job["id"])
                if d.destination == destination
            }
        return bool(states) and states <= {"accepted", "proven"}

    return look


# held


def test_a_study_of_two_patients_is_held_and_nothing_of_it_is_sent(tendon, tmp_path):
    images = write_limb_study(tmp_path / "study", with_region=False)
    for path in images[:3]:
        image = dcmread(path)
        image.PatientID = "P2"
        image.save_as(path)
    tendon.send(images)
    (job,) = tendon.settled(1)
    tendon.send(write_limb_study(tmp_path / "next", "next", with_region=False))
    tendon.until(job_is(tendon, "done"))

    assert job["state"] == "held"
    stored, _ = results(tendon)
    assert job["study_uid"] not in {result.StudyInstanceUID for result in stored}
    told = tendon.tendon("study", job["study_uid"])
    assert "held: the objects of this study name different patients" in told


def test_what_waits_for_a_review_stays_here_and_says_so(tendon, tmp_path):
    tendon.send(write_limb_study(tmp_path / "study", with_region=False, study_description="REVIEW"))
    (job,) = tendon.settled(1)
    tendon.send(write_limb_study(tmp_path / "next", "next", with_region=False))
    tendon.until(job_is(tendon, "done"))

    assert job["state"] == "held"
    stored, reports = results(tendon)
    assert job["study_uid"] not in {result.StudyInstanceUID for result in stored}
    assert reports == 1
    assert "seg to pacs: held: waits for a person's review" in tendon.tendon("study", job["study_uid"])


# retry


def test_a_retry_brings_home_what_the_pacs_refused(tendon, tmp_path):
    import_site(tendon, ae_title="TYPO")
    tendon.send(write_limb_study(tmp_path / "study", with_region=False))
    (failed,) = tendon.settled(1)
    told = tendon.tendon("study", failed["study_uid"])

    import_site(tendon)
    retried = tendon.ask("retry", failed["id"][:6])
    tendon.until(job_is(tendon, "done"))

    assert failed["state"] == "failed"
    assert "seg to pacs: quarantined" in told
    assert f"tendon retry {failed['id']}" in told
    assert (retried["resumed"], retried["stage"]) == (1, "")
    stored, reports = results(tendon)
    assert [result.Modality for result in stored] == ["SEG"]
    assert reports == 1


def test_a_retry_brings_home_a_job_whose_stage_failed(tmp_path, services):
    """The stored images were damaged and are restored from a backup."""
    with house(tmp_path, RULES, services, TENDON_PIPELINES_DIR=PIPELINES, TENDON_QUIET_SECONDS="3") as tendon:
        tendon.start()
        tendon.send(write_limb_study(tmp_path / "study", with_region=False))
        backup = {path: path.read_bytes() for path in objects(tendon)}
        for path in backup:
            path.chmod(0o600)
            path.write_bytes(b"damaged")
        (failed,) = tendon.settled(1)
        for path, content in backup.items():
            path.write_bytes(content)

        tendon.tendon("retry", failed["id"])
        tendon.until(job_is(tendon, "done"))

        assert failed["state"] == "failed"
        assert "changed" in failed["reason"]
        stored, reports = results(tendon)
        assert [result.Modality for result in stored] == ["SEG"]
        assert reports == 1


def objects(tendon):
    return [path for path in (Path(tendon.environment["TENDON_DATA_DIR"]) / "objects").rglob("*") if path.is_file()]


# reroute


def test_a_study_is_routed_again_once_the_rule_is_corrected(tendon, tmp_path):
    import_site(tendon, rules=[{**RULES[-1], "when": {"field": "series.modality", "eq": "MR"}}])
    images = write_limb_study(tmp_path / "study", with_region=False)
    study_uid = str(dcmread(images[0]).StudyInstanceUID)
    tendon.send(images)
    tendon.until(lambda: is_routed(tendon, study_uid, revision=1))
    assert tendon.jobs() == []

    import_site(tendon, rules=RULES)
    told = tendon.ask("reroute", study_uid)
    tendon.until(job_is(tendon, "done"))
    again = tendon.tendon("reroute", study_uid)

    assert [job["pipeline"] for job in told["new"]] == ["slow_bone"]
    assert told["rule_set_version"] == 3
    assert "kept as it is: slow_bone, done" in again
    assert len(tendon.jobs()) == 1
    assert [result.Modality for result in results(tendon)[0]] == ["SEG"]


def is_routed(tendon, study_uid, revision):
    """Whether the rounds have decided on this revision of the study."""
    with tendon.records.reading() as unit:
        return any(decided_on == revision for decided_on, _, _, _ in unit.jobs.decisions(study_uid))


def test_only_a_reroute_brings_a_cancelled_job_back(tendon, tmp_path):
    images = write_limb_study(tmp_path / "study", study_description="ENDLESS")
    tendon.send(images[:-1])
    tendon.until(stage_is(tendon, "search", "leased"))
    (job,) = tendon.jobs()
    tendon.tendon("cancel", job["id"])
    tendon.send(images[-1:])
    tendon.until(lambda: is_routed(tendon, job["study_uid"], revision=2))
    after_the_late_object = tendon.jobs()

    told = tendon.ask("reroute", job["study_uid"])
    tendon.until(job_is(tendon, "running"))

    assert [one["state"] for one in after_the_late_object] == ["cancelled"]
    assert [(one["pipeline"], one["generation"]) for one in told["new"]] == [("endless_bone", 1)]
    assert [one["state"] for one in tendon.jobs()] == ["running", "cancelled"]
