"""The facts that an example inside a rule states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from orchestrator.domain.fact import GivenSeries, Prior, StudyFacts, series_label
from orchestrator.domain.fact_sources import FIELDS
from orchestrator.rulebook.compiling import path_of
from orchestrator.rulebook.text import PriorGivenText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.domain.fact import Fact
    from orchestrator.rulebook.compiling import Compiler
    from orchestrator.rulebook.text import FactsText


_PRIORS: Final = TypeAdapter(list[PriorGivenText])


def facts_of(example: FactsText, path: str, compiler: Compiler) -> StudyFacts:
    """The facts an example states; the others are missing. What follows from them is filled in."""
    values = {
        **_section("study", example.study, f"{path}.study", compiler),
        **_patient(example.patient, f"{path}.patient", compiler),
        **_section("procedure", example.procedure, f"{path}.procedure", compiler),
        **_order(example.order, f"{path}.order", compiler),
        **_section("node", example.node, f"{path}.node", compiler),
    }
    series = [
        _with_regions(_section("series", given, f"{path}.series[{n}]", compiler))
        for n, given in enumerate(example.series)
    ]
    modalities = tuple(sorted({str(s["series.modality"]) for s in series if s["series.modality"]}))
    if values["study.modalities"] is None:
        values["study.modalities"] = modalities or None
    if values["study.series_count"] is None:
        values["study.series_count"] = len(series)
    return StudyFacts(values, tuple(_series(n, s) for n, s in enumerate(series)))


def _section(prefix: str, given: Mapping[str, Any], path: str, compiler: Compiler) -> dict[str, Fact | None]:
    facts: dict[str, Fact | None] = {name: None for name in FIELDS if name.startswith(f"{prefix}.")}
    for name, value in given.items():
        field = compiler.field(f"{prefix}.{name}", f"{path}.{name}")
        if field is None:
            continue
        parts: Sequence[Any] = value if field.type == "list" and isinstance(value, list) else [value]
        fits = [compiler.value(field, part, f"{path}.{name}") for part in parts]
        if not all(fits) or value == "":
            continue
        if field.is_code:
            parts = [part.upper() for part in parts]
        facts[field.name] = tuple(parts) if field.type == "list" else parts[0]
    return facts


def _patient(given: Mapping[str, Any], path: str, compiler: Compiler) -> dict[str, Fact | None]:
    """Earlier studies are a list of their own shape; an empty one says that there are none."""
    facts = _section("patient", {name: value for name, value in given.items() if name != "priors"}, path, compiler)
    if "priors" in given:
        try:
            stated = _PRIORS.validate_python(given["priors"])
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False, include_context=False, include_input=False):
                compiler.fault(path_of(f"{path}.priors", error["loc"]), error["msg"])
        else:
            facts["patient.priors"] = tuple(
                Prior(_capitals(one.modalities), _capitals(one.body_parts), one.days) for one in stated
            )
    return facts


def _order(given: Mapping[str, Any], path: str, compiler: Compiler) -> dict[str, Fact | None]:
    """An order that tells anything is known; where an example tells nothing of one there is none."""
    facts = _section("order", given, path, compiler)
    if facts["order.is_known"] is None:
        facts["order.is_known"] = any(value is not None for value in facts.values())
    return facts


def _capitals(codes: Sequence[str]) -> tuple[str, ...]:
    return tuple(code.upper() for code in codes)


def _with_regions(facts: dict[str, Fact | None]) -> dict[str, Fact | None]:
    """Names of regions say that there are some; no region has no name."""
    if facts["series.has_region"] is None and facts["series.region_names"] is not None:
        facts["series.has_region"] = bool(facts["series.region_names"])
    if facts["series.has_region"] is False:
        facts["series.region_names"] = ()
    return facts


def _series(number: int, facts: Mapping[str, Fact | None]) -> GivenSeries:
    return GivenSeries(str(number), series_label(number + 1, str(facts["series.modality"] or "")), facts)
