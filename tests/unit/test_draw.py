from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from orchestrator.domain.geometry import Grid, Volume
from orchestrator.domain.result import Results
from orchestrator.picture import draw
from orchestrator.picture.view import canonical, leading, views, window_for
from tests.synthetic import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    SPACING_MM,
    bone_segment,
    grid_of,
    limb,
    lump_segment,
    request_on,
    results_of,
    write_series,
)

if TYPE_CHECKING:
    from pathlib import Path

ARRAY, BONE, LUMP = limb()
SEGMENTS = (bone_segment(BONE), lump_segment(LUMP))
RED = np.array((235, 80, 70))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_series(tmp_path_factory.mktemp("source"))


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def test_one_picture_named_after_the_pipeline(paths: list[str]) -> None:
    (built,) = draw.build(request_on(paths, results_of(*SEGMENTS)))
    assert (built.kind, built.name) == ("picture", "virtual_biopsy.png")
    picture = opened(built.data)
    assert (picture.format, picture.mode, picture.width) == ("PNG", "RGB", draw.WIDTH)
    assert not picture.info


def test_equal_requests_give_equal_bytes(paths: list[str]) -> None:
    first, again = (draw.build(request_on(paths, results_of(*SEGMENTS)))[0].data for _ in range(2))
    assert first == again


def test_nothing_outlined_gives_no_picture(paths: list[str]) -> None:
    assert draw.build(request_on(paths, Results())) == []
    assert draw.build(request_on(paths, results_of(lump_segment(np.zeros_like(LUMP))))) == []


def test_a_patient_leaves_no_trace(tmp_path: Path, paths: list[str]) -> None:
    other = write_series(tmp_path, PatientName="Completely^Other", PatientID="77", StudyDescription="X")
    named, renamed = (draw.build(request_on(p, results_of(*SEGMENTS)))[0].data for p in (paths, other))
    assert named == renamed


def reddish(picture: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(picture, int) - RED).max(axis=-1) < 40


def test_outline_runs_where_the_region_ends(paths: list[str]) -> None:
    request = request_on(paths, results_of(lump_segment(LUMP)))
    picture = opened(draw.build(request)[0].data)
    planes = views(request.volume, request.results.segments)
    for plane, place in zip(planes, draw.placements(planes), strict=True):
        box = (place.left, place.top, place.left + place.width, place.top + place.height)
        found = np.argwhere(reddish(picture.crop(box)))
        rows, columns = np.nonzero(plane.masks[0])
        high, wide = place.height / plane.image.shape[0], place.width / plane.image.shape[1]
        expected = (rows.min() * high, (rows.max() + 1) * high, columns.min() * wide, (columns.max() + 1) * wide)
        drawn_at = (found[:, 0].min(), found[:, 0].max(), found[:, 1].min(), found[:, 1].max())
        np.testing.assert_allclose(drawn_at, expected, atol=draw.LINE + 1)


def test_words_stay_off_the_anatomy(paths: list[str]) -> None:
    """In a test every word changes; the boxes of the images stay as they are."""
    results = results_of(lump_segment(LUMP))
    plain = request_on(paths, results, title="A")
    wordy = request_on(paths, results, title="A title that is very long " * 3, environment="test", pipeline="other")
    one, other = opened(draw.build(plain)[0].data), opened(draw.build(wordy)[0].data)
    for place in draw.placements(views(plain.volume, results.segments)):
        box = (place.left, place.top, place.left + place.width, place.top + place.height)
        assert one.crop(box).tobytes() == other.crop(box).tobytes()
    assert one.tobytes() != other.tobytes()


def test_proportions_are_those_of_the_body(paths: list[str]) -> None:
    request = request_on(paths, results_of(*SEGMENTS))
    planes = views(request.volume, request.results.segments)
    placed = draw.placements(planes)
    assert len({p.per_mm for p in placed}) == 1
    sizes_mm = [n * step for n, step in zip(ARRAY.shape, SPACING_MM, strict=True)]
    z, y, x = (size * placed[0].per_mm for size in sizes_mm)
    assert [(p.height, p.width) for p in placed] == [
        (round(y), round(x)),
        (round(z), round(x)),
        (round(z), round(y)),
    ]
    assert all(p.width <= draw.PANEL >= p.height for p in placed)


