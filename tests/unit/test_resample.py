from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.geometry import Grid
from workers.numeric.resample import coarser, resample, resample_mask

TURN = np.array([[0.0, 0.6, 0.8], [0.0, -0.8, 0.6], [1.0, 0.0, 0.0]])


def grid(shape, spacing_mm, origin_mm=(10.0, -20.0, 30.0)):
    affine = np.eye(4)
    affine[:3, :3] = TURN * spacing_mm
    affine[:3, 3] = origin_mm
    return Grid(shape, affine)


def places_mm(on):
    """LPS mm of every voxel centre, (z, y, x, 3)."""
    return on.to_mm(np.argwhere(np.ones(on.shape, bool)).astype(np.float64)).reshape(*on.shape, 3)


def ramp(on):
    return (places_mm(on) @ (1.0, -2.0, 0.5)).astype(np.float32)


def corners_mm(on):
    """Outer faces of the field: half a voxel beyond the first and last centres."""
    return on.to_mm(np.array([[-0.5] * 3, np.array(on.shape) - 0.5]))


def test_fine_axes_become_coarse_and_coarse_ones_stay():
    result = coarser(grid((50, 162, 134), (3.27, 0.977, 0.977)), 1.5)
    assert result.shape == (50, 105, 87)
    assert result.spacing_mm[0] == pytest.approx(3.27)
    assert min(result.spacing_mm) >= 1.5


@given(st.tuples(*[st.integers(1, 40)] * 3), st.tuples(*[st.floats(0.3, 4.0)] * 3), st.floats(0.5, 3.0))
def test_coarser_grid_covers_the_same_field(shape, spacing_mm, least_mm):
    source = grid(shape, spacing_mm)
    result = coarser(source, least_mm)
    assert np.allclose(corners_mm(result), corners_mm(source), atol=1e-6)
    for n, count, step, new in zip(shape, result.shape, spacing_mm, result.spacing_mm, strict=True):
        assert count <= n
        assert new >= min(least_mm, step * n) - 1e-6
        assert step < least_mm or count == n


def test_linear_ramp_is_exact_at_voxel_centres():
    source = grid((12, 30, 26), (2.0, 0.7, 0.9))
    target = coarser(source, 1.6)
    assert np.allclose(resample(ramp(source), source, target), ramp(target), atol=1e-3)


def test_grids_at_an_angle_are_related_by_their_affines():
    source = grid((20, 20, 20), (1.0, 1.0, 1.0))
    affine = np.eye(4)
    affine[:3, 3] = source.to_mm(np.array([[9.0, 9.0, 9.0]]))[0]
    target = Grid((3, 3, 3), affine)
    assert np.allclose(resample(ramp(source), source, target), ramp(target), atol=1e-3)


def test_nearest_keeps_labels():
    source = grid((6, 20, 20), (2.0, 0.7, 0.7))
    labels = np.random.default_rng(1).integers(0, 9, source.shape).astype(np.float32)
    found = resample(labels, source, coarser(source, 1.5), "nearest")
    assert set(np.unique(found)) <= set(range(9))


def test_same_grid_gives_the_same_values():
    source = grid((4, 5, 6), (1.0, 1.0, 1.0))
    values = np.random.default_rng(2).normal(size=source.shape).astype(np.float32)
    assert np.array_equal(resample(values, source, source), values)


def test_beyond_the_field_the_edge_goes_on():
    source = grid((3, 3, 3), (1.0, 1.0, 1.0))
    further = Grid((3, 3, 9), source.affine)
    found = resample(ramp(source), source, further)
    assert np.array_equal(found[:, :, 3:], np.broadcast_to(found[:, :, 2:3], (3, 3, 6)))


def test_mask_there_and_back_is_nearly_the_same():
    source = grid((30, 80, 80), (1.0, 0.8, 0.8))
    ball = np.linalg.norm(places_mm(source) - places_mm(source).mean(axis=(0, 1, 2)), axis=-1) < 12
    target = coarser(source, 1.5)
    back = resample_mask(resample_mask(ball, source, target), target, source)
    assert 2 * np.count_nonzero(ball & back) / (ball.sum() + back.sum()) > 0.95


def test_mirrored_values_give_the_mirrored_result():
    source = grid((8, 31, 29), (1.0, 0.8, 0.8))
    values = np.random.default_rng(3).normal(size=source.shape).astype(np.float32)
    target = coarser(source, 1.5)
    straight = resample(values, source, target)
    mirrored = resample(values[:, :, ::-1], source, target)
    assert np.allclose(mirrored[:, :, ::-1], straight, atol=1e-5)
