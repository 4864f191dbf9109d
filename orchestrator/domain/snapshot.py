"""The facts that a study was routed by, as JSON values: what rules can be tried on later (I6)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.domain.fact import GivenSeries, Prior, StudyFacts
from orchestrator.domain.fact_sources import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.fact import Fact

_OF_SERIES = tuple(name for name in FIELDS if name.startswith("series."))
_OF_STUDY = tuple(name for name in FIELDS if not name.startswith("series."))


def record_of(facts: StudyFacts) -> dict[str, Any]:
    """Every fact that is known."""
    return {
        "study": _known(facts.values, _OF_STUDY),
        "series": [{"uid": s.uid, "label": s.label, "facts": _known(s.values, _OF_SERIES)} for s in facts.series],
    }


def facts_in(record: Mapping[str, Any]) -> StudyFacts:
    """The facts of a record made by `record_of`; those it lacks are missing."""
    return StudyFacts(
        _restored(record["study"], _OF_STUDY),
        tuple(GivenSeries(s["uid"], s["label"], _restored(s["facts"], _OF_SERIES)) for s in record["series"]),
    )


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
