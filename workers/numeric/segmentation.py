"""Steps by which bone is found on CT: pure functions of arrays (z, y, x) in HU, lengths in mm.

`spacing_mm` is (z, y, x) throughout. Distances are Euclidean between voxel centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Values = NDArray[np.float32]
    Spacing = tuple[float, float, float]

_NOISE_SLICES = 16
_NOISE_SAMPLE = 200
_SOFT_TISSUE_HU = (0.0, 100.0)


def ball(radius_mm: float, spacing_mm: Spacing) -> Mask:
    """All offsets within a radius of a voxel, as a structuring element of odd size."""
    reach = [int(radius_mm / step + 1e-9) for step in spacing_mm]
    offsets = np.ogrid[tuple(slice(-n, n + 1) for n in reach)]
    squared = sum((offset * step) ** 2 for offset, step in zip(offsets, spacing_mm, strict=True))
    return np.asarray(squared <= (radius_mm + 1e-6) ** 2)


def box(mask: Mask, margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box that holds the mask, wider by `margin` voxels where the array allows.

    The whole array for an empty mask.
    """
    spans = []
    for axis, size in enumerate(mask.shape):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, size)
        spans.append(slice(max(low - margin, 0), min(high + margin, size)))
    return spans[0], spans[1], spans[2]


