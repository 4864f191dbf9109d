"""Where voxels lie in the patient: regular stacks of any orientation, in LPS millimetres."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, compress, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import numpy as np

from orchestrator.domain.errors import Fault, Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MIN_SLICES = 3
"""Two images give no second gap, so nothing shows that they are evenly spaced."""

POSITION_TOLERANCE_MM = 0.1
"""How far an image may lie from its place in the regular stack.

Scanners write positions rounded to 0.1 mm: 0.05 mm on each axis, 0.087 mm in all for an oblique stack.
"""

DIRECTION_TOLERANCE = 1e-3
"""Largest difference of direction cosines, and in-plane drift for each mm of stack (0.06 degrees).

It allows for cosines written with four digits; a drift that small stays under a pixel over half a metre.
"""

SPACING_TOLERANCE = 1e-3
"""Largest relative difference of pixel spacings within a stack."""

SAME_PLACE_MM = 0.01
"""Images closer than this along the normal lie at the same place."""

FARTHEST_MM = 1e6
"""A kilometre away is no position, and not a number is never less than this."""

PLACES_NAMED = 5
"""How many places of missing slices a reason names."""

OBLIQUE_COSINE = 0.8
"""An image is named after an axis of the body that its normal leans to by this cosine (37 degrees), else oblique."""

Orientation = tuple[float, float, float, float, float, float]
PlaneName = Literal["AXIAL", "SAGITTAL", "CORONAL", "OBLIQUE"]

_NOWHERE = (math.nan, math.nan, math.nan)
_DIFFERENCES = ("another size", "another orientation", "another pixel spacing")
_order = attrgetter("instance_number", "uid")
_kind = attrgetter("is_localizer", "is_monochrome", "is_multi_frame", "rows", "columns", "orientation", "spacing_mm")
_NAMES: tuple[PlaneName, ...] = ("SAGITTAL", "CORONAL", "AXIAL")


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A regular voxel grid.

    `shape` is (z, y, x) = (slices, rows, columns). `affine` (4, 4) maps the homogeneous index
    (k, j, i, 1) of a voxel centre in that same order to LPS millimetres.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between voxel centres along (z, y, x)."""
        z, y, x = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_mm(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS millimetres (n, 3) of indices (n, 3) in (k, j, i) order."""
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Indices (n, 3) in (k, j, i) order of LPS points (n, 3)."""
        return np.asarray(np.linalg.solve(self.affine[:3, :3], (points_mm - self.affine[:3, 3]).T).T, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxel values (z, y, x) in the UCUM unit named, on a grid."""

    array: NDArray[np.float32]
    grid: Grid
    unit: str


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A region somebody drew: a boolean mask (z, y, x) on the grid of the series it was drawn on.

    `drawn_slices` are the slice indices that carry a contour or a segment frame.
    """

    name: str
    mask: NDArray[np.bool_]
    grid: Grid
    source_uid: str
    drawn_slices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plane:
    """Header facts of one image that decide whether it belongs to a stack (PS3.3 C.7.6.2)."""

    uid: str
    position: tuple[float, float, float] | None
    orientation: Orientation | None
    spacing_mm: tuple[float, float] | None
    rows: int
    columns: int
    instance_number: int = 0
    is_localizer: bool = False
    is_monochrome: bool = True
    is_multi_frame: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Images that form a regular grid: their UIDs in slice order, and why each other image was left out."""

    grid: Grid
    uids: tuple[str, ...]
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the largest consistent group of images lies, also where it forms no regular stack.

    `step_mm` is the distance from slice to slice of a regular stack, None where there is none.
    `missing_slices` is None where no regular ladder shows, `shear_deg` where the images do not drift steadily.
    """

    slices: int
    step_mm: float | None = None
    missing_slices: int | None = None
    shear_deg: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Pile:
    """Images that can share a stack, ordered along their normal (3); positions (n, 3) and depths (n) in mm."""

    planes: list[Plane]
    left_out: dict[str, str]
    normal: NDArray[np.float64]
    positions: NDArray[np.float64]
    depths: NDArray[np.float64]


def plane_name(orientation: Orientation) -> PlaneName | None:
    """How a radiologist names the plane of an image; None where the orientation is no usable one."""
    cosines = _leanings(orientation)
    if cosines is None:
        return None
    axis = int(cosines.argmax())
    return _NAMES[axis] if cosines[axis] >= OBLIQUE_COSINE else "OBLIQUE"


def obliquity_deg(orientation: Orientation) -> float | None:
    """The angle between an image's normal and the nearest axis of the body; None as `plane_name`."""
    cosines = _leanings(orientation)
    return None if cosines is None else math.degrees(math.acos(min(float(cosines.max()), 1.0)))


def _leanings(orientation: Orientation) -> NDArray[np.float64] | None:
    """Cosines (3) between an image's normal and the x, y and z axis of the patient, without sign."""
    if not all(abs(n) < FARTHEST_MM for n in orientation) or _is_skewed(orientation):
        return None
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(np.abs(normal) / np.linalg.norm(normal), np.float64)


def arrange(planes: Sequence[Plane]) -> Stack:
    """Order the largest consistent group of images into a stack of any orientation.

    k runs along the cross product of the row and the column direction, so the determinant of
    every grid's affine, whose columns are in (k, j, i) order, is negative. The first image's position is taken
    verbatim; the step from slice to slice is fitted to all positions.

    Raises Unfit with NOT_A_VOLUME, DUPLICATE_SLICES, GANTRY_TILT, MISSING_SLICES or UNEVEN_SLICES.
    """
    return _stack(_pile(planes))


def lay_out(planes: Sequence[Plane]) -> tuple[Layout, Stack | Unfit]:
    """How images lie, with the stack they form or why they form none."""
    pile = _pile(planes)
    try:
        stack = _stack(pile)
    except Unfit as unfit:
        return _layout(pile), unfit
    return Layout(len(stack.uids), stack.grid.spacing_mm[0], 0, 0.0), stack


def _layout(pile: _Pile) -> Layout:
    """How a pile that is no stack lies."""
    count = len(pile.planes)
    if count < MIN_SLICES or _repeated(pile.depths):
        return Layout(count)
    holes = _holes(pile.depths)
    return Layout(
        count,
        missing_slices=None if holes is None else sum(number for _, number in holes),
        shear_deg=_shear_deg(pile),
    )


def _pile(planes: Sequence[Plane]) -> _Pile:
    group, left_out = _largest_group(planes)
    positions = _positions(group)
    normal = np.cross(*_directions(group[0])) if group else np.zeros(3)
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    return _Pile([group[k] for k in order.tolist()], left_out, normal, positions[order], depths[order])


def _stack(pile: _Pile) -> Stack:
    planes, positions = pile.planes, pile.positions
    if len(planes) < MIN_SLICES:
        raise Unfit(Fault.NOT_A_VOLUME, _too_few(len(planes), pile.left_out))
    _check_distinct(pile.depths)
    step = _step(positions)
    _check_upright(pile)
    _check_gaps(pile.depths)
    rows, columns = _directions(planes[0])
    between_rows, between_columns = _spacing(planes[0])
    affine = np.eye(4)
    affine[:3] = np.column_stack((step, columns * between_rows, rows * between_columns, positions[0]))
    grid = Grid((len(planes), planes[0].rows, planes[0].columns), affine)
    return Stack(grid, tuple(plane.uid for plane in planes), pile.left_out)


def _largest_group(planes: Sequence[Plane]) -> tuple[list[Plane], dict[str, str]]:
    kinds, left_out = _kinds(sorted(planes, key=_order))
    groups = _groups(kinds)
    if not groups:
        return [], left_out
    largest = max(groups, key=len)
    for group in groups:
        if group is not largest:
            reason = f"{_difference(group[0], largest[0])} than the other images"
            left_out.update((plane.uid, reason) for plane in group)
    return largest, left_out


def _kinds(planes: Sequence[Plane]) -> tuple[list[list[Plane]], dict[str, str]]:
    """Slices that are equal but for where they lie, together; and why each other image is no slice.

    One image of a kind is judged for all, since a series of a thousand mostly holds one kind.
    """
    is_placed = np.all(np.abs(_positions(planes)) < FARTHEST_MM, axis=1)
    left_out = {plane.uid: _no_slice(plane) for plane in compress(planes, (~is_placed).tolist())}
    alike: defaultdict[object, list[Plane]] = defaultdict(list)
    for traits, run in groupby(compress(planes, is_placed.tolist()), key=_kind):
        alike[traits].extend(run)
    kinds = []
    for kind in alike.values():
        reason = _no_slice(kind[0])
        if reason:
            left_out.update((plane.uid, reason) for plane in kind)
        else:
            kinds.append(kind)
    return kinds, left_out


def _groups(kinds: Sequence[list[Plane]]) -> list[list[Plane]]:
    """The slices that can share a stack with the first one, then with the first one left, and so on."""
    traits = np.array([_traits(kind[0]) for kind in kinds], np.float64)
    groups, left = [], np.arange(len(kinds))
    while left.size:
        differs = _differences(traits[left], traits[left[0]]).any(axis=1)
        groups.append([plane for k in left[~differs].tolist() for plane in kinds[k]])
        left = left[differs]
    return groups


def _no_slice(plane: Plane) -> str:
    """Why an image can be no slice of any stack; empty when it can."""
    obstacles = (
        (plane.is_localizer, "localizer"),
        (not plane.is_monochrome, "colour page, not an image of the patient's tissue"),
        (plane.is_multi_frame, "multi-frame image"),
        (plane.rows < 1 or plane.columns < 1, "no rows or columns"),
        (plane.position is None or plane.orientation is None, "no position or orientation in the patient"),
        (plane.spacing_mm is None or not min(plane.spacing_mm) > 0, "no pixel spacing"),
    )
    for is_met, reason in obstacles:
        if is_met:
            return reason
    assert plane.position is not None
    assert plane.orientation is not None
    if not all(abs(n) < FARTHEST_MM for n in (*plane.position, *plane.orientation, *_spacing(plane))):
        return "position, orientation or spacing is not a usable number"
    return "row and column direction are not perpendicular unit vectors" if _is_skewed(plane.orientation) else ""


def _is_skewed(orientation: Orientation) -> bool:
    """Whether row and column direction are anything but perpendicular unit vectors."""
    rows, columns = np.array(orientation[:3]), np.array(orientation[3:])
    faults = (abs(float(rows @ rows) - 1), abs(float(columns @ columns) - 1), abs(float(rows @ columns)))
    return max(faults) > DIRECTION_TOLERANCE


def _traits(plane: Plane) -> tuple[float, ...]:
    assert plane.orientation is not None
    return (plane.rows, plane.columns, *plane.orientation, *_spacing(plane))


def _differences(traits: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether images with traits (n, 10) differ from another (10) in size, orientation and spacing: (n, 3)."""
    apart = np.abs(traits - other)
    by_size = apart[:, :2].any(axis=1)
    by_orientation = (apart[:, 2:8] > DIRECTION_TOLERANCE).any(axis=1)
    by_spacing = (apart[:, 8:] > SPACING_TOLERANCE * other[8:]).any(axis=1)
    return np.stack((by_size, by_orientation, by_spacing), axis=1)


def _difference(one: Plane, other: Plane) -> str:
    """What sets two images apart that cannot share a stack."""
    (differs,) = _differences(np.array([_traits(one)]), np.array(_traits(other)))
    return _DIFFERENCES[int(differs.argmax())]


def _too_few(count: int, left_out: dict[str, str]) -> str:
    reasons = sorted(set(left_out.values()))
    because = f"; left out: {', '.join(reasons)}" if reasons else ""
    return f"{count} images lie in one stack, a volume needs at least {MIN_SLICES}{because}"


def _positions(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Positions (n, 3); not a number where an image has none."""
    numbers = chain.from_iterable(plane.position or _NOWHERE for plane in planes)
    return np.fromiter(numbers, np.float64, 3 * len(planes)).reshape(-1, 3)


def _spacing(plane: Plane) -> tuple[float, float]:
    assert plane.spacing_mm is not None
    return plane.spacing_mm


def _directions(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction in which the column index rises along a row, then that in which the row index rises; unit length."""
    way = np.array(plane.orientation, np.float64)
    rows, columns = way[:3], way[3:]
    return rows / np.linalg.norm(rows), columns / np.linalg.norm(columns)


def _step(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares vector (3,) from one slice to the next."""
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    return np.asarray(index @ positions / (index @ index), np.float64)


def _repeated(depths: NDArray[np.float64]) -> int:
    return int(np.count_nonzero(np.diff(depths) < SAME_PLACE_MM))


def _check_distinct(depths: NDArray[np.float64]) -> None:
    repeated = _repeated(depths)
    if repeated:
        raise Unfit(Fault.DUPLICATE_SLICES, f"{repeated} of {len(depths)} images lie where another one lies")


def _shear_deg(pile: _Pile) -> float | None:
    """0 where each image lies straight above the first, else the angle of a steady drift, None of another one."""
    across = pile.positions - np.outer(pile.depths, pile.normal)
    across -= across.mean(axis=0)
    along = pile.depths - pile.depths.mean()
    allowed_mm = POSITION_TOLERANCE_MM + DIRECTION_TOLERANCE * float(along[-1] - along[0]) / 2
    if float(np.linalg.norm(across, axis=1).max()) <= allowed_mm:
        return 0.0
    drift = along @ across / (along @ along)
    if float(np.linalg.norm(across - np.outer(along, drift), axis=1).max()) > allowed_mm:
        return None
    return math.degrees(math.atan(float(np.linalg.norm(drift))))


def _check_upright(pile: _Pile) -> None:
    """Each image must lie straight above the first; a steady drift is a tilted gantry."""
    angle_deg = _shear_deg(pile)
    if angle_deg is None:
        raise Unfit(Fault.UNEVEN_SLICES, "the images do not lie above each other")
    if angle_deg:
        raise Unfit(Fault.GANTRY_TILT, f"the slices are sheared by {angle_deg:.1f} degrees: the gantry was tilted")


def _holes(depths: NDArray[np.float64]) -> list[tuple[int, int]] | None:
    """After which slice how many are missing; None where the depths are no ladder with holes in it."""
    count = len(depths)
    index = np.arange(count) - (count - 1) / 2
    step = index @ depths / (index @ index)
    if float(np.abs(depths - depths.mean() - step * index).max()) <= POSITION_TOLERANCE_MM:
        return []
    gaps = np.diff(depths)
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    times = np.maximum(np.rint(gaps / usual), 1)
    is_ladder = float(np.abs(gaps - times * usual).max()) <= 2 * POSITION_TOLERANCE_MM
    if is_ladder and 0 < np.count_nonzero(times > 1) <= len(gaps) / 2:
        return [(int(k) + 1, int(times[k]) - 1) for k in np.flatnonzero(times > 1)]
    return None


def _check_gaps(depths: NDArray[np.float64]) -> None:
    """Each image must lie on a regular ladder of depths."""
    holes = _holes(depths)
    if holes is None:
        gaps = np.diff(depths)
        shortest, longest = gaps.min(), gaps.max()
        raise Unfit(Fault.UNEVEN_SLICES, f"the distances between slices run from {shortest:.2f} to {longest:.2f} mm")
    if holes:
        missing = sum(number for _, number in holes)
        where = ", ".join(f"{number} after slice {after}" for after, number in holes[:PLACES_NAMED])
        more = f" and at {len(holes) - PLACES_NAMED} more places" if len(holes) > PLACES_NAMED else ""
        be = "slice is" if missing == 1 else "slices are"
        raise Unfit(Fault.MISSING_SLICES, f"{missing} {be} missing beside the {len(depths)} present: {where}{more}")
