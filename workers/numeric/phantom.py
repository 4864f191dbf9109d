"""A synthetic limb on CT: thigh and distal femur with a soft-tissue tumour, its truth known by construction.

Lengths are in mm about the limb's axis, x to the left and y to the back (LPS); `height` runs from 0
at the lowest slice (femoral metaphysis) to 1 at the highest (shaft). The whole limb needs a field of
about 200 mm; a smaller one crops it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.geometry import Grid, Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Slices = NDArray[np.float32]

AIR_HU = -1000.0
TABLE_HU, FOAM_HU = -80.0, -930.0
SKIN_HU, FAT_HU, SEPTUM_HU, MUSCLE_HU, VESSEL_HU = 30.0, -102.0, -75.0, 56.0, 44.0
CORTEX_HU, MARROW_HU, TRABECULAR_HU = 1350.0, -82.0, 210.0
TUMOUR_HU = 34.0
NOISE_HU = 15.0
BLUR_MM = 0.6
TABLE_MM, SHELL_MM, SEPTUM_MM = 16.0, 2.0, 1.7

_BONE_MM = (10.0, -6.0)
_TUMOUR_MM = (-32.0, 9.0)
_TUMOUR_HEIGHT, _TUMOUR_HALF_MM = 0.5, 24.0
_TUMOUR_CORNERS = 96
_MUSCLES_MM = np.array(
    [[-8, -44], [30, -38], [46, -4], [34, 34], [4, 44], [-28, 36], [-48, 2], [-36, -30], [6, 18]], np.float32
)
_VESSELS_MM = ((-20.0, -8.0, 4.2), (-24.0, -15.0, 5.0))


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """The study and its truth. Masks are (z, y, x) on the volume's grid.

    `tumour_contours` holds one closed polygon (n, 3) of LPS mm per slice the tumour meets, each in the
    plane of that slice; a voxel is tumour where its centre is inside.
    """

    volume: Volume
    bone_mask: NDArray[np.bool_]
    tumour_mask: NDArray[np.bool_]
    tumour_contours: tuple[NDArray[np.float64], ...]


def limb(
    shape: tuple[int, int, int] = (120, 256, 256),
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    seed: int = 7,
) -> Phantom:
    """A limb CT in HU on an axial grid (shape and spacing in z, y, x order). Equal arguments give equal studies."""
    random = np.random.default_rng(seed)
    grid = _grid(shape, spacing_mm)
    y, x = (grid.affine[axis, 3] + np.arange(n) * step for axis, n, step in _in_plane(grid))
    yy, xx = np.meshgrid(y.astype(np.float32), x.astype(np.float32), indexing="ij")
    height = ((np.arange(shape[0]) + 0.5) / shape[0]).astype(np.float32)
    hu = np.empty(shape, np.float32)
    bone, tumour = np.zeros(shape, bool), np.zeros(shape, bool)
    outlines = [_tumour_outline(h, shape[0] * spacing_mm[0]) for h in height]
    mottle = _mottle(random, shape, spacing_mm)
    for k, h in enumerate(height):
        hu[k] = _soft_tissue(xx, yy, float(h))
        tumour[k] = _inside(outlines[k], xx, yy)
        hu[k][tumour[k]] = TUMOUR_HU + 7.0 * mottle[k][tumour[k]]
        bone[k] = _draw_bone(hu[k], mottle[k], xx, yy, float(h))
    hu = ndimage.gaussian_filter(hu, [BLUR_MM / step for step in spacing_mm], truncate=3.0)
    hu += _noise(random, shape)
    np.clip(np.rint(hu, out=hu), -1024.0, 3071.0, out=hu)
    contours = tuple(_in_space(outline, grid, k) for k, outline in enumerate(outlines) if tumour[k].any())
    return Phantom(Volume(hu, grid, HOUNSFIELD_UNIT.value), bone, tumour, contours)


def _grid(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Grid:
    """Axial slices from feet to head with the limb's axis in the middle of the plane."""
    affine = np.zeros((4, 4))
    for axis, (row, n, step) in enumerate(zip((2, 1, 0), shape, spacing_mm, strict=True)):
        affine[row, axis] = step
        affine[row, 3] = -(n - 1) / 2 * step
    affine[3, 3] = 1.0
    return Grid(shape, affine)


def _in_plane(grid: Grid) -> tuple[tuple[int, int, float], tuple[int, int, float]]:
    return (1, grid.shape[1], grid.spacing_mm[1]), (0, grid.shape[2], grid.spacing_mm[2])


def _soft_tissue(x: Plane, y: Plane, height: float) -> Plane:
    """Air, table, skin, fat and muscles of one slice, sharp."""
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    skin = _skin_mm(angle, height)
    fascia = skin - 9.0 - 3.5 * np.sin(angle + 0.6) - 2.0 * np.cos(2 * angle)
    hu = np.full(x.shape, AIR_HU, np.float32)
    _draw_table(hu, x, y)
    hu[radius < skin] = SKIN_HU
    hu[radius < skin - 1.8] = FAT_HU
    hu[radius < fascia] = _muscle_planes(x, y, height)[radius < fascia]
    for vessel_x, vessel_y, vessel_mm in _VESSELS_MM:
        distance = np.hypot(x - vessel_x + 6 * height, y - vessel_y - 5 * height)
        hu[distance < vessel_mm + 2.5] = FAT_HU
        hu[distance < vessel_mm] = VESSEL_HU
    return hu


