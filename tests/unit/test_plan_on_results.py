"""Pipelines that build on results of others: what is planned on what, and why not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import Input, circle, upstream_first
from orchestrator.domain.route import decide, early
from orchestrator.domain.subject import subject_of
from orchestrator.domain.upstream import Upstream, identity_of, results_taken
from orchestrator.rulebook import YamlRulebook
from tests.rows import job_of
from tests.strategies import THINNEST, ct_series, manifest_of, region_series, study_of

if TYPE_CHECKING:
    from orchestrator.domain.job import Job
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.route import Decision, PlannedJob, Routing, Rule
    from orchestrator.domain.study import Study

CT = {"field": "series.modality", "eq": "CT"}
KNEE = {"field": "series.body_part", "eq": "KNEE"}
BOOK = YamlRulebook()
STUDY = study_of(ct_series("1.1"), ct_series("1.2", series_number=2))


def on(pipeline: str, name: str = "bone", **given: Any) -> Input:
    return Input(name, "result", pipeline=pipeline, **given)


def each(name: str, *inputs: Input, **given: Any) -> Manifest:
    return manifest_of(name, Input("ct", "volume", count="each"), *inputs, **given)


BONE = each("bone_ct")
DENSITY = each("density", on("bone_ct"))


def rule_of(*run: str, **given: Any) -> Rule:
    text = {"name": " ".join(run), "when": {"all": [CT]}, "run": list(run), "send": ["pacs"], **given}
    return BOOK.rules([text])[0]


def routed(study: Study, *rules: Rule, manifests: tuple[Manifest, ...] = (BONE, DENSITY), **given: Any) -> Routing:
    asked = rules or (rule_of(*(m.name for m in manifests)),)
    return decide(subject_of(study, {}), asked, {m.name: m for m in manifests}, **given)


def as_job(planned: PlannedJob, **given: Any) -> Job:
    """The planned job as one that exists."""
    names = ("pipeline", "version", "inputs", "input_set", "generation")
    identifier = given.pop("identifier", planned.input_set[:8])
    return job_of(identifier, **{name: getattr(planned, name) for name in names} | given)


def earlier(*jobs: Job, has_result: bool = True) -> list[Upstream]:
    return [Upstream(job, has_result) for job in jobs]


def of(routing: Routing, pipeline: str) -> list[PlannedJob]:
    return [job for job in routing.jobs if job.pipeline == pipeline]


def takes(job: PlannedJob) -> set[str]:
    return set(results_taken(job))


def said(routing: Routing, pipeline: str, *, is_yes: bool = False) -> list[str]:
    return [d.reason for d in routing.decisions if d.pipeline == pipeline and d.is_yes is is_yes]


def noes(routing: Routing, pipeline: str) -> list[Decision]:
    return [d for d in routing.decisions if d.pipeline == pipeline and not d.is_yes]


# planned together


def test_a_pipeline_is_planned_on_the_result_that_is_planned_with_it_on_the_same_series() -> None:
    routing = routed(STUDY)
    bones, densities = of(routing, "bone_ct"), of(routing, "density")
    assert [takes(job) for job in densities] == [{bone.identity} for bone in bones]
    assert [job.inputs[1].series_uid for job in densities] == ["1.1", "1.2"]
    assert [job.inputs[1].instances for job in densities] == [{"bone_ct": bone.identity} for bone in bones]
    assert said(routing, "density", is_yes=True)[:2] == [
        "series 1 (CT) is input ct: 5 images form the volume",
        "input bone is the result of bone_ct 1.0.0 on series 1 (CT): waits for the result of bone_ct",
    ]


def test_the_input_set_follows_the_result_taken() -> None:
    newer = replace(BONE, version="1.0.1")
    sets = {job.input_set for m in (BONE, newer) for job in of(routed(STUDY, manifests=(m, DENSITY)), "density")}
    assert len(sets) == 4


CHAIN = (BONE, DENSITY, each("risk", on("density", "density"), on("bone_ct")), each("alone"))


@given(st.permutations([m.name for m in CHAIN]), st.permutations(CHAIN), st.booleans())
def test_in_whatever_order_rules_name_them_upstream_ones_come_first(run, manifests, is_one_rule) -> None:
    rules = [rule_of(*run)] if is_one_rule else [rule_of(name) for name in run]
    routing = routed(STUDY, *rules, manifests=tuple(manifests))
    planned: set[str] = set()
    for job in routing.jobs:
        assert takes(job) <= planned
        planned.add(job.identity)
    assert planned == {job.identity for job in routed(STUDY, manifests=CHAIN).jobs}
    assert len(planned) == 8


def test_another_rule_may_ask_for_the_upstream_pipeline() -> None:
    routing = routed(STUDY, rule_of("density"), rule_of("bone_ct", send=["ehr"]))
    assert [job.send for job in of(routing, "density")] == [("pacs",)] * 2
    assert [job.send for job in of(routing, "bone_ct")] == [("ehr",)] * 2


def test_an_upstream_job_is_as_urgent_as_the_most_urgent_that_waits_for_it() -> None:
    chain = (BONE, DENSITY, each("risk", on("density")), each("alone"))
    rules = rule_of("risk", priority="stat"), rule_of("density", "bone_ct", priority="batch"), rule_of("alone")
    routing = routed(STUDY, *rules, manifests=chain)
    assert {job.pipeline: job.priority for job in routing.jobs} == {
        "bone_ct": "stat",
        "density": "stat",
        "risk": "stat",
        "alone": "routine",
    }


# what is missing


def test_without_a_result_and_a_rule_that_asks_for_one_there_is_no_job() -> None:
    routing = routed(STUDY, rule_of("density"))
    assert routing.jobs == ()
    assert [(d.code, d.reason) for d in noes(routing, "density")] == [
        *[(Fault.NO_INPUT.code, "input bone: bone_ct has no result on this series and none is planned")] * 2,
        (Fault.NO_INPUT.code, "no series suits input ct"),
    ]


def test_a_pipeline_runs_on_the_series_that_have_the_result() -> None:
    study = study_of(ct_series("1.1", step_mm=1.0), ct_series("1.2", series_number=2, body_part="KNEE"))
    best = manifest_of("density", Input("ct", "volume", prefer=THINNEST), on("bone_ct"))
    for manifest in (DENSITY, best):
        rules = rule_of("bone_ct", when={"all": [CT, KNEE]}), rule_of("density")
        (job,) = of(routed(study, *rules, manifests=(BONE, manifest)), "density")
        assert job.inputs[0].series_uid == "1.2"


def test_an_optional_result_that_is_not_there_is_absent_and_said_so() -> None:
    routing = routed(STUDY, rule_of("density"), manifests=(BONE, each("density", on("bone_ct", required=False))))
    assert [[given.name for given in job.inputs] for job in routing.jobs] == [["ct"], ["ct"]]
    assert "runs without input bone: bone_ct has no result on this series and none is planned" in said(
        routing, "density", is_yes=True
    )


@pytest.mark.parametrize(
    ("wanted", "version", "will_do"),
    [
        ("", "0.1.0", True),
        (">=1", "1.0.0", True),
        (">=1", "2.5.1", True),
        (">=1", "0.9.9", False),
        (">=1.2.3", "1.2.3", True),
        (">=1.2.3", "1.10.0", True),
        (">=1.2.3", "1.2.2", False),
        (">=1.2.3", "1.2.3-rc.1", False),
        (">=1.2.3", "1.2.4-rc.1+build", True),
        (">=1.2.3", "1.2.3+build", True),
        ("==1.2", "1.2.9", True),
        ("==1.2", "1.20.0", False),
        ("1.2", "1.2.0", True),
        ("1.2", "1.3.0", False),
        ("==1.2.3", "1.2.3", True),
        ("==1.2.3", "1.2.4", False),
    ],
)
def test_the_version_of_a_result_decides_whether_it_will_do(wanted: str, version: str, *, will_do: bool) -> None:
    manifests = (replace(BONE, version=version), each("density", on("bone_ct", version=wanted)))
    routing = routed(STUDY, manifests=manifests)
    assert bool(of(routing, "density")) is will_do
    if not will_do:
        assert noes(routing, "density")[0].reason == f"input bone: bone_ct {version} is not version {wanted}"


# results that are there already


def test_an_earlier_result_is_built_on_when_no_rule_asks_for_the_pipeline_now() -> None:
    bones = [as_job(job, state="done") for job in of(routed(STUDY), "bone_ct")]
    routing = routed(STUDY, rule_of("density"), earlier=earlier(*bones))
    assert [takes(job) for job in routing.jobs] == [{identity_of(bone)} for bone in bones]
    assert "input bone is the result of bone_ct 1.0.0 on series 1 (CT)" in said(routing, "density", is_yes=True)


def test_of_several_generations_the_newest_that_was_not_superseded_is_built_on() -> None:
    bone = of(routed(STUDY), "bone_ct")[0]
    states = ("done", "delivering", "superseded")
    made = [as_job(bone, identifier=f"j{n}", generation=n, state=state) for n, state in enumerate(states)]
    (job,) = routed(STUDY, rule_of("density"), earlier=earlier(*made)).jobs
    assert takes(job) == {identity_of(made[1])}


def test_a_result_of_other_images_of_the_series_is_not_built_on() -> None:
    bone = as_job(of(routed(STUDY), "bone_ct")[0], state="done")
    more = study_of(ct_series("1.1", count=6))
    routing = routed(more, rule_of("density"), earlier=earlier(bone))
    assert routing.jobs == ()
    assert noes(routing, "density")[0].reason == ("input bone: the result of bone_ct is of other images of this series")


def test_on_what_failed_a_pipeline_is_planned_that_requires_it_and_one_that_does_not_goes_without() -> None:
    bones = [as_job(job, state="failed", reason="a fault") for job in of(routed(STUDY), "bone_ct")]
    known = earlier(*bones, has_result=False)
    assert len(of(routed(STUDY, earlier=known), "density")) == 2
    optional = each("density", on("bone_ct", required=False))
    routing = routed(STUDY, manifests=(BONE, optional), earlier=known)
    assert [len(job.inputs) for job in of(routing, "density")] == [1, 1]
    assert "runs without input bone: bone_ct is failed: a fault" in said(routing, "density", is_yes=True)


def test_a_job_that_failed_after_its_last_stage_has_its_result() -> None:
    bones = [as_job(job, state="failed") for job in of(routed(STUDY), "bone_ct")]
    optional = each("density", on("bone_ct", required=False))
    routing = routed(STUDY, rule_of("density"), manifests=(BONE, optional), earlier=earlier(*bones))
    assert [takes(job) for job in routing.jobs] == [{identity_of(bone)} for bone in bones]


def test_a_job_that_stands_keeps_its_generation_and_a_superseded_one_is_followed_by_the_next() -> None:
    first = [as_job(job) for job in routed(STUDY).jobs]
    assert {job.generation for job in routed(STUDY, earlier=earlier(*first)).jobs} == {0}
    gone = [replace(job, state="superseded") if job.pipeline == "bone_ct" else job for job in first]
    again = routed(STUDY, earlier=earlier(*gone))
    assert {job.generation for job in of(again, "bone_ct")} == {1}
    assert {job.input_set for job in of(again, "density")}.isdisjoint({job.input_set for job in first})
    failed = [replace(job, state="failed") for job in first]
    assert {job.generation for job in routed(STUDY, earlier=earlier(*failed)).jobs} == {0}
    anew = routed(STUDY, earlier=earlier(*failed), anew=True)
    assert {job.generation for job in of(anew, "bone_ct")} == {1}


# pipelines without images of their own


ABOUT_RESULTS = manifest_of("risk", on("bone_ct", count="each"))


def test_a_pipeline_about_results_makes_one_job_a_result_or_takes_the_best() -> None:
    study = study_of(ct_series("1.1", step_mm=5.0), ct_series("1.2", series_number=2, step_mm=1.0))
    routing = routed(study, manifests=(BONE, ABOUT_RESULTS))
    bones = of(routing, "bone_ct")
    assert [takes(job) for job in of(routing, "risk")] == [{bone.identity} for bone in bones]
    assert [job.inputs[0].series_uid for job in of(routing, "risk")] == ["1.1", "1.2"]
    thinnest = manifest_of("risk", on("bone_ct", prefer=THINNEST))
    routing = routed(study, manifests=(BONE, thinnest))
    (job,) = of(routing, "risk")
    assert takes(job) == {of(routing, "bone_ct")[1].identity}
    assert noes(routing, "risk")[0].reason == (
        "another series was preferred: series 2 (CT) has the smaller series.slice_step_mm"
    )


def test_a_rule_says_of_which_series_a_pipeline_takes_the_results() -> None:
    study = study_of(ct_series("1.1"), ct_series("1.2", series_number=2, body_part="KNEE"))
    rules = rule_of("bone_ct"), rule_of("risk", when={"all": [CT, KNEE]})
    (job,) = of(routed(study, *rules, manifests=(BONE, ABOUT_RESULTS)), "risk")
    assert job.inputs[0].series_uid == "1.2"


# before all is there


def test_a_job_is_early_only_when_what_it_builds_on_is_certain() -> None:
    best = manifest_of("bone_ct")
    for bone, certain in ((BONE, ["bone_ct", "density"]), (best, [])):
        manifests = (bone, DENSITY)
        routing = routed(study_of(ct_series("1.1")), manifests=manifests)
        named = {m.name: m for m in manifests}
        assert [job.pipeline for job in early(routing.jobs, named, ())] == certain
        standing = {job.identity for job in of(routing, "bone_ct")}
        assert "density" in [job.pipeline for job in early(routing.jobs, named, standing)]


def test_a_job_with_an_open_input_or_one_chosen_among_series_is_not_early() -> None:
    study = study_of(ct_series("1.1"), region_series("1.9", "1.1"))
    with_region = each("region", Input("tumour", "region", on="ct", required=False))
    open_result = each("open", on("gone", required=False))
    second = each("second", Input("other", "volume"))
    manifests = {m.name: m for m in (with_region, open_result, second)}
    routing = routed(study, manifests=tuple(manifests.values()))
    assert [job.pipeline for job in routing.jobs] == ["region", "open", "second"]
    assert [job.pipeline for job in early(routing.jobs, manifests, ())] == ["region"]


# circles


CIRCLE = (each("a", on("b")), each("b", on("c")), each("c", on("a")), each("d", on("a")), each("me", on("me")))


def test_a_circle_is_named_by_each_of_its_members_and_by_no_other() -> None:
    named = {m.name: m for m in (*CIRCLE, *CHAIN)}
    assert {name: circle(name, named) for name in named if circle(name, named)} == {
        "a": ("a", "b", "c", "a"),
        "b": ("b", "c", "a", "b"),
        "c": ("c", "a", "b", "c"),
        "me": ("me", "me"),
    }


def test_pipelines_in_a_circle_plan_nothing_and_hold_up_no_other() -> None:
    routing = routed(STUDY, manifests=(*CIRCLE, BONE, DENSITY))
    assert {job.pipeline for job in routing.jobs} == {"bone_ct", "density"}


def test_upstream_ones_first_and_else_as_given() -> None:
    named = {m.name: m for m in CHAIN}
    assert upstream_first(["alone", "risk", "bone_ct", "density", "risk"], named) == [
        "alone",
        "bone_ct",
        "density",
        "risk",
    ]
