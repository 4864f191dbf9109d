from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Grid, Region, Volume
from workers.numeric.phantom import limb

EXPECTED = {
    "knee_STS_042": (11175, 34.8, 38.9),
    "foot_STS_019": (5564, 17.4, 12.8),
    "hip_femur_STS_012": (25263, 78.8, 41.6),
}


def run(pipeline, volume, *regions):
    return pipeline.measure({"ct": volume, "tumour": regions}, {}, lambda _fraction, _text: None)


def region(volume, mask, name="GTV"):
    return Region(name, mask, volume.grid, "1.2.3")


def value(results, ibsi_id, segment="GTV"):
    (found,) = [m for m in results.measurements if m.name.value == ibsi_id and m.segment == segment]
    return found.value


def codes(results):
    return {notice.code.removeprefix("99TENDON:") for notice in results.notices}


@pytest.fixture(scope="module")
def small():
    return limb((24, 128, 128), (5.0, 2.0, 2.0))


@pytest.fixture
def block():
    """A volume of 1 mm voxels with intensity k, and a mask of 4 x 5 x 6 voxels in its middle."""
    affine = np.eye(4)[:, [2, 1, 0, 3]]
    array = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None, None], (10, 11, 12))
    mask = np.zeros(array.shape, bool)
    mask[3:7, 3:8, 3:9] = True
    return Volume(array, Grid(mask.shape, affine), HOUNSFIELD_UNIT.value), mask


def test_a_drawn_region_is_handed_back_as_a_manual_lesion_segment(pipeline, small):
    results = run(pipeline, small.volume, region(small.volume, small.tumour_mask))
    (segment,) = results.segments
    assert np.array_equal(segment.mask, small.tumour_mask)
    assert (segment.label, str(segment.type), segment.algorithm_type) == ("GTV", "SCT:52988006", "MANUAL")


def test_volume_and_mean_of_the_synthetic_tumour_are_those_it_was_made_with(pipeline, small):
    results = run(pipeline, small.volume, region(small.volume, small.tumour_mask))
    assert value(results, "YEKZ") == pytest.approx(np.count_nonzero(small.tumour_mask) * 20.0)
    assert value(results, "RNU0") == pytest.approx(value(results, "YEKZ"), rel=0.02)
    assert value(results, "Q4LE") == pytest.approx(34.0, abs=1.5)


def test_everything_declared_is_measured_and_nothing_else(pipeline, small):
    manifest = tomllib.loads(Path(pipeline.__file__).with_name("manifest.toml").read_text(encoding="utf-8"))
    results = run(pipeline, small.volume, region(small.volume, small.tumour_mask))
    assert sorted(str(m.name) for m in results.measurements) == sorted(manifest["produces"]["measurements"])
    assert {notice.code for notice in results.notices} <= set(manifest["produces"]["notices"])


def test_every_measurement_names_unit_method_and_segment(pipeline, block):
    volume, mask = block
    results = run(pipeline, volume, region(volume, mask))
    units = {m.name.value: m.unit.value for m in results.measurements}
    assert {units[i] for i in ("YEKZ", "RNU0")} == {"mm3"}
    assert (units["C0JK"], units["2PR5"], units["L0JK"], units["QCFX"]) == ("mm2", "/mm", "mm", "1")
    assert (units["Q4LE"], units["ECT3"], units["99N0"]) == ("[hnsf'U]", "[hnsf'U]2", "[hnsf'U].mm3")
    assert all("no interpolation, no re-segmentation" in m.method and m.segment == "GTV" for m in results.measurements)


def test_a_block_has_its_known_size_and_intensities(pipeline, block):
    volume, mask = block
    results = run(pipeline, volume, region(volume, mask))
    assert value(results, "YEKZ") == 120.0
    assert value(results, "Q4LE") == 4.5
    assert value(results, "2OJQ") == 3.0
    assert value(results, "PBX1") == pytest.approx(value(results, "RNU0") / 120)


