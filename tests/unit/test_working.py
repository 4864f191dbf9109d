"""Stages are leased, run, and their end accepted once; reports become outputs and deliveries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.delivery import Destination
from orchestrator.domain.errors import Broken, Fault, Transient, Unfit
from orchestrator.domain.job import MAX_ATTEMPTS, retry_delay_s
from orchestrator.domain.pipeline import StagePlan
from orchestrator.domain.queue import queues_of
from orchestrator.domain.study import Patient
from orchestrator.ports import BuiltObject
from orchestrator.service.working import (
    claim_stage,
    complete_report,
    complete_stage,
    fail_exhausted,
    fail_stage,
    renew_lease,
)
from tests.fakes.system import FHIR, LEASE_S, PACS, SEG, SHARE, FakeSystem, rule, slices
from tests.strategies import manifest_of

TWO_STAGES = manifest_of(
    "bone_ct", stages=(StagePlan("segment", "gpu", 60.0, 1000, "optional"), StagePlan("measure", "cpu", 60.0, 1000))
)
CPU = queues_of(["cpu"])
PAGE = BuiltObject("page", "report.html", b"<html>")


@pytest.fixture
def system(tmp_path):
    """A study with a job whose first stage is ready."""
    return routed(tmp_path)


def routed(tmp_path, *headers, **given) -> FakeSystem:
    system = FakeSystem(tmp_path, **given)
    system.receive_and_route(*(headers or slices()))
    return system


def stage_states(system: FakeSystem) -> list[tuple[str, str]]:
    return [(s.name, s.state) for s in system.stages(system.job().id)]


# the chain


def test_the_job_runs_once_its_first_stage_is_claimed(system):
    assert system.job().state == "waiting"
    claimed = system.claim()
    assert (claimed.stage.name, claimed.stage.attempt, claimed.job.state) == ("segment", 1, "running")
    assert system.job().state == "running"
    assert claim_stage(system.workshop, system.worker) is None


def test_every_stage_opens_the_next_and_the_last_one_is_the_report(tmp_path):
    system = routed(tmp_path, manifests=(TWO_STAGES,), rules=(rule(priority="stat"),))
    seen = []
    while (claimed := system.claim()).stage.name != "report":
        seen.append((claimed.stage.name, claimed.stage.lane, claimed.stage.gpu, claimed.stage.priority))
        assert complete_stage(system.workshop, claimed, TWO_STAGES, {"mask": "ab"})
    assert seen == [("segment", "gpu", "optional", "stat"), ("measure", "cpu", "no", "stat")]
    assert (claimed.stage.lane, claimed.stage.priority) == ("cpu", "stat")
    assert stage_states(system) == [("segment", "done"), ("measure", "done"), ("report", "leased")]
    first = system.stages(claimed.job.id)[0]
    assert (first.artefacts, first.progress, first.finished_at) == ({"mask": "ab"}, 1.0, system.clock.now())


def test_progress_is_kept_and_the_lease_prolonged(system):
    claimed = system.claim()
    system.clock.pass_s(10)
    assert renew_lease(system.workshop, claimed.stage, 0.25, "slice 3")
    (stage,) = system.stages(claimed.job.id)
    assert (stage.progress, stage.progress_text) == (0.25, "slice 3")
    assert (stage.lease_until - system.clock.now()).total_seconds() == LEASE_S


def test_a_late_worker_changes_nothing(system):
    late = system.claim()
    system.clock.pass_s(LEASE_S)
    owner = system.claim()
    assert owner.stage.attempt == 2
    assert not renew_lease(system.workshop, late.stage, 0.9, "late")
    assert not complete_stage(system.workshop, late, system.manifests[0], {"mask": "late"})
    assert not fail_stage(system.workshop, late, Broken(Fault.STAGE_DIED))
    assert not complete_report(system.workshop, late, [(SEG, "ab")])
    assert system.stages(late.job.id) == [owner.stage]
    assert system.job().state == "running"
    assert complete_stage(system.workshop, owner, system.manifests[0], {"mask": "ab"})


# ends without a result


def test_a_transient_failure_is_tried_again_with_back_off_and_given_up_after_three(system):
    for attempt in (1, 2):
        claimed = system.claim()
        assert fail_stage(system.workshop, claimed, Transient(Fault.STAGE_DIED, "killed"))
        assert system.job().state == "running"
        (stage,) = system.stages(claimed.job.id)
        assert (stage.state, stage.attempt, stage.code) == ("ready", attempt, Fault.STAGE_DIED.code)
        delay_s = retry_delay_s(attempt, stage.id)
        assert 2 ** (attempt - 1) <= delay_s <= 1.5 * 2 ** (attempt - 1)
        system.clock.pass_s(delay_s - 0.01)
        assert claim_stage(system.workshop, system.worker) is None
        system.clock.pass_s(0.02)
    assert fail_stage(system.workshop, system.claim(), Transient(Fault.STAGE_DIED, "killed"))
    assert (system.job().state, system.job().reason, system.job().code) == ("failed", "killed", Fault.STAGE_DIED.code)
    assert stage_states(system) == [("segment", "failed")]


@pytest.mark.parametrize(
    ("error", "state"),
    [(Unfit(Fault.OUT_OF_RANGE, "metal"), "unfit"), (Broken(Fault.PIPELINE_FAULT, "a fault"), "failed")],
)
def test_a_failure_for_good_ends_the_job_at_once_with_its_reason(system, error, state):
    assert fail_stage(system.workshop, system.claim(), error)
    job = system.job()
    assert (job.state, job.reason, job.code) == (state, error.detail, error.code)
    system.clock.pass_s(3600)
    assert claim_stage(system.workshop, system.worker) is None


FULL = Transient(Fault.STORAGE_LOW, "no room in the work folder")


def test_a_place_where_a_stage_cannot_run_costs_it_no_attempt_and_sounds_an_alarm(system):
    for attempt in range(1, 8):
        claimed = system.claim()
        assert claimed.stage.attempt == attempt, "the fence rises all the same"
        assert fail_stage(system.workshop, claimed, FULL)
        assert system.job().state == "running"
        (stage,) = system.stages(claimed.job.id)
        assert (stage.state, stage.reason) == ("ready", FULL.detail)
        assert stage.attempts_allowed - stage.attempt == MAX_ATTEMPTS
        system.clock.pass_s(90)
    with system.records.reading() as unit:
        (alarm,) = unit.alarms.open()
    assert (alarm.code, alarm.subject, alarm.detail, alarm.times) == (FULL.code, "worker on worker", FULL.detail, 7)
    assert complete_stage(system.workshop, system.claim(), system.manifests[0], {"mask": "ab"})


def test_what_is_tried_for_three_days_in_vain_fails_with_its_reason(system):
    claimed = system.claim()
    system.clock.pass_s(71 * 3600)
    assert fail_stage(system.workshop, claimed, FULL)
    assert system.job().state == "running"
    system.clock.pass_s(3600)
    for _ in range(MAX_ATTEMPTS):
        assert fail_stage(system.workshop, system.claim(), FULL)
        system.clock.pass_s(90)
    assert (system.job().state, system.job().reason, system.job().code) == ("failed", FULL.detail, FULL.code)


def test_a_worker_that_dies_every_time_costs_three_attempts_then_the_lane_is_free(system):
    for _ in range(3):
        assert fail_exhausted(system.workshop) == 0
        system.claim()
        system.clock.pass_s(LEASE_S)
    assert claim_stage(system.workshop, system.worker) is None
    assert fail_exhausted(system.workshop) == 1
    assert fail_exhausted(system.workshop) == 0
    assert (system.job().state, system.job().code) == ("failed", Fault.STAGE_DIED.code)


# the report


def deliveries(system: FakeSystem) -> dict[tuple[str, str], tuple[str, str]]:
    """State and code by output name's beginning and destination."""
    with system.records.reading() as unit:
        names = {o.id: o.name.partition("-")[0] for o in unit.deliveries.outputs(system.job().id)}
    return {(names[d.output_id], d.destination): (d.state, d.code) for d in system.deliveries()}


