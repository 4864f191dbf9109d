"""Closed contours to masks and back, by the rule that a voxel belongs to a region when its centre is inside.

Inside is even-odd over all contours of a plane together, so a ring drawn as two contours and a
keyhole drawn as one both leave their hole open. Where a contour runs exactly through a centre, the
voxel to its right (and below) is in, the one to its left (and above) out, so neighbours never share one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import FARTHEST_MM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from orchestrator.domain.geometry import Grid

PLANE_TOLERANCE_MM = 0.1
"""How far a contour may lie from its slice: coordinates are often rounded to 0.1 mm."""

PLANE_TOLERANCE_SHARE = 0.1
"""The same as a share of the slice step, for thick slices whose contours carry another rounding."""


def fill(contours: Sequence[NDArray[np.float64]], grid: Grid) -> NDArray[np.bool_]:
    """The mask (z, y, x) of closed planar contours, each (n, 3) in LPS mm, on a grid.

    What lies beside the grid within a slice's plane is cut off. Contours of fewer than three points hold nothing.
    Raises Unfit REGION_UNUSABLE for a contour between two slices, oblique to them or beyond the stack.
    """
    mask = np.zeros(grid.shape, np.bool_)
    for k, polygons in _by_slice(contours, grid).items():
        mask[k] = fill_slice(polygons, grid.shape[1:])
    return mask


def drawn_slices(contours: Sequence[NDArray[np.float64]], grid: Grid) -> tuple[int, ...]:
    """Indices of the slices that carry a contour, rising. Raises as `fill`."""
    return tuple(sorted(_by_slice(contours, grid)))


def fill_slice(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (rows, columns) of polygons, each (n, 2) as (column, row) with pixel centres at whole numbers."""
    rows, columns = shape
    edges = np.concatenate([np.hstack((p, np.roll(p, -1, axis=0))) for p in polygons] or [np.empty((0, 4))])
    from_x, from_y, to_x, to_y = edges.T
    first = np.clip(np.ceil(np.minimum(from_y, to_y)), 0, rows).astype(np.intp)
    last = np.clip(np.ceil(np.maximum(from_y, to_y)), 0, rows).astype(np.intp)
    crossed = last - first
    which = np.repeat(np.arange(len(edges)), crossed)
    row = np.arange(len(which)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[which]
    slope = (to_x[which] - from_x[which]) / (to_y[which] - from_y[which])
    crossing = from_x[which] + (row - from_y[which]) * slope
    start = np.clip(np.ceil(crossing), 0, columns).astype(np.intp)
    flips = np.bincount(row * (columns + 1) + start, minlength=rows * (columns + 1))
    return np.asarray(np.cumsum(flips.reshape(rows, columns + 1), axis=1)[:, :columns] % 2 == 1, np.bool_)


def outline(mask_slice: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed polygons along the pixel edges of a mask (rows, columns), outer borders and holes alike.

    Each is (n, 2) as (column, row) with pixel centres at whole numbers, so its corners lie at halves; its last
    point repeats its first. `fill_slice` gives the mask back. Pixels that touch at a corner only get
    polygons of their own. For graphic coordinates of a structured report, whose origin is the corner
    of the first pixel (PS3.3 C.18.6), add 0.5.
    """
    steps = _border_steps(mask_slice)
    polygons: list[NDArray[np.float64]] = []
    for start in sorted(steps):
        while start in steps:
            polygons.append(np.array(_walk(steps, start), np.float64)[:, ::-1] - 0.5)
    return polygons


def contours_of(mask: NDArray[np.bool_], grid: Grid) -> list[NDArray[np.float64]]:
    """Contours (n, 3) in LPS mm, not closed by a repeated point, that `fill` turns back into the mask (z, y, x)."""
    contours: list[NDArray[np.float64]] = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        for polygon in outline(mask[k]):
            column, row = polygon[:-1].T
            contours.append(grid.to_mm(np.column_stack((np.full(len(row), float(k)), row, column))))
    return contours


def _by_slice(contours: Sequence[NDArray[np.float64]], grid: Grid) -> dict[int, list[NDArray[np.float64]]]:
    """Polygons (column, row) of each slice that has any."""
    step_mm = grid.spacing_mm[0]
    allowed = max(PLANE_TOLERANCE_MM / step_mm, PLANE_TOLERANCE_SHARE)
    slices: dict[int, list[NDArray[np.float64]]] = {}
    for contour in contours:
        if len(contour) < 3:  # noqa: PLR2004 - a line encloses nothing
            continue
        if not (np.abs(contour) < FARTHEST_MM).all():
            raise Unfit(Fault.REGION_UNUSABLE, "a contour of the region has coordinates that are no usable numbers")
        index = grid.to_index(contour)
        k = round(float(index[:, 0].mean()))
        if np.ptp(index[:, 0]) > 2 * allowed:
            raise Unfit(Fault.REGION_UNUSABLE, "a contour of the region is oblique to the slices")
        if not np.abs(index[:, 0] - k).max() <= allowed:
            raise Unfit(Fault.REGION_UNUSABLE, "a contour of the region lies between two slices")
        if not 0 <= k < grid.shape[0]:
            raise Unfit(Fault.REGION_UNUSABLE, "a contour of the region lies beyond the images")
        slices.setdefault(k, []).append(index[:, :0:-1])
    return slices


_Corner = tuple[int, int]


def _border_steps(mask_slice: NDArray[np.bool_]) -> dict[_Corner, set[_Corner]]:
    """Unit steps (rows, columns) along pixel edges from each corner, with the mask on their right."""
    padded = np.pad(np.asarray(mask_slice, np.int8), 1)
    down, across = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    steps: dict[_Corner, set[_Corner]] = {}
    for edges, offset, heading in (
        (down == 1, (0, 0), (0, 1)),
        (down == -1, (0, 1), (0, -1)),
        (across == -1, (0, 0), (1, 0)),
        (across == 1, (1, 0), (-1, 0)),
    ):
        for row, column in np.argwhere(edges).tolist():
            steps.setdefault((row + offset[0], column + offset[1]), set()).add(heading)
    return steps


def _walk(steps: dict[_Corner, set[_Corner]], start: _Corner) -> list[_Corner]:
    """Follow and use up the steps of one border, from its first corner back to it; corners at turns only."""
    corner, heading = start, min(steps[start])
    points = [start]
    while True:
        steps[corner].remove(heading)
        if not steps[corner]:
            del steps[corner]
        corner = (corner[0] + heading[0], corner[1] + heading[1])
        if corner == start:
            return [*points, start]
        following = _next_heading(steps[corner], heading)
        if following != heading:
            points.append(corner)
        heading = following


def _next_heading(choices: set[_Corner], heading: _Corner) -> _Corner:
    """The way on; where two pixels touch at a corner, the right turn that stays with the same pixel."""
    if len(choices) == 1:
        return next(iter(choices))
    rows, columns = heading
    return columns, -rows
