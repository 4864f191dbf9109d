"""A series is worked on as soon as a real PACS has counted twice what is here, and not while it has more."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.dicom.scu import store_files
from orchestrator.domain.delivery import Node
from orchestrator.service.operating import current_site, replace_site
from tests.fakes.surroundings import SystemClock
from tests.house import LOOPBACK, MODALITY, house, write_limb_study
from tests.orthanc import orthanc

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
CT = {"field": "series.modality", "eq": "CT"}
RULES = [{"name": "CT", "when": CT, "run": ["quick_bone"], "send": ["share"]}]


@pytest.fixture
def pacs(tmp_path):
    with orthanc(tmp_path / "orthanc") as destination:
        yield destination


def started(tendon, pacs):
    """The system at work, with Orthanc as a node that is asked."""
    site = current_site(tendon.records)
    node = Node("archive", pacs.ae_title, LOOPBACK, pacs.port, may_send=False, query=True)
    replace_site(tendon.records, SystemClock(), replace(site.content, nodes=(*site.nodes, node)), "test")
    tendon.start()


def archive(pacs, files):
    sent = store_files(files, host=LOOPBACK, port=pacs.port, called_ae=pacs.ae_title, calling_ae=MODALITY)
    assert {file.outcome for file in sent} == {"accepted"}


def ct_series(tendon, study_uid):
    with tendon.records.reading() as unit:
        study = unit.studies.get(study_uid)
    (found,) = (series for series in study.series if series.header.modality == "CT")
    return found


def study_of(tendon) -> str:
    with tendon.records.reading() as unit:
        ((study_uid, _),) = unit.studies.page(9)
    return study_uid


def test_a_study_that_the_pacs_has_as_it_is_here_is_worked_on_long_before_it_was_quiet(tmp_path, services, pacs):
    images = write_limb_study(tmp_path / "study", with_region=False)
    archive(pacs, images)
    with house(tmp_path, RULES, services, TENDON_PIPELINES_DIR=PIPELINES, TENDON_QUIET_SECONDS="3600") as tendon:
        started(tendon, pacs)
        tendon.send(images)

        (job,) = tendon.settled(1)

        signal = f"archive counted twice the {len(images)} instances that are here"
        (series,) = tendon.ask("study", job["study_uid"])["series"]
        assert (job["state"], series["signal"], series["settled"]) == ("done", signal, True)
        assert series["ready_at"]


def test_a_series_of_which_the_pacs_has_more_is_waited_for_although_it_was_quiet(tmp_path, pacs):
    quiet_s = 6
    images = write_limb_study(tmp_path / "study", with_region=False)
    archive(pacs, images)
    with house(tmp_path, RULES, TENDON_PIPELINES_DIR=PIPELINES, TENDON_QUIET_SECONDS="3600") as tendon:
        started(tendon, pacs)
        tendon.send(images[:-1])
        study_uid = study_of(tendon)
        tendon.until(lambda: any(c.is_twice_more(len(images) - 1) for c in ct_series(tendon, study_uid).counts))
        tendon.stop()
        tendon.environment["TENDON_QUIET_SECONDS"] = str(quiet_s)
        tendon.start()
        quiet_at = ct_series(tendon, study_uid).last_received_at + timedelta(seconds=quiet_s + 1)
        tendon.until(lambda: SystemClock().now() > quiet_at)
        assert not ct_series(tendon, study_uid).is_settled

        tendon.send(images)
        (job,) = tendon.settled(1)

        with tendon.records.reading() as unit:
            assert len(unit.jobs.get(job["id"]).primary.instances) == len(images)
        assert ct_series(tendon, study_uid).signal == f"archive counted twice the {len(images)} instances that are here"
