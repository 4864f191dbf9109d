"""The rules in force decide on a study again, because an operator asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.pipeline import StagePlan
from orchestrator.domain.study import Patient
from orchestrator.service.repairing import reroute_study
from orchestrator.service.routing import put_off
from orchestrator.service.working import complete_stage
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import GivenCatalog
from tests.fakes.system import QUIET_S, FakeSystem, rule, slices
from tests.mishaps import BONE, RISK, cancel, fail, nothing_to_do, put, quarantine, refusal_of, reported, routed, states
from tests.strategies import STUDY_UID, manifest_of

SECOND = "1.2.3.2"


@pytest.fixture
def system(tmp_path):
    """A study with a job whose first stage is ready."""
    return routed(tmp_path)


def reroute(system: FakeSystem):
    return reroute_study(system.router, STUDY_UID)


def test_a_corrected_rule_makes_the_job_it_asks_for(tmp_path):
    system = routed(tmp_path, rules=(rule(when={"field": "series.modality", "eq": "MR"}),))
    assert system.jobs() == []
    system.decide(rule())
    rerouted = reroute(system)
    assert [job.id for job in rerouted.made] == [system.job().id]
    assert (rerouted.kept, rerouted.unasked, rerouted.rule_set_version) == ((), (), 2)
    assert system.job().rule_set_version == 2
    assert system.claim().job.id == system.job().id
    with system.records.reading() as unit:
        kept = unit.jobs.decisions(STUDY_UID)
    assert [version for _, version, _, _ in kept] == sorted(version for _, version, _, _ in kept)
    assert tuple(decision for _, version, _, decision in kept if version == 2) == rerouted.decisions


def test_jobs_that_stand_are_kept_and_named_however_often_the_study_is_routed_again(tmp_path):
    system = reported(tmp_path)
    for state in ("delivering", "done"):
        put(system, system.job().id, state)
        before = system.jobs()
        rerouted = reroute(system)
        assert (rerouted.made, [job.state for job in rerouted.kept]) == ((), [state])
        assert system.jobs() == before
    system.clock.pass_s(1e6)
    system.route()
    assert system.jobs() == before, "nothing is left for the rounds to decide"


def test_a_cancelled_job_is_made_anew_in_the_next_generation(system):
    for generation in (1, 2):
        cancel(system, system.jobs()[-1].id)
        rerouted = reroute(system)
        assert [(job.generation, job.state) for job in rerouted.made] == [(generation, "waiting")]
    assert [(job.state, job.generation) for job in system.jobs()] == [
        ("cancelled", 0),
        ("cancelled", 1),
        ("waiting", 2),
    ]
    assert len({job.input_set for job in system.jobs()}) == 1
    assert system.claim().job.generation == 2


def test_a_failed_job_gives_its_place_to_the_next_generation(tmp_path):
    system = reported(tmp_path, send=["pacs", "share"])
    failed = quarantine(system, "pacs")
    (made,) = reroute(system).made
    assert (made.generation, made.state) == (1, "waiting")
    assert (system.job(failed).state, system.job(failed).reason) == (
        "superseded",
        "an operator had the study routed again",
    )
    assert states(system, failed) == [("pacs", "superseded"), ("share", "superseded")]


def test_an_unfit_job_is_tried_again_where_an_operator_asks_for_it(system):
    fail(system, Unfit(Fault.OUT_OF_RANGE, "metal"))
    assert [job.generation for job in reroute(system).made] == [1]


def test_what_builds_on_a_job_that_is_made_anew_is_made_anew_with_it(tmp_path):
    system = routed(tmp_path, manifests=(BONE, RISK), rules=(rule(run=["bone_ct", "fracture_risk"]),))
    cancel(system, system.jobs()[0].id)
    rerouted = reroute(system)
    assert [(job.pipeline, job.state) for job in rerouted.made] == [
        ("bone_ct", "waiting"),
        ("fracture_risk", "waiting"),
    ]
    system.report()
    assert system.claim().job.id == rerouted.made[1].id


def test_a_job_that_no_rule_asks_for_now_is_left_alone_and_named(tmp_path):
    system = routed(tmp_path)
    system.decide(rule(when={"field": "series.modality", "eq": "MR"}))
    rerouted = reroute(system)
    assert (rerouted.made, rerouted.kept) == ((), ())
    assert [job.id for job in rerouted.unasked] == [system.job().id]
    assert system.job().state == "waiting"
    assert {decision.is_yes for decision in rerouted.decisions} == {False}


def test_a_job_at_its_end_without_a_result_is_not_named_where_no_rule_asks_for_it(system):
    cancel(system)
    system.decide(rule(when={"field": "series.modality", "eq": "MR"}))
    assert reroute(system).unasked == ()


def test_a_newer_build_takes_the_place_of_a_result_that_stands(tmp_path):
    system = reported(tmp_path)
    put(system, system.job().id, "done")
    newer = replace(BONE, version="1.1.0", package_digest="1" * 64)
    rerouted = reroute_study(replace(system.router, catalog=GivenCatalog(newer)), STUDY_UID)
    assert [(job.version, job.generation) for job in rerouted.made] == [("1.1.0", 0)]
    assert (rerouted.kept, rerouted.unasked) == ((), ()), "the older one is replaced once the newer is delivered"


def test_two_patients_under_one_study_stay_held(tmp_path):
    system = FakeSystem(tmp_path)
    system.receive_and_route(*slices(), *slices(SECOND, patient=Patient("P2", "MAIN")))
    assert [job.state for job in reroute(system).kept] == ["held"]
    cancel(system)
    assert [(job.state, job.code) for job in reroute(system).made] == [("held", Fault.IDENTITY_CONFLICT.code)]
    assert nothing_to_do(system)


def test_a_study_that_could_not_be_routed_is_routed_at_once_when_the_rules_are_mended(system):
    system.receive(*slices(SECOND))
    system.clock.pass_s(QUIET_S)
    put_off(system.router, STUDY_UID, "routing failed: KeyError")
    assert [job.state for job in reroute(system).kept] == ["waiting"]
    system.clock.pass_s(1e6)
    before = system.jobs()
    system.route()
    assert system.jobs() == before


def test_a_study_that_is_still_being_received_is_not_routed_by_hand(system):
    visit = system.visit()
    system.send(visit, slices(SECOND)[0])
    refusal = refusal_of(reroute, system)
    assert (refusal.fault, "1 series" in refusal.detail) == (Fault.WRONG_STATE, True)
    system.reception.close(visit, "released")
    assert refusal_of(reroute, system).fault is Fault.WRONG_STATE
    system.clock.pass_s(QUIET_S)
    assert reroute(system).kept


def test_a_study_nobody_knows_or_of_which_nothing_can_be_routed_is_refused_with_the_reason(system):
    refusal = refusal_of(reroute_study, system.router, "9.9")
    assert (refusal.fault, "9.9" in refusal.detail) == (Fault.NOT_FOUND, True)
    (unreadable,) = slices("8.8.1", count=1, study_uid="8.8", unreadable="too deep")
    system.receive(unreadable)
    assert "too deep" in refusal_of(reroute_study, system.router, "8.8").detail


def test_without_rules_in_force_nothing_is_decided(system):
    fresh = MemoryRecords()
    with fresh.transaction() as unit:
        for series in system.study().series:
            for instance in series.instances:
                unit.studies.add(instance, system.clock.now())
    refusal = refusal_of(reroute_study, replace(system.router, records=fresh), STUDY_UID)
    assert (refusal.fault, "nothing was imported yet" in refusal.detail) == (Fault.NOT_FOUND, True)


def test_a_reroute_that_could_not_be_kept_changed_nothing(system):
    cancel(system)
    before = system.jobs()
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        reroute(system)
    assert system.jobs() == before


def test_stages_of_a_pipeline_of_several_start_from_the_first_in_a_new_generation(tmp_path):
    two = manifest_of("bone_ct", stages=(StagePlan("find", "cpu", 60.0, 1000), StagePlan("segment", "cpu", 60.0, 1000)))
    system = routed(tmp_path, manifests=(two,))
    claimed = system.claim()
    assert complete_stage(system.workshop, claimed, two, {"mask": "ab"})
    cancel(system)
    reroute(system)
    begun = system.claim()
    assert (begun.stage.name, begun.stage.attempt, begun.job.generation) == ("find", 1, 1)
