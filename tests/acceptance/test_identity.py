"""A patient is corrected while results wait to be sent: nothing goes out under the old name unless a person says so."""

from __future__ import annotations

from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

import pydicom
import yaml

from tests.house import LOOPBACK, house, write_limb_study

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
CT = {"field": "series.modality", "eq": "CT"}
RULES = [{"name": "bone", "when": CT, "run": ["quick_bone"], "send": ["pacs"]}]
ARCHIVE = "ARCHIVE"
OLD, NEW = "Canary^Yellow", "Finch^Yellow"


@contextmanager
def started(folder, services=None):
    """An installation that also knows an archive, which is an identity authority, and whose PACS is not reachable."""
    with house(folder, RULES, services, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
        site = yaml.safe_load((folder / "site.yaml").read_text())
        archive = {"ae_title": ARCHIVE, "host": LOOPBACK, "port": 104, "may_send": True, "identity_authority": True}
        site["nodes"].append({"name": "archive", **archive})
        (folder / "known.yaml").write_text(yaml.safe_dump(site))
        tendon.tendon("import", str(folder / "known.yaml"))
        tendon.start()
        tendon.pacs.stop()
        yield tendon


def rewritten(files, folder, *, implicit_vr=False, **changed):
    """The same objects with other values."""
    folder.mkdir()
    for path in files:
        made = pydicom.dcmread(path)
        for keyword, value in changed.items():
            setattr(made, keyword, value)
        if implicit_vr:
            made.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        made.save_as(folder / path.name, implicit_vr=implicit_vr)
    return [folder / path.name for path in files]


def wait_to_be_sent(tendon, folder, name="one"):
    """A study whose result waits for the PACS; gives its files and its UID."""
    files = write_limb_study(folder / name, name, with_region=False, patient_name=OLD)
    study_uid = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    tendon.send(files)
    tendon.until(lambda: states(tendon, study_uid) == ["delivering"])
    return files, study_uid


def states(tendon, study_uid):
    """Of the study's jobs, oldest first."""
    with tendon.records.reading() as unit:
        return [job.state for job in unit.jobs.of_study(study_uid)]


def versions(tendon, study_uid):
    with tendon.records.reading() as unit:
        return unit.versions.of_study(study_uid)


def alarms(tendon):
    with tendon.records.reading() as unit:
        return [(alarm.code, alarm.subject) for alarm in unit.alarms.open()]


def in_pacs(tendon):
    """Study and patient's name of what lies there."""
    stored = (pydicom.dcmread(path) for path in tendon.pacs_folder.glob("*.dcm"))
    return sorted((str(result.StudyInstanceUID), str(result.PatientName)) for result in stored)


def test_an_authority_corrects_the_name_and_only_the_corrected_one_is_ever_sent(tmp_path, services):
    with started(tmp_path, services) as tendon:
        files, study_uid = wait_to_be_sent(tendon, tmp_path)
        tendon.send(rewritten(files, tmp_path / "corrected", PatientName=NEW), calling_ae=ARCHIVE)
        tendon.until(lambda: states(tendon, study_uid) == ["superseded", "delivering"])
        tendon.restart_pacs()
        tendon.until(lambda: states(tendon, study_uid) == ["superseded", "done"])

        assert in_pacs(tendon) == [(study_uid, NEW)]
        with tendon.records.reading() as unit:
            old, new = unit.jobs.of_study(study_uid)
            assert (old.generation, new.generation) == (0, 1)
            assert {d.state for d in unit.deliveries.of_job(old.id)} == {"superseded"}
        decided = {(v.standing, v.decided_by) for v in versions(tendon, study_uid)}
        assert decided == {("taken", "Tendon"), ("displaced", "Tendon")}
        assert alarms(tendon) == []


def test_anybody_elses_correction_waits_for_a_person_and_no_other_study_does(tmp_path):
    with started(tmp_path) as tendon:
        (files, kept), (more, taken) = (wait_to_be_sent(tendon, tmp_path, name) for name in ("one", "two"))
        for number, sent in enumerate((files, more)):
            tendon.send(rewritten(sent, tmp_path / f"corrected{number}", PatientName=NEW, PatientID="P2"))
        tendon.until(lambda: len(alarms(tendon)) == 2)
        tendon.restart_pacs()
        next_one = go_through(tendon, tmp_path)
        assert in_pacs(tendon) == [(next_one, OLD)]
        assert states(tendon, kept) == states(tendon, taken) == ["held"]

        (item,) = tendon.ask("identity", kept)["items"]
        assert (len(item["objects"]), item["class"], item["sent_by"]) == (len(files), "identity", "MODALITY")
        assert {"what": "patient's name", "in_use": OLD, "came": NEW} in item["changes"]
        told = tendon.tendon("study", kept)
        assert f"tendon identity {kept}" in told
        assert OLD not in told

        assert tendon.ask("identity", kept, "--keep")["resumed"] == 1
        assert len(tendon.ask("identity", taken, "--take-new")["superseded"]) == 1
        tendon.until(lambda: [*states(tendon, kept), *states(tendon, taken)] == ["done", "superseded", "done"])
        assert in_pacs(tendon) == sorted([(kept, OLD), (taken, NEW), (next_one, OLD)])
        assert {v.decided_by for study in (kept, taken) for v in versions(tendon, study)} == {getuser()}
        assert alarms(tendon) == []
        assert NEW not in tendon.log()
        assert "nothing of study" in tendon.tendon("identity", kept, "--keep", expect=1)


def go_through(tendon, folder):
    """A study that goes its way to the end."""
    files = write_limb_study(folder / "next", "next", with_region=False, patient_name=OLD)
    study_uid = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    tendon.send(files)
    tendon.until(lambda: states(tendon, study_uid) == ["done"])
    return study_uid


def test_a_variant_starts_nothing_and_other_pixels_raise_an_alarm_and_change_nothing(tmp_path):
    with started(tmp_path) as tendon:
        files, study_uid = wait_to_be_sent(tendon, tmp_path)
        tendon.send(rewritten(files, tmp_path / "implicit", implicit_vr=True))
        tendon.until(lambda: {v.difference for v in versions(tendon, study_uid)} == {"variant"})
        assert alarms(tendon) == []

        blank = bytes(len(pydicom.dcmread(files[0]).PixelData))
        tendon.send(rewritten(files[:1], tmp_path / "other", PixelData=blank))
        tendon.until(lambda: bool(alarms(tendon)))
        tendon.restart_pacs()
        next_one = go_through(tendon, tmp_path)
        tendon.until(lambda: states(tendon, study_uid) == ["done"])
        assert in_pacs(tendon) == sorted([(study_uid, OLD), (next_one, OLD)])
        assert alarms(tendon) == [("TND-2010", f"study {study_uid}")]
        assert "other content, a person is to decide" in tendon.tendon("study", study_uid)
