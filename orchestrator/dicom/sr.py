"""Measurement report (TID 1500) as Comprehensive SR, in the shape viewers draw (destination profile `ohif`).

Each measured segment is one TID 1411 group whose region is given as polylines on the images themselves: a group
that only points at a segmentation stays black in OHIF. The segmentation carries the same tracking identifiers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import highdicom.sr as hd
import numpy as np
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as CodedEntry
from pydicom.uid import ComprehensiveSRStorage

from orchestrator.dicom.derived import MANUFACTURER, constructor_arguments, entry, finish, parameters, read_source, text
from orchestrator.domain.codes import NO_UNITS
from orchestrator.domain.contours import outline
from orchestrator.domain.report import drawn, is_hounsfield, marks, reading_order
from orchestrator.domain.result import derive_uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from orchestrator.dicom.derived import Source
    from orchestrator.domain.result import Measurement, Score, Segment
    from orchestrator.ports import BuiltObject, ReportRequest

ROLE = "sr"
MOST_SLICES = 20
MOST_OUTLINES_A_SLICE = 8

_PROCEDURES = {
    "CT": CodedEntry("25045-6", "LN", "CT unspecified body region"),
    "MR": CodedEntry("25056-3", "LN", "MRI unspecified body region"),
}
_ANY_PROCEDURE = CodedEntry("363679005", "SCT", "Imaging procedure")
_COMMENT = CodedEntry("121106", "DCM", "Comment")
_EVALUATIONS = CodedEntry("C0034375", "UMLS", "Qualitative Evaluations")
_FAILURE = CodedEntry("114006", "DCM", "Measurement failure")
_PROBABILITY = CodedEntry("122157", "DCM", "Probability")
_ATTENUATION = CodedEntry("112031", "DCM", "Attenuation Coefficient")
_DERIVATIONS = {
    "Q4LE": codes.cid7464.Mean,
    "Y12H": codes.cid7464.Median,
    "1GSF": codes.cid7464.Minimum,
    "84IY": codes.cid7464.Maximum,
    "ECT3": codes.cid7464.Variance,
    "KE2A": codes.cid7464.Skewness,
    "IPH6": codes.cid7464.Kurtosis,
    "7TET": codes.cid7464.CoefficientOfVariance,
    "5ZWQ": codes.cid7464.RootMeanSquare,
}
"""IBSI intensity statistics that CID 7464 has a modifier for."""


def build(request: ReportRequest) -> Sequence[BuiltObject]:
    """One SR with a group for each measured segment; none where there is nothing to measure or nowhere to draw it.

    OHIF shows the first five numbers of a group, so they stand in reading order.
    Numbers of no segment belong to the only segment where there is just one. Where there are several, the SR leaves
    them out, says so, and is PARTIAL instead of COMPLETE. Raises as `seg.build`.
    """
    results = request.results
    visible = drawn(results)
    by_label: dict[str, list[Measurement]] = {s.label: [] for s in visible}
    only = visible[0].label if len(visible) == 1 else None
    homeless = 0
    for measurement in results.measurements:
        label = measurement.segment or only
        if label in by_label:
            by_label[label].append(measurement)
        else:
            homeless += 1
    scores = results.scores if only else ()
    homeless += len(results.scores) - len(scores)
    measured = [s for s in visible if by_label[s.label] or scores]
    if not measured:
        return []
    source = read_source(request)
    groups = [_group(s, by_label[s.label], scores, request, source) for s in measured]
    return [_document(groups, measured, homeless, request, source)]


def _document(
    groups: list[hd.VolumetricROIMeasurementsAndQualitativeEvaluations],
    measured: list[Segment],
    homeless: int,
    request: ReportRequest,
    source: Source,
) -> BuiltObject:
    drawn_on = sorted({k for s in measured for k in _drawn_slices(s.mask)})
    report = hd.MeasurementReport(
        observation_context=_observer(request),
        procedure_reported=_PROCEDURES.get(request.identity.modality, _ANY_PROCEDURE),
        imaging_measurements=groups,
        referenced_images=[source.images[k] for k in drawn_on],
    )
    report[0].ContentSequence.append(_remarks(request, homeless))
    targets = ", ".join(text(s.label) for s in measured)
    made = hd.ComprehensiveSR(
        evidence=source.images,
        content=report[0],
        is_complete=homeless == 0,
        is_final=False,
        is_verified=False,
        **constructor_arguments(request, ROLE, ComprehensiveSRStorage, f"measurements of {targets}"),
    )
    _take_failed_values_away(made)
    return finish(made, source, request, "sr", series_elements=False)


def _observer(request: ReportRequest) -> hd.ObservationContext:
    """The software as device observer (TID 1004)."""
    provenance = request.provenance
    return hd.ObservationContext(
        observer_device_context=hd.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=hd.DeviceObserverIdentifyingAttributes(
                uid=derive_uid(provenance.installation, "device", provenance.pipeline, provenance.version),
                name=text(f"{provenance.pipeline} {provenance.version}"),
                manufacturer_name=MANUFACTURER,
                model_name=text(provenance.title),
                serial_number=text(provenance.installation),
            ),
        )
    )


def _group(
    segment: Segment,
    measurements: Iterable[Measurement],
    scores: Iterable[Score],
    request: ReportRequest,
    source: Source,
) -> hd.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """One segment's numbers and where they were measured (TID 1411)."""
    provenance = request.provenance
    named = [f"{name}={value}" for name, value in parameters(request).items()]
    return hd.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(
            uid=provenance.tracking_uid(segment.label), identifier=text(segment.label)
        ),
        referenced_regions=_regions(segment.mask, source.images),
        finding_type=entry(segment.type),
        algorithm_id=hd.AlgorithmIdentification(
            name=text(provenance.pipeline), version=text(provenance.version), parameters=named
        ),
        measurements=[
            *(_measurement(m, request) for m in reading_order(measurements)),
            *(n for s in scores for n in _score(s)),
        ],
    )


