"""Bone on CT by thresholds, distances and enclosure: no learned weights, the same result every time.

Method, figures and limits are in card.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from orchestrator.domain import codes
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.result import Notice, Results, Segment
from workers.numeric import segmentation
from workers.numeric.resample import coarser, resample, resample_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from orchestrator.domain.geometry import Grid, Volume

    Report = Callable[[float, str], None]
    Mask = NDArray[np.bool_]
    Values = NDArray[np.float32]

SLICE_STEP_AT_MOST_MM, PIXEL_AT_MOST_MM = 5.0, 3.0
WORKING_MM, SMOOTHING_MM = 1.5, 0.6
LOW_HU, HIGH_HU, LEAST_DENSE_ML, REACH_MM, LEAST_PART_ML = 130.0, 220.0, 0.05, 8.0, 0.4
SEAL_MM, WIDE_CAVITY_MM, SPECK_MM2, SMALL_CAVITY_ML = 2.5, 32.0, 30.0, 1.0
FILLING_ROUNDS = 2  # marrow found closes the shaft for what lies behind it
BRAIN_HU, BRAIN_ML = (10.0, 70.0), 100.0
METAL_HU, METAL_ML, METAL_CLEARANCE_MM = 2600.0, 0.2, 10.0
NOISE_HU, FUSING_STEP_MM, OPEN_AREA_MM2, LEAST_BONE_ML = 60.0, 2.0, 50.0, 1.0
AIR_BELOW_HU, AIR_SHARE, FAT_HU, FAT_SHARE, SOFT_HU, SOFT_SHARE = -800.0, 0.001, (-150, -50), 0.005, (0, 80), 0.05


def segment(inputs: Mapping[str, Any], params: Mapping[str, Any], report: Report) -> Results:  # noqa: ARG001 -- none
    """One segment, Bone, of input `ct` (a Volume in HU).

    Raises Unfit OUT_OF_RANGE for what the method was not made for, NOTHING_FOUND below 1 ml of bone.
    """
    volume: Volume = inputs["ct"]
    _check_grid(volume)
    report(0.05, "smoothing")
    step_mm = volume.grid.spacing_mm
    smooth = ndimage.gaussian_filter(volume.array, [SMOOTHING_MM / step for step in step_mm], truncate=3.0)
    grid = coarser(volume.grid, WORKING_MM)
    report(0.3, "finding the body")
    hu = resample(smooth, volume.grid, grid)
    body = segmentation.body(hu, grid.spacing_mm)
    notices = _check_tissue(hu, body)
    report(0.5, "finding bone")
    rough = _find_bone(hu, body, grid)
    report(0.8, "drawing the outline")
    bone = segmentation.at_half_height(resample_mask(rough, grid, volume.grid), smooth, step_mm, least_hu=LOW_HU)
    if np.count_nonzero(bone) * volume.grid.voxel_ml < LEAST_BONE_ML:
        raise Unfit(Fault.NOTHING_FOUND, f"less than {LEAST_BONE_ML:g} ml of bone was found")
    notices += _marks(volume, bone, body=resample_mask(body, grid, volume.grid, "nearest"))
    report(1.0, "done")
    return Results(
        segments=(Segment("Bone", codes.ANATOMICAL_STRUCTURE, codes.BONE, bone),),
        notices=tuple(notices),
        parameters=_parameters(grid),
    )


def _check_grid(volume: Volume) -> None:
    """Facts that header conditions also ask for, checked again on what was decoded."""
    slice_mm, *pixel_mm = volume.grid.spacing_mm
    if volume.unit != codes.HOUNSFIELD_UNIT.value:
        raise Unfit(Fault.OUT_OF_RANGE, "the voxels are not in Hounsfield units")
    if slice_mm > SLICE_STEP_AT_MOST_MM + 1e-3:
        raise Unfit(Fault.OUT_OF_RANGE, f"slices are {slice_mm:.1f} mm apart, at most {SLICE_STEP_AT_MOST_MM:g} suit")
    if max(pixel_mm) > PIXEL_AT_MOST_MM + 1e-3:
        raise Unfit(Fault.OUT_OF_RANGE, f"pixels are {max(pixel_mm):.1f} mm wide, at most {PIXEL_AT_MOST_MM:g} suit")
    if not np.isfinite(volume.array).all():
        raise Unfit(Fault.OUT_OF_RANGE, "some voxels hold no number")


def _check_tissue(hu: Values, body: Mask) -> list[Notice]:
    """Refuses values that cannot be Hounsfield units of a patient: a missing rescale, an MR, a phantom."""
    patient = hu[body]
    if not patient.size:
        raise Unfit(Fault.OUT_OF_RANGE, "no body was found: nothing 28 mm thick is denser than -300 HU")
    fat, soft = (np.count_nonzero((patient > low) & (patient < high)) / patient.size for low, high in (FAT_HU, SOFT_HU))
    has_air = np.count_nonzero(hu < AIR_BELOW_HU) >= AIR_SHARE * hu.size
    if not has_air and fat < FAT_SHARE:
        raise Unfit(Fault.OUT_OF_RANGE, "neither air nor fat was found: the values are not Hounsfield units")
    if soft < SOFT_SHARE:
        raise Unfit(Fault.OUT_OF_RANGE, f"only {soft:.0%} of the body is soft tissue of 0 to 80 HU")
    return [] if has_air else [Notice("not checked: HU of air, for none is in the images", code="99TENDON:NOT_CHECKED")]


def _find_bone(hu: Values, body: Mask, grid: Grid) -> Mask:
    """Bone with its marrow on the working grid. Raises Unfit OUT_OF_RANGE for a head."""
    spacing_mm = grid.spacing_mm
    part = segmentation.box(body)
    hu, body = hu[part], body[part]
    dense = segmentation.hysteresis(hu, body, spacing_mm, low_hu=LOW_HU, high_hu=HIGH_HU, least_dense_ml=LEAST_DENSE_ML)
    dense &= segmentation.within(dense & (hu > HIGH_HU), REACH_MM, spacing_mm)
    dense = segmentation.without_small(dense, LEAST_PART_ML, spacing_mm)
    sealed = segmentation.closed(dense, SEAL_MM, spacing_mm)
    marrow = np.zeros_like(sealed)
    for _ in range(FILLING_ROUNDS):
        closed = sealed | marrow
        planes = [segmentation.cavities(closed, hu, spacing_mm, axis, wide_mm=WIDE_CAVITY_MM) for axis in range(3)]
        if segmentation.wide_cavity_ml(planes, spacing_mm, between_hu=BRAIN_HU) >= BRAIN_ML:
            raise Unfit(Fault.OUT_OF_RANGE, "bone encloses a large soft space, as in a head: not what this is made for")
        marrow |= segmentation.marrow(planes, speck_mm2=SPECK_MM2)
    clear = ~segmentation.within(hu > METAL_HU, METAL_CLEARANCE_MM, spacing_mm)
    marrow &= clear
    filled = dense | marrow | (sealed & segmentation.within(marrow, SEAL_MM, spacing_mm))
    filled |= segmentation.small_cavities(filled, SMALL_CAVITY_ML, spacing_mm) & clear
    bone = np.zeros(grid.shape, bool)
    bone[part] = filled
    return bone


def _marks(volume: Volume, bone: Mask, body: Mask) -> list[Notice]:
    """What the reader must know of this result."""
    notices = [
        Notice(
            "not checked: contrast agent; enhanced vessels and organs may be taken for bone",
            code="99TENDON:NOT_CHECKED",
        )
    ]
    metal_ml = np.count_nonzero((volume.array > METAL_HU) & body) * volume.grid.voxel_ml
    if metal_ml > METAL_ML:
        text = f"metal, {metal_ml:.1f} ml over {METAL_HU:g} HU: bone near it is unreliable, marrow near it left open"
        notices.append(Notice(text, "warning", "99TENDON:METAL"))
    noise_hu = segmentation.noise_sd(volume.array, volume.grid.spacing_mm)
    if noise_hu is None:
        notices.append(
            Notice("not checked: noise, for too little soft tissue is in the images", code="99TENDON:NOT_CHECKED")
        )
    elif noise_hu > NOISE_HU:
        text = f"noise of {noise_hu:.0f} HU in soft tissue: the outline may be frayed"
        notices.append(Notice(text, "warning", "99TENDON:NOISE"))
    if _area_at_sides_mm2(bone, volume.grid) > OPEN_AREA_MM2:
        text = "bone is cut by the side of the images: its marrow may be left open there"
        notices.append(Notice(text, "warning", "99TENDON:OPEN_MARROW"))
    if volume.grid.spacing_mm[0] > FUSING_STEP_MM:
        text = "thick slices: small neighbouring bones and narrow joints may be fused"
        notices.append(Notice(text, code="99TENDON:THICK_SLICES"))
    return notices


def _area_at_sides_mm2(bone: Mask, grid: Grid) -> float:
    """How much bone the larger cut through a side face of the stack shows."""
    z, y, x = grid.spacing_mm
    front_back = max(np.count_nonzero(bone[:, edge]) for edge in (0, -1)) * z * x
    left_right = max(np.count_nonzero(bone[:, :, edge]) for edge in (0, -1)) * z * y
    return float(max(front_back, left_right))


def _parameters(grid: Grid) -> dict[str, str]:
    return {
        "working_spacing_mm": " x ".join(f"{step:.3f}" for step in grid.spacing_mm) + " (z, y, x)",
        "smoothing_mm": f"{SMOOTHING_MM:g}",
        "hysteresis_hu": f"{LOW_HU:g} / {HIGH_HU:g}",
        "least_dense_ml": f"{LEAST_DENSE_ML:g}",
        "reach_mm": f"{REACH_MM:g}",
        "least_part_ml": f"{LEAST_PART_ML:g}",
        "seal_mm": f"{SEAL_MM:g}",
        "widest_marrow_mm": f"{WIDE_CAVITY_MM:g}",
        "filling_rounds": f"{FILLING_ROUNDS}",
        "speck_mm2": f"{SPECK_MM2:g}",
        "small_cavity_ml": f"{SMALL_CAVITY_ML:g}",
        "outline": "half height of the edge, at least the lower threshold",
    }
