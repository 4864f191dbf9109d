from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Grid, Volume
from workers.numeric.phantom import limb
from workers.numeric.resample import resample

BONE_LABELS = [*range(25, 51), *range(69, 79), 91, *range(92, 117)]
SPINAL_CORD = 79


def run(pipeline, volume):
    return pipeline.segment({"ct": volume}, {}, lambda _fraction, _text: None)


def codes(results):
    return {notice.code.removeprefix("99TENDON:") for notice in results.notices}


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.fixture(scope="module")
def phantom():
    return limb()


@pytest.fixture(scope="module")
def found(pipeline, phantom):
    return run(pipeline, phantom.volume)


@pytest.fixture(scope="module")
def small():
    return limb((24, 128, 128), (5.0, 2.0, 2.0))


def changed(phantom, array):
    return Volume(np.asarray(array, np.float32), phantom.volume.grid, HOUNSFIELD_UNIT.value)


def test_bone_of_the_synthetic_limb_is_found(phantom, found):
    (segment,) = found.segments
    assert dice(segment.mask, phantom.bone_mask) > 0.97
    assert (segment.label, str(segment.type), segment.algorithm_type) == ("Bone", "SCT:272673000", "AUTOMATIC")


def test_marrow_is_filled(phantom, found):
    marrow = ndimage.binary_erosion(phantom.bone_mask, iterations=7)
    assert np.count_nonzero(found.segments[0].mask & marrow) > 0.97 * np.count_nonzero(marrow)


def test_no_speck_is_left_open_inside_bone(found):
    mask = found.segments[0].mask
    assert np.array_equal(ndimage.binary_fill_holes(mask), mask)


def test_table_and_tumour_stay_out(phantom, found):
    mask = found.segments[0].mask
    assert not mask[:, 205:].any()
    assert np.count_nonzero(mask & phantom.tumour_mask) == 0


def test_a_clean_limb_is_marked_with_nothing_but_what_was_not_checked(found):
    assert codes(found) == {"NOT_CHECKED"}


def test_parameters_are_recorded_as_text(found):
    assert found.parameters["hysteresis_hu"] == "130 / 220"
    assert all(isinstance(value, str) for value in found.parameters.values())


def test_a_repeat_is_identical(pipeline, small):
    first, second = run(pipeline, small.volume), run(pipeline, small.volume)
    assert np.array_equal(first.segments[0].mask, second.segments[0].mask)
    assert (first.notices, first.parameters) == (second.notices, second.parameters)


def test_the_volume_is_left_as_it_was(pipeline, small):
    before = small.volume.array.copy()
    run(pipeline, small.volume)
    assert np.array_equal(before, small.volume.array)


def test_a_mirrored_limb_gives_the_mirrored_bone(pipeline, small):
    mirrored = run(pipeline, changed(small, small.volume.array[:, :, ::-1].copy()))
    assert dice(mirrored.segments[0].mask[:, :, ::-1], run(pipeline, small.volume).segments[0].mask) > 0.999


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((24, 128, 128), (5.0, 2.0, 2.0)), ((40, 300, 280), (3.0, 0.8, 0.8))]
)
def test_other_grids_are_segmented_as_well(pipeline, shape, spacing_mm):
    phantom = limb(shape, spacing_mm, seed=3)
    assert dice(run(pipeline, phantom.volume).segments[0].mask, phantom.bone_mask) > 0.94


def refusal(pipeline, volume):
    with pytest.raises(Unfit) as caught:
        run(pipeline, volume)
    return caught.value


def test_other_units_are_refused(pipeline, small):
    assert refusal(pipeline, replace(small.volume, unit="1")).fault is Fault.OUT_OF_RANGE


@pytest.mark.parametrize("stretch", [(1.3, 1.0, 1.0), (1.0, 1.6, 1.0), (1.0, 1.0, 1.6)])
def test_coarse_grids_are_refused(pipeline, small, stretch):
    affine = small.volume.grid.affine.copy()
    affine[:3, :3] *= stretch
    error = refusal(pipeline, Volume(small.volume.array, Grid(small.volume.grid.shape, affine), HOUNSFIELD_UNIT.value))
    assert error.fault is Fault.OUT_OF_RANGE
    assert "mm" in error.detail


def test_voxels_without_a_number_are_refused(pipeline, small):
    array = small.volume.array.copy()
    array[0, 0, 0] = np.nan
    assert "no number" in refusal(pipeline, changed(small, array)).detail


def test_a_missing_rescale_is_refused(pipeline, small):
    assert "not Hounsfield" in refusal(pipeline, changed(small, small.volume.array + 1024)).detail


def test_an_empty_field_is_refused(pipeline, small):
    assert "no body" in refusal(pipeline, changed(small, np.full_like(small.volume.array, -1000))).detail


def test_a_body_without_soft_tissue_is_refused(pipeline, small):
    array = np.where(small.volume.array > -300, small.volume.array + 100, small.volume.array)
    array[(array > -20) & (array < 100)] = 120
    assert "soft tissue" in refusal(pipeline, changed(small, array)).detail


