"""What comes after the images: it matters only where it changes what a job works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from orchestrator.service.operating import study_story
from tests.house import house, write_limb_study
from tests.late import MODALITIES, write_late, write_of_study

if TYPE_CHECKING:
    from orchestrator.service.operating import StudyStory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("late")


@pytest.fixture(scope="module")
def tendon(folder):
    """The embedded system; a study with a drawn tumour went in, and both its results are delivered and proven."""
    with house(folder) as started:
        started.start()
        started.send(write_limb_study(folder / "study"))
        started.settled(2)
        yield started


@pytest.fixture
def image(tendon, folder):
    return min((folder / "study").glob("*.dcm"))


def story(tendon, image) -> StudyStory:
    return study_story(tendon.records, dcmread(image, stop_before_pixels=True).StudyInstanceUID)


def is_at_rest(tendon) -> bool:
    with tendon.records.reading() as unit:
        return not any(part.is_under_way() for part in (unit.studies, unit.jobs, unit.deliveries))


def decided(told: StudyStory) -> list[tuple[str, str, bool]]:
    """What the last revision decided on the images."""
    images = {series.uid for series in told.study.series if series.header.modality == "CT"}
    return [
        (decision.rule, decision.pipeline, decision.is_yes)
        for revision, _, _, decision in told.decisions
        if revision == told.study.revision and decision.series_uid in images
    ]


def test_results_that_come_back_twice_open_no_revision_and_start_nothing(tendon, image):
    before = story(tendon, image)
    outputs = sorted(tendon.pacs_folder.glob("*.dcm"))
    assert {dcmread(path).Modality for path in outputs} == {"SEG", "SR"}

    for _ in range(2):
        tendon.send(outputs)
        assert is_at_rest(tendon), "nothing is even to be looked at"

    after = story(tendon, image)
    assert (after.study, after.decisions, after.jobs) == (before.study, before.decisions, before.jobs)
    returned = {i.header.sop_instance_uid for i in after.left_out if i.is_own}
    assert returned >= {dcmread(path).SOPInstanceUID for path in outputs}


@pytest.mark.parametrize("sop_class_uid", MODALITIES, ids=MODALITIES.values())
def test_what_others_add_to_a_study_starts_and_supersedes_nothing(tendon, image, tmp_path, sop_class_uid):
    before = story(tendon, image)

    tendon.send([write_late(tmp_path, image, sop_class_uid)])
    tendon.until(lambda: is_at_rest(tendon))

    after = story(tendon, image)
    assert after.jobs == before.jobs
    assert after.study.revision == before.study.revision + 1
    assert decided(after) == decided(before)
    (added,) = (s for s in after.study.series if s.header.sop_class_uid == sop_class_uid)
    assert (added.is_settled, bool(added.signal)) == (True, True)


@pytest.mark.parametrize("name", ["philips_allura_clarity_u104.dcm", "siemens_axiom_example_procedure.dcm"])
def test_dose_reports_of_real_machines_start_and_supersede_nothing(tendon, image, tmp_path, sample_data, name):
    before = story(tendon, image)

    tendon.send([write_of_study(tmp_path, sample_data / "rdsr" / name, image)])
    tendon.until(lambda: is_at_rest(tendon))

    after = story(tendon, image)
    assert after.jobs == before.jobs
    assert after.study.revision == before.study.revision + 1


def test_a_late_slice_takes_the_place_of_what_is_not_delivered_yet(tendon, tmp_path):
    images = write_limb_study(tmp_path / "slices", "late", with_region=False)
    known = len(tendon.jobs())
    tendon.pacs.stop()
    try:
        tendon.send(images[:-1])
        tendon.until(lambda: tendon.jobs()[0]["state"] == "delivering" and len(tendon.jobs()) == known + 1)
        tendon.send(images[-1:])
        tendon.until(lambda: len(tendon.jobs()) == known + 2)
    finally:
        tendon.restart_pacs()
    tendon.until(lambda: is_at_rest(tendon))

    older, newer = story(tendon, images[0]).jobs
    assert (older.job.state, newer.job.state) == ("superseded", "done")
    assert [len(told.job.primary.instances) for told in (older, newer)] == [len(images) - 1, len(images)]
    shown = {dcmread(path).SOPInstanceUID for path in tendon.pacs_folder.glob("*.dcm")}
    assert {d.state for d in older.deliveries if d.destination == "pacs"} == {"superseded"}
    assert not shown & {output.sop_instance_uid for output in older.outputs if output.sop_instance_uid}
    assert shown >= {output.sop_instance_uid for output in newer.outputs if output.kind in ("seg", "sr")}
