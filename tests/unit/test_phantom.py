from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.contours import fill
from workers.numeric.phantom import limb


@pytest.fixture(scope="module")
def phantom():
    return limb()


def test_limb_has_the_shape_and_spacing_asked_for(phantom):
    assert phantom.volume.array.shape == (120, 256, 256)
    assert phantom.volume.grid.spacing_mm == (1.0, 1.0, 1.0)
    assert (phantom.volume.unit, phantom.volume.array.dtype) == (HOUNSFIELD_UNIT.value, np.float32)


def test_slices_rise_from_feet_to_head_and_columns_to_the_left(phantom):
    affine = phantom.volume.grid.affine
    assert np.array_equal(affine[:3, :3], np.eye(3)[:, ::-1])


def test_equal_seeds_give_equal_studies_and_others_differ():
    small = (8, 64, 64), (5.0, 4.0, 4.0)
    one, same, other = limb(*small, seed=1), limb(*small, seed=1), limb(*small, seed=2)
    assert np.array_equal(one.volume.array, same.volume.array)
    assert not np.array_equal(one.volume.array, other.volume.array)
    assert np.array_equal(one.bone_mask, other.bone_mask)


def test_tissues_have_their_hounsfield_units(phantom):
    hu, bone, tumour = phantom.volume.array, phantom.bone_mask, phantom.tumour_mask
    assert hu[:, :10].mean() == pytest.approx(-1000, abs=5)
    assert np.percentile(hu[bone], 98) == pytest.approx(1350, abs=100)
    assert hu[tumour].mean() == pytest.approx(34, abs=2)
    marrow = ndimage.binary_erosion(bone[80:], iterations=8)
    assert hu[80:][marrow].mean() == pytest.approx(-82, abs=15)
    spongy = ndimage.binary_erosion(bone[:8], np.ones((1, 3, 3)), iterations=8)
    assert hu[:8][spongy].mean() > 150


def test_noise_is_about_fifteen_hounsfield_units(phantom):
    assert phantom.volume.array[:, :30, :30].clip(-1020).std() == pytest.approx(14, abs=2)


def test_values_are_whole_numbers_that_a_scanner_could_store(phantom):
    hu = phantom.volume.array
    assert np.array_equal(hu, np.rint(hu))
    assert -1024 <= hu.min() < hu.max() <= 3071


def test_shaft_widens_into_the_metaphysis(phantom):
    areas = phantom.bone_mask.sum(axis=(1, 2))
    assert areas[0] > 3 * areas[-1]
    assert np.all(np.diff(areas.astype(int)) <= 8)


def test_tumour_lies_beside_the_bone_and_inside_the_limb(phantom):
    assert not (phantom.bone_mask & phantom.tumour_mask).any()
    assert ndimage.label(phantom.tumour_mask)[1] == 1
    assert ndimage.distance_transform_edt(~phantom.bone_mask)[phantom.tumour_mask].min() < 12
    around = ndimage.binary_dilation(phantom.tumour_mask, iterations=3)
    assert phantom.volume.array[around].min() > -300


def test_contours_are_planar_and_give_the_tumour_mask_back(phantom):
    contours = phantom.tumour_contours
    assert all(contour.shape[1] == 3 and np.ptp(contour[:, 2]) == 0 for contour in contours)
    assert len(contours) == np.count_nonzero(phantom.tumour_mask.any(axis=(1, 2)))
    assert np.array_equal(fill(contours, phantom.volume.grid), phantom.tumour_mask)


def test_contours_fit_other_grids_as_well():
    phantom = limb((40, 150, 140), (3.0, 0.9, 0.9))
    assert np.array_equal(fill(phantom.tumour_contours, phantom.volume.grid), phantom.tumour_mask)


def test_size_of_the_tumour_does_not_depend_on_the_grid(phantom):
    coarse = limb((60, 128, 128), (2.0, 2.0, 2.0))
    volumes = [np.count_nonzero(p.tumour_mask) * p.volume.grid.voxel_ml for p in (phantom, coarse)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
    assert 30 < volumes[0] < 60
