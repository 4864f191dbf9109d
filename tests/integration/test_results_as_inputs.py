"""What a pipeline gets of the result of another: whole, narrowed to a segment, or nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.domain import codes
from orchestrator.domain.codes import Code
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.result import Measurement, Notice, Results, Segment
from tests.synthetic import SHAPE, limb, provenance, write_series
from workers.perform.inputs import read_inputs, shape_of
from workers.perform.task import Task, TaskInput, save_results

BONE, LESION = "SCT:272673000", "SCT:52988006"
VOLUME = Code("RNU0", "IBSI", "Volume")
ML = Code("ml", "UCUM", "millilitre")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tuple(write_series(tmp_path_factory.mktemp("ct")))


def found(shape=SHAPE) -> Results:
    """A bone, a lump, a measurement on each and one on none."""
    _, bone, lump = limb(shape)
    return Results(
        segments=(
            Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, bone),
            Segment("Lump", codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE, codes.LESION, lump),
        ),
        measurements=tuple(Measurement(VOLUME, 1.0, ML, segment) for segment in ("Bone", "Lump", None)),
        notices=(Notice("not checked: metal"),),
    )


def left(folder, results):
    """The artefacts another pipeline's stage left, name to file."""
    folder.mkdir()
    save_results(folder, results)
    return {path.name: str(path) for path in folder.iterdir()}


def inputs_of(images, *given: TaskInput):
    task = Task(
        pipeline="density",
        folder="",
        stage="measure",
        inputs=(TaskInput("ct", "volume", images), *given),
        segments=(),
        measurements=(),
        provenance=provenance(),
        memory_mb=1000,
    )
    return task, read_inputs(task)


def taken(artefacts, **given):
    return TaskInput("bone", "result", (), artefacts=artefacts, **given)


def test_a_result_comes_whole_with_its_masks_on_the_grid_of_the_images(images, tmp_path):
    task, inputs = inputs_of(images, taken(left(tmp_path / "left", found())))
    result = inputs["bone"]
    assert [segment.label for segment in result.segments] == ["Bone", "Lump"]
    assert np.array_equal(result.segments[0].mask, found().segments[0].mask)
    assert result.segments[0].mask.shape == inputs["ct"].grid.shape == shape_of(task, inputs)
    assert (result.measurements, result.notices) == (found().measurements, found().notices)


def test_a_segment_wanted_narrows_it_to_the_segments_of_that_type_and_what_was_measured_on_them(images, tmp_path):
    _, inputs = inputs_of(images, taken(left(tmp_path / "left", found()), segment=LESION))
    assert [segment.label for segment in inputs["bone"].segments] == ["Lump"]
    assert [m.segment for m in inputs["bone"].measurements] == ["Lump", None]


def test_without_the_segment_a_pipeline_that_requires_it_is_unfit_and_another_gets_nothing(images, tmp_path):
    results = found()
    artefacts = left(tmp_path / "left", replace(results, segments=results.segments[:1], measurements=()))
    with pytest.raises(Unfit, match=f"input bone: the result holds no segment {LESION}") as unfit:
        inputs_of(images, taken(artefacts, segment=LESION))
    assert unfit.value.fault is Fault.UPSTREAM_MISSING
    _, inputs = inputs_of(images, taken(artefacts, segment=LESION, required=False))
    assert inputs["bone"] is None


def test_an_input_that_is_absent_is_there_by_name_and_none(images):
    _, inputs = inputs_of(images, taken({}, required=False), TaskInput("tumour", "region", (), on="ct", required=False))
    assert inputs["bone"] is None
    assert inputs["tumour"] is None


def test_a_result_on_another_grid_is_refused(images, tmp_path):
    artefacts = left(tmp_path / "left", found((11, 40, 48)))
    with pytest.raises(Unfit, match="another grid") as unfit:
        inputs_of(images, taken(artefacts))
    assert unfit.value.fault is Fault.UPSTREAM_MISSING


def test_a_pipeline_about_a_result_alone_has_its_grid(tmp_path):
    task = Task("summary", "", "sum", (taken(left(tmp_path / "left", found())),), (), (), provenance(), 1000)
    assert shape_of(task, read_inputs(task)) == SHAPE
