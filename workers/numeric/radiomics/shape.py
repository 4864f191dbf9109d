"""Morphology of a region (IBSI reference manual, family HCUG).

The oriented minimum bounding box and the minimum volume enclosing ellipsoid (IBSI JAK1 to SWZ1) are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes

from workers.numeric.radiomics.feature import Feature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FEATURES: tuple[Feature, ...] = (
    Feature("RNU0", "Volume of Mesh", "mm3"),
    Feature("YEKZ", "Volume from Voxel Summation", "mm3"),
    Feature("C0JK", "Surface Area of Mesh", "mm2"),
    Feature("2PR5", "Surface to Volume Ratio", "/mm"),
    Feature("SKGS", "Compactness 1", "1"),
    Feature("BQWJ", "Compactness 2", "1"),
    Feature("KRCK", "Spherical Disproportion", "1"),
    Feature("QCFX", "Sphericity", "1"),
    Feature("25C7", "Asphericity", "1"),
    Feature("KLMA", "Center of Mass Shift", "mm"),
    Feature("L0JK", "Maximum 3D Diameter of a Mesh", "mm"),
    Feature("TDIC", "Major Axis Length", "mm"),
    Feature("P9VJ", "Minor Axis Length", "mm"),
    Feature("7J51", "Least Axis Length", "mm"),
    Feature("Q3CK", "Elongation", "1"),
    Feature("N17B", "Flatness", "1"),
    Feature("PBX1", "Volume Density of Axis-Aligned Bounding Box", "1"),
    Feature("R59B", "Area Density of Axis-Aligned Bounding Box", "1"),
    Feature("6BDE", "Volume Density of Approximate Enclosing Ellipsoid", "1"),
    Feature("RDD2", "Area Density of Approximate Enclosing Ellipsoid", "1"),
    Feature("R3ER", "Volume Density of Convex Hull", "1"),
    Feature("7T7F", "Area Density of Convex Hull", "1"),
    Feature("99N0", "Integrated Intensity", "intensity.mm3"),
    Feature("N365", "Moran's I Index", "1"),
    Feature("NPT7", "Geary's C Measure", "1"),
)

MOST_PAIR_POINTS = 16_000_000
"""Moran's I and Geary's C are None where the region's box, doubled along each axis, has more points."""

