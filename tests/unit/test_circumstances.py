"""What rules may ask for that images do not tell: times, procedures, earlier studies, a share of all studies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import pytest

from orchestrator.domain.errors import Refused
from orchestrator.domain.fact import Prior
from orchestrator.domain.fact_sources import sample_percent
from orchestrator.domain.site import SiteContent
from orchestrator.domain.study import Patient
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.operating import replace_site
from tests.fakes.system import CT1, FakeSystem, rule, slices

BOOK = YamlRulebook()
ANN = Patient("1", "MAIN", "Ann")
FRIDAY_23_30_UTC = datetime(2026, 3, 6, 23, 30, tzinfo=UTC)


def asking(condition: dict[str, Any]) -> dict[str, Any]:
    return rule(when={"all": [{"field": "series.modality", "eq": "CT"}, condition]})


def has_job(system: FakeSystem, *headers: Any) -> bool:
    """Whether the rule in force is true of a study of these images."""
    sent = headers or slices()
    system.receive_and_route(*sent)
    return bool(system.jobs(sent[0].study_uid))


# time


@pytest.mark.parametrize(
    ("zone", "of_node", "condition", "is_met"),
    [
        ("UTC", "", {"field": "study.received_time", "between": ["22:00", "06:00"]}, True),
        ("UTC", "", {"field": "study.received_time", "between": ["06:00", "22:00"]}, False),
        ("UTC", "", {"field": "study.received_time", "between": ["23:30", "23:31"]}, True),
        ("UTC", "", {"field": "study.received_time", "between": ["22:00", "23:30"]}, False),
        ("UTC", "", {"field": "study.received_weekday", "in": ["FRI"]}, True),
        ("Europe/Berlin", "", {"field": "study.received_weekday", "eq": "SAT"}, True),
        ("Europe/Berlin", "", {"field": "study.received_time", "between": ["00:30", "00:31"]}, True),
        ("UTC", "Asia/Kolkata", {"field": "study.received_time", "between": ["05:00", "05:01"]}, True),
        ("UTC", "Europe/Atlantis", {"field": "study.received_time", "exists": False}, True),
    ],
)
def test_a_night_shift_goes_by_the_clock_of_the_node_or_the_site(tmp_path, zone, of_node, condition, is_met):
    system = FakeSystem(tmp_path, nodes=(replace(CT1, time_zone=of_node),), rules=(asking(condition),))
    system.time_zone = zone
    system.clock.moment = FRIDAY_23_30_UTC
    assert has_job(system) is is_met


@pytest.mark.parametrize("given", [["22:00"], ["22:00", "22:00"], ["22:00", "24:00"], ["9:00", "10:00"], "22:00-06:00"])
def test_what_is_no_time_of_day_is_refused(given):
    with pytest.raises(Refused, match=r"where\.between: between takes two different times of day"):
        BOOK.condition({"field": "study.received_time", "between": given}, "where")


# a share of all


def test_a_share_of_all_studies_stays_the_same_and_is_about_as_large_as_asked_for():
    drawn = [sample_percent(f"1.2.3.{n}") for n in range(4000)]
    assert drawn == [sample_percent(f"1.2.3.{n}") for n in range(4000)]
    assert all(0 <= one < 100 for one in drawn)
    assert fmean(one < 10 for one in drawn) == pytest.approx(0.1, abs=0.015)


def test_a_rule_may_ask_for_a_share(tmp_path):
    share = sample_percent(slices()[0].study_uid)
    condition = {"field": "study.sample_percent", "lt": share}
    assert not has_job(FakeSystem(tmp_path / "below", rules=(asking(condition),)))
    assert has_job(FakeSystem(tmp_path / "within", rules=(asking({**condition, "lt": share + 1}),)))


# procedures


TABLE = (
    {"code": "CTKNEEL", "body_part": "knee", "laterality": "L", "protocol": "trauma"},
    {"description": "(?i)hip", "body_part": "HIP"},
)


@pytest.mark.parametrize(
    ("code", "description", "facts"),
    [
        ("CTKNEEL", "Hip", {"body_part": "KNEE", "laterality": "L", "protocol": "trauma"}),
        ("OTHER", "CT hip both", {"body_part": "HIP"}),
        ("", "", {}),
        ("CTKNEE", "Knee", {}),
    ],
)
def test_the_table_of_procedures_tells_by_code_else_by_description(code, description, facts):
    told = BOOK.procedures(TABLE).facts(code, description)
    assert told == {f"procedure.{name}": value for name, value in facts.items()}


def test_rules_know_what_the_table_tells(tmp_path):
    system = FakeSystem(tmp_path)
    content = system.content(asking({"field": "procedure.body_part", "eq": "HIP"}))
    replace_site(system.records, system.clock, replace(content, procedures=TABLE), "test")
    assert has_job(system, *slices(study_description="Hip left"))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"body_part": "HIP"}, r"procedures\[0\]: .*needs a code or a description"),
        ({"code": "A", "description": "a", "body_part": "HIP"}, r"procedures\[0\]: .*not both"),
        ({"code": "A"}, r"procedures\[0\]: .*tells nothing"),
        ({"description": "(", "body_part": "HIP"}, r"procedures\[0\]\.description: the pattern is not valid"),
        ({"code": "A", "laterality": "LEFT"}, r"procedures\[0\]\.laterality: "),
        ({"code": "A", "side": "L"}, r"procedures\[0\]\.side: unknown key side"),
    ],
)
def test_a_row_that_means_nothing_is_refused_with_its_path(row, fault):
    with pytest.raises(Refused, match=fault):
        BOOK.procedures((row,))


def test_a_code_that_is_there_twice_is_refused():
    with pytest.raises(Refused, match=r"procedures\[1\]\.code: A is there twice"):
        BOOK.procedures(({"code": "A", "body_part": "HIP"}, {"code": "A", "body_part": "KNEE"}))


# earlier studies


def of(study_uid: str, date: str, patient: Patient = ANN, **given: Any) -> list[Any]:
    series_uid = f"{study_uid}.1"
    return slices(series_uid, study_uid=study_uid, study_date=date, patient=patient, **given)


@pytest.mark.parametrize(
    ("wanted", "is_met"),
    [
        (True, True),
        (False, False),
        ({"modality": "ct"}, True),
        ({"modality": "MR"}, False),
        ({"body_part": "KNEE"}, True),
        ({"body_part": "HIP"}, False),
        ({"modality": "CT", "body_part": "KNEE", "within_days": 31}, True),
        ({"within_days": 30}, False),
    ],
)
def test_a_rule_may_ask_for_an_earlier_study_of_the_patient(tmp_path, wanted, is_met):
    system = FakeSystem(tmp_path)
    assert has_job(system, *of("1.5", "20260101", body_part="KNEE"))
    system.decide(asking({"has_prior": wanted}))
    assert has_job(system, *of("1.6", "20260201")) is is_met


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (of("1.5", "20260101", replace(ANN, id="2")), of("1.6", "20260201")),
        (of("1.5", "20260101", replace(ANN, issuer="OTHER")), of("1.6", "20260201")),
        (of("1.5", "20260201"), of("1.6", "20260201")),
        (of("1.5", "20260301"), of("1.6", "20260201")),
        (of("1.5", ""), of("1.6", "20260201")),
    ],
    ids=["another id", "another issuer", "the same day", "later", "no date"],
)
def test_what_is_not_an_earlier_study_of_this_patient_is_none(tmp_path, earlier, later):
    system = FakeSystem(tmp_path)
    assert has_job(system, *earlier)
    system.decide(asking({"has_prior": False}))
    assert has_job(system, *later)


@pytest.mark.parametrize("later", [of("1.6", ""), of("1.6", "20260201", replace(ANN, id=""))], ids=["no date", "no id"])
def test_where_it_cannot_be_known_whether_there_is_one_it_is_unknown(tmp_path, later):
    system = FakeSystem(tmp_path)
    assert has_job(system, *of("1.5", "20260101"))
    for wanted in (True, False):
        system.decide(asking({"has_prior": wanted}))
        assert not has_job(system, *later)


def test_what_retention_has_removed_is_no_earlier_study_any_more(tmp_path):
    system = FakeSystem(tmp_path, rules=(asking({"has_prior": False}),))
    assert has_job(system, *of("1.5", "20260101"))
    with system.records.transaction() as unit:
        unit.keeping.retire("1.5", system.clock.now(), "test")
        assert unit.studies.of_patient("MAIN", "1", 9) == []
    assert has_job(system, *of("1.6", "20260201"))


def test_an_example_states_earlier_studies_times_and_procedures():
    condition = {
        "all": [
            {"has_prior": {"modality": "CT", "within_days": 100}},
            {"field": "study.received_time", "between": ["22:00", "06:00"]},
            {"field": "procedure.body_part", "eq": "KNEE"},
        ]
    }
    met = {
        "expect": "match",
        "patient": {"priors": [{"modalities": ["ct"], "days": 100}]},
        "study": {"received_time": "23:00"},
        "procedure": {"body_part": "knee"},
    }
    unmet = {**met, "expect": "no_match", "patient": {"priors": []}}
    rules = [{"name": "a", "when": condition, "run": [], "send": [], "examples": [met, unmet]}]
    assert BOOK.check(SiteContent(rules=tuple(rules)), {}, []) == []
    wrong = {**met, "patient": {"priors": [{"days": "long"}]}, "study": {"received_time": "25:00"}}
    found = BOOK.check(SiteContent(rules=({**rules[0], "examples": [wrong]},)), {}, [])
    assert [finding.path for finding in found] == [
        "rules[0].examples[0].study.received_time",
        "rules[0].examples[0].patient.priors[0].days",
    ]


def test_an_earlier_study_is_told_in_words():
    assert str(Prior(("CT",), ("KNEE",), 12)) == "CT KNEE 12 days before"
