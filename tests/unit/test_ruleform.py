"""A rule shown as a form and read back says the same; what the form cannot show stays as it is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.admin.pages.ruleform import Row, form_of, rows_in, rule_of
from orchestrator.rulebook import YamlRulebook

BOOK = YamlRulebook()
FACTS = BOOK.facts()
CT = {"field": "series.modality", "eq": "CT"}
words = st.from_regex(r"[a-z0-9]{1,4}( [A-Z0-9-]{1,3})?", fullmatch=True)
tests = st.one_of(
    st.builds(lambda v: {"field": "series.modality", "eq": v}, words),
    st.builds(lambda v: {"field": "series.body_part", "in": v}, st.lists(words, min_size=1, max_size=3)),
    st.builds(lambda v: {"field": "series.slice_step_mm", "le": v}, st.integers(0, 9) | st.sampled_from([0.5, 2.25])),
    st.builds(lambda v: {"field": "series.is_volume", "eq": v}, st.booleans()),
    st.builds(lambda v: {"field": "study.description", "matches": v}, words),
    st.builds(lambda v: {"field": "study.accession_number", "exists": v}, st.booleans()),
    st.just({"field": "study.received_time", "between": ["22:00", "06:00"]}),
    st.just({"has_region": True}),
    st.builds(lambda v: {"has_region": v}, words),
    st.just({"has_prior": True}),
)
conditions = tests | st.builds(lambda part: {"not": part}, tests)
names = st.lists(words, max_size=2, unique=True)
rules = st.fixed_dictionaries(
    {
        "name": words,
        "when": st.builds(
            lambda join, parts: {join: parts},
            st.sampled_from(["all", "any"]),
            st.lists(conditions, min_size=1, max_size=4),
        ),
        "run": names,
        "send": names,
    },
    optional={
        "priority": st.sampled_from(["stat", "batch"]),
        "release": st.sampled_from(["after_review", "shadow"]),
        "forward": st.lists(words, min_size=1, max_size=2, unique=True),
        "stop": st.just(value=True),
        "wait_s": st.just(300),
        "examples": st.just([{"expect": "match", "series": [{"modality": "CT"}]}]),
    },
)


@given(rules)
def test_a_flat_rule_is_the_same_after_it_was_a_form(rule):
    form = form_of(rule)
    assert form.rows is not None
    assert rule_of(form, rule, FACTS) == rule


@given(rules)
def test_what_the_form_writes_can_be_read_again(rule):
    assert BOOK.read(BOOK.write([rule_of(form_of(rule), rule, FACTS)])) == [rule]


@pytest.mark.parametrize(
    "when",
    [
        {"all": [CT, {"any": [CT, CT]}]},
        {"not": {"not": CT}},
        {"all": [{"not": {"all": [CT]}}]},
        {"has_prior": {"modality": "CT"}},
        {"all": [{"field": "series.modality", "eq": "CT", "exists": True}]},
        {"all": ["CT"]},
        {"all": [{"field": "study.description", "in": ["KNEE, LEFT"]}]},
    ],
)
def test_a_condition_the_form_cannot_show_stays_as_it_is_written(when):
    rule = {"name": "deep", "when": when, "run": ["a"], "send": []}
    form = form_of(rule)
    assert form.rows is None
    changed = rule_of(replace(form, name="other", run=("b",)), rule, FACTS)
    assert changed == {"name": "other", "when": when, "run": ["b"], "send": []}


@pytest.mark.parametrize("text", [{}, {"when": 7}, {"when": {}, "run": "x", "examples": 3}, {"name": None}])
def test_text_that_is_no_rule_is_an_empty_form(text):
    form = form_of(text)
    assert form.run == ()
    assert form.examples == 0


def test_one_condition_alone_is_a_row():
    assert form_of({"when": {"not": CT}}).rows == (Row("series.modality", "eq", "CT", is_not=True),)


def test_rows_without_a_field_are_taken_away_and_a_wrong_number_is_left_for_the_check():
    sent = {
        "field": ["series.modality", "", "series.slice_step_mm"],
        "operator": ["eq", "eq", "le"],
        "value": ["CT", "x", "thin"],
        "is_not": ["", "", "not"],
    }
    rows = tuple(rows_in(sent))
    assert [row.field for row in rows] == ["series.modality", "series.slice_step_mm"]
    rule = rule_of(replace(form_of({"name": "x", "when": {"all": []}}), rows=rows), {}, FACTS)
    assert rule["when"] == {"all": [CT, {"not": {"field": "series.slice_step_mm", "le": "thin"}}]}