def test_regions_of_one_name_get_labels_of_their_own(pipeline, block):
    volume, mask = block
    regions = [region(volume, mask), region(volume, mask), region(volume, mask, " "), region(volume, mask, "x" * 80)]
    results = run(pipeline, volume, *regions, regions[3])
    labels = [segment.label for segment in results.segments]
    assert labels == ["GTV", "GTV (2)", "Region", "x" * 64, "x" * 60 + " (2)"]
    assert {m.segment for m in results.measurements} == set(labels)


def test_one_voxel_has_no_axes_and_says_so(pipeline, block):
    volume, mask = block
    one = np.zeros_like(mask)
    one[5, 5, 5] = True
    results = run(pipeline, volume, region(volume, one))
    assert value(results, "TDIC") is None
    assert value(results, "YEKZ") == 1.0
    assert {"SMALL_REGION", "NOT_MEASURED"} <= codes(results)


def test_no_value_is_infinite_or_not_a_number(pipeline, block):
    volume, mask = block
    flat = np.zeros_like(mask)
    flat[5, 2:6, 2:9] = True
    zero = Volume(np.zeros(mask.shape, np.float32), volume.grid, HOUNSFIELD_UNIT.value)
    for image, drawn in ((volume, mask), (volume, flat), (zero, mask), (zero, flat)):
        measured = run(pipeline, image, region(image, drawn)).measurements
        assert all(m.value is None or math.isfinite(m.value) for m in measured)


def test_slices_left_out_while_drawing_are_marked(pipeline, block):
    volume, mask = block
    mask[4] = False
    assert "GAPS" in codes(run(pipeline, volume, region(volume, mask)))


def test_a_region_at_the_edge_of_the_images_is_marked(pipeline, block):
    volume, mask = block
    mask[3:7, 3:8, 3:] = True
    assert "EDGE" in codes(run(pipeline, volume, region(volume, mask)))


def test_a_region_of_two_parts_is_marked(pipeline, block):
    volume, mask = block
    mask[:, :, 5] = False
    assert "PARTS" in codes(run(pipeline, volume, region(volume, mask)))


def test_an_empty_region_among_others_is_left_out_and_marked(pipeline, block):
    volume, mask = block
    results = run(pipeline, volume, region(volume, np.zeros_like(mask), "empty"), region(volume, mask))
    assert [segment.label for segment in results.segments] == ["GTV"]
    assert "EMPTY_REGION" in codes(results)


def test_without_a_voxel_in_any_region_the_study_is_unfit(pipeline, block):
    volume, mask = block
    with pytest.raises(Unfit) as caught:
        run(pipeline, volume, region(volume, np.zeros_like(mask)))
    assert caught.value.fault is Fault.REGION_UNUSABLE


def test_a_region_on_another_grid_is_refused(pipeline, block):
    volume, mask = block
    with pytest.raises(Unfit) as caught:
        run(pipeline, volume, region(volume, mask[:-1]))
    assert caught.value.fault is Fault.REGION_UNUSABLE


def test_other_units_are_refused(pipeline, block):
    volume, mask = block
    with pytest.raises(Unfit) as caught:
        run(pipeline, Volume(volume.array, volume.grid, "1"), region(volume, mask))
    assert caught.value.fault is Fault.OUT_OF_RANGE


def test_a_repeat_is_identical(pipeline, small):
    drawn = region(small.volume, small.tumour_mask)
    first, second = run(pipeline, small.volume, drawn), run(pipeline, small.volume, drawn)
    assert first.measurements == second.measurements
    assert (first.notices, first.parameters) == (second.notices, second.parameters)


def test_sarcomas_have_their_published_size_and_intensity(pipeline, sarcoma):
    name, volume, mask = sarcoma
    results = run(pipeline, volume, region(volume, mask))
    voxels, volume_ml, mean_hu = EXPECTED[name]
    assert np.count_nonzero(results.segments[0].mask) == voxels
    assert round(value(results, "YEKZ") / 1000, 1) == volume_ml
    assert round(value(results, "Q4LE"), 1) == mean_hu
