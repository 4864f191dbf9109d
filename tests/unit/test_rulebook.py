"""Rule text: what is read, what is refused and how it is said."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.condition import Test, evaluate
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.fact_sources import FIELDS, study_facts
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook import YamlRulebook, default_rules, parse_yaml
from tests.strategies import ct_series, manifest_of, region_series, study_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.domain.study import Series
    from orchestrator.rulebook import Finding

BOOK = YamlRulebook()
SHOWN = """
rules:
  - name: Limb CT with a drawn tumour
    when:
      all:
        - {field: series.modality, eq: CT}
        - {field: series.body_part, in: [KNEE, FOOT, HIP, EXTREMITY]}
        - {field: series.slice_step_mm, le: 5}
        - {not: {field: study.description, matches: "(?i)phantom"}}
    run: [bone_ct, virtual_biopsy]
    priority: routine
    send: [pacs, ehr]
    release: at_once            # a comment
    forward: []
    examples:
      - {expect: match, study: {description: KNEE}, series: [{modality: CT, body_part: KNEE, slice_step_mm: 3.3}]}
      - {expect: no_match, study: {description: Phantom}, series: [{modality: CT, body_part: KNEE, slice_step_mm: 3}]}
"""


def shown() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = parse_yaml(SHOWN)["rules"]
    return rules


def checked(
    rules: Any,
    pipelines: Sequence[str] = ("bone_ct", "virtual_biopsy"),
    destinations: Sequence[str] = ("pacs", "ehr"),
    **given: Any,
) -> list[Finding]:
    """What is wrong; hints are for those who ask for them."""
    found = BOOK.check(SiteContent(rules=rules, **given), {name: manifest_of(name) for name in pipelines}, destinations)
    return [finding for finding in found if finding.severity != "hint"]


def leaf(text: str) -> Test:
    condition = BOOK.condition(parse_yaml(text), "where")
    assert isinstance(condition, Test)
    return condition


def holds(text: str, series: Series, *others: Series) -> bool | None:
    facts, seen = study_facts(study_of(series, *others), {"ae_title": "CT1"})
    condition = BOOK.condition(parse_yaml(text), "where")
    return evaluate(condition, facts.only(next(s for s in seen if s.uid == series.uid))).truth


def test_a_rule_as_the_manual_shows_it_is_read_whole() -> None:
    rule = BOOK.rules(shown())[0]
    assert (rule.name, rule.run, rule.send) == (
        "Limb CT with a drawn tumour",
        ("bone_ct", "virtual_biopsy"),
        ("pacs", "ehr"),
    )
    assert (rule.priority, rule.release, rule.forward, rule.stop) == ("routine", "at_once", (), False)
    assert rule.source == shown()[0]
    assert checked(shown()) == []


def test_what_may_be_left_out_is_routine_at_once_and_goes_on() -> None:
    rule = BOOK.rules([{"name": "a", "when": {"field": "study.revision", "eq": 1}, "run": [], "send": []}])[0]
    assert (rule.priority, rule.release, rule.forward, rule.stop) == ("routine", "at_once", (), False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{field: series.modalty, eq: CT}", "where.field: unknown field series.modalty; did you mean series.modality?"),
        ("{field: series.modality, eq: 3}", "where.eq: series.modality is text, but 3 is a number"),
        ("{field: series.rows, eq: NO}", "where.eq: series.rows is a number, but NO is text"),
        ("{field: series.rows, ge: true}", "where.ge: series.rows is a number, but true is a flag"),
        ("{field: series.is_volume, eq: 1}", "where.eq: series.is_volume is a flag, but 1 is a number"),
        ("{field: series.rows, in: [1, a]}", "where.in[1]: series.rows is a number, but a is text"),
        ("{field: series.rows, in: []}", "where.in: in takes a list of at least one value"),
        ("{field: series.rows, in: 3}", "where.in: in takes a list of at least one value"),
        (
            "{field: series.modality, lt: CT}",
            "where.lt: lt does not apply to series.modality (text); eq, in, matches, exists do",
        ),
        ("{field: series.kernel, exists: 3}", "where.exists: exists takes true or false, not 3"),
        ("{field: series.kernel, matches: '('}", "where.matches: the pattern is not valid: missing ): ("),
        ("{field: series.kernel, matches: 'a{1,1001}'}", "where.matches: the pattern is not valid: invalid repetition"),
        ("{field: series.kernel, matches: 5}", "where.matches: a pattern is text of 1 to 256 characters"),
        ("{has_region: 3}", "where.has_region: has_region takes true, false or a pattern, not 3"),
        ("{has_region: true, field: series.kernel}", "where.field: unknown key field"),
        ("{field: series.rows, leq: 3}", "where.leq: unknown key leq; did you mean le?"),
        (
            "{field: series.rows}",
            "where: needs exactly one of eq, in, lt, le, gt, ge, between, matches, exists; it has 0",
        ),
        ("{all: [{field: series.rows, le: 3, gt: 1}]}", "where.all[0]: needs exactly one of"),
        ("{any: [{not: 3}]}", "where.any[0].not: is no condition; write {field: ..., eq: ...}"),
        ("{all: []}", "where.all: "),
        ("{eq: 3}", "where.field: is missing"),
        ("{field: patient.name, eq: x}", "where.field: unknown field patient.name"),
        ("word", "where: is no condition"),
    ],
)
def test_a_fault_is_named_by_its_path_and_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        BOOK.condition(parse_yaml(text), "where")
    assert refused.value.fault is Fault.RULE_INVALID
    assert refused.value.detail.startswith(message)


def test_a_pattern_longer_or_larger_than_the_limit_is_refused() -> None:
    for pattern in ("a" * 257, "(a|b){1,1000}"):
        with pytest.raises(Refused):
            BOOK.condition({"field": "series.kernel", "matches": pattern}, "where")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda r: r["when"]["all"][1].update(field="series.bodypart"), "rules[0].when.all[1].field"),
        (lambda r: r["when"]["all"][3]["not"].update(matches="("), "rules[0].when.all[3].not.matches"),
        (lambda r: r.update(priority="soon"), "rules[0].priority"),
        (lambda r: r.update(stop="yes"), "rules[0].stop"),
        (lambda r: r.update(whenn={}), "rules[0].whenn"),
        (lambda r: r.pop("send"), "rules[0].send"),
        (lambda r: r.update(name=""), "rules[0].name"),
        (lambda r: r["examples"][0]["study"].update(descripton="x"), "rules[0].examples[0].study.descripton"),
        (
            lambda r: r["examples"][0]["series"][0].update(slice_step_mm="x"),
            "rules[0].examples[0].series[0].slice_step_mm",
        ),
        (lambda r: r["examples"][1].update(expect="maybe"), "rules[0].examples[1].expect"),
    ],
)
def test_a_fault_inside_a_rule_is_found_by_checking_and_by_reading(
    change: Callable[[dict[str, Any]], Any], path: str
) -> None:
    rules = deepcopy(shown())
    change(rules[0])
    findings = checked(rules)
    assert [(f.path, f.severity, f.code) for f in findings] == [(path, "error", "TND-2001")]
    with pytest.raises(Refused, match="TND-2001") as refused:
        BOOK.rules(rules)
    assert refused.value.detail.startswith(f"{path}: ")


def test_all_faults_of_a_rule_set_are_found_at_once() -> None:
    rules = shown() + shown()
    rules[0]["when"]["all"][0]["field"] = "series.modalty"
    assert [f.path for f in checked(rules, pipelines=[], destinations=[])] == [
        "rules[0].when.all[0].field",
        "rules[1].name",
    ]
    with pytest.raises(Refused, match=r"\(and 1 more\)"):
        BOOK.rules(rules)


@pytest.mark.parametrize("source", [{}, "rules", None, [3], [[]]])
def test_what_is_no_list_of_rules_is_refused(source: Any) -> None:
    with pytest.raises(Refused):
        BOOK.rules(source)


def test_an_unknown_pipeline_is_an_error_and_an_unknown_destination_a_warning() -> None:
    rules = shown()
    rules[0]["forward"] = ["archive"]
    found = [
        (f.path, f.severity, f.message, f.code) for f in checked(rules, pipelines=["bone_ct"], destinations=["pacs"])
    ]
    assert found == [
        ("rules[0].run[1]", "error", "no pipeline virtual_biopsy is installed", "TND-2002"),
        ("rules[0].send[1]", "warning", "no destination ehr is configured", "TND-2003"),
        ("rules[0].forward[0]", "warning", "no destination archive is configured", "TND-2003"),
    ]


def test_an_example_that_does_not_hold_is_an_error_with_its_explanation() -> None:
    rules = shown()
    rules[0]["examples"] = [
        {"expect": "match", "study": {"description": "KNEE"}, "series": [{"modality": "MR"}]},
        {"expect": "match", "study": {"description": "KNEE"}, "series": [{"modality": "CT"}]},
        {
            "expect": "no_match",
            "study": {"description": "KNEE"},
            "series": [{"modality": "ct", "body_part": "hip", "slice_step_mm": 5}],
        },
    ]
    findings = checked(rules)
    assert [(f.path, f.code) for f in findings] == [(f"rules[0].examples[{n}]", "TND-2005") for n in range(3)]
    assert findings[0].message == (
        "expected match, but the rule does not match: series 1 (MR): not series.modality eq CT (it is MR)"
    )
    assert findings[1].message == (
        "expected match, but the rule is not known to match: series 1 (CT): series.body_part is missing"
    )
    assert findings[2].message.startswith("expected no_match, but the rule matches: series 1 (CT): ")


def test_an_example_fills_in_what_follows_from_what_it_says() -> None:
    when = {
        "all": [
            {"has_region": "GTV"},
            {"has_region": True},
            {"field": "study.modalities", "eq": "CT"},
            {"field": "study.series_count", "eq": 2},
            {"field": "node.ae_title", "eq": "CT1"},
        ]
    }
    example = {
        "expect": "match",
        "node": {"ae_title": "CT1"},
        "series": [{"modality": "ct", "region_names": ["GTV_1"]}, {"has_region": False}],
    }
    rule = {"name": "a", "when": when, "run": [], "send": [], "examples": [example]}
    assert checked([rule], pipelines=[], destinations=[]) == []


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("{field: series.modality, eq: ct}", True),
        ("{field: series.body_part, in: [Knee, HIP]}", True),
        ("{field: series.description, eq: bone}", False),
        ("{field: series.description, eq: Bone}", True),
        ("{field: series.description, matches: '^B.n'}", True),
        ("{field: series.description, matches: ne$}", True),
        ("{field: series.image_type, eq: AXIAL}", True),
        ("{field: series.image_type, in: [LOCALIZER]}", False),
        ("{field: series.image_type, matches: ^AX}", True),
        ("{field: series.slice_step_mm, le: 3.3}", True),
        ("{field: series.slice_step_mm, eq: 3.3}", True),
        ("{field: series.slice_step_mm, lt: 3.3}", False),
        ("{field: series.coverage_mm, gt: 33}", False),
        ("{field: series.coverage_mm, ge: 33}", True),
        ("{field: series.is_volume, eq: true}", True),
        ("{field: series.kvp, exists: false}", True),
        ("{field: series.kvp, gt: 0}", None),
        ("{has_region: true}", True),
        ("{has_region: false}", False),
        ("{has_region: '(?i)gtv'}", True),
        ("{has_region: ^Oedema}", False),
        ("{field: study.modalities, eq: RTSTRUCT}", True),
        ("{field: node.site, eq: main}", None),
    ],
)
def test_each_operator_compares_as_its_field_asks(*, text: str, truth: bool | None) -> None:
    series = ct_series(
        count=10,
        step_mm=3.3,
        body_part="knee",
        series_description=" Bone ",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
    )
    assert holds(text, series, region_series("1.9", series.uid)) is truth


def test_text_that_is_no_valid_unicode_is_still_compared() -> None:
    assert leaf("{field: series.kernel, matches: B7}").holds("\udcffB7") is True


def test_the_rule_set_asked_for_again_is_not_read_again_but_a_changed_one_is() -> None:
    book = YamlRulebook()
    first = book.rules(shown())
    assert book.rules(tuple(shown())) is first
    changed = shown()
    changed[0]["when"]["all"][2]["le"] = True
    with pytest.raises(Refused):
        book.rules(changed)


def test_rules_for_a_new_site_hold_and_send_where_they_are_told() -> None:
    rules = default_rules(["pacs", "share"])
    assert checked(rules, destinations=["pacs", "share"]) == []
    assert [(r.run, r.send) for r in BOOK.rules(rules)] == [
        (("bone_ct",), ("pacs", "share")),
        (("virtual_biopsy",), ("pacs", "share")),
    ]
    facts, _ = study_facts(study_of(ct_series("1.1"), region_series("1.9", "1.1")), {})
    assert all(evaluate(r.when, facts).truth for r in BOOK.rules(rules))


@given(st.text("ab(|)[]{}*+?^$.\\dwpL,0123456789", max_size=60), st.text(max_size=300))
@settings(max_examples=300)
def test_any_pattern_is_refused_or_answers_in_time(pattern: str, text: str) -> None:
    try:
        test = BOOK.condition({"field": "series.description", "matches": pattern}, "where")
    except Refused:
        return
    assert isinstance(test, Test)
    assert seconds(lambda: test.holds(text * 20)) < 0.005


def seconds(work: Callable[[], Any]) -> float:
    """Processor time of the fastest of a few runs."""
    times = []
    for _ in range(3):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from([*FIELDS, "CT", "("])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["all", "any", "not", "has_region", "field", "eq", "in", "matches", "name", "when", "run", "send"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=300)
def test_whatever_is_given_as_rules_is_read_or_refused(source: Any) -> None:
    assert refused_for(lambda: BOOK.rules(source)) in {None, Fault.RULE_INVALID}
    assert refused_for(lambda: BOOK.condition(source, "where")) in {None, Fault.RULE_INVALID}


def refused_for(work: Callable[[], Any]) -> Fault | None:
    try:
        work()
    except Refused as refused:
        return refused.fault
    return None


def test_conditions_nested_without_end_are_refused() -> None:
    condition: dict[str, Any] = {"has_region": True}
    for _ in range(5000):
        condition = {"not": condition}
    with pytest.raises(Refused, match="nested deeper than 32 levels"):
        BOOK.condition(condition, "where")


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 100000 values"),
        ("[" * 400_000, "nested deeper than 32 levels"),
        ("x" * (1 << 21), "the text is larger"),
        ("&a [*a]", "an alias of what is not there"),
        ("!!python/object/apply:os.system [ls]", "tags are not read"),
        ("{a: 1, a: 2}", "a key is not text, or is there twice, line 1, column 8"),
        ("{[1]: 2}", "a key is not text"),
        ("{1: 2}", "a key is not text"),
        ("a: [1", "not YAML: did not find expected"),
        ("1\n---\n2", "more than one document"),
        ("a: \x00", "a character that text cannot hold"),
        (b"\xff\xfe\x00\xd8", "a character that text cannot hold"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_yaml_that_could_do_harm_is_refused_at_once(text: str | bytes, message: str) -> None:
    with pytest.raises(Refused, match="TND-2001") as refused:
        parse_yaml(text)
    assert message in refused.value.detail
    assert seconds(lambda: refused_for(lambda: parse_yaml(text))) < 0.1


def test_plain_words_are_what_they_look_like() -> None:
    text = "[NO, yes, on, true, false, null, ~, 12:30, 2024-01-31, 5, -3, 1e3, .5, 007, 'true', '5', 0x10, .inf, <<]"
    assert parse_yaml(text) == [
        *("NO", "yes", "on", True, False, None, None, "12:30", "2024-01-31"),
        *(5, -3, 1000.0, 0.5, 7, "true", "5", "0x10", ".inf", "<<"),
    ]


def test_anchors_may_be_used_and_empty_text_is_nothing() -> None:
    assert parse_yaml("a: &x [1, {b: 2}]\nc: *x\nd:") == {"a": [1, {"b": 2}], "c": [1, {"b": 2}], "d": None}
    assert parse_yaml("") is None


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    assert refused_for(lambda: parse_yaml(text)) in {None, Fault.RULE_INVALID}
