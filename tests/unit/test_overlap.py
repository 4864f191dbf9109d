"""What is said of conditions without a study holds for every study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.domain.condition import evaluate
from orchestrator.domain.fact import GivenSeries, StudyFacts
from orchestrator.domain.fact_sources import FIELDS
from orchestrator.domain.overlap import always, never_both
from orchestrator.domain.pipeline import Input
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook import YamlRulebook, parse_yaml
from tests.strategies import manifest_of

if TYPE_CHECKING:
    from orchestrator.domain.condition import Condition
    from orchestrator.rulebook import Finding

BOOK = YamlRulebook()
NUMBERS = st.sampled_from([1, 2, 2.5, 3])
CODES = st.sampled_from(["CT", "ct", "MR"])
TESTS = (
    st.builds(
        lambda field, operator, value: {"field": field, operator: value},
        st.sampled_from(["series.rows", "series.number", "study.revision"]),
        st.sampled_from(["eq", "lt", "le", "gt", "ge"]),
        NUMBERS,
    )
    | st.builds(lambda values: {"field": "series.rows", "in": values}, st.lists(NUMBERS, min_size=1, max_size=2))
    | st.builds(lambda value: {"field": "series.modality", "eq": value}, CODES)
    | st.builds(lambda values: {"field": "series.modality", "in": values}, st.lists(CODES, min_size=1, max_size=2))
    | st.builds(lambda value: {"field": "series.is_volume", "eq": value}, st.booleans())
    | st.builds(lambda value: {"has_region": value}, st.booleans())
    | st.builds(lambda value: {"field": "series.modality", "exists": value}, st.booleans())
    | st.just({"field": "series.modality", "matches": "C"})
)
CONDITIONS = (
    st.lists(TESTS, min_size=1, max_size=3).map(lambda parts: {"all": parts})
    | TESTS
    | st.lists(TESTS, min_size=1, max_size=2).map(lambda parts: {"all": [*parts[1:], {"not": parts[0]}]})
)
SERIES = st.fixed_dictionaries(
    {
        "series.rows": st.none() | NUMBERS,
        "series.number": st.none() | NUMBERS,
        "series.modality": st.sampled_from([None, "CT", "MR"]),
        "series.is_volume": st.sampled_from([None, True, False]),
        "series.has_region": st.booleans(),
    }
)


def compiled(source: Any) -> Condition:
    return BOOK.condition(parse_yaml(source) if isinstance(source, str) else source, "where")


@given(CONDITIONS, CONDITIONS, st.lists(SERIES, max_size=2), NUMBERS)
def test_no_study_contradicts_what_is_said(one: Any, other: Any, series: list[dict[str, Any]], revision: float) -> None:
    nothing = dict.fromkeys(FIELDS)
    facts = StudyFacts(
        nothing | {"study.revision": revision},
        tuple(GivenSeries(str(n), str(n), nothing | given) for n, given in enumerate(series)),
    )
    general, special = compiled(one), compiled(other)
    if always(general, special):
        assert evaluate(special, facts).truth is not True or evaluate(general, facts).truth is True
    for alone in (facts.only(one) for one in facts.series):
        if never_both(general, special):
            assert not (evaluate(general, alone).truth is True and evaluate(special, alone).truth is True)


@given(CONDITIONS)
def test_a_plain_condition_follows_from_itself(source: Any) -> None:
    condition = compiled(source)
    assume(not any("not" in part for part in source.get("all", [])))
    assert always(condition, condition)


@pytest.mark.parametrize(
    ("general", "special", "expected"),
    [
        ("{field: series.rows, ge: 2}", "{field: series.rows, gt: 2}", True),
        ("{field: series.rows, gt: 2}", "{field: series.rows, ge: 2}", False),
        ("{field: series.modality, in: [CT, MR]}", "{field: series.modality, eq: ct}", True),
        ("{field: series.modality, exists: true}", "{field: series.modality, eq: CT}", True),
        ("{field: series.modality, eq: CT}", "{all: [{field: series.modality, eq: CT}, {has_region: true}]}", True),
        ("{all: [{field: series.modality, eq: CT}, {has_region: true}]}", "{field: series.modality, eq: CT}", False),
        ("{not: {field: series.modality, eq: MR}}", "{field: series.modality, eq: CT}", False),
    ],
)
def test_what_follows_is_seen(general, special, expected):
    assert always(compiled(general), compiled(special)) is expected


def hints(*rules: dict[str, Any]) -> list[tuple[str, str]]:
    ct = Input("ct", "volume", where=compiled("{field: series.modality, eq: CT}"))
    found: list[Finding] = BOOK.check(SiteContent(rules=rules), {"bone_ct": manifest_of("bone_ct", ct)}, [])
    assert all((finding.severity, finding.code) == ("hint", "TND-2011") for finding in found)
    return [(finding.path, finding.message) for finding in found]


def rule(name: str, when: str, **given: Any) -> dict[str, Any]:
    return {"name": name, "when": parse_yaml(when), "run": ["bone_ct"], "send": [], **given}


CT = "{field: series.modality, eq: CT}"
THIN_CT = "{all: [{field: series.modality, eq: CT}, {field: series.slice_step_mm, le: 1}]}"


def test_a_rule_that_an_earlier_one_always_stops_before_is_pointed_out():
    assert hints(rule("a", CT, stop=True), rule("b", THIN_CT)) == [
        ("rules[1]", "it is never asked: rule a holds wherever it does, and stops")
    ]
    assert hints(rule("a", THIN_CT, stop=True), rule("b", CT)) == []


def test_a_pipeline_that_never_accepts_what_a_rule_sends_it_is_pointed_out():
    message = "bone_ct never accepts what this rule sends it: both ask for series.modality, and no value suits both"
    assert hints(rule("a", "{all: [{field: series.modality, eq: MR}]}")) == [("rules[0].run[0]", message)]


def test_rules_that_may_ask_for_the_same_are_pointed_out_unless_no_study_suits_both():
    ((path, message),) = hints(rule("a", CT), rule("b", THIN_CT))
    assert path == "rules[1]"
    assert message.startswith("it may ask for bone_ct together with rule a")
    day, night = ('{field: study.received_weekday, in: ["MON"]}', '{field: study.received_weekday, eq: "SUN"}')
    assert hints(rule("a", day), rule("b", night)) == []
    assert hints(rule("a", CT), rule("b", CT, run=[])) == []


# test studies


STUDIES = (
    {"name": "a thin CT", "expect": ["a", "b"], "series": [{"modality": "CT", "slice_step_mm": 1}]},
    {"name": "an MR", "expect": [], "series": [{"modality": "MR"}]},
)


def failed(*rules: dict[str, Any], studies: tuple[dict[str, Any], ...] = STUDIES) -> list[tuple[str, str]]:
    site = SiteContent(rules=rules, test_studies=studies)
    found = BOOK.check(site, {"bone_ct": manifest_of("bone_ct")}, [])
    return [(finding.path, finding.message) for finding in found if finding.severity == "error"]


def test_test_studies_say_which_rules_match_them_and_no_others():
    assert failed(rule("a", CT), rule("b", THIN_CT)) == []
    assert failed(rule("a", CT, stop=True), rule("b", THIN_CT)) == [
        ("test_studies[0]", "a thin CT: rule b does not match: an earlier rule stops")
    ]
    ((path, message),) = failed(rule("a", "{field: series.modality, exists: true}"), rule("b", THIN_CT))
    assert (path, message) == ("test_studies[1]", "an MR: rule a matches: series 1 (MR): series.modality exists true")


@pytest.mark.parametrize(
    ("study", "path"),
    [
        ({"name": "x", "expect": ["c"]}, "test_studies[0].expect[0]"),
        ({"name": "x", "expect": [], "series": [{"modalty": "CT"}]}, "test_studies[0].series[0].modalty"),
        ({"expect": []}, "test_studies[0].name"),
        ({"name": "x", "expect": "a"}, "test_studies[0].expect"),
    ],
)
def test_a_test_study_that_is_none_is_named_by_its_path(study, path):
    assert [found for found, _ in failed(rule("a", CT), studies=(study,))] == [path]