_SERIES_TERMS = 20
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A closed triangle mesh: `vertices_mm` (n, 3) in (z, y, x) order, `triangles` (m, 3) vertex numbers."""

    vertices_mm: NDArray[np.float64]
    triangles: NDArray[np.int64]

    @property
    def volume_mm3(self) -> float:
        """The volume enclosed, as the sum of signed tetrahedra."""
        a, b, c = (self.vertices_mm[self.triangles[:, corner]] for corner in range(3))
        return abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6.0

    @property
    def area_mm2(self) -> float:
        """The area of all triangles."""
        a, b, c = (self.vertices_mm[self.triangles[:, corner]] for corner in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2.0


def mesh(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> Mesh:
    """The surface of a region (z, y, x) at membership 0.5; voxel (0, 0, 0) has its centre at the origin.

    The mask must hold a voxel; it may touch the array's edge.
    """
    field = np.pad(mask, 1).astype(np.float32)
    vertices, triangles, _, _ = marching_cubes(field, 0.5, spacing=(1.0, 1.0, 1.0))
    return Mesh((vertices.astype(np.float64) - 1.0) * np.asarray(spacing_mm), triangles.astype(np.int64))


def morphology(
    mask: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    image: NDArray[np.floating],
    intensity_mask: NDArray[np.bool_] | None = None,
) -> Mapping[str, float | None]:
    """Every feature of `FEATURES` by IBSI id. Arrays and spacing are in (z, y, x) order.

    `mask` is the morphological mask. `intensity_mask`, the same unless given, is what re-segmentation
    left of it: where intensities are used, they come from there. None stands where a feature is not
    defined: everywhere for an empty mask, axes for one voxel, ratios without a denominator.
    """
    found: dict[str, float | None] = {feature.ibsi_id: None for feature in FEATURES}
    if not mask.any():
        return found
    box = _box(mask)
    valued = mask if intensity_mask is None else intensity_mask
    mask, valued = mask[box], valued[box] & mask[box]
    values = np.asarray(image[box], np.float64)
    surface = mesh(mask, spacing_mm)
    volume, area = surface.volume_mm3, surface.area_mm2
    points_mm = np.argwhere(mask) * np.asarray(spacing_mm)
    found["YEKZ"] = float(len(points_mm)) * math.prod(spacing_mm)
    found |= _compactness(volume, area)
    found |= _axes(points_mm, volume, area)
    found |= _enclosures(surface, volume, area)
    if valued.any():
        found["99N0"] = float(values[valued].mean()) * volume
        found["KLMA"] = _centre_shift(points_mm, valued, values, spacing_mm)
        found["N365"], found["NPT7"] = _autocorrelation(valued, values, spacing_mm)
    return found


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        spans.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _compactness(volume: float, area: float) -> dict[str, float | None]:
    roundness = 36.0 * math.pi * volume**2 / area**3
    return {
        "RNU0": volume,
        "C0JK": area,
        "2PR5": area / volume,
        "SKGS": volume / (math.sqrt(math.pi) * area**1.5),
        "BQWJ": roundness,
        "KRCK": roundness ** (-1 / 3),
        "QCFX": roundness ** (1 / 3),
        "25C7": roundness ** (-1 / 3) - 1.0,
    }


def _axes(points_mm: NDArray[np.float64], volume: float, area: float) -> dict[str, float | None]:
    """Principal axes of the voxel centres, covariance divided by n - 1 as the reference values need."""
    if len(points_mm) < 2:  # noqa: PLR2004 -- one point has no covariance
        return {}
    spread = np.linalg.eigvalsh(np.cov(points_mm, rowvar=False))
    least, minor, major = (float(v) for v in np.sqrt(np.clip(spread, 0.0, None)))
    # eigenvalues of a flat or straight region are zero but for rounding
    least, minor = (0.0 if v < 1e-6 * major else v for v in (least, minor))
    axes: dict[str, float | None] = {
        "TDIC": 4 * major,
        "P9VJ": 4 * minor,
        "7J51": 4 * least,
        "Q3CK": minor / major,
        "N17B": least / major,
    }
    if least > 0.0:
        axes["6BDE"] = volume / (4 / 3 * math.pi * 8 * major * minor * least)
        axes["RDD2"] = area / ellipsoid_area_mm2(2 * major, 2 * minor, 2 * least)
    return axes


def ellipsoid_area_mm2(major_mm: float, minor_mm: float, least_mm: float) -> float:
    """Surface of an ellipsoid with these semi-axes, longest first, by the IBSI's series up to term 20.

    That series is part of the feature's definition (IBSI RDD2). It is the true surface of a sphere
    only; the more unequal the axes, the further it is off.
    """
    alpha2 = 1.0 - (minor_mm / major_mm) ** 2
    beta2 = 1.0 - (least_mm / major_mm) ** 2
    half, product = (alpha2 + beta2) / 2.0, alpha2 * beta2
    before, term = 0.0, 1.0  # (alpha beta)^n P_n(half / (alpha beta)), free of division by zero
    total = term
    for n in range(_SERIES_TERMS):
        before, term = term, ((2 * n + 1) * half * term - n * product * before) / (n + 1)
        total += term / (1 - 4 * (n + 1) ** 2)
    return 4.0 * math.pi * major_mm * minor_mm * total


def _enclosures(surface: Mesh, volume: float, area: float) -> dict[str, float | None]:
    """Diameter, axis-aligned box and convex hull of the mesh."""
    a, b, c = (float(v) for v in np.ptp(surface.vertices_mm, axis=0))
    hull = ConvexHull(surface.vertices_mm)
    corners = surface.vertices_mm[hull.vertices]
    return {
        "L0JK": max(
            float(cdist(corners[k : k + _ROWS_AT_ONCE], corners).max()) for k in range(0, len(corners), _ROWS_AT_ONCE)
        ),
        "PBX1": volume / (a * b * c),
        "R59B": area / (2 * (a * b + b * c + c * a)),
        "R3ER": volume / float(hull.volume),
        "7T7F": area / float(hull.area),
    }


def _centre_shift(
    points_mm: NDArray[np.float64],
    valued: NDArray[np.bool_],
    image: NDArray[np.float64],
    spacing_mm: tuple[float, float, float],
) -> float | None:
    weights = image[valued]
    total = float(weights.sum())
    if total == 0.0:
        return None
    weighted = weights @ (np.argwhere(valued) * np.asarray(spacing_mm)) / total
    return float(np.linalg.norm(points_mm.mean(axis=0) - weighted))


def _autocorrelation(
    valued: NDArray[np.bool_], image: NDArray[np.float64], spacing_mm: tuple[float, float, float]
) -> tuple[float | None, float | None]:
    """Moran's I and Geary's C over all pairs, weighted by 1/distance.

    A sum over pairs of a regular grid is a sum over offsets of the correlation at that offset, so
    Fourier transforms give it without visiting n squared pairs and without approximation.
    """
    count, is_uniform = int(valued.sum()), not np.ptp(image[valued])
    size = [fft.next_fast_len(2 * n - 1, real=True) for n in valued.shape]
    if is_uniform or math.prod(size) > MOST_PAIR_POINTS:
        return None, None
    around = np.where(valued, image - image[valued].mean(), 0.0)
    spread = float(np.sum(around**2))
    weights = fft.rfftn(_inverse_distances(size, spacing_mm))
    inside, first, second = (fft.rfftn(a, size) for a in (valued.astype(np.float64), around, around**2))

    def over_pairs(a: NDArray[np.complex128], b: NDArray[np.complex128]) -> float:
        return float(fft.irfftn(np.conj(a) * b * weights, size)[0, 0, 0])

    weight, products, squares = over_pairs(inside, inside), over_pairs(first, first), over_pairs(inside, second)
    moran = count / weight * products / spread
    geary = (count - 1) / (2 * weight) * 2 * (squares - products) / spread
    return moran, geary


def _inverse_distances(size: list[int], spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """1 / distance of every cyclic offset, 0 for the voxel itself."""
    steps = [np.fft.fftfreq(n, 1 / n) * step for n, step in zip(size, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*steps, indexing="ij", sparse=True)
    distance = np.sqrt(z**2 + y**2 + x**2)
    return np.asarray(np.divide(1.0, distance, out=np.zeros_like(distance), where=distance > 0))
