from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from workers.numeric import segmentation as seg

MASKS = hnp.arrays(bool, (5, 6, 7))
SPACING = (3.0, 1.0, 1.5)


def tube(outer, inner, length=10, size=40):
    """HU of a tube of bone along z with fat inside, muscle around."""
    y, x = np.ogrid[:size, :size]
    radius = np.hypot(y - size / 2 + 0.5, x - size / 2 + 0.5)
    plane = np.select([radius < inner, radius < outer], [-80.0, 1000.0], 50.0)
    return np.repeat(plane[None], length, axis=0).astype(np.float32)


def planes(sealed, hu, spacing_mm=(1.0, 1.0, 1.0), **settings_):
    return [seg.cavities(sealed, hu, spacing_mm, axis, **settings_) for axis in range(3)]


def test_ball_reaches_as_far_as_its_radius_along_each_axis():
    assert seg.ball(3.0, SPACING).shape == (3, 7, 5)
    assert seg.ball(2.0, SPACING).shape == (1, 5, 3)
    assert not seg.ball(3.0, (1.0, 1.0, 1.0))[0, 0, 0]


def test_box_of_nothing_is_the_whole_array():
    assert seg.box(np.zeros((2, 3, 4), bool)) == (slice(0, 2), slice(0, 3), slice(0, 4))


def test_box_is_tight_and_its_margin_stops_at_the_edge():
    mask = np.zeros((5, 6, 7), bool)
    mask[0, 3, 2:4] = True
    assert seg.box(mask) == (slice(0, 1), slice(3, 4), slice(2, 4))
    assert seg.box(mask, 1) == (slice(0, 2), slice(2, 5), slice(1, 5))


@settings(max_examples=50)
@given(MASKS, st.floats(0.5, 5))
def test_within_is_euclidean_distance_in_mm(mask, distance_mm):
    near = seg.within(mask, distance_mm, SPACING)
    points = np.argwhere(mask) * SPACING
    every = np.argwhere(np.ones(mask.shape, bool)) * SPACING
    if not len(points):
        assert not near.any()
        return
    distances = np.linalg.norm(every[:, None] - points[None], axis=-1).min(axis=1)
    expected = (distances <= distance_mm + 1e-6).reshape(mask.shape)
    assert np.array_equal(near, expected)


@settings(max_examples=50)
@given(MASKS, st.floats(0.5, 5))
def test_closing_only_adds_and_only_nearby(mask, radius_mm):
    closed = seg.closed(mask, radius_mm, SPACING)
    assert np.all(closed[mask])
    assert np.all(seg.within(mask, radius_mm, SPACING)[closed])


def test_closing_bridges_gaps_up_to_twice_its_radius():
    mask = np.zeros((1, 9, 21), bool)
    mask[:, :, :8] = mask[:, :, 12:] = True
    assert seg.closed(mask, 2.5, (1.0, 1.0, 1.0))[0, 4].all()
    assert not seg.closed(mask, 1.5, (1.0, 1.0, 1.0))[0, 4].all()


def test_small_parts_go_and_large_ones_stay():
    mask = np.zeros((10, 10, 20), bool)
    mask[1, 1, 1] = True
    mask[3:9, 3:9, 5:15] = True
    large = mask.copy()
    large[1, 1, 1] = False
    assert np.array_equal(seg.without_small(mask, 0.3, (1.0, 1.0, 1.0)), large)


def test_table_and_clothes_are_no_body_and_enclosed_gas_is():
    hu = np.full((6, 100, 100), -1000.0, np.float32)
    y, x = np.ogrid[:100, :100]
    limb = np.hypot(y - 40, x - 50) < 34
    hu[:, limb] = 40
    hu[:, np.hypot(y - 40, x - 50) < 4] = -900
    hu[:, 76:80] = 0
    hu[:, 74:76, 50] = 0
    body = seg.body(hu, (3.0, 1.0, 1.0))
    assert body[:, 40, 50].all()
    assert not body[:, 76:].any()
    assert np.count_nonzero(body[0]) == pytest.approx(np.count_nonzero(limb), rel=0.02)


def test_field_filled_with_body_is_body():
    assert seg.body(np.full((3, 9, 9), 40, np.float32), (3.0, 1.0, 1.0)).all()


def test_field_of_air_holds_no_body():
    assert not seg.body(np.full((3, 9, 9), -1000, np.float32), (3.0, 1.0, 1.0)).any()


def test_hysteresis_keeps_what_holds_enough_dense_voxels():
    hu = np.zeros((4, 10, 30), np.float32)
    hu[1:3, 2:8, 2:10] = hu[1:3, 2:8, 20:28] = 180
    hu[1, 4, 4:8] = 400
    hu[1, 4, 22] = 400
    inside = np.ones(hu.shape, bool)
    kept = seg.hysteresis(hu, inside, (1.0, 1.0, 1.0), low_hu=130, high_hu=220, least_dense_ml=0.003)
    assert np.array_equal(kept, (hu > 130) & (np.arange(30) < 15))
    assert not seg.hysteresis(hu, ~inside, (1.0, 1.0, 1.0), low_hu=130, high_hu=220, least_dense_ml=0.003).any()