def within(mask: Mask, distance_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels at most this far from the mask."""
    near = np.zeros_like(mask)
    if mask.any():
        part = box(mask, math.ceil(distance_mm / min(spacing_mm)))
        near[part] = ndimage.distance_transform_edt(~mask[part], sampling=spacing_mm) <= distance_mm + 1e-6
    return near


def closed(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """The mask with gaps narrower than twice the radius bridged. The array's edge bridges nothing."""
    near = within(mask, radius_mm, spacing_mm)
    return mask | (near & ~within(~near, radius_mm, spacing_mm))


def without_small(mask: Mask, least_ml: float, spacing_mm: Spacing) -> Mask:
    """The 26-connected parts of at least this volume."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return _of_size(labels, mask, least_ml, spacing_mm)


def _of_size(labels: NDArray[np.int32], counted: Mask, least_ml: float, spacing_mm: Spacing) -> Mask:
    """The labelled parts that hold at least this volume of what is counted."""
    volumes_ml = np.bincount(labels[counted], minlength=int(labels.max()) + 1) * (math.prod(spacing_mm) / 1000.0)
    keep = volumes_ml >= least_ml
    keep[0] = False
    return np.asarray(keep[labels])


def body(
    hu: Values, spacing_mm: Spacing, *, above_hu: float = -300.0, opening_mm: float = 3.0, least_radius_mm: float = 14.0
) -> Mask:
    """The patient: what is denser than air, thick, and no table.

    Each slice is opened, which cuts the table's shell off the skin; parts into which no ball of
    `least_radius_mm` fits are dropped; gas enclosed within a slice is filled. Beyond the array's edge
    more of the same is assumed, so a cropped limb stays whole.
    """
    dense = hu > above_hu
    if dense.all():
        return dense
    disk = ball(opening_mm, (2 * opening_mm, *spacing_mm[1:]))
    opened = ndimage.binary_dilation(ndimage.binary_erosion(dense, disk, border_value=1), disk)
    labels, count = ndimage.label(opened)
    depth_mm = ndimage.distance_transform_edt(opened, sampling=spacing_mm)
    is_thick = np.zeros(count + 1, bool)
    if count:
        is_thick[1:] = np.asarray(ndimage.maximum(depth_mm, labels, np.arange(1, count + 1))) >= least_radius_mm
    patient: Mask = is_thick[labels]
    return patient | (_enclosed(patient, 0) > 0)


def hysteresis(
    hu: Values, inside: Mask, spacing_mm: Spacing, *, low_hu: float, high_hu: float, least_dense_ml: float
) -> Mask:
    """26-connected parts above `low_hu` that hold at least `least_dense_ml` above `high_hu`."""
    labels, _ = ndimage.label((hu > low_hu) & inside, np.ones((3, 3, 3)))
    return _of_size(labels, (hu > high_hu) & inside, least_dense_ml, spacing_mm)


@dataclass(frozen=True, slots=True, eq=False)
class Cavities:
    """What a mask encloses within the planes across one axis.

    `labels` numbers the enclosed areas from 1, each within one plane; the other fields are indexed by
    that number (0 is what is not enclosed): size, mean, lower quartile, and whether a wide circle fits.
    """

    labels: NDArray[np.int32]
    area_mm2: NDArray[np.float64]
    mean_hu: NDArray[np.float64]
    quarter_hu: NDArray[np.float64]
    is_wide: NDArray[np.bool_]


def cavities(sealed: Mask, hu: Values, spacing_mm: Spacing, axis: int, *, wide_mm: float = 32.0) -> Cavities:
    """Areas enclosed by `sealed` in every plane across `axis`; wide ones take a circle of radius `wide_mm`."""
    labels = _enclosed(sealed, axis)
    where = labels > 0
    members, values = labels[where], hu[where]
    sizes = np.bincount(members, minlength=int(labels.max()) + 1)
    mean_hu = np.bincount(members, weights=values, minlength=len(sizes)) / np.maximum(sizes, 1)
    in_order = values[np.lexsort((values, members))]
    quarter_hu = np.append(in_order, 0.0)[np.cumsum(sizes) - sizes + sizes // 4]
    in_plane = [step for a, step in enumerate(spacing_mm) if a != axis]
    area_mm2 = np.asarray(sizes * math.prod(in_plane), np.float64)
    is_wide = area_mm2 >= math.pi * wide_mm**2
    for label in np.flatnonzero(is_wide):
        area = (labels == label).any(axis=axis)
        is_wide[label] = ndimage.distance_transform_edt(np.pad(area, 1), sampling=in_plane).max() >= wide_mm
    return Cavities(labels, area_mm2, mean_hu, quarter_hu, is_wide)


def _enclosed(mask: Mask, axis: int) -> NDArray[np.int32]:
    """Numbers the background areas of each plane across `axis` that do not reach the plane's edge."""
    plane = np.moveaxis(np.zeros((3, 3, 3), bool), axis, 0)
    plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(~mask, np.moveaxis(plane, 0, axis))
    is_enclosed = np.ones(count + 1, bool)
    is_enclosed[0] = False
    for edge in (a for a in range(3) if a != axis):
        is_enclosed[np.take(labels, (0, -1), axis=edge)] = False
    renumbered = np.where(is_enclosed, np.cumsum(is_enclosed), 0).astype(np.int32)
    return np.asarray(renumbered[labels])


def small_cavities(mask: Mask, most_ml: float, spacing_mm: Spacing) -> Mask:
    """The 6-connected parts of the background below this volume that do not reach the array's edge.

    What is open in any direction, as a canal is along its axis, is none.
    """
    labels, count = ndimage.label(~mask)
    volumes_ml = np.bincount(labels.ravel(), minlength=count + 1) * (math.prod(spacing_mm) / 1000.0)
    is_small = volumes_ml < most_ml
    is_small[0] = False
    for axis in range(3):
        is_small[np.take(labels, (0, -1), axis=axis)] = False
    return np.asarray(is_small[labels])


def marrow(
    planes: Sequence[Cavities],
    *,
    fatty_hu: tuple[float, float] = (-140.0, -15.0),
    trabecular_above_hu: float = 90.0,
    speck_mm2: float = 0.0,
    least_votes: int = 2,
) -> Mask:
    """What is enclosed in at least `least_votes` of the three planes, or in one and looks like marrow.

    It does where the lower quartile is fatty (the blur of the cortex lifts the mean of a thin shaft),
    where the mean is trabecular, or where the area is a mere speck. The spinal canal, open along its
    axis and filled with neither, stays out; so does a wide cavity.
    """
    votes = np.zeros(planes[0].labels.shape, np.uint8)
    accepted = np.zeros(planes[0].labels.shape, bool)
    for plane in planes:
        counts = ~plane.is_wide
        counts[0] = False
        is_fatty = (plane.quarter_hu >= fatty_hu[0]) & (plane.quarter_hu <= fatty_hu[1])
        is_marrow = is_fatty | (plane.mean_hu > trabecular_above_hu) | (plane.area_mm2 < speck_mm2)
        votes += counts[plane.labels]
        accepted |= (counts & is_marrow)[plane.labels]
    return accepted | (votes >= least_votes)


def wide_cavity_ml(planes: Sequence[Cavities], spacing_mm: Spacing, *, between_hu: tuple[float, float]) -> float:
    """The largest volume, over the three planes, of wide cavities whose mean is in a range: a brain, say."""
    voxels = [
        np.count_nonzero(
            (plane.is_wide & (plane.mean_hu >= between_hu[0]) & (plane.mean_hu <= between_hu[1]))[plane.labels]
        )
        for plane in planes
    ]
    return max(voxels) * math.prod(spacing_mm) / 1000.0


def noise_sd(hu: Values, spacing_mm: Spacing, *, window_mm: float = 5.0) -> float | None:
    """Noise in soft tissue: the 25th percentile of the local SD where the local mean is 0 to 100 HU.

    Taken in the plane of some slices. None where there is too little soft tissue.
    """
    part = np.clip(hu[:: max(1, len(hu) // _NOISE_SLICES)], -300.0, 400.0)
    size = (1, *(max(3, round(window_mm / step)) for step in spacing_mm[1:]))
    mean = ndimage.uniform_filter(part, size)
    variance = ndimage.uniform_filter(part**2, size) - mean**2
    sample = variance[(mean >= _SOFT_TISSUE_HU[0]) & (mean <= _SOFT_TISSUE_HU[1])]
    if sample.size < _NOISE_SAMPLE:
        return None
    return float(np.sqrt(max(float(np.percentile(sample, 25)), 0.0)))


def at_half_height(
    mask: Mask,
    hu: Values,
    spacing_mm: Spacing,
    *,
    least_hu: float,
    soft_hu: float = 50.0,
    rim_mm: float = 1.5,
    reach_mm: float = 2.0,
) -> Mask:
    """The mask without the blur around dense edges.

    A voxel within `rim_mm` of the outside stays where it has `least_hu` and half the height, above
    soft tissue, of the densest voxel of the mask within `reach_mm` of it, or lies behind voxels that stay.
    """
    if mask.all() or not mask.any():
        return mask.copy()
    part = box(mask, 1)
    values, whole = hu[part], mask[part]
    rim = whole & within(~whole, rim_mm, spacing_mm)
    densest = ndimage.maximum_filter(np.where(whole, values, -np.inf), footprint=ball(reach_mm, spacing_mm))
    blurred = rim & (values < np.maximum(least_hu, soft_hu + (densest - soft_hu) / 2))
    labels, count = ndimage.label(blurred | ~whole)
    is_reached = np.zeros(count + 1, bool)
    is_reached[labels[~whole]] = True
    trimmed = mask.copy()
    trimmed[part] &= ~is_reached[labels]
    return trimmed
