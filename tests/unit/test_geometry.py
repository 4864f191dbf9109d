"""Images become a stack only where they form a regular one, whatever its direction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Layout, Plane, Stack, arrange, lay_out, obliquity_deg, plane_name

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
START = np.array([-120.0, 30.0, -800.0])


def normal_of(orientation):
    return np.cross(orientation[:3], orientation[3:])


def stack(count=10, step_mm=2.5, orientation=AXIAL, shift_mm=(0.0, 0.0, 0.0), spacing_mm=(0.8, 0.7)):
    """Planes in slice order; `shift_mm` moves each slice against the last within its plane, as a tilted gantry does."""
    step = np.array(normal_of(orientation)) * step_mm + np.array(shift_mm)
    return [
        Plane(f"1.{k}", tuple(START + k * step), orientation, spacing_mm, 64, 48, instance_number=k + 1)
        for k in range(count)
    ]


def moved(plane, by_mm):
    return replace(plane, position=tuple(np.add(plane.position, by_mm)))


def unfit(planes):
    with pytest.raises(Unfit) as caught:
        arrange(planes)
    return caught.value


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL])
def test_voxels_lie_where_the_headers_say_in_any_direction(orientation):
    planes = stack(orientation=orientation)
    grid = arrange(planes[::-1]).grid
    k, j, i = 7, 5, 11
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    expected = np.array(planes[k].position) + j * 0.8 * column + i * 0.7 * row
    assert grid.shape == (10, 64, 48)
    assert np.allclose(grid.to_mm(np.array([[k, j, i]], float)), expected, atol=1e-9)
    assert np.allclose(grid.spacing_mm, (2.5, 0.8, 0.7))
    assert np.linalg.det(grid.affine[:3, :3]) < 0


@given(
    turn=st.tuples(*[st.floats(-math.pi, math.pi)] * 3),
    order=st.permutations(range(12)),
    step_mm=st.floats(0.4, 10),
)
def test_any_oblique_stack_in_any_order_is_arranged(turn, order, step_mm):
    ways = Rotation.from_euler("xyz", turn).as_matrix()
    planes = stack(12, step_mm, tuple(ways[:, :2].T.ravel()))
    arranged = arrange([planes[k] for k in order])
    assert arranged.uids == tuple(p.uid for p in planes)
    assert arranged.grid.spacing_mm[0] == pytest.approx(step_mm, rel=1e-6)


@given(seed=st.integers(0, 2**32 - 1), step_mm=st.floats(0.5, 5), turn=st.floats(-1, 1))
def test_positions_rounded_to_a_tenth_of_a_millimetre_pass(seed, step_mm, turn):
    ways = Rotation.from_euler("xyz", (turn, turn / 2, seed % 7)).as_matrix()
    planes = stack(40, step_mm, tuple(ways[:, :2].T.ravel()))
    rounded = [replace(p, position=tuple(np.round(p.position, 1))) for p in planes]
    grid = arrange(rounded).grid
    assert grid.spacing_mm[0] == pytest.approx(step_mm, abs=0.01)


def test_a_tilted_gantry_is_refused_with_its_angle():
    fault = unfit(stack(12, step_mm=2.37, shift_mm=(0.0, 2.37 * math.tan(math.radians(18.5)), 0.0)))
    assert fault.fault is Fault.GANTRY_TILT
    assert "18.5 degrees" in fault.detail


def test_a_tilt_too_small_to_move_a_pixel_is_no_tilt():
    assert arrange(stack(100, 1.0, shift_mm=(0.0, 0.0005, 0.0))).grid.shape[0] == 100


def test_images_that_jump_sideways_are_uneven_not_tilted():
    planes = stack()
    planes[4] = moved(planes[4], (6.0, 0.0, 0.0))
    assert unfit(planes).fault is Fault.UNEVEN_SLICES


def test_missing_slices_are_counted_and_placed():
    planes = stack(20)
    fault = unfit(planes[:5] + planes[7:15] + planes[16:])
    assert fault.fault is Fault.MISSING_SLICES
    assert fault.detail == "3 slices are missing beside the 17 present: 2 after slice 5, 1 after slice 13"


def test_a_step_that_changes_along_the_stack_is_uneven_not_missing():
    planes = stack(40, 2.5)
    assert unfit(planes[:20] + planes[20::2]).fault is Fault.MISSING_SLICES
    fault = unfit(planes[:10] + planes[10::2])
    assert fault.fault is Fault.UNEVEN_SLICES
    assert "2.50 to 5.00 mm" in fault.detail


def test_one_slice_off_by_more_than_rounding_is_uneven():
    planes = stack(step_mm=2.0)
    planes[3] = moved(planes[3], (0.0, 0.0, 0.5))
    assert unfit(planes).fault is Fault.UNEVEN_SLICES


def test_two_reconstructions_in_one_series_are_duplicates():
    planes = stack()
    fault = unfit(planes + [replace(p, uid=p.uid + ".9") for p in planes])
    assert fault.fault is Fault.DUPLICATE_SLICES
    assert "10 of 20" in fault.detail


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_images_are_no_volume(count):
    assert unfit(stack(count)).fault is Fault.NOT_A_VOLUME


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_localizer": True}, "localizer"),
        ({"is_monochrome": False}, "colour page"),
        ({"is_multi_frame": True}, "multi-frame"),
        ({"position": None}, "no position"),
        ({"orientation": None}, "no position or orientation"),
        ({"spacing_mm": None}, "no pixel spacing"),
        ({"spacing_mm": (0.0, 0.7)}, "no pixel spacing"),
        ({"rows": 0}, "no rows"),
        ({"rows": 512}, "another size"),
        ({"orientation": CORONAL}, "another orientation"),
        ({"spacing_mm": (0.9, 0.9)}, "another pixel spacing"),
        ({"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)}, "not perpendicular"),
        ({"orientation": (0.0,) * 6}, "not perpendicular"),
        ({"position": (math.nan, 0.0, 0.0)}, "not a usable number"),
        ({"position": (1e300, 0.0, 0.0)}, "not a usable number"),
        ({"orientation": (math.inf, 0.0, 0.0, 0.0, 1.0, 0.0)}, "not a usable number"),
    ],
)
def test_what_is_no_slice_of_the_stack_is_left_out_with_a_reason(change, reason):
    odd = replace(stack()[3], uid="9.9", **change)
    arranged = arrange([odd, *stack()])
    assert reason in arranged.left_out["9.9"]
    assert len(arranged.uids) == 10


def test_the_largest_group_is_the_stack():
    small = [replace(p, uid=f"2.{p.uid}", rows=32) for p in stack(4)]
    arranged = arrange(small + stack(9))
    assert set(arranged.left_out) == {p.uid for p in small}


finite = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(
    st.lists(
        st.builds(
            Plane,
            uid=st.text(max_size=4),
            position=st.none() | st.tuples(finite, finite, finite),
            orientation=st.sampled_from([None, AXIAL, SAGITTAL]) | st.tuples(*[finite] * 6),
            spacing_mm=st.none() | st.tuples(finite, finite),
            rows=st.integers(-1, 3),
            columns=st.integers(-1, 3),
        ),
        max_size=8,
    )
)
def test_whatever_headers_hold_there_is_a_stack_or_a_reason(planes):
    try:
        arranged = arrange(planes)
    except Unfit:
        return
    assert len(arranged.uids) >= 3
    assert np.isfinite(arranged.grid.affine).all()


# how images lie that form no stack


def test_a_stack_says_how_it_lies():
    layout, arranged = lay_out(stack(20, 2.5))
    assert layout == Layout(20, pytest.approx(2.5), 0, 0.0)
    assert isinstance(arranged, Stack)


def test_what_is_missing_is_counted_beside_the_reason():
    planes = stack(20)
    layout, reason = lay_out(planes[:5] + planes[7:])
    assert layout == Layout(18, None, 2, 0.0)
    assert isinstance(reason, Unfit)


def test_a_tilted_gantry_shows_as_shear():
    shift_mm = (0.0, 2.37 * math.tan(math.radians(18.5)), 0.0)
    assert lay_out(stack(12, 2.37, shift_mm=shift_mm))[0] == Layout(12, None, 0, pytest.approx(18.5))


def test_what_shows_no_order_is_not_said():
    planes = stack(12, 2.0)
    assert lay_out(planes[:2])[0] == Layout(2)
    assert lay_out(planes + planes)[0] == Layout(24)
    assert lay_out([])[0] == Layout(0)
    assert lay_out([*planes[:5], moved(planes[5], (0, 0, 0.7)), *planes[6:]])[0] == Layout(12, None, None, 0.0)
    assert lay_out([*planes[:5], moved(planes[5], (6, 0, 0)), *planes[6:]])[0] == Layout(12, None, 0, None)


def turned_about_x(orientation, degrees):
    turn = Rotation.from_euler("x", degrees, degrees=True)
    return (*turn.apply(orientation[:3]), *turn.apply(orientation[3:]))


@pytest.mark.parametrize(
    ("orientation", "name", "angle_deg"),
    [
        (AXIAL, "AXIAL", 0),
        (SAGITTAL, "SAGITTAL", 0),
        (CORONAL, "CORONAL", 0),
        ((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), "AXIAL", 0),
        (turned_about_x(AXIAL, 18.5), "AXIAL", 18.5),
        (turned_about_x(AXIAL, -36), "AXIAL", 36),
        (turned_about_x(AXIAL, 45), "OBLIQUE", 45),
        (turned_about_x(AXIAL, 60), "CORONAL", 30),
        (turned_about_x(SAGITTAL, 77), "SAGITTAL", 0),
        ((0.0,) * 6, None, None),
        ((1.0, 0.0, 0.0, 1.0, 0.0, 0.0), None, None),
        ((math.nan,) * 6, None, None),
        ((math.inf, 0.0, 0.0, 0.0, 1.0, 0.0), None, None),
    ],
)
def test_planes_are_named_as_a_radiologist_names_them(orientation, name, angle_deg):
    assert plane_name(orientation) == name
    found = obliquity_deg(orientation)
    assert found is None if angle_deg is None else found == pytest.approx(angle_deg, abs=1e-5)
