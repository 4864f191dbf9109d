"""BINARY Segmentation (PS3.3 A.51) of all segments of a result, on the grid of its source series.

BINARY in Explicit VR Little Endian is what every archive and viewer met takes; frames without a voxel are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from orchestrator.dicom.derived import (
    LONG_STRING,
    MANUFACTURER,
    constructor_arguments,
    entry,
    finish,
    parameters,
    read_source,
    text,
)
from orchestrator.domain.report import drawn, segment_name
from orchestrator.domain.result import derive_uid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from orchestrator.domain.result import Segment
    from orchestrator.ports import BuiltObject, ReportRequest

ROLE = "seg"
CONTENT_CREATOR = f"{MANUFACTURER}^"
_CODE_STRING = 16


def build(request: ReportRequest) -> Sequence[BuiltObject]:
    """One SEG that refers to images only; none where no segment holds a voxel.

    Raises Broken RESULT_INVALID when masks and source files do not match, Unfit NOT_A_VOLUME for an unreadable file.
    """
    segments = drawn(request.results)
    if not segments:
        return []
    source = read_source(request)
    names = [text(segment_name(s)) for s in segments]
    described = [_description(number, s, request) for number, s in enumerate(segments, start=1)]
    made = Segmentation(
        source_images=source.images,
        pixel_array=_pixels(segments),
        segmentation_type="BINARY",
        segment_descriptions=described,
        content_label=re.sub(r"[^A-Z0-9_ ]", "_", request.provenance.pipeline.upper())[:_CODE_STRING],
        content_description=text(f"Outline of {', '.join(names)}", LONG_STRING),
        content_creator_name=CONTENT_CREATOR,
        **constructor_arguments(request, ROLE, SegmentationStorage, ", ".join(names)),
    )
    _name_dimensions(made, request)
    return [finish(made, source, request, "seg", series_elements=True)]


def _pixels(segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """A label map (z, y, x), or one plane of flags a segment (z, y, x, segment) where segments overlap."""
    labels = np.zeros(segments[0].mask.shape, np.uint8)
    if len(segments) > np.iinfo(np.uint8).max:
        labels = labels.astype(np.uint16)
    for number, segment in enumerate(segments, start=1):
        if labels[segment.mask].any():
            return np.stack([s.mask for s in segments], axis=-1).astype(np.uint8)
        labels[segment.mask] = number
    return labels


def _description(number: int, segment: Segment, request: ReportRequest) -> SegmentDescription:
    """One item of the Segment Sequence (PS3.3 C.8.20.4)."""
    provenance = request.provenance
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=text(provenance.pipeline, LONG_STRING),
        family=codes.DCM.ArtificialIntelligence,
        version=text(provenance.version, LONG_STRING),
        source=MANUFACTURER,
        parameters=parameters(request),
    )
    description = SegmentDescription(
        segment_number=number,
        segment_label=text(segment.label, LONG_STRING),
        segmented_property_category=entry(segment.category),
        segmented_property_type=entry(segment.type),
        algorithm_type=segment.algorithm_type,
        algorithm_identification=None if segment.algorithm_type == "MANUAL" else algorithm,
        tracking_uid=provenance.tracking_uid(segment.label),
        tracking_id=text(segment.label, LONG_STRING),
        display_color=CIELabColor.from_rgb(*segment.colour_rgb),
    )
    if segment.laterality is not None:
        side = highdicom.sr.CodedConcept.from_code(entry(segment.laterality))
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def _name_dimensions(made: Segmentation, request: ReportRequest) -> None:
    """Replace the random Dimension Organization UID highdicom gives by one that follows from the result (I3)."""
    uid = derive_uid(request.provenance.installation, "dimensions", str(made.SOPInstanceUID))
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
