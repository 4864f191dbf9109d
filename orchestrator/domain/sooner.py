"""Which series can go on before their study is whole: what is still to come changes no rule's answer for them.

What the images say of the study as a whole, its description, date, procedure, accession number and patient, is taken to
be the same in all its series, once one has said it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.domain.awaiting import ALWAYS, NEVER, supposing
from orchestrator.domain.condition import All, AnyOf, Not, Test, evaluate
from orchestrator.domain.fact_sources import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from orchestrator.domain.condition import Condition
    from orchestrator.domain.fact import StudyFacts
    from orchestrator.domain.route import Forward, Rule
    from orchestrator.domain.subject import Subject

_BY_OTHERS: Final = frozenset({"series.has_region", "series.region_names"})
"""Facts of a series that objects of another one tell."""
_OF_WHOLE: Final = frozenset({"study.modalities", "study.series_count", "patient.priors"})
_ONCE_SAID: Final = frozenset(
    {
        *(f"study.{name}" for name in ("description", "date", "procedure_code", "accession_number")),
        *(f"patient.{name}" for name in ("species", "age_years", "sex")),
        *(name for name in FIELDS if name.startswith("procedure.")),
    }
)
_OF_ORDER: Final = frozenset(name for name in FIELDS if name.startswith("order."))


def certain(forwards: Sequence[Forward], rules: Sequence[Rule], subject: Subject) -> list[Forward]:
    """Those of what a routing of part of a study sends on that the routing of the whole sends on alike."""
    if not forwards:
        return []
    facts, open_ = subject.facts, _open(subject.facts)
    asked = _asked(rules, facts, open_)
    if asked is None:
        return []
    answers = [_answer(rule.when, facts, open_) for rule in asked]
    alone = {series.uid: facts.only(series) for series in subject.series}
    return [one for one in forwards if all(is_answered(alone[one.series_uid]) for is_answered in answers)]


def _asked(rules: Sequence[Rule], facts: StudyFacts, open_: Collection[str]) -> list[Rule] | None:
    """The rules that send on and will be asked; None where a rule above them may still come to stop."""
    for place, rule in enumerate(rules, 1):
        if rule.stop and _holds(_of_study(rule.when, open_, suits=True), facts):
            is_sure = _holds(_of_study(rule.when, open_, suits=False), facts)
            is_last = is_sure or not any(later.sends_on for later in rules[place:])
            return [one for one in rules[:place] if one.sends_on] if is_last else None
    return [rule for rule in rules if rule.sends_on]


def _open(facts: StudyFacts) -> frozenset[str]:
    """The facts that may become others."""
    unsaid = {name for name in _ONCE_SAID if facts.values[name] is None}
    return _BY_OTHERS | _OF_WHOLE | unsaid | (frozenset() if facts.values["order.is_known"] else _OF_ORDER)


def _answer(condition: Condition, facts: StudyFacts, open_: Collection[str]) -> Callable[[StudyFacts], bool]:
    """Tells of a series alone whether it is certain that a rule of this condition sends it on, or that it does not."""
    if not _is_of_one(condition):
        is_out_of_question = not _holds(_of_study(condition, open_, suits=True), facts)
        return lambda _: is_out_of_question
    if not _has(condition, lambda test: test.field in open_):
        return lambda _: True
    at_most, at_least = (supposing(condition, open_, suits=suits) for suits in (True, False))
    return lambda alone: _holds(at_most, alone) == _holds(at_least, alone)


def _holds(condition: Condition, facts: StudyFacts) -> bool:
    return evaluate(condition, facts).truth is True


def _is_of_one(condition: Condition) -> bool:
    """Whether the condition is met by a series or not, whatever others there are."""
    if isinstance(condition, AnyOf):
        return all(_is_of_one(part) for part in condition.parts)
    if isinstance(condition, All):
        return not any(_asks_for_others(part) for part in condition.parts)
    return isinstance(condition, Test) or not _has(condition, lambda test: test.is_of_series)


def _asks_for_others(condition: Condition) -> bool:
    """Whether an `all` inside it speaks of a series of its own."""
    if isinstance(condition, Test):
        return False
    if isinstance(condition, Not):
        return _asks_for_others(condition.part)
    if isinstance(condition, All) and condition.of_series:
        return True
    return any(_asks_for_others(part) for part in condition.parts)


def _has(condition: Condition, is_wanted: Callable[[Test], bool]) -> bool:
    """Whether one of its tests is such."""
    if isinstance(condition, Test):
        return is_wanted(condition)
    if isinstance(condition, Not):
        return _has(condition.part, is_wanted)
    return any(_has(part, is_wanted) for part in condition.parts)


def _of_study(condition: Condition, open_: Collection[str], *, suits: bool, is_bound: bool = False) -> Condition:
    """The condition as if all that is open, and the series still to come, helped it to hold, or did not.

    `is_bound` inside an `all`, whose series tests speak of one series that is here.
    """
    if isinstance(condition, Test):
        is_open = condition.field in open_ or (condition.is_of_series and suits and not is_bound)
        return (ALWAYS if suits else NEVER) if is_open else condition
    if isinstance(condition, Not):
        return Not(_of_study(condition.part, open_, suits=not suits, is_bound=is_bound))
    if isinstance(condition, AnyOf):
        return AnyOf(tuple(_of_study(part, open_, suits=suits, is_bound=is_bound) for part in condition.parts))
    of_study = tuple(_of_study(part, open_, suits=suits) for part in condition.of_study)
    if suits:
        return All(of_study)
    return All((*of_study, *(_of_study(part, open_, suits=False, is_bound=True) for part in condition.of_series)))
