"""A worker compares what came again, in a confined process, beside its stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import RLELossless

from orchestrator.dicom.facts import read_file_header
from orchestrator.domain.queue import queues_of
from orchestrator.domain.study import Instance
from orchestrator.domain.version import MAX_ATTEMPTS
from orchestrator.service.classing import claim_versions
from tests.house import write_limb_study
from tests.strategies import START
from tests.workbench import Workbench
from workers.consume import comparing


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_limb_study(tmp_path_factory.mktemp("ct"), with_region=False)[:3]


@pytest.fixture
def workbench(tmp_path, images):
    made = Workbench(tmp_path, images, lanes=["cpu"])
    for path in images:
        receive(made, path)
    return made


def receive(workbench, path):
    digest = workbench._keep(Path(path).read_bytes())
    with workbench.records.transaction() as unit:
        unit.studies.add(Instance(read_file_header(path), digest, 1, START, "a1"), START)
    return digest


def again(workbench, path, *, compress=False, **changed):
    """The image comes again, changed."""
    made = pydicom.dcmread(path)
    for keyword, value in changed.items():
        setattr(made, keyword, value)
    if compress:
        made.compress(RLELossless, generate_instance_uid=False)
    made.save_as(workbench.folder / "again.dcm")
    return receive(workbench, workbench.folder / "again.dcm")


def classes(workbench):
    with workbench.records.reading() as unit:
        study_uid, *_ = [*unit.versions.in_question(), *(uid for uid, _ in unit.studies.page(1))]
        return [(v.difference, v.standing) for v in unit.versions.of_study(study_uid)]


def are_compared(workbench):
    return lambda: all(difference for difference, _ in classes(workbench))


def test_a_worker_classes_what_came_again(workbench, images):
    again(workbench, images[0], compress=True)
    again(workbench, images[1], compress=True, PatientName="Finch^Yellow")
    again(workbench, images[2], PixelData=bytes(len(pydicom.dcmread(images[2]).PixelData)))
    with workbench.at_work():
        workbench.until(are_compared(workbench))
    assert classes(workbench) == [("variant", "kept"), ("identity", "open"), ("conflict", "asked")]


def test_a_worker_of_the_gpu_lane_alone_leaves_it_to_others(workbench, images):
    again(workbench, images[0], PatientName="Finch^Yellow")
    with workbench.at_work(bench=replace(workbench.bench(), queues=queues_of(["gpu"]))):
        workbench.until((workbench.folder / "work" / "mine" / "lock").exists)
    assert len(claim_versions(workbench.records, workbench.bench().workshop.clock, comparing._LEASE)) == 1


def test_what_is_damaged_is_asked_about(workbench, images):
    digest = again(workbench, images[0], PatientName="Finch^Yellow")
    path = Path(workbench.objects.path(digest))
    path.chmod(0o600)
    path.write_bytes(b"damaged")
    again(workbench, images[1], PatientName="Finch^Yellow")
    with workbench.at_work():
        workbench.until(are_compared(workbench))
    assert classes(workbench) == [("conflict", "asked"), ("identity", "open")]


def test_a_pair_that_ends_the_process_again_and_again_takes_no_other_with_it(workbench, images, monkeypatch):
    again(workbench, images[1], PatientName="Poison^")
    again(workbench, images[0], PatientName="Finch^Yellow")
    again(workbench, images[2], PatientName="Finch^Yellow")
    monkeypatch.setattr(comparing, "_PERFORMER", "tests.poisoned")
    monkeypatch.setattr(comparing, "_LEASE", comparing._LEASE * 0)
    with workbench.at_work():
        workbench.until(are_compared(workbench))
    assert classes(workbench) == [("conflict", "asked"), ("identity", "open"), ("identity", "open")]
    with workbench.records.reading() as unit:
        (study_uid,) = unit.versions.in_question()
        assert f"failed {MAX_ATTEMPTS} times" in unit.versions.of_study(study_uid)[0].reason
