"""Condition trees over facts, in three-valued logic, with the reason for every outcome.

A missing fact makes a test unknown (None). `not`, `any` and `all` follow Kleene: an `all` is false
when a part is false, else unknown when a part is unknown; an `any` is true when a part is true,
else unknown when a part is unknown.

All `series.*` tests that belong to one `all`, through `any` and `not` but not through an `all`
inside it, speak of one and the same series: the `all` holds when one series satisfies it. A
`series.*` test outside every `all` means "some series".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.domain.fact_sources import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.domain.fact import Fact, SeriesFacts, StudyFacts, Truth, Weight

Operator = Literal["eq", "in", "lt", "le", "gt", "ge", "between", "matches", "exists", "has_region", "has_prior"]
NAMED_AT_MOST = 6
_OF_SERIES = frozenset(name for name in FIELDS if name.startswith("series."))
_SHOWN = frozenset(name for name, given in FIELDS.items() if given.is_shown)


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison. `holds` compares a present value; text is how the rule wrote it.

    Field, operator and value say all: tests equal in these are weighed once for the same facts.
    """

    __test__ = False

    field: str
    operator: Operator
    value: Any
    holds: Callable[[Any], bool]
    text: str
    is_of_series: bool = dataclasses.field(init=False, repr=False, compare=False)
    key: str = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_of_series", self.field in _OF_SERIES)
        object.__setattr__(self, "key", f"{self.field} {self.operator} {self.value!r}")

    def weigh(self, facts: StudyFacts, bound: SeriesFacts | None) -> Weight:
        """Of the series bound; of some series where none is; of the study where it asks for the study."""
        if self.is_of_series and bound is None:
            return _some_series((self,), facts)
        told = bound if self.is_of_series and bound is not None else facts
        known = told.weights.get(self.key)
        if known is None:
            known = told.weights[self.key] = _compare(self, told.values)
        return known


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds; its series conditions speak of one and the same series."""

    parts: tuple[Condition, ...]
    key: str = field(init=False, repr=False, compare=False)
    of_series: tuple[Condition, ...] = field(init=False, repr=False, compare=False)
    """The parts that speak of this `all`'s own series."""
    of_study: tuple[Condition, ...] = field(init=False, repr=False, compare=False)
    """The other parts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"all({', '.join(p.key for p in self.parts)})")
        bound = tuple(p for p in self.parts if speaks_of_series(p))
        object.__setattr__(self, "of_series", bound)
        object.__setattr__(self, "of_study", tuple(p for p in self.parts if not speaks_of_series(p)))

    def weigh(self, facts: StudyFacts, bound: SeriesFacts | None) -> Weight:  # noqa: ARG002 - it has its own series
        """The parts about the study, then one series for the parts about its own series."""
        around = _together(self.of_study, facts, None, deciding=False)
        if not self.of_series or around[0] is False:
            return around
        inside = _some_series(self.of_series, facts)
        if inside[0] is False or (inside[0] is None and around[0] is True):
            return inside
        if around[0] is None:
            return around
        return True, _listed([inside[1], around[1]], " and ")


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"any({', '.join(p.key for p in self.parts)})")

    def weigh(self, facts: StudyFacts, bound: SeriesFacts | None) -> Weight:
        """The parts, of the series bound."""
        return _together(self.parts, facts, bound, deciding=True)


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"not({self.part.key})")

    def weigh(self, facts: StudyFacts, bound: SeriesFacts | None) -> Weight:
        """The contrary of the part; what is unknown stays so."""
        truth, reason = self.part.weigh(facts, bound)
        return (None if truth is None else not truth), reason


Condition = Test | All | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a condition, None for unknown, and the facts that decided it."""

    truth: Truth
    reason: str


def speaks_of_series(condition: Condition) -> bool:
    """Whether a series test belongs to the condition itself, not to an `all` inside it."""
    if isinstance(condition, Test):
        return condition.is_of_series
    if isinstance(condition, AnyOf):
        return any(speaks_of_series(p) for p in condition.parts)
    return isinstance(condition, Not) and speaks_of_series(condition.part)


