"""Where voxels lie in the patient: regular stacks of any orientation, in LPS millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    """Voxel values (z, y, x) in the unit named, on a grid."""

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
    orientation: tuple[float, float, float, float, float, float] | None
    spacing_mm: tuple[float, float] | None
    rows: int
    columns: int
    instance_number: int = 0
    is_localizer: bool = False
    is_monochrome: bool = True
