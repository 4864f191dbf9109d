"""Which pipelines run on which series, and every reason for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import Input, Preference
from orchestrator.domain.plan import input_set
from orchestrator.domain.route import Rule, decide
from orchestrator.domain.study import Patient, Series
from orchestrator.domain.subject import subject_of
from orchestrator.rulebook import YamlRulebook
from tests import strategies
from tests.strategies import (
    START,
    THINNEST,
    ct_header,
    ct_series,
    instance_of,
    manifest_of,
    region_series,
    study_of,
)

if TYPE_CHECKING:
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.route import Decision, PlannedJob, Routing
    from orchestrator.domain.study import Study

CT = {"field": "series.modality", "eq": "CT"}
BOOK = YamlRulebook()
BONE = manifest_of("bone_ct", Input("ct", "volume", prefer=THINNEST))
BIOPSY = manifest_of("virtual_biopsy", Input("ct", "volume"), Input("tumour", "region", on="ct"))


def rule_of(name: str = "CT", **given: Any) -> Rule:
    text = {"name": name, "when": {"all": [CT]}, "run": ["bone_ct"], "send": ["pacs"], **given}
    return BOOK.rules([text])[0]


def routed(study: Study, *rules: Rule, manifests: tuple[Manifest, ...] = (BONE, BIOPSY)) -> Routing:
    return decide(subject_of(study, {"node.ae_title": "CT1"}), rules or (rule_of(),), {m.name: m for m in manifests})


def only_job(routing: Routing) -> PlannedJob:
    assert len(routing.jobs) == 1, routing.decisions
    return routing.jobs[0]


def noes(routing: Routing, code: Fault | None = None) -> list[Decision]:
    return [d for d in routing.decisions if not d.is_yes and (code is None or d.code == code.code)]


def test_a_matching_rule_plans_its_pipeline_on_the_images_of_the_stack_in_slice_order() -> None:
    study = study_of(ct_series())
    job = only_job(routed(study))
    assert (job.pipeline, job.version, job.priority, job.release, job.send) == (
        "bone_ct",
        "1.0.0",
        "routine",
        "at_once",
        ("pacs",),
    )
    assert list(job.inputs[0].instances) == [f"1.2.3.1.{k}" for k in range(5)]
    assert job.inputs[0].instances["1.2.3.1.0"] == study.series[0].instances[0].digest
    assert [(d.rule, d.pipeline, d.is_yes, d.reason) for d in routed(study).decisions] == [
        ("CT", "", True, "series 1 (CT): series.modality eq CT"),
        ("CT", "bone_ct", True, "series 1 (CT) is input ct: 5 images form the volume"),
    ]


def test_a_rule_that_is_not_clearly_true_plans_nothing_and_names_the_missing_fact() -> None:
    when = {"all": [CT, {"field": "series.body_part", "eq": "KNEE"}]}
    routing = routed(study_of(ct_series()), rule_of(when=when))
    assert not routing.jobs
    assert routing.decisions[0].reason == "not known: series 1 (CT): series.body_part is missing"


def test_each_rule_is_explained_whether_it_matches_or_not() -> None:
    other = rule_of("MR", when={"all": [{"field": "series.modality", "eq": "MR"}]})
    routing = routed(study_of(ct_series()), other, rule_of())
    assert [(d.rule, d.is_yes) for d in routing.decisions if not d.series_uid] == [("MR", False), ("CT", True)]


def test_the_sender_can_be_asked_for() -> None:
    when = {"field": "node.ae_title", "eq": "CT1"}
    assert routed(study_of(ct_series()), rule_of(when=when)).jobs
    missing = decide(subject_of(study_of(ct_series()), {}), [rule_of(when=when)], {"bone_ct": BONE})
    assert missing.decisions[0].reason == "not known: node.ae_title is missing"


def test_best_takes_the_preferred_series_and_records_the_other() -> None:
    thick, thin = ct_series("1.1", step_mm=5.0), ct_series("1.2", step_mm=1.0, series_number=2)
    routing = routed(study_of(thick, thin))
    assert only_job(routing).inputs[0].series_uid == "1.2"
    assert noes(routing)[0].series_uid == "1.1"
    assert noes(routing)[0].reason == (
        "another series was preferred: series 2 (CT) has the smaller series.slice_step_mm"
    )


def test_between_equals_the_first_series_is_taken_whatever_order_they_came_in() -> None:
    one, two = ct_series("1.9", series_number=1), ct_series("1.2", series_number=2)
    for study in (study_of(one, two), study_of(two, one)):
        routing = routed(study)
        assert only_job(routing).inputs[0].series_uid == "1.9"
        assert noes(routing)[0].reason == "another series was preferred: series 1 (CT) suits as well and comes first"


def test_a_series_without_the_preferred_fact_comes_last() -> None:
    prefer = (Preference(smaller=False, field="series.kvp"),)
    manifest = manifest_of("bone_ct", Input("ct", "volume", prefer=prefer))
    silent, told = ct_series("1.1"), ct_series("1.2", series_number=2, kvp=80.0)
    assert only_job(routed(study_of(silent, told), manifests=(manifest,))).inputs[0].series_uid == "1.2"


def test_each_makes_one_job_a_series_and_all_makes_one_job_of_all() -> None:
    study = study_of(ct_series("1.1"), ct_series("1.2", series_number=2))
    each = routed(study, manifests=(manifest_of("bone_ct", Input("ct", "volume", count="each")),))
    assert [j.inputs[0].series_uid for j in each.jobs] == ["1.1", "1.2"]
    assert len({j.input_set for j in each.jobs}) == 2
    every = routed(study, manifests=(manifest_of("bone_ct", Input("ct", "volume", count="all")),))
    assert [i.series_uid for i in only_job(every).inputs] == ["1.1", "1.2"]


def test_only_series_the_rule_asks_for_are_candidates() -> None:
    when = {"all": [CT, {"field": "series.body_part", "eq": "KNEE"}]}
    knee, foot = ct_series("1.1", body_part="knee"), ct_series("1.2", series_number=2, step_mm=0.5, body_part="FOOT")
    routing = routed(study_of(knee, foot), rule_of(when=when))
    assert only_job(routing).inputs[0].series_uid == "1.1"
    assert noes(routing)[0].series_uid == "1.2"
    assert "not series.body_part eq KNEE (it is FOOT)" in noes(routing)[0].reason


def test_a_series_the_manifest_refuses_is_recorded_with_the_condition_that_decided() -> None:
    where = BOOK.condition({"all": [CT, {"field": "series.slice_step_mm", "le": 3}]}, "where")
    manifest = manifest_of("bone_ct", Input("ct", "volume", where=where))
    routing = routed(study_of(ct_series(step_mm=5.0)), manifests=(manifest,))
    assert not routing.jobs
    assert noes(routing, Fault.NO_INPUT)[0].reason == (
        "does not suit input ct: series 1 (CT): not series.slice_step_mm le 3 (it is 5)"
    )


def test_a_manifest_speaks_of_each_candidate_alone() -> None:
    where = BOOK.condition({"all": [{"all": [{"field": "series.body_part", "eq": "KNEE"}]}]}, "where")
    manifest = manifest_of("bone_ct", Input("ct", "volume", where=where))
    study = study_of(ct_series("1.1", body_part="FOOT"), ct_series("1.2", series_number=2, body_part="KNEE"))
    assert only_job(routed(study, manifests=(manifest,))).inputs[0].series_uid == "1.2"


@pytest.mark.parametrize(
    ("series", "fault"),
    [
        (ct_series(without=[2]), Fault.MISSING_SLICES),
        (ct_series(count=2), Fault.NOT_A_VOLUME),
        (ct_series(step_mm=0.0), Fault.DUPLICATE_SLICES),
    ],
)
def test_a_series_that_forms_no_volume_is_refused_for_the_reason_of_its_geometry(series: Series, fault: Fault) -> None:
    where = BOOK.condition({"all": [CT, {"field": "series.slice_step_mm", "le": 3}]}, "where")
    for asked in (None, where):
        routing = routed(study_of(series), manifests=(manifest_of("bone_ct", Input("ct", "volume", where=asked)),))
        assert not routing.jobs
        assert [d.code for d in noes(routing)] == [fault.code, Fault.NO_INPUT.code]


def test_what_the_header_refuses_is_said_before_what_the_geometry_refuses() -> None:
    where = BOOK.condition({"all": [CT, {"field": "series.is_volume", "eq": True}]}, "where")
    manifest = manifest_of("bone_ct", Input("ct", "volume", where=where))
    routing = routed(
        study_of(ct_series(), region_series("1.9", None)),
        rule_of(when={"not": {"field": "study.revision", "eq": 9}}),
        manifests=(manifest,),
    )
    assert (
        noes(routing)[0].reason
        == "does not suit input ct: series 90 (RTSTRUCT): not series.modality eq CT (it is RTSTRUCT)"
    )


def test_images_left_out_of_the_stack_are_counted_and_not_used() -> None:
    scout = ct_header("1.7", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), instance_number=0)
    series = ct_series()
    routing = routed(study_of(replace(series, instances=(instance_of(scout), *series.instances))))
    assert "1.7" not in only_job(routing).inputs[0].instances
    assert routing.decisions[-1].reason == "series 1 (CT) is input ct: 5 images form the volume; left out: 1"


def test_a_region_joins_the_series_it_was_drawn_on() -> None:
    study = study_of(ct_series("1.1"), region_series("1.9", "1.1"), region_series("1.8", "7.7"))
    job = only_job(routed(study, rule_of(run=["virtual_biopsy"], when={"all": [CT, {"has_region": "^GTV"}]})))
    assert [(i.name, i.kind, i.series_uid, list(i.instances), i.region) for i in job.inputs[1:]] == [
        ("tumour", "region", "1.9", ["1.9.1"], "GTV")
    ]


def test_several_regions_on_a_series_all_go_in_and_none_is_singled_out() -> None:
    newer = region_series("1.9", "1.1", names=["GTV", "Oedema"], received_at=START + timedelta(seconds=5))
    study = study_of(ct_series("1.1"), region_series("1.8", "1.1"), newer)
    region = only_job(routed(study, rule_of(run=["virtual_biopsy"]))).inputs[1]
    assert (set(region.instances), region.series_uid, region.region) == ({"1.8.1", "1.9.1"}, "1.9", "")


def test_without_a_region_on_the_series_there_is_no_job_and_a_stray_region_is_named() -> None:
    study = study_of(ct_series("1.1"), region_series("1.9", "7.7"))
    routing = routed(study, rule_of(run=["virtual_biopsy"]))
    assert not routing.jobs
    assert noes(routing, Fault.NO_INPUT)[0].reason == (
        "input tumour: no region is drawn on this series; "
        "a region of series 90 (RTSTRUCT) refers to no series of this study"
    )


def test_of_several_series_one_with_the_region_is_taken() -> None:
    thin = manifest_of("virtual_biopsy", Input("ct", "volume", prefer=THINNEST), Input("tumour", "region", on="ct"))
    study = study_of(
        ct_series("1.1", step_mm=1.0), ct_series("1.2", series_number=2, step_mm=3.0), region_series("1.9", "1.2")
    )
    routing = routed(study, rule_of(run=["virtual_biopsy"]), manifests=(thin,))
    assert only_job(routing).inputs[0].series_uid == "1.2"
    assert ("1.1", "input tumour: no region is drawn on this series") in [
        (d.series_uid, d.reason) for d in noes(routing)
    ]


def test_an_optional_input_that_is_not_there_is_absent() -> None:
    manifest = manifest_of(
        "bone_ct",
        Input("ct", "volume"),
        Input("tumour", "region", on="ct", required=False),
        Input("earlier", "prior", required=False),
        Input("bone", "result", pipeline="other", required=False),
    )
    assert [i.name for i in only_job(routed(study_of(ct_series()), manifests=(manifest,))).inputs] == ["ct"]


@pytest.mark.parametrize("kind", ["prior", "context", "objects", "image"])
def test_a_required_input_that_cannot_be_found_yet_means_no_job(kind: Any) -> None:
    for inputs in ((Input("ct", "volume"), Input("x", kind)), (Input("x", kind),)):
        routing = routed(study_of(ct_series()), manifests=(manifest_of("bone_ct", *inputs),))
        assert not routing.jobs
        assert noes(routing, Fault.NO_INPUT)[0].reason == f"input x: inputs of kind {kind} cannot be found yet"


def test_a_second_volume_is_chosen_from_the_whole_study() -> None:
    mr = BOOK.condition({"field": "series.modality", "eq": "MR"}, "where")
    manifest = manifest_of("bone_ct", Input("ct", "volume"), Input("mr", "volume", where=mr))
    study = study_of(ct_series("1.1"), ct_series("1.2", modality="MR", series_number=2))
    job = only_job(routed(study, manifests=(manifest,)))
    assert [(i.name, i.series_uid) for i in job.inputs] == [("ct", "1.1"), ("mr", "1.2")]
    assert not routed(study_of(ct_series("1.1")), manifests=(manifest,)).jobs


def test_rules_that_ask_for_one_job_are_joined() -> None:
    routing = routed(
        study_of(ct_series()),
        rule_of("one", send=["pacs"], priority="stat", release="at_once"),
        rule_of("two", send=["ehr", "pacs"], priority="batch", release="after_review"),
    )
    job = only_job(routing)
    assert (job.send, job.priority, job.release) == (("pacs", "ehr"), "stat", "after_review")
    assert [r["name"] for r in job.rules] == ["one", "two"]


def test_shadow_is_the_strictest_release() -> None:
    rules = [rule_of(name, release=name) for name in ("after_review", "shadow", "at_once")]
    assert only_job(routed(study_of(ct_series()), *rules)).release == "shadow"


def test_a_rule_that_stops_ends_the_evaluation_and_says_so() -> None:
    routing = routed(study_of(ct_series()), rule_of("first", stop=True, run=[]), rule_of("later"))
    assert not routing.jobs
    assert [(d.rule, d.reason) for d in routing.decisions][1:] == [("first", "stops here; later rules not asked: 1")]


def test_a_stopping_rule_that_does_not_match_stops_nothing() -> None:
    other = rule_of("MR", when={"field": "series.modality", "eq": "MR"}, stop=True)
    assert routed(study_of(ct_series()), other, rule_of()).jobs


def test_a_pipeline_that_is_not_installed_is_a_no_and_hides_no_other() -> None:
    routing = routed(study_of(ct_series()), rule_of(run=["gone", "bone_ct"]))
    assert only_job(routing).pipeline == "bone_ct"
    assert noes(routing, Fault.UNKNOWN_PIPELINE)[0].pipeline == "gone"


def test_the_input_set_names_images_bytes_and_build_and_nothing_else() -> None:
    job = only_job(routed(study_of(ct_series())))
    given = job.inputs[0]
    backwards = replace(given, instances=dict(reversed(given.instances.items())))
    assert input_set(BONE, [backwards]) == job.input_set == input_set(BONE, [replace(given, series_uid="other")])
    uid = next(iter(given.instances))
    changed = [
        input_set(BONE, [replace(given, instances={**given.instances, uid: "f" * 64})]),
        input_set(BONE, [replace(given, name="other")]),
        input_set(replace(BONE, version="1.0.1"), [given]),
        input_set(replace(BONE, package_digest="1" * 64), [given]),
        input_set(replace(BONE, name="other"), [given]),
    ]
    assert len({job.input_set, *changed}) == 6
    assert len(job.input_set) == 64


def test_a_late_object_that_no_input_uses_leaves_the_input_set_as_it_was() -> None:
    before = only_job(routed(study_of(ct_series())))
    late = study_of(ct_series(), region_series("1.9", "1.2.3.1"), revision=2)
    assert only_job(routed(late)).input_set == before.input_set


def test_a_study_that_names_two_patients_still_gets_its_plan() -> None:
    other = ct_series("1.2", series_number=2, patient=Patient(id="P2"))
    study = study_of(ct_series(), other)
    assert len(study.patients) == 2
    assert routed(study).jobs


def test_no_rules_or_no_series_mean_no_jobs() -> None:
    assert decide(subject_of(study_of(ct_series()), {}), (), {}).decisions == ()
    routing = routed(study_of())
    assert not routing.jobs
    assert routing.decisions[0].reason == "the study has no series"


ANY_MANIFESTS = (
    manifest_of("best", Input("ct", "volume", prefer=THINNEST)),
    manifest_of("each", Input("ct", "volume", count="each")),
    manifest_of("all", Input("ct", "volume", count="all"), Input("r", "region", on="ct", required=False)),
    manifest_of("region", Input("ct", "volume"), Input("r", "region", on="ct")),
)
ANY_RULES = (
    rule_of("knee", when={"all": [CT, {"field": "series.body_part", "eq": "KNEE"}]}, run=["best", "each"]),
    rule_of("thin", when={"all": [{"field": "series.slice_step_mm", "lt": 3}]}, run=["all", "region"]),
    rule_of("any", when={"not": {"field": "patient.age_years", "lt": 3}}, run=["best", "gone"]),
)


@given(strategies.studies())
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_any_study_is_decided_the_same_way_each_time_with_jobs_on_its_own_images_only(study: Study) -> None:
    routing = routed(study, *ANY_RULES, manifests=ANY_MANIFESTS)
    turned = replace(study, series=tuple(reversed(study.series)))
    assert routed(turned, *ANY_RULES, manifests=ANY_MANIFESTS).jobs == routing.jobs
    stored = {i.header.sop_instance_uid: i.digest for s in study.series for i in s.instances}
    for job in routing.jobs:
        assert all(stored[uid] == digest for given in job.inputs for uid, digest in given.instances.items())
        chosen = [d for d in routing.decisions if d.is_yes and d.pipeline == job.pipeline]
        assert job.inputs[0].series_uid in {d.series_uid for d in chosen}
    assert len({(j.pipeline, j.input_set) for j in routing.jobs}) == len(routing.jobs)
    assert all(d.reason for d in routing.decisions)
