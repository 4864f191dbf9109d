"""The facts that a study was routed by, as JSON values: what rules can be tried on later (I6)."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.fact import GivenSeries, Prior, StudyFacts
from orchestrator.domain.fact_sources import FIELDS, GEOMETRY_FIELDS
from orchestrator.domain.subject import Drawing, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.fact import Fact, Weight
    from orchestrator.domain.subject import SubjectSeries

_OF_SERIES = tuple(name for name in FIELDS if name.startswith("series."))
_OF_STUDY = tuple(name for name in FIELDS if not name.startswith("series."))


@dataclass(frozen=True, eq=False)
class RecalledSeries:
    """A series as a snapshot tells of it: instead of the images of a volume it has the series' own UID.

    Not slotted: it keeps what it worked out.
    """

    uid: str
    label: str
    values: Mapping[str, Fact | None]
    unfit: Unfit | None
    left_out: int
    weights: dict[str, Weight] = field(default_factory=dict, repr=False)

    @property
    def region_names(self) -> tuple[str, ...]:
        """Regions drawn on it."""
        names = self.values["series.region_names"]
        return tuple(str(name) for name in names) if isinstance(names, tuple) else ()

    @cached_property
    def by_header(self) -> GivenSeries:
        """The series as if nothing were known of its geometry."""
        return GivenSeries(self.uid, self.label, ChainMap(dict.fromkeys(GEOMETRY_FIELDS), dict(self.values)))

    @property
    def volume_images(self) -> Mapping[str, str]:
        """Something that stands for the images of the volume, where there is one."""
        return {} if self.unfit else {self.uid: ""}


def record_of(subject: Subject) -> dict[str, Any]:
    """Every fact that is known, and what decides which pipelines suit."""
    return {
        "study": _known(subject.facts.values, _OF_STUDY),
        "series": [_series(series) for series in subject.series],
        "drawings": [
            {
                "uid": drawing.uid,
                "digest": drawing.digest,
                "series_uid": drawing.series_uid,
                "received_at": drawing.received_at.isoformat(),
                "regions": [list(region) for region in drawing.regions],
            }
            for drawing in subject.drawings
        ],
    }


def subject_in(record: Mapping[str, Any]) -> Subject:
    """The study of a record made by `record_of`; facts that it lacks are missing."""
    series = tuple(
        RecalledSeries(
            uid=given["uid"],
            label=given["label"],
            values=_restored(given["facts"], _OF_SERIES),
            unfit=Unfit(Fault[given["unfit"][0]], given["unfit"][1]) if given["unfit"] else None,
            left_out=given["left_out"],
        )
        for given in record["series"]
    )
    drawings = tuple(
        Drawing(
            uid=given["uid"],
            digest=given["digest"],
            series_uid=given["series_uid"],
            received_at=datetime.fromisoformat(given["received_at"]),
            regions=tuple((name, uid) for name, uid in given["regions"]),
        )
        for given in record["drawings"]
    )
    return Subject(StudyFacts(_restored(record["study"], _OF_STUDY), series), series, drawings)


def _series(series: SubjectSeries) -> dict[str, Any]:
    return {
        "uid": series.uid,
        "label": series.label,
        "facts": _known(series.values, _OF_SERIES),
        "unfit": [series.unfit.fault.name, series.unfit.detail] if series.unfit else None,
        "left_out": series.left_out,
    }


def _known(values: Mapping[str, Fact | None], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _plain(value) for name in names if (value := values[name]) is not None}


def _plain(value: Fact) -> Any:
    if isinstance(value, tuple):
        return [asdict(part) if isinstance(part, Prior) else part for part in value]
    return value


def _restored(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Fact | None]:
    facts: dict[str, Fact | None] = dict.fromkeys(names)
    for name, value in record.items():
        if name in facts:
            facts[name] = _of_json(value)
    return facts


def _of_json(value: Any) -> Fact:
    if not isinstance(value, list):
        fact: Fact = value
        return fact
    if value and isinstance(value[0], dict):
        return tuple(Prior(tuple(p["modalities"]), tuple(p["body_parts"]), p["days"]) for p in value)
    return tuple(value)
