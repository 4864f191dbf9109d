"""What a pipeline finds: one record from which SEG, SR, pictures and FHIR are all made.

Adding a kind means one class here and one builder per output.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.domain.codes import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

AlgorithmType = Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
Severity = Literal["information", "warning"]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A region with a coded meaning (PS3.3 C.8.20.2): `mask` is boolean (z, y, x) on the source grid."""

    label: str
    category: Code
    type: Code
    mask: NDArray[np.bool_]
    algorithm_type: AlgorithmType = "AUTOMATIC"
    laterality: Code | None = None
    colour_rgb: tuple[int, int, int] = (255, 200, 60)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A coded number in a UCUM unit; `value` is None when it could not be measured.

    `segment` is the label of the segment it was measured on. `method` says how, in words of the
    standard that defines it (for instance the IBSI aggregation).
    """

    name: Code
    value: float | None
    unit: Code
    segment: str | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """A coded outcome of a model with its probability, interval and what was missing."""

    name: Code
    value: float | None
    probability: float | None
    interval: tuple[float, float] | None
    model: str
    version: str
    citation: str
    inputs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence the reader must see beside the result, for instance "not checked: contrast"."""

    text: str
    severity: Severity = "information"
    code: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run of a pipeline found."""

    segments: tuple[Segment, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    scores: tuple[Score, ...] = ()
    notices: tuple[Notice, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a result and from what (I8). Written into every output."""

    installation: str
    environment: str
    pipeline: str
    version: str
    title: str
    intended_use: str
    standing: str
    package_digest: str
    weights_digest: str
    rule_set_version: int
    study_uid: str
    source_series_uid: str
    input_uids: tuple[str, ...]
    input_set: str
    generation: int
    content_time: str
    """When the content was made: `YYYYMMDDHHMMSS`, the same for every attempt of one result."""

    @property
    def result_id(self) -> str:
        """Names this result: (installation, study, pipeline, input set, generation), 32 hex digits (I3)."""
        return _digest(self.installation, self.study_uid, self.pipeline, self.input_set, str(self.generation)).hex()[
            :32
        ]

    def instance_uid(self, role: str, sop_class_uid: str) -> str:
        """SOP Instance UID of one output of this result (I3)."""
        return derive_uid(self.installation, "instance", self.result_id, role, self.source_series_uid, sop_class_uid)

    def series_uid(self, role: str, sop_class_uid: str) -> str:
        """Series Instance UID of one output: the generation and input set are left out on purpose."""
        return derive_uid(
            self.installation, "series", self.study_uid, self.pipeline, role, self.source_series_uid, sop_class_uid
        )

    def tracking_uid(self, segment_label: str) -> str:
        """Tracking Unique Identifier of a finding, the same in SEG, SR and FHIR."""
        return derive_uid(
            self.installation, "tracking", self.study_uid, self.pipeline, self.source_series_uid, segment_label
        )


def _digest(key: str, *parts: str) -> bytes:
    return hmac.new(key.encode(), "\0".join(parts).encode(), hashlib.sha256).digest()


def derive_uid(installation: str, *parts: str) -> str:
    """A UID below 2.25 made from 128 bits of HMAC-SHA256 (PS3.5 B.2): same parts, same UID."""
    return f"2.25.{int.from_bytes(_digest(installation, *parts)[:16], 'big')}"


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no blanks and no NaN: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _code_out(code: Code | None) -> list[str] | None:
    return None if code is None else [code.value, code.scheme, code.meaning]


def _code_in(value: Any) -> Code:
    return Code(*value)


def to_record(results: Results, mask_names: Mapping[str, str]) -> dict[str, Any]:
    """The record as JSON values; `mask_names` maps each segment's label to the file of its mask."""
    return {
        "segments": [
            {
                "label": s.label,
                "category": _code_out(s.category),
                "type": _code_out(s.type),
                "laterality": _code_out(s.laterality),
                "algorithm_type": s.algorithm_type,
                "colour_rgb": list(s.colour_rgb),
                "mask": mask_names[s.label],
            }
            for s in results.segments
        ],
        "measurements": [
            {
                "name": _code_out(m.name),
                "value": None if m.value is None or not math.isfinite(m.value) else m.value,
                "unit": _code_out(m.unit),
                "segment": m.segment,
                "method": m.method,
            }
            for m in results.measurements
        ],
        "scores": [
            {
                "name": _code_out(s.name),
                "value": s.value,
                "probability": s.probability,
                "interval": None if s.interval is None else list(s.interval),
                "model": s.model,
                "version": s.version,
                "citation": s.citation,
                "inputs": list(s.inputs),
                "missing": list(s.missing),
            }
            for s in results.scores
        ],
        "notices": [{"text": n.text, "severity": n.severity, "code": n.code} for n in results.notices],
        "parameters": dict(results.parameters),
    }


def from_record(record: Mapping[str, Any], masks: Mapping[str, NDArray[np.bool_]]) -> Results:
    """The results of a record; `masks` maps mask file names to boolean arrays (z, y, x)."""
    return Results(
        segments=tuple(
            Segment(
                label=s["label"],
                category=_code_in(s["category"]),
                type=_code_in(s["type"]),
                mask=masks[s["mask"]],
                algorithm_type=s["algorithm_type"],
                laterality=None if s["laterality"] is None else _code_in(s["laterality"]),
                colour_rgb=(s["colour_rgb"][0], s["colour_rgb"][1], s["colour_rgb"][2]),
            )
            for s in record["segments"]
        ),
        measurements=tuple(
            Measurement(_code_in(m["name"]), m["value"], _code_in(m["unit"]), m["segment"], m["method"])
            for m in record["measurements"]
        ),
        scores=tuple(
            Score(
                name=_code_in(s["name"]),
                value=s["value"],
                probability=s["probability"],
                interval=None if s["interval"] is None else (s["interval"][0], s["interval"][1]),
                model=s["model"],
                version=s["version"],
                citation=s["citation"],
                inputs=tuple(s["inputs"]),
                missing=tuple(s["missing"]),
            )
            for s in record["scores"]
        ),
        notices=tuple(Notice(n["text"], n["severity"], n["code"]) for n in record["notices"]),
        parameters=dict(record["parameters"]),
    )
