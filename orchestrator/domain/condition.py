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
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.domain.fact import Fact, SeriesFacts, StudyFacts

Operator = Literal["eq", "in", "lt", "le", "gt", "ge", "matches", "exists", "has_region"]
Truth = bool | None

Weight = tuple[Truth, str]
"""A truth and the facts that decided it; a plain pair, since a routing makes thousands."""

NAMED_AT_MOST = 6
_OF_SERIES = frozenset(name for name in FIELDS if name.startswith("series."))
_SHOWN = frozenset(name for name, given in FIELDS.items() if given.is_shown)


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
        return condition.field in _OF_SERIES
    if isinstance(condition, AnyOf):
        return any(speaks_of_series(p) for p in condition.parts)
    return isinstance(condition, Not) and speaks_of_series(condition.part)


def evaluate(condition: Condition, facts: StudyFacts) -> Verdict:
    """Whether the condition holds for a study, and why or why not."""
    return Verdict(*_weigh(condition, facts, None))


def matching_series(condition: Condition, facts: StudyFacts) -> frozenset[str] | None:
    """UIDs of the series by which a condition holds; None when it asks for no series in particular.

    Those that satisfy an `all` with series tests, or a test outside every `all`. Of an `any`, and of
    an `all` that holds only others, those of its parts together.
    """
    if isinstance(condition, Not) or _weigh(condition, facts, None)[0] is not True:
        return None
    if isinstance(condition, Test):
        if not speaks_of_series(condition):
            return None
        return frozenset(s.uid for s in facts.series if _weigh(condition, facts, s)[0])
    if isinstance(condition, All) and condition.of_series:
        return frozenset(s.uid for s in facts.series if _every(condition.of_series, facts, s)[0])
    found = [matching_series(p, facts) for p in condition.parts if _weigh(p, facts, None)[0]]
    named = [uids for uids in found if uids is not None]
    if not named or (isinstance(condition, AnyOf) and len(named) < len(found)):
        return None
    return frozenset[str]().union(*named)


def _weigh(condition: Condition, facts: StudyFacts, bound: SeriesFacts | None) -> Weight:
    """The condition with its own series tests bound to one series, or to none yet."""
    if isinstance(condition, Test):
        if condition.field not in _OF_SERIES:
            return _compare(condition, facts.values)
        return _compare(condition, bound.values) if bound is not None else _some_series((condition,), facts)
    if isinstance(condition, Not):
        truth, reason = _weigh(condition.part, facts, bound)
        return (None if truth is None else not truth), reason
    if isinstance(condition, AnyOf):
        return _some(condition.parts, facts, bound)
    return _conjunction(condition, facts)


def _conjunction(condition: All, facts: StudyFacts) -> Weight:
    """An `all`: the parts about the study, then one series for the parts about its own series."""
    around = _every(condition.of_study, facts, None)
    if not condition.of_series or around[0] is False:
        return around
    inside = _some_series(condition.of_series, facts)
    if inside[0] is False or (inside[0] is None and around[0] is True):
        return inside
    if around[0] is None:
        return around
    return True, _listed([inside[1], around[1]], " and ")


def _compare(test: Test, values: Mapping[str, Fact | None]) -> Weight:
    value = values[test.field]
    if value is None and test.operator != "exists":
        return None, f"{test.field} is missing"
    if test.holds(value) if value is not None else not test.value:
        return True, test.text
    if value is None or test.field not in _SHOWN:
        return False, f"not {test.text}"
    return False, f"not {test.text} (it is {_shown(value)})"


def _shown(value: Fact) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:g}"


def _every(parts: Sequence[Condition], facts: StudyFacts, bound: SeriesFacts | None) -> Weight:
    return _together(parts, facts, bound, deciding=False)


def _some(parts: Sequence[Condition], facts: StudyFacts, bound: SeriesFacts | None) -> Weight:
    return _together(parts, facts, bound, deciding=True)


def _together(parts: Sequence[Condition], facts: StudyFacts, bound: SeriesFacts | None, *, deciding: bool) -> Weight:
    """The first part with the truth that decides alone, else the first unknown one, else all parts."""
    reasons: list[str] = []
    unknown: Weight | None = None
    for part in parts:
        weight = _weigh(part, facts, bound)
        if weight[0] is deciding:
            return weight
        if weight[0] is None:
            unknown = unknown or weight
        else:
            reasons.append(weight[1])
    return unknown or (not deciding, _listed(reasons, " and "))


def _some_series(parts: Sequence[Condition], facts: StudyFacts) -> Weight:
    """Whether one series satisfies all parts; a no or unknown names every series tried."""
    tried: dict[Truth, dict[str, list[str]]] = {None: {}, False: {}}
    for series in facts.series:
        truth, reason = _every(parts, facts, series)
        if truth is True:
            return True, f"{series.label}: {reason}"
        tried[truth].setdefault(reason, []).append(series.label)
    if not facts.series:
        return False, "the study has no series"
    outcome: Truth = None if tried[None] else False
    return outcome, _listed([f"{_listed(labels, ', ')}: {why}" for why, labels in tried[outcome].items()], "; ")


def _listed(words: Sequence[str], separator: str) -> str:
    """The words, the first few when they are many."""
    if len(words) == 1:
        return words[0]
    given = [w for w in words if w]
    rest = len(given) - NAMED_AT_MOST
    return separator.join(given[:NAMED_AT_MOST]) + (f"{separator}{rest} more" if rest > 0 else "")
