"""Condition trees over facts, in three-valued logic, with the reason for every outcome.

A missing fact makes a test unknown (None). `not`, `any` and `all` follow Kleene: an `all` is false
when a part is false, else unknown when a part is unknown; an `any` is true when a part is true,
else unknown when a part is unknown.

All `series.*` tests that belong to one `all`, through `any` and `not` but not through an `all`
inside it, speak of one and the same series: the `all` holds when one series satisfies it. A
`series.*` test outside every `all` means "some series".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.domain.fact import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from orchestrator.domain.fact import Fact, SeriesFacts, StudyFacts

Operator = Literal["eq", "in", "lt", "le", "gt", "ge", "matches", "exists", "has_region"]
Truth = bool | None

NAMED_AT_MOST = 6


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. `holds` compares a present value; text is how the rule wrote it."""

    __test__ = False

    field: str
    operator: Operator
    value: Any
    holds: Callable[[Any], bool]
    text: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; its series conditions speak of one and the same series."""

    parts: tuple[Condition, ...]
    of_series: tuple[Condition, ...] = field(init=False, repr=False, compare=False)
    """The parts that speak of this `all`'s own series."""
    of_study: tuple[Condition, ...] = field(init=False, repr=False, compare=False)
    """The other parts."""

    def __post_init__(self) -> None:
        bound = tuple(p for p in self.parts if speaks_of_series(p))
        object.__setattr__(self, "of_series", bound)
        object.__setattr__(self, "of_study", tuple(p for p in self.parts if not speaks_of_series(p)))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition


Condition = Test | All | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a condition, None for unknown, and the facts that decided it."""

    truth: Truth
    reason: str


def speaks_of_series(condition: Condition) -> bool:
    """Whether a series test belongs to the condition itself, not to an `all` inside it."""
    if isinstance(condition, Test):
        return condition.field.startswith("series.")
    if isinstance(condition, AnyOf):
        return any(speaks_of_series(p) for p in condition.parts)
    return isinstance(condition, Not) and speaks_of_series(condition.part)


def evaluate(condition: Condition, facts: StudyFacts) -> Verdict:
    """Whether the condition holds for a study, and why or why not."""
    return _weigh(condition, facts, None)


def matching_series(condition: Condition, facts: StudyFacts) -> frozenset[str] | None:
    """UIDs of the series by which a condition holds; None when it asks for no series in particular.

    Those that satisfy an `all` with series tests, or a test outside every `all`. Of an `any`, and of
    an `all` that holds only others, those of its parts together.
    """
    if isinstance(condition, Not) or evaluate(condition, facts).truth is not True:
        return None
    if isinstance(condition, Test) and not speaks_of_series(condition):
        return None
    if isinstance(condition, Test):
        return frozenset(s.uid for s in facts.series if _weigh(condition, facts, s).truth is True)
    if isinstance(condition, All) and condition.of_series:
        return frozenset(s.uid for s in facts.series if _every(condition.of_series, facts, s).truth is True)
    holding = [p for p in condition.parts if evaluate(p, facts).truth is True]
    found = [matching_series(p, facts) for p in holding]
    named = [uids for uids in found if uids is not None]
    if not named or (isinstance(condition, AnyOf) and len(named) < len(found)):
        return None
    return frozenset[str]().union(*named)


def _weigh(condition: Condition, facts: StudyFacts, bound: SeriesFacts | None) -> Verdict:
    """The condition with its own series tests bound to one series, or to none yet."""
    if isinstance(condition, Test):
        if not condition.field.startswith("series."):
            return _compare(condition, facts.values)
        return _compare(condition, bound.values) if bound is not None else _some_series((condition,), facts)
    if isinstance(condition, Not):
        inner = _weigh(condition.part, facts, bound)
        return inner if inner.truth is None else Verdict(truth=not inner.truth, reason=inner.reason)
    if isinstance(condition, AnyOf):
        return _some(condition.parts, facts, bound)
    return _conjunction(condition, facts)


def _conjunction(condition: All, facts: StudyFacts) -> Verdict:
    """An `all`: the parts about the study, then one series for the parts about its own series."""
    around = _every(condition.of_study, facts, None)
    if not condition.of_series or around.truth is False:
        return around
    inside = _some_series(condition.of_series, facts)
    if inside.truth is False or (inside.truth is None and around.truth is True):
        return inside
    if around.truth is None:
        return around
    return Verdict(truth=True, reason=_listed([inside.reason, around.reason], " and "))


def _compare(test: Test, values: Mapping[str, Fact | None]) -> Verdict:
    value = values[test.field]
    if value is None:
        if test.operator != "exists":
            return Verdict(truth=None, reason=f"{test.field} is missing")
        holds = not test.value
    else:
        holds = test.holds(value)
    if holds:
        return Verdict(truth=holds, reason=test.text)
    shown = f" (it is {_shown(value)})" if value is not None and FIELDS[test.field].is_shown else ""
    return Verdict(truth=holds, reason=f"not {test.text}{shown}")


def _shown(value: Fact) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:g}"


def _every(parts: Sequence[Condition], facts: StudyFacts, bound: SeriesFacts | None) -> Verdict:
    reasons: list[str] = []
    unknown: Verdict | None = None
    for part in parts:
        verdict = _weigh(part, facts, bound)
        if verdict.truth is False:
            return verdict
        if verdict.truth is None:
            unknown = unknown or verdict
        else:
            reasons.append(verdict.reason)
    return unknown or Verdict(truth=True, reason=_listed(reasons, " and "))


def _some(parts: Sequence[Condition], facts: StudyFacts, bound: SeriesFacts | None) -> Verdict:
    reasons: list[str] = []
    unknown: Verdict | None = None
    for part in parts:
        verdict = _weigh(part, facts, bound)
        if verdict.truth is True:
            return verdict
        if verdict.truth is None:
            unknown = unknown or verdict
        else:
            reasons.append(verdict.reason)
    return unknown or Verdict(truth=False, reason=_listed(reasons, " and "))


def _some_series(parts: Sequence[Condition], facts: StudyFacts) -> Verdict:
    """Whether one series satisfies all parts; a no or unknown names every series tried."""
    tried: dict[Truth, dict[str, list[str]]] = {None: {}, False: {}}
    for series in facts.series:
        verdict = _every(parts, facts, series)
        if verdict.truth is True:
            return Verdict(truth=True, reason=f"{series.label}: {verdict.reason}")
        tried[verdict.truth].setdefault(verdict.reason, []).append(series.label)
    if not facts.series:
        return Verdict(truth=False, reason="the study has no series")
    truth: Truth = None if tried[None] else False
    return Verdict(truth=truth, reason=_listed([f"{_listed(s, ', ')}: {why}" for why, s in tried[truth].items()], "; "))


def _listed(words: Iterable[str], separator: str) -> str:
    """The words, the first few when they are many."""
    given = [w for w in words if w]
    rest = len(given) - NAMED_AT_MOST
    return separator.join(given[:NAMED_AT_MOST]) + (f"{separator}{rest} more" if rest > 0 else "")