def sending(tmp_path, *names: str, headers=(), destinations=None, **given) -> FakeSystem:
    more = {} if destinations is None else {"destinations": destinations}
    return routed(tmp_path, *headers, rules=(rule(send=list(names), **given),), **more)


def test_a_report_becomes_outputs_deliveries_and_entries_of_the_ledger(tmp_path):
    system = sending(tmp_path, "pacs", "share")
    job_id = system.report(SEG, PAGE)
    with system.records.reading() as unit:
        seg, page = unit.deliveries.outputs(job_id)
        assert unit.studies.is_own("2.25.1")
        assert not unit.studies.is_own("")
    assert (seg.kind, seg.study_uid, seg.sop_instance_uid, seg.series_uid) == ("seg", "1.2.3", "2.25.1", "2.25.9")
    assert system.objects.read(page.digest) == b"<html>"
    assert deliveries(system) == {
        ("bone.seg", "pacs"): ("waiting", ""),
        ("bone.seg", "share"): ("waiting", ""),
        ("report", "share"): ("waiting", ""),
    }
    assert system.job().state == "delivering"
    assert stage_states(system)[-1] == ("report", "done")
    assert system.stages(job_id)[-1].artefacts == {seg.name: seg.digest, page.name: page.digest}


def output_names(system: FakeSystem, job_id: str) -> list[str]:
    with system.records.reading() as unit:
        return [output.name for output in unit.deliveries.outputs(job_id)]


