"""A job that went wrong is tried again or called off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.delivery import Destination
from orchestrator.domain.errors import Broken, Fault, Transient, Unfit
from orchestrator.ports import BuiltObject
from orchestrator.service.repairing import cancel_job, retry_job
from orchestrator.service.routing import route_study
from orchestrator.service.working import complete_report, complete_stage, fail_stage, renew_lease
from tests.fakes.surroundings import GivenCatalog
from tests.fakes.system import FHIR, PACS, SEG, SHARE, FakeSystem, rule, slices
from tests.mishaps import (
    BONE,
    RISK,
    cancel,
    chain,
    fail,
    nothing_to_do,
    put,
    quarantine,
    refusal_of,
    reported,
    routed,
    states,
)
from tests.rows import job_of
from tests.strategies import CT_IMAGE, EXPLICIT_LITTLE, STUDY_UID

SECOND = "1.2.3.2"
SR = BuiltObject("sr", "bone.sr.dcm", b"a report", CT_IMAGE, "2.25.2", "2.25.8", EXPLICIT_LITTLE)


@pytest.fixture
def system(tmp_path):
    """A study with a job whose first stage is ready."""
    return routed(tmp_path)


# a stage that is tried again


def test_a_failed_stage_is_tried_again_and_its_job_comes_home(system):
    job_id = fail(system)
    before = system.job()
    retried = retry_job(system.router, job_id)
    assert (retried.stage, retried.job.state, retried.job.reason, retried.job.code) == ("segment", "waiting", "", "")
    assert retried.job == system.job()
    assert system.report() == job_id
    system.deliver()
    assert system.job().state == "done"
    assert (system.job().generation, system.job().input_set) == (before.generation, before.input_set)
    assert system.sender.sent == output_names(system)


def output_names(system: FakeSystem) -> list[str]:
    with system.records.reading() as unit:
        return [output.name for output in unit.deliveries.outputs(system.job().id)]


def test_a_stage_that_is_retried_has_as_many_attempts_as_a_new_one(system):
    for round_of_attempts in range(2):
        for attempt in range(3):
            claimed = system.claim()
            assert claimed.stage.attempt == 3 * round_of_attempts + attempt + 1
            assert fail_stage(system.workshop, claimed, Transient(Fault.STAGE_DIED, "killed"))
            system.clock.pass_s(60)
        assert system.job().state == "failed"
        retry_job(system.router, system.job().id)
    assert system.claim().stage.attempt == 7


def test_a_report_that_failed_is_built_again_and_its_objects_exist_once(system):
    claimed = system.run_to_report()
    assert fail_stage(system.workshop, claimed, Broken(Fault.RESULT_INVALID, "why"))
    assert retry_job(system.router, claimed.job.id).stage == "report"
    assert not complete_report(system.workshop, claimed, [(SEG, "ab")]), "its former attempt is over"
    system.report()
    assert len(system.deliveries()) == 1
    assert [s.name for s in system.stages(claimed.job.id)] == ["segment", "report"]


def test_what_waited_for_the_result_of_a_retried_job_waits_for_it_again(tmp_path):
    system = routed(tmp_path, manifests=(BONE, RISK), rules=(rule(run=["bone_ct", "fracture_risk"]),))
    bone = fail(system)
    assert chain(system) == [("bone_ct", "failed", 0), ("fracture_risk", "unfit", 0)]
    retry_job(system.router, bone)
    assert chain(system) == [("bone_ct", "waiting", 0), ("fracture_risk", "waiting", 0)]
    system.report()
    assert system.claim().job.pipeline == "fracture_risk"


def test_a_job_whose_pipeline_was_not_there_begins_once_it_is(system):
    job_id = system.job().id
    with system.records.transaction() as unit:
        unit.jobs.add(replace(job_of("lost"), pipeline="bone_ct", state="failed", reason="no such pipeline"))
    without = replace(system.router, catalog=GivenCatalog())
    refusal = refusal_of(retry_job, without, "lost")
    assert refusal.fault is Fault.UNKNOWN_PIPELINE
    assert system.job("lost").reason == "no such pipeline"
    retried = retry_job(system.router, "lost")
    assert (retried.stage, retried.job.state) == ("segment", "waiting")
    assert {system.claim().job.id, system.claim().job.id} == {job_id, "lost"}


# deliveries that are tried again


def test_quarantined_deliveries_are_taken_up_again_and_nothing_else_is_sent_twice(tmp_path):
    system = reported(tmp_path, SEG, FHIR, send=["pacs", "share"])
    seg, fhir = output_names(system)
    system.sender.refuses = frozenset({fhir})
    system.deliver()
    assert states(system) == [("pacs", "proven"), ("share", "accepted"), ("share", "quarantined")]
    assert system.job().state == "failed"
    system.sender.refuses = frozenset()
    retried = retry_job(system.router, system.job().id)
    assert (retried.stage, retried.resumed, retried.still_quarantined) == ("", 1, 0)
    assert (retried.job.state, retried.job.reason) == ("delivering", "")
    system.deliver()
    assert states(system) == [("pacs", "proven"), ("share", "accepted"), ("share", "accepted")]
    assert system.job().state == "done"
    assert sorted(system.sender.sent) == sorted([seg, seg, fhir, fhir])


def test_a_delivery_taken_up_again_is_due_now_with_all_patience(tmp_path):
    system = reported(tmp_path)
    job_id = quarantine(system, "pacs")
    system.clock.pass_s(100 * 3600)
    retry_job(system.router, job_id)
    delivery = system.delivery()
    assert (delivery.state, delivery.due_at, delivery.tries) == ("waiting", system.clock.now(), 0)
    assert (delivery.code, delivery.reason) == ("", "")
    assert not delivery.is_overdue(system.clock.now())


@pytest.mark.parametrize("state", ["delivering", "held"])
def test_quarantined_deliveries_are_taken_up_while_others_are_under_way_or_held(tmp_path, state):
    system = reported(tmp_path, send=["pacs", "share"])
    job_id = quarantine(system, "pacs")
    with system.records.transaction() as unit:
        share = next(d for d in unit.deliveries.of_job(job_id) if d.destination == "share")
        unit.deliveries.save(replace(share, state="held" if state == "held" else "waiting"))
    put(system, job_id, state)
    assert retry_job(system.router, job_id).resumed == 1
    assert states(system)[0] == ("pacs", "waiting")


def test_a_delivery_to_a_destination_that_is_not_there_stays_in_quarantine_until_it_is(tmp_path):
    system = reported(tmp_path, destinations=(SHARE,))
    job_id = system.job().id
    assert states(system) == [("pacs", "quarantined")]
    put(system, job_id, "failed")
    refusal = refusal_of(retry_job, system.router, job_id)
    assert refusal.fault is Fault.UNKNOWN_DESTINATION
    assert "pacs" in refusal.detail
    system.decide(rule(), destinations=(PACS,))
    assert retry_job(system.router, job_id).resumed == 1
    system.deliver()
    assert states(system) == [("pacs", "proven")]


def test_of_several_destinations_those_that_are_there_are_sent_to(tmp_path):
    system = reported(tmp_path, send=["pacs", "share"])
    job_id = quarantine(system, "pacs", "share")
    system.decide(rule(), destinations=(PACS,))
    retried = retry_job(system.router, job_id)
    assert (retried.resumed, retried.still_quarantined) == (1, 1)
    assert states(system) == [("pacs", "waiting"), ("share", "quarantined")]


def test_a_destination_that_asks_for_review_by_now_gets_nothing_by_a_retry(tmp_path):
    system = reported(tmp_path)
    job_id = quarantine(system, "pacs")
    system.decide(rule(), destinations=(replace(PACS, release="after_review"),))
    assert retry_job(system.router, job_id).job.state == "held"
    system.clock.pass_s(1e6)
    system.deliver()
    assert (system.delivery().state, system.delivery().reason) == ("held", "waits for a person's review")
    assert not system.sender.shown


def test_what_a_destination_does_not_take_is_withdrawn_when_it_is_there_at_last(tmp_path):
    system = reported(tmp_path, SEG, FHIR, destinations=(), send=["late"])
    job_id = system.job().id
    put(system, job_id, "failed")
    system.decide(rule(), destinations=(Destination("late", "dicom"),))
    retry_job(system.router, job_id)
    assert states(system) == [("late", "waiting"), ("late", "withdrawn")]


# what is not tried again


def test_an_unfit_job_is_not_retried_because_the_study_stays_what_it_is(system):
    job_id = fail(system, Unfit(Fault.OUT_OF_RANGE, "metal"))
    refusal = refusal_of(retry_job, system.router, job_id)
    assert refusal.fault is Fault.WRONG_STATE
    assert "running it again cannot change what the study is" in refusal.detail
    assert system.job().state == "unfit"


@pytest.mark.parametrize("state", ["waiting", "running", "delivering", "done", "held", "cancelled", "superseded"])
def test_a_job_of_which_nothing_failed_is_not_retried_and_the_state_is_named(system, state):
    job_id = system.job().id
    put(system, job_id, state)
    refusal = refusal_of(retry_job, system.router, job_id)
    assert (refusal.fault, f"is {state}" in refusal.detail) == (Fault.WRONG_STATE, True)


def test_a_job_is_retried_once_however_often_it_is_asked_for(system):
    job_id = fail(system)
    retry_job(system.router, job_id)
    assert refusal_of(retry_job, system.router, job_id).fault is Fault.WRONG_STATE
    assert system.stages(job_id)[0].attempts_allowed == 4


def test_a_retry_that_could_not_be_kept_changed_nothing(system):
    job_id = fail(system)
    before = (system.job(), system.stages(job_id))
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        retry_job(system.router, job_id)
    assert (system.job(), system.stages(job_id)) == before


# which job


def test_the_beginning_of_an_id_is_enough_where_only_one_job_has_it(system):
    with system.records.transaction() as unit:
        for name in ("abcdef0123", "abcdef9876", "abcde"):
            unit.jobs.add(job_of(name))
    assert cancel(system, "abcdef0").job.id == "abcdef0123"
    assert cancel(system, "abcde").job.id == "abcde", "an id itself is never ambiguous"
    ambiguous = refusal_of(cancel, system, "abcdef")
    assert (ambiguous.fault, "more than one" in ambiguous.detail) == (Fault.NOT_FOUND, True)


@pytest.mark.parametrize("given", ["nobody", "", "n", "n9", "abcdef'; --", "%%%%%%"])
def test_a_job_nobody_knows_is_refused(system, given):
    for action in (retry_job, lambda router, name: cancel_job(router, name, by="ann")):
        assert refusal_of(action, system.router, given).fault is Fault.NOT_FOUND


# cancel


def test_a_cancelled_job_is_never_begun_and_says_who_and_why(system):
    cancelled = cancel(system, reason=" the wrong\n pipeline ")
    assert not cancelled.was_cancelled
    assert (system.job().state, system.job().reason) == ("cancelled", "cancelled by ann: the wrong pipeline")
    assert [(s.state, s.reason) for s in system.stages(system.job().id)] == [("failed", "the job was cancelled")]
    system.clock.pass_s(1e6)
    assert nothing_to_do(system)


def test_without_a_reason_it_says_who(system):
    assert cancel(system).job.reason == "cancelled by ann"


def test_the_worker_of_a_cancelled_stage_is_told_at_its_next_heartbeat_and_hands_in_nothing(system):
    claimed = system.claim()
    cancel(system)
    after_cancel = (system.job(), system.stages(claimed.job.id))
    assert not renew_lease(system.workshop, claimed.stage, 0.5, "half way")
    assert not complete_stage(system.workshop, claimed, BONE, {"mask": "ab"})
    assert not fail_stage(system.workshop, claimed, Broken(Fault.PIPELINE_FAULT, "a fault"))
    assert (system.job(), system.stages(claimed.job.id)) == after_cancel
    assert nothing_to_do(system)


def test_a_stage_that_ended_before_the_job_was_cancelled_opens_no_other(system):
    claimed = system.claim()
    assert complete_stage(system.workshop, claimed, BONE, {"mask": "ab"})
    cancel(system)
    assert [(s.name, s.state) for s in system.stages(claimed.job.id)] == [("segment", "done"), ("report", "failed")]
    assert nothing_to_do(system)


def test_a_report_handed_in_after_the_job_was_cancelled_sends_nothing(system):
    claimed = system.run_to_report()
    cancel(system)
    assert not complete_report(system.workshop, claimed, [(SEG, system.objects.keep(SEG.data))])
    assert system.deliveries() == []
    with system.records.reading() as unit:
        assert not unit.studies.is_own(SEG.sop_instance_uid)


def test_a_report_handed_in_before_the_job_was_cancelled_sends_nothing_either(tmp_path):
    system = reported(tmp_path, SEG, SR)
    cancelled = cancel(system)
    assert (cancelled.withdrawn, dict(cancelled.sent)) == (2, {})
    assert states(system) == [("pacs", "withdrawn"), ("pacs", "withdrawn")]
    system.clock.pass_s(1e6)
    system.deliver()
    assert not system.sender.calls


def test_what_was_sent_before_stays_and_is_counted(tmp_path):
    system = reported(tmp_path, SEG, SR, send=["pacs", "share"])
    system.sender.down = frozenset({"share"})
    system.deliver()
    cancelled = cancel(system)
    assert (cancelled.withdrawn, dict(cancelled.sent)) == (2, {"pacs": 2})
    assert states(system) == [("pacs", "proven"), ("pacs", "proven"), ("share", "withdrawn"), ("share", "withdrawn")]


@pytest.mark.parametrize("state", ["held", "quarantined"])
def test_what_is_held_or_quarantined_is_withdrawn(tmp_path, state):
    system = reported(tmp_path)
    system.change_delivery(state=state, reason="why", code="TND-5002")
    put(system, system.job().id, "held" if state == "held" else "failed")
    assert cancel(system).withdrawn == 1
    delivery = system.delivery()
    assert (delivery.state, delivery.reason, delivery.code) == ("withdrawn", "the job was cancelled", "")


def test_a_job_cancelled_while_it_is_being_sent_stays_cancelled_and_is_not_sent_again(tmp_path):
    system = reported(tmp_path, SEG)
    system.sender.on_send = lambda: cancel(system)
    system.deliver()
    assert system.job().state == "cancelled"
    sent = list(system.sender.sent)
    system.clock.pass_s(1e6)
    system.deliver()
    assert (system.job().state, system.sender.sent) == ("cancelled", sent)


def test_a_sending_that_failed_while_its_job_was_cancelled_is_not_repeated(tmp_path):
    system = reported(tmp_path)
    system.change_delivery(state="sent", attempt=1)
    cancelled = cancel(system)
    assert dict(cancelled.sent) == {"pacs": 1}
    system.clock.pass_s(1e6)
    system.deliver()
    assert system.job().state == "cancelled"
    assert not system.sender.shown


def test_cancelling_again_says_so_and_changes_nothing(tmp_path):
    system = reported(tmp_path, SEG)
    system.deliver()
    put(system, system.job().id, "delivering")
    first = cancel(system, reason="first")
    again = cancel(system, reason="second")
    assert (first.was_cancelled, again.was_cancelled) == (False, True)
    assert (again.job, again.withdrawn, dict(again.sent)) == (first.job, 0, {"pacs": 1})
    assert system.job().reason == "cancelled by ann: first"


@pytest.mark.parametrize("state", ["waiting", "running", "held", "delivering", "failed"])
def test_a_job_that_is_not_at_its_end_can_be_cancelled(system, state):
    put(system, system.job().id, state)
    assert cancel(system).job.state == "cancelled"


@pytest.mark.parametrize("state", ["done", "unfit", "superseded", "withdrawn"])
def test_a_job_at_its_end_cannot_be_cancelled_and_the_state_is_named(system, state):
    put(system, system.job().id, state)
    refusal = refusal_of(cancel, system)
    assert (refusal.fault, state in refusal.detail) == (Fault.WRONG_STATE, True)
    assert system.stages(system.job().id)[0].state == "ready"


def test_what_waits_for_the_result_of_a_cancelled_job_says_that_it_will_not_come(tmp_path):
    system = routed(tmp_path, manifests=(BONE, RISK), rules=(rule(run=["bone_ct", "fracture_risk"]),))
    cancel(system, system.jobs()[0].id)
    assert chain(system) == [("bone_ct", "cancelled", 0), ("fracture_risk", "unfit", 0)]
    assert "bone_ct is cancelled" in system.jobs()[1].reason
    assert nothing_to_do(system)


def test_a_late_object_does_not_bring_a_cancelled_job_back(system):
    cancel(system)
    system.receive_and_route(*slices(SECOND, count=1))
    route_study(system.router, STUDY_UID)
    assert system.study().revision == 2
    assert chain(system) == [("bone_ct", "cancelled", 0)]
