"""What every output says in the same words: whose study it is, the marks it carries, its numbers in plain sentences."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.review import STANDING_MARK, UNREVIEWED_MARK

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.domain.codes import Code
    from orchestrator.domain.geometry import Grid, Volume
    from orchestrator.domain.result import Measurement, Provenance, Results, Segment
    from orchestrator.domain.study import Patient

TEST_MARK = "TEST: not a real report"
SIGNIFICANT_DIGITS = 4
_EXACT_ABOVE = 1000.0
_POWERS_FROM = 1e7
_POWERS = {"2": "²", "3": "³"}
ASKED_FIRST = (
    "SCT:118565006",
    "IBSI:YEKZ",
    "SCT:81827009",
    "IBSI:L0JK",
    "SCT:103339001",
    "SCT:103340004",
    "IBSI:TDIC",
    "IBSI:P9VJ",
    "IBSI:Q4LE",
    "IBSI:7J51",
    "IBSI:QCFX",
    "IBSI:RNU0",
    "IBSI:Y12H",
    "IBSI:1GSF",
    "IBSI:84IY",
)
"""Sizes and plain intensity, in the order people ask for them: viewers show the first few numbers only."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose images, of which study and series: header text of the first source image, as decoded for people.

    Dates and times are DICOM's (DA, TM). `patient_system` is the urn:oid of the issuer of the patient id
    where the header names it as an ISO OID (PS3.3 C.7.1.1, Table 10-18), else empty.
    """

    patient: Patient
    study_uid: str
    series_uid: str
    sop_class_uid: str
    patient_system: str = ""
    accession_number: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    referring_physician: str = ""
    series_description: str = ""
    modality: str = ""
    body_part: str = ""
    laterality: str = ""
    frame_of_reference_uid: str = ""


def marks(provenance: Provenance) -> tuple[str, ...]:
    """The sentences every output shows (I8, I9): not reviewed, the standing, and TEST where it applies."""
    test = (TEST_MARK,) if is_test(provenance) else ()
    return (UNREVIEWED_MARK, STANDING_MARK[provenance.standing], *test)


def is_test(provenance: Provenance) -> bool:
    """Whether the result was made by an installation that only tests."""
    return provenance.environment == "test"


def volume_ml(segment: Segment, grid: Grid) -> float:
    """Volume of a segment by voxel count (IBSI YEKZ), in millilitres."""
    return int(np.count_nonzero(segment.mask)) * grid.voxel_ml


def is_hounsfield(volume: Volume) -> bool:
    """Whether voxel values are Hounsfield units, named in words or in UCUM."""
    return volume.unit == HOUNSFIELD_UNIT.value


def drawn(results: Results) -> tuple[Segment, ...]:
    """The segments that hold at least one voxel: an empty one is left out of pictures and objects."""
    return tuple(s for s in results.segments if s.mask.any())


def number(value: float) -> str:
    """A number for people: four significant digits, never digits left of the point taken away."""
    if value == 0:
        return "0"
    if abs(value) >= _POWERS_FROM or abs(value) < 1 / _EXACT_ABOVE:
        return f"{value:.{SIGNIFICANT_DIGITS - 1}e}"
    if abs(value) >= _EXACT_ABOVE:
        return f"{value:.0f}"
    decimals = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value)))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def unit_text(unit: Code) -> str:
    """A UCUM unit as people write it; empty for a pure number."""
    if unit.value == "1":
        return ""
    plain = unit.value.replace("[hnsf'U]", "HU").replace(".", "·")
    return re.sub("(?<=[a-zA-Z])[23]", lambda power: _POWERS[power[0]], plain)


def value_text(measurement: Measurement) -> str:
    """The value with its unit, or that it could not be measured."""
    if measurement.value is None or not math.isfinite(measurement.value):
        return "not measurable"
    return f"{number(measurement.value)} {unit_text(measurement.unit)}".rstrip()


def reading_order(measurements: Iterable[Measurement]) -> list[Measurement]:
    """What people ask for first, then the rest in the pipeline's order."""
    ranks = {name: rank for rank, name in enumerate(ASKED_FIRST)}
    return sorted(measurements, key=lambda m: ranks.get(str(m.name), len(ranks)))


def segment_name(segment: Segment) -> str:
    """The segment's label, with its side where it has one and does not say it already."""
    side = segment.laterality.meaning.lower() if segment.laterality else ""
    return f"{segment.label}, {side}" if side and side not in segment.label.lower() else segment.label


def findings(results: Results, provenance: Provenance, grid: Grid) -> str:
    """What was found, as sentences a referring physician understands."""
    sentences = [f"{provenance.title} (version {provenance.version}) looked at these images by computer."]
    sentences.extend(_outlined(drawn(results), grid))
    if results.measurements:
        count = len(results.measurements)
        counted = "1 measurement is" if count == 1 else f"{count} measurements are"
        sentences.append(f"{counted} listed in full.")
    sentences.extend(
        f"{s.name.meaning}: probability {number(100 * s.probability)} % by model {s.model}, version {s.version}."
        for s in results.scores
        if s.probability is not None
    )
    return " ".join([*sentences, "A radiologist has not yet confirmed any of this."])


def conclusion(results: Results, provenance: Provenance, grid: Grid) -> str:
    """The marks, the findings and the notices, for where only one text is shown."""
    noticed = [_sentence(n.text) for n in results.notices]
    return " ".join([*(f"{mark}." for mark in marks(provenance)), findings(results, provenance, grid), *noticed])


def _outlined(found: tuple[Segment, ...], grid: Grid) -> list[str]:
    """Who outlined what: a region a person drew is never said to be the computer's."""
    if not found:
        return ["It outlined nothing."]
    said = []
    for verb, by_hand in (("It outlined", False), ("It measured what a person had drawn:", True)):
        parts = [
            f"{segment_name(s)} ({number(volume_ml(s, grid))} ml)"
            for s in found
            if (s.algorithm_type == "MANUAL") is by_hand
        ]
        if parts:
            said.append(f"{verb} {_enumerated(parts)}.")
    return said


def _sentence(text: str) -> str:
    started = text[:1].upper() + text[1:]
    return started if started.endswith((".", "!", "?")) else f"{started}."


def _enumerated(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
