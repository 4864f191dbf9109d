"""Conditions as they are defined, without a thought for speed: what the engine is compared with."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from orchestrator.domain.condition import All, AnyOf, Condition, Not, Test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.domain.fact import SeriesFacts, StudyFacts

ORDER = {False: 0, None: 1, True: 2}
TRUTH = {rank: truth for truth, rank in ORDER.items()}
RANK_OF_TRUE = ORDER[True]


def brute_force(condition: Condition, facts: StudyFacts, series: SeriesFacts | None = None) -> int:
    """The definition itself: every `all` is tried with every series, minimum and maximum of 0, 1, 2."""
    match condition:
        case Test(field=field) if field.startswith("series.") and series is None:
            return max((brute_force(condition, facts, s) for s in facts.series), default=0)
        case Test():
            return of_test(condition, (series if names_series(condition) else facts) or facts)
        case Not(part=part):
            return 2 - brute_force(part, facts, series)
        case AnyOf(parts=parts):
            return max(brute_force(p, facts, series) for p in parts)
        case All(parts=parts):
            tried = facts.series if any(map(names_series, parts)) else [None]
            return max((min(brute_force(p, facts, s) for p in parts) for s in tried), default=0)


def depends_on_order(condition: Condition, facts: StudyFacts) -> bool:
    """Whether what an order says decides if the condition holds: all that its tests can come to is tried."""
    told = ["order."] if facts.values["study.procedure_code"] else ["order.", "procedure."]
    places = sum(test.field.startswith(tuple(told)) for test in tests_in(condition))
    outcomes = set()
    for drawn in product([False, True], repeat=places):
        truths = iter(drawn)
        outcomes.add(brute_force(_told(condition, tuple(told), truths), facts) == RANK_OF_TRUE)
    return len(outcomes) > 1


def tests_in(condition: Condition) -> list[Test]:
    match condition:
        case Test():
            return [condition]
        case Not(part=part):
            return tests_in(part)
        case _:
            return [test for part in condition.parts for test in tests_in(part)]


def _told(condition: Condition, told: tuple[str, ...], truths: Iterator[bool]) -> Condition:
    match condition:
        case Test(field=field) if field.startswith(told):
            truth = next(truths)
            return Test("study.series_count", "ge", str(truth), lambda _: truth, "as drawn")
        case Test():
            return condition
        case Not(part=part):
            return Not(_told(part, told, truths))
        case _:
            return type(condition)(tuple(_told(part, told, truths) for part in condition.parts))


def of_test(test: Test, source: StudyFacts | SeriesFacts) -> int:
    value = source.values[test.field]
    if value is None:
        return ORDER[(not test.value) if test.operator == "exists" else None]
    return ORDER[test.holds(value)]


def names_series(condition: Condition) -> bool:
    match condition:
        case Test(field=field):
            return field.startswith("series.")
        case AnyOf(parts=parts):
            return any(map(names_series, parts))
        case Not(part=part):
            return names_series(part)
        case _:
            return False
