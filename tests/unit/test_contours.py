"""Contours become masks by the voxel-centre rule, and masks become contours that give them back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.transform import Rotation

from orchestrator.domain.contours import contours_of, drawn_slices, fill, fill_slice, outline
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Grid

masks = npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, max_side=9))


def grid(shape=(6, 40, 50), spacing_mm=(3.0, 0.8, 0.7), turn=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn).as_matrix()[:, ::-1] @ np.diag(spacing_mm)
    affine[:3, 3] = (-12.0, 40.0, 7.5)
    return Grid(shape, affine)


def at(grid, k, *corners):
    """A contour in LPS mm from (row, column) corners on slice k."""
    return grid.to_mm(np.array([(k, row, column) for row, column in corners], float))


def square(low, high):
    return np.array([(low, low), (high, low), (high, high), (low, high)], float)


@given(masks)
def test_the_outline_of_a_mask_filled_is_the_mask(mask):
    assert np.array_equal(fill_slice(outline(mask), mask.shape), mask)


@given(masks)
def test_outlines_are_closed_and_turn_at_every_corner(mask):
    for polygon in outline(mask):
        steps = np.diff(polygon, axis=0)
        assert np.array_equal(polygon[0], polygon[-1])
        assert np.all((steps == 0).sum(axis=1) == 1)
        turns = np.cross(np.pad(steps, ((0, 0), (0, 1))), np.pad(np.roll(steps, -1, axis=0), ((0, 0), (0, 1))))
        assert np.all(turns[:, 2] != 0)


def test_an_outline_runs_along_pixel_edges():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    (polygon,) = outline(mask)
    assert polygon.tolist() == [[1.5, 0.5], [4.5, 0.5], [4.5, 2.5], [1.5, 2.5], [1.5, 0.5]]


def test_a_hole_has_its_own_outline_and_pixels_touching_at_a_corner_theirs():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert len(outline(ring)) == 2
    assert len(outline(np.eye(3, dtype=bool))) == 3


def test_a_large_noisy_mask_is_outlined_quickly():
    mask = np.random.default_rng(0).random((256, 256)) > 0.5
    assert np.array_equal(fill_slice(outline(mask), mask.shape), mask)


@given(npst.arrays(np.bool_, (4, 7, 6)), st.tuples(*[st.floats(-math.pi, math.pi)] * 3))
def test_a_mask_comes_back_from_its_contours_in_any_direction(mask, turn):
    oblique = grid((4, 7, 6), turn=turn)
    contours = contours_of(mask, oblique)
    assert np.array_equal(fill(contours, oblique), mask)
    assert drawn_slices(contours, oblique) == tuple(np.flatnonzero(mask.any(axis=(1, 2))))


@given(
    npst.arrays(
        np.float64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.floats(-3, 12).map(lambda x: x + 0.01)
    )
)
def test_inside_is_even_odd_by_voxel_centres(polygon):
    filled = fill_slice([polygon], (10, 11))
    for row, column in np.ndindex(filled.shape):
        crossings = 0
        for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if (y1 < row) != (y2 < row):
                at_x = x1 + (row - y1) * (x2 - x1) / (y2 - y1)
                if abs(at_x - column) < 1e-9:
                    return
                crossings += at_x < column
        assert filled[row, column] == (crossings % 2 == 1)


def test_a_ring_of_two_contours_and_a_keyhole_leave_the_hole_open():
    ring = fill_slice([square(0.5, 8.5), square(3.5, 5.5)], (10, 10))
    around = [(0.5, 0.5), (8.5, 0.5), (8.5, 8.5), (0.5, 8.5), (0.5, 4.5)]
    hole = [(3.5, 4.5), (3.5, 5.5), (5.5, 5.5), (5.5, 3.5), (3.5, 3.5), (3.5, 4.5)]
    keyhole = np.array([*around, *hole, (0.5, 4.5)])
    assert ring.sum() == 64 - 4
    assert np.array_equal(fill_slice([keyhole], (10, 10)), ring)


def test_neighbours_that_share_an_edge_through_centres_share_no_voxel():
    left, right = fill_slice([square(1, 4)], (9, 9)), fill_slice([square(4, 7)], (9, 9))
    beside = fill_slice([np.add(square(1, 4), (3, 0))], (9, 9))
    assert left.sum() == right.sum() == beside.sum() == 9
    assert not (left & beside).any()


def test_a_contour_larger_than_the_image_is_cut_off_at_its_border():
    assert fill_slice([square(-1e5, 1e5)], (4, 5)).all()


def test_a_contour_fills_the_slice_it_lies_on():
    g = grid()
    mask = fill([at(g, 2, (1.5, 1.5), (1.5, 4.5), (6.5, 4.5), (6.5, 1.5))], g)
    assert mask.sum() == 15
    assert mask[2, 2:7, 2:5].all()


def test_contours_rounded_to_a_tenth_of_a_millimetre_find_their_slice():
    g = grid(spacing_mm=(0.63, 0.8, 0.7))
    contour = np.round(at(g, 3, (2.5, 2.5), (2.5, 9.5), (9.5, 9.5)), 1)
    assert drawn_slices([contour], g) == (3,)


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ([(2.5, 1, 1), (2.5, 1, 9), (2.5, 9, 9)], "between two slices"),
        ([(1, 1, 1), (2, 1, 9), (3, 9, 9)], "oblique"),
        ([(7, 1, 1), (7, 1, 9), (7, 9, 9)], "beyond the images"),
        ([(-1, 1, 1), (-1, 1, 9), (-1, 9, 9)], "beyond the images"),
        ([(1, 1, math.nan), (1, 1, 9), (1, 9, 9)], "no usable numbers"),
        ([(1, 1, 1e300), (1, 1, 9), (1, 9, 9)], "no usable numbers"),
    ],
)
def test_contours_that_lie_on_no_slice_are_refused(corners, reason):
    g = grid()
    with pytest.raises(Unfit, match=reason) as caught:
        fill([g.to_mm(np.array(corners, float))], g)
    assert caught.value.fault is Fault.REGION_UNUSABLE


def test_points_and_lines_enclose_nothing():
    g = grid()
    assert not fill([at(g, 1, (1, 1)), at(g, 1, (1, 1), (5, 5)), np.empty((0, 3))], g).any()
    assert fill_slice([], (3, 4)).shape == (3, 4)
