"""Size, shape and intensity of every region drawn on a CT, as the IBSI defines them.

Nothing is resampled, re-segmented or rounded: numbers are of the native voxels a person outlined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from orchestrator.domain import codes
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.result import Measurement, Notice, Results, Segment
from workers.numeric.radiomics import intensity, shape
from workers.numeric.radiomics.feature import unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from orchestrator.domain.geometry import Region, Volume
    from workers.numeric.radiomics.feature import Feature

    Report = Callable[[float, str], None]

LABEL_LENGTH = 64  # Segment Label and the finding's tracking identifier are LO (PS3.5 6.2)
SMALL_VOXELS = 64
COLOURS_RGB = ((230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 155, 127), (132, 145, 180), (145, 209, 194))
SETTINGS = {
    "image": "CT, Hounsfield units as stored",
    "interpolation": "none, native voxel grid",
    "re-segmentation": "none",
    "rounding": "none",
    "region": "voxels whose centre is inside what was drawn; morphological and intensity mask are the same",
    "mesh": "marching cubes at 0.5",
    "principal axes": "covariance of voxel centres divided by n - 1",
    "moments": "population",
    "percentiles": "linear interpolation",
    "spatial autocorrelation": "all pairs, weight 1/distance",
}
MORPHOLOGY = "IBSI morphology: native voxel grid, no interpolation, no re-segmentation"
STATISTICS = (
    "IBSI intensity-based statistics: native voxel grid, no interpolation, no re-segmentation, no discretisation"
)


def measure(inputs: Mapping[str, Any], params: Mapping[str, Any], report: Report) -> Results:  # noqa: ARG001 -- none
    """Segments and measurements of the Regions in input `tumour`, drawn on the Volume of input `ct`.

    Raises Unfit OUT_OF_RANGE when the volume is not in HU, REGION_UNUSABLE when no region can be
    measured or one lies on another grid.
    """
    volume: Volume = inputs["ct"]
    regions: Sequence[Region] = inputs["tumour"]
    if volume.unit != codes.HOUNSFIELD_UNIT.value:
        raise Unfit(Fault.OUT_OF_RANGE, "the voxels are not in Hounsfield units")
    if any(region.mask.shape != volume.array.shape for region in regions):
        raise Unfit(Fault.REGION_UNUSABLE, "a region does not lie on the voxels of this series")
    drawn = [region for region in regions if region.mask.any()]
    if not drawn:
        raise Unfit(Fault.REGION_UNUSABLE, "no voxel lies inside a drawn region")
    segments, measurements = [], []
    notices = [
        Notice("not checked: contrast phase, reconstruction kernel, metal in the region", code="99TENDON:NOT_CHECKED")
    ]
    if len(drawn) < len(regions):
        empty = f"{len(regions) - len(drawn)} of {len(regions)} regions hold no voxel and were left out"
        notices.append(Notice(empty, "warning", "99TENDON:EMPTY_REGION"))
    for n, (region, label) in enumerate(zip(drawn, _labels(drawn), strict=True)):
        report(n / len(drawn), f"region {n + 1} of {len(drawn)}")
        segments.append(_segment(region, label, COLOURS_RGB[n % len(COLOURS_RGB)]))
        found = _measure(volume, region, label)
        measurements += found
        notices += _marks(region, label, found)
    report(1.0, "done")
    return Results(tuple(segments), tuple(measurements), (), tuple(notices), SETTINGS)


def _labels(regions: Iterable[Region]) -> list[str]:
    """Region names made unique by a number, cut to what DICOM allows."""
    taken: list[str] = []
    for region in regions:
        name = region.name.strip() or "Region"
        label, n = name[:LABEL_LENGTH], 1
        while label in taken:
            n += 1
            ending = f" ({n})"
            label = name[: LABEL_LENGTH - len(ending)] + ending
        taken.append(label)
    return taken


def _segment(region: Region, label: str, colour_rgb: tuple[int, int, int]) -> Segment:
    """The region as drawn: MANUAL, for a person outlined it and nothing here changed it."""
    return Segment(
        label,
        codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
        codes.LESION,
        region.mask,
        algorithm_type="MANUAL",
        colour_rgb=colour_rgb,
    )


def _measure(volume: Volume, region: Region, label: str) -> list[Measurement]:
    form = shape.morphology(region.mask, volume.grid.spacing_mm, volume.array)
    values = intensity.statistics(volume.array[region.mask])
    by_volume = sorted(shape.FEATURES, key=lambda feature: feature.ibsi_id != "YEKZ")
    return [
        *(_measurement(feature, form, label, MORPHOLOGY) for feature in by_volume),
        *(_measurement(feature, values, label, STATISTICS) for feature in intensity.FEATURES),
    ]


def _measurement(feature: Feature, values: Mapping[str, float | None], label: str, method: str) -> Measurement:
    unit = unit_of(feature, codes.HOUNSFIELD_UNIT)
    return Measurement(feature.code, values[feature.ibsi_id], unit, label, method)


def _marks(region: Region, label: str, found: Sequence[Measurement]) -> list[Notice]:
    """What makes the numbers of a region less than they seem."""
    notices = []
    voxels = int(np.count_nonzero(region.mask))
    if voxels < SMALL_VOXELS:
        text = f"{label}: only {voxels} voxels, shape and spread are uncertain"
        notices.append(Notice(text, "warning", "99TENDON:SMALL_REGION"))
    missing = [m.name.meaning for m in found if m.value is None]
    if missing:
        text = f"{label}: not measurable on this region: {', '.join(missing)}"
        notices.append(Notice(text, "warning", "99TENDON:NOT_MEASURED"))
    slices = np.flatnonzero(region.mask.any(axis=(1, 2)))
    gaps = int(slices[-1] - slices[0] + 1 - len(slices))
    if gaps:
        text = f"{label}: {gaps} slices between drawn ones carry no outline, so volume and shape are too small"
        notices.append(Notice(text, "warning", "99TENDON:GAPS"))
    if _touches_edge(region.mask):
        notices.append(Notice(f"{label}: reaches the edge of the images and may be cut", "warning", "99TENDON:EDGE"))
    parts = ndimage.label(region.mask, np.ones((3, 3, 3)))[1] if not gaps else 1
    if parts > 1:
        notices.append(Notice(f"{label}: consists of {parts} separate parts, measured as one", code="99TENDON:PARTS"))
    return notices


def _touches_edge(mask: NDArray[np.bool_]) -> bool:
    return any(bool(np.take(mask, (0, -1), axis=axis).any()) for axis in range(3))
