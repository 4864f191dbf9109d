"""The facts that an example inside a rule states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.domain.fact import FIELDS, GivenSeries, StudyFacts, series_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.domain.fact import Fact
    from orchestrator.rulebook.compiling import Compiler
    from orchestrator.rulebook.text import ExampleText


def facts_of(example: ExampleText, path: str, compiler: Compiler) -> StudyFacts:
    """The facts an example states; the others are missing. What follows from them is filled in."""
    values = {
        **_section("study", example.study, f"{path}.study", compiler),
        **_section("patient", example.patient, f"{path}.patient", compiler),
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


def _with_regions(facts: dict[str, Fact | None]) -> dict[str, Fact | None]:
    """Names of regions say that there are some; no region has no name."""
    if facts["series.has_region"] is None and facts["series.region_names"] is not None:
        facts["series.has_region"] = bool(facts["series.region_names"])
    if facts["series.has_region"] is False:
        facts["series.region_names"] = ()
    return facts


def _series(number: int, facts: Mapping[str, Fact | None]) -> GivenSeries:
    return GivenSeries(str(number), series_label(number + 1, str(facts["series.modality"] or "")), facts)
