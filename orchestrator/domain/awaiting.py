"""Which rules depend on an order that is not known yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.domain.condition import All, AnyOf, Not, Test, evaluate
from orchestrator.domain.fact_sources import FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection

    from orchestrator.domain.condition import Condition
    from orchestrator.domain.fact import StudyFacts

_OF_ORDER: Final = frozenset(name for name in FIELDS if name.startswith("order."))
_OF_PROCEDURE: Final = frozenset(name for name in FIELDS if name.startswith("procedure."))
ALWAYS: Final = All(())
NEVER: Final = AnyOf(())


def asks_for_order(condition: Condition) -> bool:
    """Whether a fact of the order is asked for."""
    if isinstance(condition, Test):
        return condition.field in _OF_ORDER
    if isinstance(condition, Not):
        return asks_for_order(condition.part)
    return any(asks_for_order(part) for part in condition.parts)


def may_hold(condition: Condition, facts: StudyFacts) -> bool:
    """Whether the condition holds once an order says what suits it best."""
    return evaluate(supposing(condition, _told_by_order(facts), suits=True), facts).truth is True


def holds_anyway(condition: Condition, facts: StudyFacts) -> bool:
    """Whether it holds whatever an order says."""
    return evaluate(supposing(condition, _told_by_order(facts), suits=False), facts).truth is True


def _told_by_order(facts: StudyFacts) -> frozenset[str]:
    """The facts that an order brings: where the images name no procedure, what the site's table tells of it too."""
    return _OF_ORDER if facts.values["study.procedure_code"] is not None else _OF_ORDER | _OF_PROCEDURE


def supposing(condition: Condition, told: Collection[str], *, suits: bool) -> Condition:
    """The condition as if each test of these facts came to what helps it to hold, or to what does not."""
    if isinstance(condition, Test):
        return (ALWAYS if suits else NEVER) if condition.field in told else condition
    if isinstance(condition, Not):
        return Not(supposing(condition.part, told, suits=not suits))
    return type(condition)(tuple(supposing(part, told, suits=suits) for part in condition.parts))