def _skin_mm(angle: Plane, height: float) -> Plane:
    """Radius of the skin: the limb gets thicker upwards and is a little flat at the back."""
    around = 1.0 + 0.035 * np.cos(2 * angle + 0.4) + 0.02 * np.sin(3 * angle)
    flat_back = 1.0 - 0.05 * np.clip(np.sin(angle), 0.0, None) ** 4
    return np.asarray((68.0 + 11.0 * height) * around * flat_back)


def _draw_table(hu: Plane, x: Plane, y: Plane) -> None:
    """A curved plate filled with foam, behind the limb and clear of it."""
    depth = y - (86.0 - 0.0022 * x**2)
    hu[(depth > 0.0) & (depth < TABLE_MM)] = FOAM_HU
    from_face = np.minimum(depth, TABLE_MM - depth)
    hu[(from_face > 0.0) & (from_face < SHELL_MM)] = TABLE_HU


def _muscle_planes(x: Plane, y: Plane, height: float) -> Plane:
    """Muscle bellies, with a film of fat where two of them meet."""
    twist = 0.35 * (height - 0.5)
    turned = _MUSCLES_MM @ np.array([[np.cos(twist), np.sin(twist)], [-np.sin(twist), np.cos(twist)]], np.float32)
    bent_x, bent_y = x + 2.5 * np.sin(y / 9.0 + 4.0 * height), y + 2.5 * np.sin(x / 11.0)
    nearest = np.full(x.shape, np.inf, np.float32)
    second = nearest.copy()
    for muscle_x, muscle_y in turned:
        distance = np.hypot(bent_x - muscle_x, bent_y - muscle_y)
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
    belly = MUSCLE_HU + 3.0 * np.sin(0.55 * x + 0.2 * y) * np.sin(0.6 * y - 0.15 * x)
    return np.where(second - nearest < SEPTUM_MM, SEPTUM_HU, belly).astype(np.float32)


def _draw_bone(hu: Plane, mottle: Plane, x: Plane, y: Plane, height: float) -> NDArray[np.bool_]:
    """Put the femur into a slice; gives where it is. The shaft widens downwards into the metaphysis."""
    flare = 1.0 / (1.0 + np.exp((height - 0.2) / 0.055))
    from_axis = np.hypot(x - _BONE_MM[0], y - _BONE_MM[1])
    angle = np.arctan2(y - _BONE_MM[1], x - _BONE_MM[0])
    outer = 14.5 + 15.0 * flare + (0.7 + 3.2 * flare) * np.cos(2 * angle) + 0.8 * np.sin(3 * angle)
    cortex = 5.6 - 2.5 * flare + 0.9 * np.cos(angle - 1.6)
    bone: NDArray[np.bool_] = from_axis < outer
    marrow = from_axis < outer - cortex
    spongy = np.clip(1.6 * flare - 0.1, 0.0, 1.0)
    inner = MARROW_HU + spongy * (TRABECULAR_HU - MARROW_HU) + (6.0 + 45.0 * spongy) * mottle
    hu[bone] = CORTEX_HU - 150.0 * flare
    hu[marrow] = inner[marrow]
    return bone


def _tumour_outline(height: float, length_mm: float) -> NDArray[np.float64]:
    """Corners (n, 2) of the tumour in a slice as (x, y) mm, star-shaped about its axis; none above and below it."""
    along = (height - _TUMOUR_HEIGHT) * length_mm / _TUMOUR_HALF_MM
    if abs(along) >= 1.0:
        return np.empty((0, 2))
    angle = np.arange(_TUMOUR_CORNERS) * (2 * np.pi / _TUMOUR_CORNERS)
    lobes = 1.0 + 0.10 * np.cos(3 * angle + 1.7 * along) + 0.06 * np.sin(5 * angle - along)
    radius = 21.0 * np.sqrt(1.0 - along**2) * lobes
    centre = np.asarray(_TUMOUR_MM) + np.array([1.5 * along, -2.0 * along])
    return np.asarray(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _inside(corners: NDArray[np.float64], x: Plane, y: Plane) -> NDArray[np.bool_]:
    """Pixels whose centre is inside a polygon (even-odd)."""
    inside = np.zeros(x.shape, bool)
    if not len(corners):
        return inside
    low, high = corners.min(axis=0), corners.max(axis=0)
    rows = slice(*np.searchsorted(y[:, 0], (low[1], high[1])))
    columns = slice(*np.searchsorted(x[0], (low[0], high[0])))
    part, x, y = inside[rows, columns], x[rows, columns], y[rows, columns]
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (y0 <= y) != (y1 <= y)
            part ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
    return inside


def _in_space(corners: NDArray[np.float64], grid: Grid, k: int) -> NDArray[np.float64]:
    z = grid.affine[2, 3] + k * grid.affine[2, 0]
    return np.column_stack([corners, np.full(len(corners), z)])


def _mottle(random: np.random.Generator, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Slices:
    """Texture of SD 1 that is alike over about 2 mm."""
    return _unit_texture(random, shape, [1.2 / step for step in spacing_mm])


def _noise(random: np.random.Generator, shape: tuple[int, int, int]) -> Slices:
    """Quantum noise, a little correlated in the plane as after reconstruction."""
    return NOISE_HU * _unit_texture(random, shape, [0.0, 0.6, 0.6])


def _unit_texture(random: np.random.Generator, shape: tuple[int, int, int], sigma: list[float]) -> Slices:
    texture: Slices = ndimage.gaussian_filter(random.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=3)
    texture /= texture.std()
    return texture