def _drawn_slices(mask: NDArray[np.bool_]) -> list[int]:
    """Slices to draw a region on: all up to `MOST_SLICES`, else that many evenly chosen, the largest among them."""
    occupied = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(occupied) <= MOST_SLICES:
        return [int(k) for k in occupied]
    largest = int(np.argmax(mask.sum(axis=(1, 2))))
    even = occupied[np.linspace(0, len(occupied) - 1, MOST_SLICES - 1).round().astype(int)]
    return sorted({largest, *(int(k) for k in even)})


def _regions(mask: NDArray[np.bool_], images: Sequence[Dataset]) -> list[hd.ImageRegion]:
    """Outlines on the drawn slices. Graphic coordinates start at the corner of the first pixel (PS3.3 C.18.6).

    The slice with the largest area comes first: OHIF opens a region at its first outline and draws only that one.
    """
    regions: list[hd.ImageRegion] = []
    largest = int(np.argmax(mask.sum(axis=(1, 2))))
    for k in sorted(_drawn_slices(mask), key=lambda k: (k != largest, k)):
        image = images[k]
        outlines = sorted(outline(mask[k]), key=_area, reverse=True)[:MOST_OUTLINES_A_SLICE]
        regions.extend(
            hd.ImageRegion(
                graphic_type=hd.GraphicTypeValues.POLYLINE,
                graphic_data=polygon + 0.5,
                source_image=hd.SourceImageForRegion(str(image.SOPClassUID), str(image.SOPInstanceUID)),
            )
            for polygon in outlines
        )
    return regions


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon.T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2


def _measurement(measurement: Measurement, request: ReportRequest) -> hd.Measurement:
    """A NUM item (TID 300); a number that failed carries the reason (CID 42)."""
    provenance = request.provenance
    derivation = None
    name = entry(measurement.name)
    if measurement.name.scheme == "IBSI" and is_hounsfield(request.volume):
        derivation = _DERIVATIONS.get(measurement.name.value)
        name = _ATTENUATION if derivation else name
    value = measurement.value
    failed = value is None or not math.isfinite(value)
    return hd.Measurement(
        name=name,
        value=0.0 if value is None or failed else float(value),
        unit=entry(measurement.unit),
        derivation=derivation,
        qualifier=_FAILURE if failed else None,
        algorithm_id=hd.AlgorithmIdentification(
            name=text(provenance.pipeline),
            version=text(provenance.version),
            parameters=[text(measurement.method)] if measurement.method else None,
        ),
    )


def _take_failed_values_away(item: Dataset) -> None:
    """A failed number has no value; highdicom cannot build one without, so its stand-in is taken out afterwards."""
    for child in item.get("ContentSequence", ()):
        if "NumericValueQualifierCodeSequence" in child:
            child.MeasuredValueSequence = []
        _take_failed_values_away(child)


def _score(score: Score) -> list[hd.Measurement]:
    """A model's outcome and its probability, each naming model, version and what was missing."""
    notes = [f"citation: {score.citation}", *(f"missing: {name}" for name in score.missing)]
    model = hd.AlgorithmIdentification(
        name=text(score.model), version=text(score.version), parameters=[text(n) for n in notes]
    )
    numbers = ((entry(score.name), score.value), (_PROBABILITY, score.probability))
    return [
        hd.Measurement(name=name, value=float(value), unit=entry(NO_UNITS), algorithm_id=model)
        for name, value in numbers
        if value is not None
    ]


def _remarks(request: ReportRequest, homeless: int) -> hd.ContainerContentItem:
    """What the reader must know, as text of the report (TID 1500 row 12): marks, notices, what is not in here."""
    sentences = [*marks(request.provenance), *(n.text for n in request.results.notices)]
    if homeless:
        sentences.append(f"{homeless} numbers that belong to no outlined region are not in this document")
    if any(int(s.mask.any(axis=(1, 2)).sum()) > MOST_SLICES for s in drawn(request.results)):
        sentences.append(f"Outlines are drawn on at most {MOST_SLICES} slices; the whole region is in the segmentation")
    container = hd.ContainerContentItem(name=_EVALUATIONS, relationship_type=hd.RelationshipTypeValues.CONTAINS)
    container.ContentSequence = hd.ContentSequence(
        [
            hd.TextContentItem(
                name=_COMMENT, value=text(sentence), relationship_type=hd.RelationshipTypeValues.CONTAINS
            )
            for sentence in sentences
        ]
    )
    return container
