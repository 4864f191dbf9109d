"""What can be said of conditions without any study: that one always holds where another does, or that both never do.

Only plain conditions are compared, an `all` of tests: its tests of series speak of one series, and a second one's may
speak of the same. What is not provable is not said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.condition import All, Test
from orchestrator.domain.fact_sources import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.domain.condition import Condition

_COMPARABLE: Final = ("text", "number", "flag")


@dataclass(frozen=True, slots=True)
class _Allowed:
    """Which values of a fact pass: one of a set, or numbers between bounds; `values` None stands for any."""

    values: frozenset[Any] | None = None
    least: float = -math.inf
    most: float = math.inf
    is_least_in: bool = True
    is_most_in: bool = True

    def has(self, value: Any) -> bool:
        if self.values is not None and value not in self.values:
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        above = value > self.least or (self.is_least_in and value == self.least)
        return above and (value < self.most or (self.is_most_in and value == self.most))

    def meet(self, other: _Allowed) -> _Allowed:
        """What passes both."""
        least, is_least_in = max((self.least, self.is_least_in), (other.least, other.is_least_in), key=_by_least)
        most, is_most_in = min((self.most, self.is_most_in), (other.most, other.is_most_in))
        both = _Allowed(None, least, most, is_least_in, is_most_in)
        given = [values for values in (self.values, other.values) if values is not None]
        if not given:
            return both
        return _Allowed(frozenset(value for value in frozenset.intersection(*given) if both.has(value)))

    @property
    def is_empty(self) -> bool:
        if self.values is not None:
            return not self.values
        return self.least > self.most or (self.least == self.most and not (self.is_least_in and self.is_most_in))


def _by_least(bound: tuple[float, bool]) -> tuple[float, bool]:
    return bound[0], not bound[1]


def never_both(one: Condition, other: Condition) -> str:
    """The fact for which no value satisfies both; empty where there is none."""
    bounds, others = _bounds(_tests(one)), _bounds(_tests(other))
    return next((name for name in bounds if name in others and bounds[name].meet(others[name]).is_empty), "")


def always(general: Condition, special: Condition) -> bool:
    """Whether the general one surely holds wherever the special one does."""
    wanted, given = _tests(general), _tests(special)
    if not _is_plain(general) or not wanted:
        return False
    keys, bounds = {test.key for test in given}, _bounds(given)
    return all(test.key in keys or _follows(test, bounds) for test in wanted)


def _follows(test: Test, bounds: Mapping[str, _Allowed]) -> bool:
    allowed = _allowed(test)
    if test.operator == "exists":
        return test.value is True and test.field in bounds
    if allowed is None or test.field not in bounds:
        return False
    met = bounds[test.field]
    return met.meet(allowed) == met


def _tests(condition: Condition) -> tuple[Test, ...]:
    """The tests that all must hold for the condition to hold."""
    if isinstance(condition, Test):
        return (condition,)
    return tuple(part for part in condition.parts if isinstance(part, Test)) if isinstance(condition, All) else ()


def _is_plain(condition: Condition) -> bool:
    return isinstance(condition, Test) or (
        isinstance(condition, All) and all(isinstance(part, Test) for part in condition.parts)
    )


def _bounds(tests: Iterable[Test]) -> dict[str, _Allowed]:
    bounds: dict[str, _Allowed] = {}
    for test in tests:
        allowed = _allowed(test)
        if allowed is not None:
            bounds[test.field] = bounds.get(test.field, _Allowed()).meet(allowed)
    return bounds


def _allowed(test: Test) -> _Allowed | None:
    """None where a test cannot be compared: a pattern, a list of texts, a time."""
    field = FIELDS[test.field]
    if field.type not in _COMPARABLE:
        return None
    if test.operator in ("eq", "in", "has_region"):
        given = test.value if isinstance(test.value, list) else [test.value]
        return _Allowed(frozenset(value.upper() if field.is_code else value for value in given))
    if test.operator in ("lt", "le"):
        return _Allowed(most=test.value, is_most_in=test.operator == "le")
    if test.operator in ("gt", "ge"):
        return _Allowed(least=test.value, is_least_in=test.operator == "ge")
    return None
