"""Moving values and masks from one regular grid to another.

Index (k, j, i) names a voxel's centre, so a voxel covers half a step to either side of it. Grids are
related through their affines: the value at a target voxel is the one found at its centre's place in
LPS millimetres. Nothing is smoothed first: whoever makes a grid coarser by much smooths beforehand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from orchestrator.domain.geometry import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interpolation = Literal["nearest", "linear"]

_ORDER: dict[Interpolation, int] = {"nearest": 0, "linear": 1}


def coarser(grid: Grid, least_spacing_mm: float) -> Grid:
    """The grid over the same field whose spacing is at least this along every axis.

    Axes that are coarse enough keep their voxels: no axis is ever made finer. The outer faces of
    the first and last voxels stay where they are.
    """
    counts = [
        max(1, int(n * step / least_spacing_mm + 1e-9)) if step < least_spacing_mm else n
        for n, step in zip(grid.shape, grid.spacing_mm, strict=True)
    ]
    ratio = np.asarray(grid.shape, np.float64) / counts
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * ratio
    affine[:3, 3] = grid.to_mm(((ratio - 1.0) / 2.0)[None])[0]
    return Grid((counts[0], counts[1], counts[2]), affine)


def resample(
    values: NDArray[np.floating], source: Grid, target: Grid, interpolation: Interpolation = "linear"
) -> NDArray[np.float32]:
    """Values (z, y, x) on `source` as they are at the voxel centres of `target`.

    Centres outside the source take the value of its nearest edge voxel.
    """
    if target.shape == source.shape and np.array_equal(target.affine, source.affine):
        return np.asarray(values, np.float32)
    to_source = np.linalg.solve(source.affine, target.affine)
    matrix, offset = to_source[:3, :3], to_source[:3, 3]
    scales = np.diag(matrix)
    is_parallel = np.allclose(matrix, np.diag(scales), atol=1e-9)
    found: NDArray[np.float32] = ndimage.affine_transform(
        np.asarray(values, np.float32),
        scales if is_parallel else matrix,
        offset,
        output_shape=target.shape,
        order=_ORDER[interpolation],
        mode="nearest",
    )
    return found


def resample_mask(
    mask: NDArray[np.bool_], source: Grid, target: Grid, interpolation: Interpolation = "linear"
) -> NDArray[np.bool_]:
    """A mask (z, y, x) on another grid: inside is where its interpolated membership is at least 0.5."""
    return resample(mask.astype(np.float32), source, target, interpolation) >= 0.5  # noqa: PLR2004 -- half of it
