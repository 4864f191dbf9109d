"""Three planes of a volume as a person reads them: oriented, windowed, cut to what matters, in true proportions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.domain.report import is_hounsfield

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from orchestrator.domain.geometry import Grid, Volume
    from orchestrator.domain.result import Segment

LEAST_FIELD_MM = 120.0
FIELD_PER_REGION = 1.6
ENDS_LEFT_ASIDE = 8
OBLIQUE_COSINE = 0.35
BONE_WINDOW = (400.0, 1800.0)
SOFT_TISSUE_WINDOW = (50.0, 400.0)
_NAMES = ("axial", "coronal", "sagittal")
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))


@dataclass(frozen=True, slots=True)
class Window:
    """Display window: centre and width in the volume's unit."""

    centre: float
    width: float


@dataclass(frozen=True, slots=True, eq=False)
class Canonical:
    """The volume turned, without copying, so that its axes run towards head, back and left (H, P, L).

    `steps_mm` are LPS vectors of one voxel along those axes; `turn` is how an array (z, y, x) on the grid is turned.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    steps_mm: NDArray[np.float64]

    def turn(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """An array (z, y, x) on the grid as a view with axes (H, P, L)."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1) if f else slice(None) for f in self.flipped)]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One plane: pixels (rows, columns) of the image and of each segment, its pixel size and its edge letters.

    `letters` name where left, right, top and bottom edges lie: L R A P H F, two letters where oblique.
    `index` and `count` place the plane within the stack along its normal, counted from 0.
    """

    name: str
    image: NDArray[np.float32]
    masks: tuple[NDArray[np.bool_], ...]
    pixel_mm: tuple[float, float]
    letters: tuple[str, str, str, str]
    index: int
    count: int


def canonical(grid: Grid) -> Canonical:
    """Which array axis runs most along head-feet, front-back and left-right, and whether it must be flipped."""
    steps = grid.affine[:3, :3]
    directions = steps / np.linalg.norm(steps, axis=0)
    wanted = (2, 1, 0)
    axes = max(permutations(range(3)), key=lambda p: sum(abs(directions[w, a]) for w, a in zip(wanted, p, strict=True)))
    flipped = tuple(bool(directions[w, a] < 0) for w, a in zip(wanted, axes, strict=True))
    signed = np.stack([steps[:, a] * (-1 if f else 1) for a, f in zip(axes, flipped, strict=True)])
    return Canonical((axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]), signed)


def window_for(volume: Volume, lead: Segment) -> Window:
    """Bone window on bone of a CT, else soft tissue; other images by the middle 98 % of their values."""
    if is_hounsfield(volume):
        return Window(*(BONE_WINDOW if lead.type.value == "272673000" else SOFT_TISSUE_WINDOW))
    low, high = (float(v) for v in np.percentile(volume.array, (1, 99)))
    return Window((low + high) / 2, max(high - low, 1e-6))


def leading(segments: Sequence[Segment]) -> Segment:
    """The segment the picture is about: the first abnormal one, else the first."""
    abnormal = [s for s in segments if s.category.value == "49755003"]
    return abnormal[0] if abnormal else segments[0]


def views(volume: Volume, segments: Sequence[Segment]) -> list[View]:
    """Axial, coronal and sagittal plane where the leading segment shows most of itself.

    Left of an axial or coronal plane is the patient's right, its top is front or head; a sagittal plane
    looks from the left with the front at its left side.
    """
    turned = canonical(volume.grid)
    image = np.asarray(turned.turn(volume.array), np.float32)
    masks = [np.asarray(turned.turn(s.mask), np.bool_) for s in segments]
    lead = masks[list(segments).index(leading(segments))]
    spacing_mm = np.linalg.norm(turned.steps_mm, axis=1)
    boxes = _boxes(lead, spacing_mm)
    return [_view(normal, lead, image=image, masks=masks, turned=turned, boxes=boxes) for normal in range(3)]


def _view(
    normal: int,
    lead: NDArray[np.bool_],
    *,
    image: NDArray[np.float32],
    masks: Sequence[NDArray[np.bool_]],
    turned: Canonical,
    boxes: Sequence[slice],
) -> View:
    down, across = (axis for axis in range(3) if axis != normal)
    index = _most_telling(lead.sum(axis=(down, across)))
    place = tuple(index if axis == normal else boxes[axis] for axis in range(3))
    head_up = down == 0
    upside = slice(None, None, -1) if head_up else slice(None)
    downwards = -turned.steps_mm[down] if head_up else turned.steps_mm[down]
    rightwards = turned.steps_mm[across]
    spacing_mm = np.linalg.norm(turned.steps_mm, axis=1)
    count = image.shape[normal]
    return View(
        name=_plane_name(downwards, rightwards, normal),
        image=image[place][upside],
        masks=tuple(mask[place][upside] for mask in masks),
        pixel_mm=(float(spacing_mm[down]), float(spacing_mm[across])),
        letters=(_letter(-rightwards), _letter(rightwards), _letter(-downwards), _letter(downwards)),
        index=count - 1 - index if turned.flipped[normal] else index,
        count=count,
    )


def _most_telling(areas: NDArray[np.int_]) -> int:
    """The plane with the largest area, the ends of the segment left aside; among equals the middle one."""
    occupied = np.flatnonzero(areas)
    aside = len(occupied) // ENDS_LEFT_ASIDE
    inner = occupied[aside : len(occupied) - aside]
    best = inner[areas[inner] == areas[inner].max()]
    return int(best[len(best) // 2])


def _boxes(lead: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> tuple[slice, ...]:
    """What to show along each axis: the leading segment with room around it, at most the whole volume."""
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        occupied = np.flatnonzero(lead.any(axis=others))
        spans.append((int(occupied[0]), int(occupied[-1]) + 1))
    field_mm = max(
        LEAST_FIELD_MM, FIELD_PER_REGION * max((b - a) * s for (a, b), s in zip(spans, spacing_mm, strict=True))
    )
    boxes = []
    for (first, last), step, length in zip(spans, spacing_mm, lead.shape, strict=True):
        wanted = min(length, round(field_mm / step))
        start = min(max(0, round((first + last - wanted) / 2)), length - wanted)
        boxes.append(slice(start, start + wanted))
    return tuple(boxes)


def _letter(direction_mm: NDArray[np.float64]) -> str:
    """The side a direction points to (PS3.3 C.7.6.1.1.1), with a second letter where it is oblique."""
    unit = direction_mm / np.linalg.norm(direction_mm)
    strongest = sorted(range(3), key=lambda axis: -abs(unit[axis]))
    sides = [_LETTERS[axis][int(unit[axis] > 0)] for axis in strongest if abs(unit[axis]) > OBLIQUE_COSINE]
    return "".join(sides[:2])


def _plane_name(down_mm: NDArray[np.float64], across_mm: NDArray[np.float64], normal: int) -> str:
    cross = np.cross(across_mm, down_mm)
    tilt = abs(cross[2 - normal]) / np.linalg.norm(cross)
    return _NAMES[normal] if tilt > np.cos(np.radians(10)) else f"oblique {_NAMES[normal]}"