def test_names_of_outputs_tell_series_apart_and_stay_when_a_result_is_renewed(tmp_path):
    system, other = routed(tmp_path), routed(tmp_path, *slices("1.2.3.7"))
    first = output_names(system, system.report())
    system.receive_and_route(*slices(first=3, count=1))
    assert output_names(system, system.report()) == first
    assert output_names(other, other.report()) != first
    assert first[0].startswith("bone.seg-")
    assert first[0].endswith(".dcm")


def test_a_report_twice_is_accepted_once(system):
    claimed = system.run_to_report()
    built = [(SEG, system.objects.keep(SEG.data))]
    assert complete_report(system.workshop, claimed, built)
    assert not complete_report(system.workshop, claimed, built)
    assert len(system.deliveries()) == 1


def test_a_report_that_cannot_be_kept_leaves_nothing_and_can_be_handed_in_again(system):
    claimed = system.run_to_report()
    built = [(SEG, system.objects.keep(SEG.data))]
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        complete_report(system.workshop, claimed, built)
    assert system.deliveries() == []
    assert system.job().state == "running"
    assert complete_report(system.workshop, claimed, built)


def test_a_report_of_nothing_is_done(system):
    claimed = system.run_to_report()
    assert complete_report(system.workshop, claimed, [])
    assert system.job().state == "done"


# release


def test_a_shadow_job_is_done_without_deliveries(tmp_path):
    system = sending(tmp_path, "pacs", release="shadow")
    system.report()
    assert system.deliveries() == []
    assert system.job().state == "done"
    with system.records.reading() as unit:
        assert len(unit.deliveries.outputs(system.job().id)) == 1


@pytest.mark.parametrize(
    ("rule_release", "destination_release"), [("after_review", "at_once"), ("at_once", "after_review")]
)
def test_the_stricter_of_rule_and_destination_decides_and_a_review_is_waited_for(
    tmp_path, rule_release, destination_release
):
    pacs = replace(PACS, release=destination_release)
    system = sending(tmp_path, "pacs", destinations=(pacs,), release=rule_release)
    system.report()
    assert deliveries(system) == {("bone.seg", "pacs"): ("held", "")}
    assert (system.job().state, system.job().reason) == ("held", "waits for a person's review")
    assert system.deliver() == 0


def test_one_destination_that_waits_holds_up_no_other(tmp_path):
    system = sending(tmp_path, "pacs", "ehr")
    system.report(SEG, FHIR)
    assert deliveries(system) == {("bone.seg", "pacs"): ("waiting", ""), ("bone", "ehr"): ("held", "")}
    assert system.job().state == "delivering"
    system.deliver()
    assert system.sender.calls[0][0] == "pacs"
    assert system.job().state == "held"


def test_without_a_patient_id_the_ehr_gets_nothing_and_pacs_and_folder_get_all(tmp_path):
    blank = slices(patient=Patient())
    ehr = Destination("ehr", "fhir", release="at_once")
    system = sending(tmp_path, "pacs", "ehr", "share", headers=blank, destinations=(PACS, ehr, SHARE))
    system.report(SEG, FHIR)
    assert deliveries(system) == {
        ("bone.seg", "pacs"): ("waiting", ""),
        ("bone", "ehr"): ("held", Fault.PATIENT_UNKNOWN.code),
        ("bone.seg", "share"): ("waiting", ""),
        ("bone", "share"): ("waiting", ""),
    }


def test_a_destination_unknown_by_now_is_quarantined_and_the_others_are_served(tmp_path):
    system = sending(tmp_path, "pacs", "gone")
    system.report()
    assert deliveries(system) == {
        ("bone.seg", "pacs"): ("waiting", ""),
        ("bone.seg", "gone"): ("quarantined", Fault.UNKNOWN_DESTINATION.code),
    }
    system.deliver()
    assert (system.job().state, system.job().reason) == ("failed", "there is no destination named gone")
    assert system.sender.shown