def evaluate(condition: Condition, facts: StudyFacts) -> Verdict:
    """Whether the condition holds for a study, and why or why not."""
    return Verdict(*condition.weigh(facts, None))


def matching_series(condition: Condition, facts: StudyFacts) -> frozenset[str] | None:
    """UIDs of the series by which a condition holds; None when it asks for no series in particular.

    Those that satisfy an `all` with series tests, or a test outside every `all`. Of an `any`, and of
    an `all` that holds only others, those of its parts together.
    """
    if isinstance(condition, Not) or condition.weigh(facts, None)[0] is not True:
        return None
    if isinstance(condition, Test):
        if not speaks_of_series(condition):
            return None
        return frozenset(s.uid for s in facts.series if condition.weigh(facts, s)[0])
    if isinstance(condition, All) and condition.of_series:
        of_series = condition.of_series
        return frozenset(s.uid for s in facts.series if _together(of_series, facts, s, deciding=False)[0])
    found = [matching_series(p, facts) for p in condition.parts if p.weigh(facts, None)[0]]
    named = [uids for uids in found if uids is not None]
    if not named or (isinstance(condition, AnyOf) and len(named) < len(found)):
        return None
    return frozenset[str]().union(*named)


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
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else f"{value:g}"


def _together(parts: Sequence[Condition], facts: StudyFacts, bound: SeriesFacts | None, *, deciding: bool) -> Weight:
    """The first part with the truth that decides alone, else the first unknown one, else all parts."""
    reasons: list[str] = []
    unknown: Weight | None = None
    for part in parts:
        weight = part.weigh(facts, bound)
        if weight[0] is deciding:
            return weight
        if weight[0] is None:
            unknown = unknown or weight
        else:
            reasons.append(weight[1])
    return unknown or (not deciding, _listed(reasons, " and "))


def _some_series(parts: Sequence[Condition], facts: StudyFacts) -> Weight:
    """Whether one series satisfies all parts; a no or unknown names every series tried."""
    first = parts[0].key
    if first in facts.refusals:
        return facts.refusals[first]
    columns = [(part, _column(part, facts)) for part in parts]
    tried: dict[Truth, dict[str, list[str]]] = {None: {}, False: {}}
    is_refused_by_first = True
    for number, series in enumerate(facts.series):
        truth, reason, place = _of_one(columns, number, series, facts)
        if truth is True:
            return True, f"{series.label}: {reason}"
        is_refused_by_first = is_refused_by_first and truth is False and place == 0
        tried[truth].setdefault(reason, []).append(series.label)
    if not facts.series:
        return False, "the study has no series"
    outcome: Truth = None if tried[None] else False
    weight = outcome, _listed([f"{_listed(labels, ', ')}: {why}" for why, labels in tried[outcome].items()], "; ")
    if is_refused_by_first:
        facts.refusals[first] = weight
    return weight


def _column(part: Condition, facts: StudyFacts) -> list[Weight | None]:
    """What the condition came to for each series, None where nobody has asked."""
    column = facts.columns.get(part.key)
    if column is None:
        column = facts.columns[part.key] = [None] * len(facts.series)
    return column


def _of_one(
    columns: Sequence[tuple[Condition, list[Weight | None]]], number: int, series: SeriesFacts, facts: StudyFacts
) -> tuple[Truth, str, int]:
    """As `_together`, of one series, and the place of the part that decided. Routing spends most of its time here."""
    reasons: list[str] = []
    unknown = ""
    for place, (part, column) in enumerate(columns):
        weight = column[number]
        if weight is None:
            weight = column[number] = part.weigh(facts, series)
        if weight[0] is False:
            return False, weight[1], place
        if weight[0] is None:
            unknown = unknown or weight[1]
        else:
            reasons.append(weight[1])
    return (None, unknown, -1) if unknown else (True, _listed(reasons, " and "), -1)


def _listed(words: Sequence[str], separator: str) -> str:
    """The words, the first few when they are many."""
    if len(words) <= NAMED_AT_MOST and "" not in words:
        return separator.join(words)
    given = [w for w in words if w]
    rest = len(given) - NAMED_AT_MOST
    return separator.join(given[:NAMED_AT_MOST]) + (f"{separator}{rest} more" if rest > 0 else "")
