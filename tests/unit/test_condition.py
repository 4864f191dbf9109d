"""Conditions in three-valued logic, and the reasons they give."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.condition import All, AnyOf, Condition, Not, Test, evaluate, matching_series
from orchestrator.domain.fact import GivenSeries, StudyFacts
from orchestrator.domain.fact_sources import FIELDS
from tests.plain_interpreter import ORDER, TRUTH, brute_force, names_series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.fact import Fact

STUDY, BODY, ROWS = "study.series_count", "series.body_part", "series.rows"


def at_least(field: str, bound: float) -> Test:
    return Test(field, "ge", bound, lambda value: value >= bound, f"{field} ge {bound}")


def is_text(field: str, text: str) -> Test:
    return Test(field, "eq", text, lambda value: value == text, f"{field} eq {text}")


def exists(field: str, *, wanted: bool = True) -> Test:
    return Test(field, "exists", wanted, lambda _: wanted, f"{field} exists {str(wanted).lower()}")


def facts_of(study: Mapping[str, Fact], *series: Mapping[str, Fact]) -> StudyFacts:
    nothing = dict.fromkeys(FIELDS)
    given = (GivenSeries(str(n), f"series {n}", nothing | dict(s)) for n, s in enumerate(series, 1))
    return StudyFacts(nothing | dict(study), tuple(given))


tests = st.sampled_from(
    [
        at_least(STUDY, 2),
        is_text(BODY, "KNEE"),
        is_text(BODY, "FOOT"),
        at_least(ROWS, 100),
        exists(BODY),
        exists(ROWS, wanted=False),
    ]
)
conditions = st.recursive(
    tests,
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda p: All(tuple(p)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda p: AnyOf(tuple(p)))
    ),
    max_leaves=8,
)
some_series = st.fixed_dictionaries(
    {}, optional={BODY: st.sampled_from(["KNEE", "FOOT"]), ROWS: st.sampled_from([50, 200])}
)
some_facts = st.builds(
    lambda study, series: facts_of(study, *series),
    st.fixed_dictionaries({}, optional={STUDY: st.integers(1, 3)}),
    st.lists(some_series, max_size=3),
)


@given(conditions, some_facts)
@settings(max_examples=400)
def test_every_verdict_is_the_one_the_definition_gives(condition: Condition, facts: StudyFacts) -> None:
    assert evaluate(condition, facts).truth is TRUTH[brute_force(condition, facts)]


@given(conditions, some_facts)
def test_every_verdict_has_a_reason_and_a_double_no_changes_nothing(condition: Condition, facts: StudyFacts) -> None:
    verdict = evaluate(condition, facts)
    assert verdict.reason
    assert evaluate(Not(Not(condition)), facts) == verdict


@given(st.lists(tests, min_size=1, max_size=4), some_facts)
def test_the_series_an_all_matches_are_those_that_satisfy_it(parts: list[Test], facts: StudyFacts) -> None:
    condition = All(tuple(parts))
    found = matching_series(condition, facts)
    if evaluate(condition, facts).truth is not True or not names_series(AnyOf(condition.parts)):
        assert found is None
    else:
        assert found == {s.uid for s in facts.series if brute_force(condition, facts.only(s)) == ORDER[True]}


no_exists = conditions.filter(lambda c: "exists" not in repr(c))


@given(no_exists, some_facts, st.data())
def test_a_fact_that_becomes_known_never_turns_a_yes_or_no(
    condition: Condition, facts: StudyFacts, data: st.DataObject
) -> None:
    before = evaluate(condition, facts).truth
    filled = facts_of(
        {STUDY: facts.values[STUDY] or data.draw(st.integers(1, 3))},
        *({BODY: s.values[BODY] or "KNEE", ROWS: s.values[ROWS] or 200} for s in facts.series),
    )
    after = evaluate(condition, filled).truth
    assert after is not None
    assert before in {None, after}


def test_conditions_of_one_all_speak_of_the_same_series() -> None:
    facts = facts_of({}, {BODY: "KNEE", ROWS: 50}, {BODY: "FOOT", ROWS: 200})
    knee, large = is_text(BODY, "KNEE"), at_least(ROWS, 100)
    assert evaluate(All((knee, large)), facts).truth is False
    assert evaluate(All((All((knee,)), All((large,)))), facts).truth is True
    assert evaluate(All((AnyOf((knee, large)), Not(large))), facts).truth is True


def test_a_series_test_outside_every_all_means_some_series() -> None:
    facts = facts_of({}, {BODY: "KNEE"}, {BODY: "FOOT"})
    assert evaluate(is_text(BODY, "FOOT"), facts).truth is True
    assert evaluate(Not(is_text(BODY, "FOOT")), facts).truth is False
    assert matching_series(is_text(BODY, "FOOT"), facts) == {"2"}


@pytest.mark.parametrize(
    ("condition", "truth", "reason"),
    [
        (All((is_text(BODY, "KNEE"),)), True, "series 1: series.body_part eq KNEE"),
        (
            All((is_text(BODY, "HIP"),)),
            False,
            "series 1: not series.body_part eq HIP (it is KNEE); series 2: not series.body_part eq HIP (it is FOOT)",
        ),
        (All((is_text(BODY, "KNEE"), at_least(ROWS, 9))), None, "series 1: series.rows is missing"),
        (
            All((at_least(STUDY, 3), is_text(BODY, "KNEE"))),
            False,
            "not study.series_count ge 3 (it is 2)",
        ),
        (
            All((exists(BODY), exists(ROWS, wanted=False), at_least(STUDY, 1))),
            True,
            "series 1: series.body_part exists true and series.rows exists false and study.series_count ge 1",
        ),
        (AnyOf((is_text(BODY, "HIP"), at_least(STUDY, 2))), True, "study.series_count ge 2"),
        (exists(ROWS), False, "series 1, series 2: not series.rows exists true"),
    ],
)
def test_a_reason_names_the_fact_that_decided_and_the_series_tried(
    *,
    condition: Condition,
    truth: bool | None,
    reason: str,
) -> None:
    verdict = evaluate(condition, facts_of({STUDY: 2}, {BODY: "KNEE"}, {BODY: "FOOT"}))
    assert (verdict.truth, verdict.reason) == (truth, reason)


def test_no_reason_repeats_free_text_or_facts_of_the_patient() -> None:
    secret = "Doe^Jane"
    texts = [f.name for f in FIELDS.values() if f.type == "text" and not f.is_code]
    facts = facts_of(dict.fromkeys(texts, secret) | {"patient.age_years": 41.5, "patient.sex": "F"})
    whole = StudyFacts(
        facts.values, (GivenSeries("1", "series 1", dict.fromkeys(FIELDS) | dict.fromkeys(texts, secret)),)
    )
    asked = [is_text(name, "x") for name in texts] + [at_least("patient.age_years", 50), is_text("patient.sex", "M")]
    said = " ".join(chain.from_iterable((evaluate(c, whole).reason, evaluate(All((c,)), whole).reason) for c in asked))
    assert "not patient.age_years ge 50" in said
    assert secret not in said
    assert "41.5" not in said
    assert "it is F" not in said


def test_a_study_without_series_satisfies_no_series_condition() -> None:
    verdict = evaluate(All((exists(BODY),)), facts_of({}))
    assert (verdict.truth, verdict.reason) == (False, "the study has no series")


def test_a_long_list_of_series_is_cut_short() -> None:
    facts = facts_of({}, *[{BODY: "KNEE"}] * 20)
    assert evaluate(All((is_text(BODY, "HIP"),)), facts).reason == (
        "series 1, series 2, series 3, series 4, series 5, series 6, 14 more: not series.body_part eq HIP (it is KNEE)"
    )


def test_what_matches_by_an_any_or_by_inner_alls_is_taken_together() -> None:
    facts = facts_of({STUDY: 3}, {BODY: "KNEE"}, {BODY: "FOOT"}, {BODY: "HIP"})
    knee, foot, hand = (is_text(BODY, name) for name in ("KNEE", "FOOT", "HAND"))
    assert matching_series(AnyOf((knee, foot, hand)), facts) == {"1", "2"}
    assert matching_series(All((All((knee,)), All((foot,)), at_least(STUDY, 1))), facts) == {"1", "2"}
    assert matching_series(AnyOf((knee, at_least(STUDY, 1))), facts) is None
    assert matching_series(Not(hand), facts) is None
    assert matching_series(at_least(STUDY, 1), facts) is None