LETTERS = [("R", "L", "A", "P"), ("R", "L", "H", "F"), ("A", "P", "H", "F")]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
def test_planes_read_the_same_whatever_the_scan_direction(orientation: tuple[float, ...]) -> None:
    planes = views(Volume(ARRAY, grid_of(orientation), "[hnsf'U]"), SEGMENTS)
    assert [p.name for p in planes] == ["axial", "coronal", "sagittal"]
    assert [p.letters for p in planes] == LETTERS


def test_a_tilted_scan_is_called_oblique() -> None:
    planes = views(Volume(ARRAY, grid_of(OBLIQUE), "[hnsf'U]"), SEGMENTS)
    assert {p.name for p in planes} >= {"oblique axial", "oblique coronal"}
    turned = canonical(grid_of((0.8, 0.6, 0.0, -0.6, 0.8, 0.0)))
    np.testing.assert_allclose(turned.steps_mm[2] / SPACING_MM[2], (0.8, 0.6, 0.0))


def test_a_direction_between_two_sides_carries_both_letters() -> None:
    volume = Volume(ARRAY, grid_of((0.8, 0.6, 0.0, -0.6, 0.8, 0.0)), "[hnsf'U]")
    axial = views(volume, SEGMENTS)[0]
    assert axial.letters == ("RA", "LP", "AL", "PR")


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
def test_a_mark_put_on_a_side_of_the_body_shows_on_that_side(
    order: list[int], signs: tuple[float, float, float]
) -> None:
    """Grids of every axis order and direction: the voxel farthest to head, back and left lands where they are."""
    affine = np.zeros((4, 4))
    for axis, world in enumerate(order):
        affine[world, axis] = signs[axis]
    affine[3, 3] = 1.0
    grid = Grid((7, 7, 7), affine)
    centre = grid.to_mm(np.array([[3.0, 3.0, 3.0]]))[0]
    index = np.rint(grid.to_index((centre + 3.0)[None])[0]).astype(int)
    marked = np.zeros((7, 7, 7), np.float32)
    marked[tuple(index)] = 1.0
    turned = canonical(grid).turn(marked)
    assert turned[6, 6, 6] == 1.0


def test_the_picture_is_about_the_abnormal_segment() -> None:
    assert leading(SEGMENTS).label == "Lump"
    assert leading(SEGMENTS[:1]).label == "Tibia"


def test_planes_show_the_leading_segment_at_its_largest() -> None:
    axial = views(Volume(ARRAY, grid_of(AXIAL), "[hnsf'U]"), SEGMENTS)[0]
    assert axial.masks[1].sum() == LUMP.sum(axis=(1, 2)).max()
    assert LUMP[axial.index].sum() == LUMP.sum(axis=(1, 2)).max()


def test_a_segment_that_grows_towards_the_end_of_the_stack_is_not_shown_at_its_last_plane() -> None:
    growing = np.zeros_like(LUMP)
    for k in range(growing.shape[0]):
        growing[k, 10 : 12 + k, 10:20] = True
    axial = views(Volume(ARRAY, grid_of(AXIAL), "[hnsf'U]"), [lump_segment(growing)])[0]
    assert axial.index == growing.shape[0] - 2


def test_a_large_field_is_cut_to_the_region_with_room_around_it() -> None:
    mask = np.zeros((4, 400, 300), bool)
    mask[1:3, 300:320, 20:40] = True
    grid = Grid(mask.shape, np.diag((1.0, 1.0, 3.0, 1.0))[:, [2, 1, 0, 3]])
    axial = views(Volume(np.zeros(mask.shape, np.float32), grid, "[hnsf'U]"), [lump_segment(mask)])[0]
    assert axial.image.shape == (120, 120)
    assert axial.masks[0].sum() == 400


def test_window_follows_what_is_shown() -> None:
    volume = Volume(ARRAY, grid_of(AXIAL), "[hnsf'U]")
    assert window_for(volume, SEGMENTS[0]).width == 1800
    assert window_for(volume, SEGMENTS[1]).width == 400
    other = window_for(replace(volume, unit="1"), SEGMENTS[0])
    assert other.width == pytest.approx(np.ptp(np.percentile(ARRAY, (1, 99))))