def test_fatty_marrow_of_an_open_shaft_is_filled():
    hu = tube(12, 8)
    assert np.array_equal(seg.marrow(planes(hu > 500, hu)), hu == -80)


def test_canal_open_along_its_axis_stays_open():
    hu = tube(12, 8)
    hu[hu == -80] = 25
    assert not seg.marrow(planes(hu > 500, hu)).any()


def test_cavity_closed_on_all_sides_is_filled_whatever_it_holds():
    hu = tube(12, 8)
    hu[hu == -80] = 25
    hu[0, hu[5] == 25] = hu[-1, hu[5] == 25] = 1000
    assert np.array_equal(seg.marrow(planes(hu > 500, hu)), hu == 25)


def test_speck_of_soft_tissue_is_filled():
    hu = tube(12, 2)
    hu[hu == -80] = 25
    assert np.array_equal(seg.marrow(planes(hu > 500, hu), speck_mm2=20.0), hu == 25)


def test_blur_of_the_cortex_does_not_hide_fatty_marrow():
    hu = tube(9, 4)
    inside = hu[0] == -80
    hu[:, inside & ~ndimage.binary_erosion(inside)] = 120
    (across, *_), sealed = planes(hu > 500, hu), hu > 500
    assert across.mean_hu[1] > -15
    assert np.array_equal(seg.marrow(planes(sealed, hu)), np.broadcast_to(inside, hu.shape))


def test_wide_cavity_stays_open_and_counts_by_its_density():
    hu = tube(38, 34, size=90)
    hu[hu == -80] = 30
    found = planes(hu > 500, hu)
    assert not seg.marrow(found).any()
    volume_ml = np.count_nonzero(hu == 30) / 1000
    assert seg.wide_cavity_ml(found, (1.0, 1.0, 1.0), between_hu=(10, 70)) == pytest.approx(volume_ml)
    assert seg.wide_cavity_ml(found, (1.0, 1.0, 1.0), between_hu=(40, 70)) == 0.0


def test_mask_without_cavities_has_none():
    hu = np.zeros((3, 4, 5), np.float32)
    assert not seg.marrow(planes(np.zeros(hu.shape, bool), hu)).any()
    assert not seg.marrow(planes(np.ones(hu.shape, bool), hu)).any()


def test_only_small_cavities_closed_on_all_sides_are_found():
    mask = np.ones((20, 20, 20), bool)
    mask[3:5, 3:5, 3:5] = mask[6, 6, 6] = mask[7, 6, 7] = False
    small = ~mask
    mask[:, 10, 10] = mask[12:18, 12:18, 12:18] = False
    assert np.array_equal(seg.small_cavities(mask, 0.1, (1.0, 1.0, 1.0)), small)


@pytest.mark.parametrize("filled", [True, False])
def test_a_full_and_an_empty_mask_have_no_small_cavities(filled):
    assert not seg.small_cavities(np.full((3, 4, 5), filled), 1.0, SPACING).any()


@pytest.mark.parametrize("sd_hu", [10.0, 70.0])
def test_noise_is_measured_in_soft_tissue(sd_hu):
    hu = 50 + np.random.default_rng(1).normal(0, sd_hu, (20, 80, 80)).astype(np.float32)
    assert seg.noise_sd(hu, (3.0, 1.0, 1.0)) == pytest.approx(sd_hu, rel=0.2)


def test_noise_is_unknown_without_soft_tissue():
    assert seg.noise_sd(np.full((5, 30, 30), -1000, np.float32), (3.0, 1.0, 1.0)) is None


def test_blur_around_a_dense_edge_is_trimmed_to_half_height():
    sharp = np.full((5, 30, 30), 50.0)
    sharp[:, 10:20, 10:20] = 1250
    hu = ndimage.gaussian_filter(sharp, (0, 0.8, 0.8)).astype(np.float32)
    wide = hu > 130
    trimmed = seg.at_half_height(wide, hu, (3.0, 1.0, 1.0), least_hu=130)
    assert np.count_nonzero(wide[2]) > 130
    assert np.count_nonzero(trimmed[2]) == pytest.approx(100, abs=4)


def test_sparse_bone_under_a_thin_dense_shell_stays():
    hu = np.full((9, 20, 20), 50.0, np.float32)
    hu[:, 4:16, 4:16] = 900
    hu[:, 5:15, 5:15] = 150
    whole = hu > 100
    assert np.array_equal(seg.at_half_height(whole, hu, (1.0, 1.0, 1.0), least_hu=130), whole)


@pytest.mark.parametrize("filled", [True, False])
def test_trimming_all_or_nothing_changes_nothing(filled):
    mask = np.full((3, 4, 5), filled)
    assert np.array_equal(seg.at_half_height(mask, np.zeros(mask.shape, np.float32), SPACING, least_hu=130), mask)