def test_a_limb_without_bone_is_no_result(pipeline, small):
    around = ndimage.binary_dilation(small.bone_mask, iterations=2)
    assert refusal(pipeline, changed(small, np.where(around, 55, small.volume.array))).fault is Fault.NOTHING_FOUND


def test_a_head_is_refused(pipeline, small):
    grid = small.volume.grid
    points = grid.to_mm(np.argwhere(np.ones(grid.shape, bool)).astype(np.float64))
    radius = np.linalg.norm(points / (1.0, 1.0, 0.75), axis=1).reshape(grid.shape)
    noise = np.random.default_rng(1).normal(0, 8, grid.shape)
    array = np.select([radius < 65, radius < 72, radius < 78], [35, 900, -90], -1000) + noise
    error = refusal(pipeline, changed(small, array))
    assert error.fault is Fault.OUT_OF_RANGE
    assert "head" in error.detail


def test_metal_is_marked_and_marrow_beside_it_left_open(pipeline, small):
    array = small.volume.array.copy()
    array[14:17, 61:63, 68:70] = 3000
    results = run(pipeline, changed(small, array))
    assert "METAL" in codes(results)
    plain = run(pipeline, small.volume).segments[0].mask
    assert np.count_nonzero(results.segments[0].mask[15]) < np.count_nonzero(plain[15])


def test_much_noise_is_marked(pipeline, small):
    noise = np.random.default_rng(2).normal(0, 90, small.volume.array.shape)
    assert "NOISE" in codes(run(pipeline, changed(small, small.volume.array + noise)))


def test_bone_cut_by_the_side_of_the_images_is_marked(pipeline, small):
    grid = small.volume.grid
    half = Volume(small.volume.array[:, :, 70:], Grid((24, 128, 58), grid.affine), HOUNSFIELD_UNIT.value)
    assert "OPEN_MARROW" in codes(run(pipeline, half))


def test_thick_slices_are_marked(pipeline, small):
    assert "THICK_SLICES" in codes(run(pipeline, small.volume))


def test_a_field_without_air_is_marked_as_not_checked(pipeline, small):
    grid = small.volume.grid
    inner = Volume(small.volume.array[:, 42:86, 42:86], Grid((24, 44, 44), grid.affine), HOUNSFIELD_UNIT.value)
    assert any("HU of air" in notice.text for notice in run(pipeline, inner).notices)


def test_sarcoma_limbs_have_their_dense_bone_and_marrow_in_the_outline(pipeline, sarcoma):
    name, volume, tumour = sarcoma
    mask = run(pipeline, volume).segments[0].mask
    dense = ndimage.binary_opening(volume.array > 400)
    assert np.count_nonzero(mask & dense) > 0.95 * np.count_nonzero(dense)
    assert np.count_nonzero(mask & tumour) < 0.02 * np.count_nonzero(tumour)
    assert np.array_equal(ndimage.binary_fill_holes(mask), mask)
    if name == "knee_STS_042":
        shaft = mask[44:]
        assert all(np.array_equal(ndimage.binary_fill_holes(plane), plane) for plane in shaft)


def test_spine_agrees_with_its_labels(pipeline, sample_data, nifti):
    folder = sample_data / "ct_nifti_labelled"
    array, grid = nifti(folder / "ct.nii.gz")
    labels, _ = nifti(folder / "labels_totalseg.nii.gz")
    mask = run(pipeline, Volume(array, grid, HOUNSFIELD_UNIT.value)).segments[0].mask
    assert dice(mask, np.isin(labels, BONE_LABELS)) > 0.85
    assert mask[labels == SPINAL_CORD].mean() < 0.05


def test_abdomen_read_from_dicom_agrees_with_its_labels(pipeline, sample_data, nifti):
    volume = read_series(sample_data / "ct_abdomen_labelled" / "dicom")
    values, labelled = nifti(sample_data / "ct_abdomen_labelled" / "labels_totalseg.nii.gz")
    labels = resample(values, labelled, volume.grid, "nearest")
    mask = run(pipeline, volume).segments[0].mask
    assert dice(mask, np.isin(labels, BONE_LABELS)) > 0.68
    assert mask[labels == SPINAL_CORD].mean() < 0.05


def read_series(folder):
    images = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda i: i.ImagePositionPatient[2])
    hu = np.stack([i.pixel_array * float(i.RescaleSlope) + float(i.RescaleIntercept) for i in images])
    first, second = (np.array(i.ImagePositionPatient, np.float64) for i in images[:2])
    affine = np.eye(4)
    affine[:3, 0] = second - first
    affine[:3, 1] = np.array(images[0].ImageOrientationPatient[3:], np.float64) * images[0].PixelSpacing[0]
    affine[:3, 2] = np.array(images[0].ImageOrientationPatient[:3], np.float64) * images[0].PixelSpacing[1]
    affine[:3, 3] = first
    return Volume(hu.astype(np.float32), Grid(hu.shape, affine), HOUNSFIELD_UNIT.value)
