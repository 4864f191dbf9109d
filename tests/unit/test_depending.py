"""Jobs that build on results of others: when they start, wait and end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import Input
from orchestrator.domain.study import Patient
from orchestrator.domain.upstream import identity_of, results_taken
from orchestrator.service.depending import artefacts_taken, source_of
from orchestrator.service.repairing import reroute_study, retry_job
from orchestrator.service.routing import due_studies
from tests.chains import (
    BONE,
    CRASH,
    DENSITY,
    METAL,
    OPTIONAL,
    REVIEWED,
    RISK,
    SECOND,
    complete,
    each,
    fail,
    judged,
    newest,
    on,
    opened,
    review,
    route_again,
    states,
    system_of,
    work,
)
from tests.fakes.surroundings import GivenCatalog
from tests.fakes.system import FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of

# start


def test_a_job_waits_without_a_stage_until_the_last_stage_before_the_report_of_its_upstream_is_done(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    waiting = newest(system, "density")
    assert (waiting.state, waiting.reason) == ("waiting", "waits for the result of bone_ct")
    work(system, "bone_ct find")
    assert opened(system, "density") == []
    work(system, "bone_ct fit")
    assert opened(system, "density") == ["segment"]
    assert newest(system, "density").reason == ""
    work(system, "bone_ct report", "density segment", "density report")
    assert [state for _, _, state in states(system)] == ["delivering", "delivering"]
    assert due_studies(system.router) == []


def test_the_stage_opens_with_the_finish_or_not_at_all(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, "bone_ct find")
    claimed = system.claim()
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        complete(system, claimed)
    assert opened(system, "density") == []
    complete(system, claimed)
    assert opened(system, "density") == ["segment"]


def test_a_chain_runs_link_by_link_and_several_may_build_on_one_result(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, RISK)
    assert newest(system, "risk").reason == "waits for the result of density"
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    assert opened(system, "risk") == []
    work(system, "density segment", "density report", "risk segment", "risk report")
    assert results_taken(newest(system, "risk")) == {
        identity_of(newest(system, "bone_ct")),
        identity_of(newest(system, "density")),
    }


def test_each_series_has_its_own_chain(tmp_path):
    system = FakeSystem(tmp_path, manifests=(BONE, DENSITY), rules=(rule(run=["density", "bone_ct"]),))
    system.receive_and_route(*slices(), *slices(SECOND))
    work(system, "bone_ct find", "bone_ct find", "bone_ct fit")
    begun = [job for job in system.jobs() if job.pipeline == "density" and system.stages(job.id)]
    assert [job.primary.series_uid for job in begun] == ["1.2.3.1"]


def test_the_job_names_the_build_that_was_planned(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    assert {job.package_digest for job in system.jobs()} == {"0" * 64}


def test_what_a_job_takes_can_be_found_and_the_images_it_is_about(tmp_path):
    about = manifest_of("summary", on("density"))
    system = system_of(tmp_path, BONE, DENSITY, about)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report", "density segment")
    with system.records.reading() as unit:
        assert artefacts_taken(unit, newest(system, "density")) == {"bone_ct": {"made by": "bone_ct fit"}}
        assert artefacts_taken(unit, newest(system, "summary")) == {"density": {"made by": "density segment"}}
        assert source_of(unit, newest(system, "summary")) == newest(system, "bone_ct").primary


def test_two_inputs_may_take_the_same_result(tmp_path):
    both = each("density", *(Input(n, "result", pipeline="bone_ct", segment=f"SCT:{n}") for n in ("tibia", "fibula")))
    system = system_of(tmp_path, BONE, both)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    with system.records.reading() as unit:
        assert artefacts_taken(unit, newest(system, "density")).keys() == {"tibia", "fibula"}
    work(system, "density segment")


def test_a_study_of_two_patients_starts_neither(tmp_path):
    system = FakeSystem(tmp_path, manifests=(BONE, DENSITY), rules=(rule(run=["bone_ct", "density"]),))
    system.receive_and_route(*slices(), *slices(SECOND, patient=Patient("P2", "MAIN")))
    assert {(job.state, job.code) for job in system.jobs()} == {("held", Fault.IDENTITY_CONFLICT.code)}
    assert not any(system.stages(job.id) for job in system.jobs())


def test_a_result_asked_for_later_starts_what_had_no_job_without_it(tmp_path):
    system = FakeSystem(tmp_path, manifests=(BONE, DENSITY), rules=(rule(run=["density"]),))
    system.receive_and_route(*slices())
    assert system.jobs() == []
    system.decide(rule(run=["bone_ct"]))
    route_again(system)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    system.decide(rule(run=["density"]))
    route_again(system)
    work(system, "density segment")


def test_a_part_of_the_study_starts_its_whole_chain_early(tmp_path):
    system = FakeSystem(tmp_path, manifests=(BONE, DENSITY), rules=(rule(run=["density", "bone_ct"]),))
    system.receive(*slices())
    visit = system.visit()
    system.send(visit, slices(SECOND)[0])
    system.clock.pass_s(30)
    system.route()
    assert [job.pipeline for job in system.jobs()] == ["bone_ct", "density"]
    work(system, "bone_ct find", "bone_ct fit")
    assert opened(system, "density") == ["segment"]


# a result that will never be there


@pytest.mark.parametrize("error", [METAL, CRASH])
def test_what_requires_a_result_that_will_not_be_there_is_unfit_with_the_reason_down_the_chain(tmp_path, error):
    system = system_of(tmp_path, BONE, DENSITY, each("risk", on("density")))
    fail(system, error)
    state = newest(system, "bone_ct").state
    density, risk = newest(system, "density"), newest(system, "risk")
    assert (density.state, density.code) == (risk.state, risk.code) == ("unfit", Fault.UPSTREAM_MISSING.code)
    assert density.reason == f"bone_ct is {state}: {error.detail}"
    assert risk.reason == f"density is unfit: {density.reason}"


def test_once_the_upstream_was_retried_and_succeeds_what_was_unfit_for_want_of_it_runs(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, each("risk", on("density")))
    fail(system, CRASH)
    retry_job(system.router, newest(system, "bone_ct").id)
    work(system, "bone_ct find", "bone_ct fit")
    assert (newest(system, "density").state, newest(system, "risk").state) == ("waiting", "waiting")
    assert newest(system, "risk").reason == "waits for the result of density"
    work(system, "bone_ct report", "density segment", "density report", "risk segment", "risk report")
    assert len(system.jobs()) == 3


def test_what_is_unfit_for_its_own_reason_stays_so(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY, RISK)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    fail(system, METAL)
    before = newest(system, "density")
    review(system, newest(system, "bone_ct"), "accepted")
    assert newest(system, "density") == before
    assert newest(system, "risk").reason == "density is unfit: metal"


def test_a_report_that_fails_takes_no_result_away(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, "bone_ct find", "bone_ct fit")
    fail(system, CRASH)
    assert newest(system, "bone_ct").state == "failed"
    work(system, "density segment", "density report")


def test_what_does_not_require_a_result_runs_without_it(tmp_path):
    system = system_of(tmp_path, BONE, OPTIONAL)
    assert newest(system, "density").reason == "waits for the result of bone_ct"
    fail(system, METAL)
    assert states(system)[1:] == [("density", 0, "superseded"), ("density", 0, "waiting")]
    with_it, without = system.jobs()[1:]
    assert (len(with_it.inputs), len(without.inputs)) == (2, 1)
    assert with_it.input_set != without.input_set
    work(system, "density segment", "density report")


def test_a_result_that_comes_after_all_starts_the_job_that_ran_without_it_again(tmp_path):
    system = system_of(tmp_path, BONE, OPTIONAL)
    fail(system, CRASH)
    work(system, "density segment", "density report")
    retry_job(system.router, newest(system, "bone_ct").id)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    system.route()
    again = newest(system, "density")
    assert (again.generation, len(again.inputs), again.state) == (1, 2, "waiting")
    assert states(system)[2] == ("density", 0, "superseded")
    work(system, "density segment", "density report")
    route_again(system)
    assert newest(system, "density").id == again.id
    review(system, newest(system, "bone_ct"), "accepted")
    assert due_studies(system.router) == []


def test_a_job_that_stands_on_the_inputs_left_is_not_made_twice(tmp_path):
    system = FakeSystem(tmp_path, manifests=(BONE, OPTIONAL), rules=(rule(run=["density"]),))
    system.receive_and_route(*slices())
    work(system, "density segment", "density report")
    system.deliver()
    system.decide(rule(run=["density", "bone_ct"]))
    route_again(system)
    fail(system, METAL)
    assert states(system) == [("density", 0, "done"), ("bone_ct", 0, "unfit"), ("density", 0, "superseded")]


@pytest.mark.parametrize("renamed", [[], [each("density", Input("skeleton", "result", pipeline="bone_ct"))]])
def test_a_pipeline_that_was_removed_or_takes_the_result_otherwise_now_fails_the_job_that_waits(tmp_path, renamed):
    system = system_of(tmp_path, BONE, DENSITY)
    other = each("other", on("bone_ct"))
    system.workshop = replace(system.workshop, catalog=GivenCatalog(BONE, other, *renamed))
    work(system, "bone_ct find", "bone_ct fit")
    job = newest(system, "density")
    assert (job.state, job.code, job.reason) == (
        "failed",
        Fault.UNKNOWN_PIPELINE.code,
        "density 1.0.0 is no longer installed",
    )


def test_a_pipeline_removed_while_its_job_was_unfit_leaves_it_so(tmp_path):
    system = system_of(tmp_path, BONE, REVIEWED)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    review(system, newest(system, "bone_ct"), "rejected")
    before = newest(system, "density")
    system.workshop = replace(system.workshop, catalog=GivenCatalog(BONE, each("other", on("bone_ct"))))
    review(system, newest(system, "bone_ct"), "accepted")
    assert newest(system, "density") == before


# superseding


def test_when_the_study_changes_a_new_chain_takes_the_place_of_the_old_one(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, "bone_ct find", "bone_ct fit")
    system.receive_and_route(*slices(first=3, count=1))
    assert states(system) == [
        ("bone_ct", 0, "superseded"),
        ("density", 0, "superseded"),
        ("bone_ct", 0, "waiting"),
        ("density", 0, "waiting"),
    ]
    assert results_taken(newest(system, "density")) == {identity_of(newest(system, "bone_ct"))}
    assert opened(system, "density") == []
    assert not any(job.is_stale for job in system.jobs())
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report", "density segment", "density report")


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_job_whose_upstream_was_superseded_and_that_no_rule_asks_for_any_more_is_unfit(tmp_path, is_begun):
    system = system_of(tmp_path, BONE, DENSITY)
    if is_begun:
        work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
        assert system.claim().job.pipeline == "density"
    system.decide(rule(run=["bone_ct"]))
    system.receive_and_route(*slices(first=3, count=1))
    orphan = newest(system, "density")
    assert (orphan.state, orphan.code) == ("unfit", Fault.UPSTREAM_MISSING.code)
    assert orphan.reason.startswith("bone_ct is superseded")
    assert {stage.state for stage in system.stages(orphan.id)} == ({"failed"} if is_begun else set())
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")


@pytest.mark.parametrize(("manifest", "stages"), [(DENSITY, ["density segment"]), (OPTIONAL, [])])
def test_a_job_that_has_its_result_or_does_not_require_the_superseded_one_goes_on_and_is_stale(
    tmp_path, manifest, stages
):
    system = system_of(tmp_path, BONE, manifest)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report", *stages)
    claimed = system.claim()
    system.decide(rule(run=["bone_ct"]))
    system.receive_and_route(*slices(first=3, count=1))
    complete(system, claimed)
    assert newest(system, "density").is_stale


def test_a_result_made_on_a_superseded_one_is_stale(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report", "density segment", "density report")
    system.decide(rule(run=["bone_ct"]))
    system.receive_and_route(*slices(first=3, count=1))
    assert (newest(system, "density").state, newest(system, "density").is_stale) == ("delivering", True)


def test_a_result_with_a_verdict_is_never_superseded_by_a_routing(tmp_path):
    system = system_of(tmp_path, BONE, release="after_review")
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report")
    judged(system, newest(system, "bone_ct"))
    system.receive_and_route(*slices(first=3, count=1))
    assert states(system) == [("bone_ct", 0, "held"), ("bone_ct", 0, "waiting")]


def test_an_operator_who_has_the_study_routed_anew_gets_the_whole_chain_again(tmp_path):
    system = system_of(tmp_path, BONE, DENSITY)
    fail(system, CRASH)
    made = reroute_study(system.router, STUDY_UID).made
    assert [(job.pipeline, job.generation) for job in made] == [("bone_ct", 1), ("density", 0)]
    assert states(system)[1] == ("density", 0, "superseded")
    work(system, "bone_ct find", "bone_ct fit", "bone_ct report", "density segment")
