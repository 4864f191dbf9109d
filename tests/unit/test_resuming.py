"""A person has quarantined deliveries tried again: one, or all of a destination."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.delivery import PATIENCE
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.study import Patient
from orchestrator.service.resuming import resume, resume_delivery, resume_destination
from tests.fakes.system import EHR, FHIR, PACS, SEG, SHARE, FakeSystem, rule, slices
from tests.parcels import SR, counts, every_delivery, job, only_delivery, output_names, result, results


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


def refuse(system: FakeSystem, *job_ids: str) -> None:
    """Have a destination refuse all of these jobs."""
    system.sender.refuses = frozenset(name for job_id in job_ids for name in output_names(system, job_id))
    system.deliver()
    system.sender.refuses = frozenset()


def resumed(system: FakeSystem, job_id: str):
    return resume_delivery(system.records, system.clock, only_delivery(system, job_id).id)


def test_a_quarantined_delivery_is_due_at_once_as_if_it_were_new(system):
    job_id = result(system, 1)
    refuse(system, job_id)
    assert job(system, job_id).state == "failed"
    system.clock.pass_s(1e6)
    delivery = resumed(system, job_id)
    assert delivery == only_delivery(system, job_id)
    assert (delivery.state, delivery.tries, delivery.code, delivery.reason) == ("waiting", 0, "", "")
    assert delivery.due_at == delivery.resumed_at == system.clock.now()
    assert (job(system, job_id).state, job(system, job_id).reason) == ("delivering", "")
    system.deliver()
    assert job(system, job_id).state == "done"


def test_patience_begins_anew(system):
    job_id = result(system, 1)
    refuse(system, job_id)
    system.clock.moment += 2 * PATIENCE
    resumed(system, job_id)
    system.sender.down = frozenset({"pacs"})
    system.deliver()
    assert only_delivery(system, job_id).state == "waiting"
    system.clock.moment += PATIENCE
    system.deliver()
    assert only_delivery(system, job_id).state == "quarantined"


def test_all_that_is_quarantined_for_a_destination_is_resumed_and_nothing_else(system):
    jobs = results(system, 9, send=["pacs", "share"])
    refuse(system, *jobs)
    assert counts(system) == {"quarantined": 18}
    assert resume_destination(system.records, system.clock, "pacs") == 9
    assert {(d.destination, d.state) for d in every_delivery(system)} == {
        ("pacs", "waiting"),
        ("share", "quarantined"),
    }
    assert {job(system, job_id).state for job_id in jobs} == {"delivering"}
    system.deliver()
    assert {job(system, job_id).state for job_id in jobs} == {"failed"}
    assert resume_destination(system.records, system.clock, "pacs") == 0


def test_what_was_sent_to_a_destination_not_there_yet_goes_once_it_is(tmp_path):
    system = FakeSystem(tmp_path, destinations=(SHARE,))
    system.decide(rule(), destinations=(SHARE,))
    job_id = result(system, 1, SEG, FHIR)
    assert counts(system) == {"quarantined": 2}
    with pytest.raises(Refused) as refused:
        resume_destination(system.records, system.clock, "pacs")
    assert refused.value.fault is Fault.UNKNOWN_DESTINATION
    system.decide(rule(), destinations=(SHARE, PACS))
    assert resume_destination(system.records, system.clock, "pacs") == 2
    assert [d.state for d in system.deliveries(job_id)] == ["waiting", "withdrawn"], "a PACS takes no FHIR"
    system.deliver()
    assert job(system, job_id).state == "done"


def test_resuming_lets_nothing_past_the_review_that_a_destination_asks_for(tmp_path):
    system = FakeSystem(tmp_path, destinations=(SHARE,))
    job_id = result(system, 1, FHIR, send=["ehr"])
    system.decide(rule(), destinations=(SHARE, EHR))
    delivery = resumed(system, job_id)
    assert (delivery.state, delivery.reason) == ("held", "waits for a person's review")
    assert job(system, job_id).state == "held"
    assert system.deliver() == 0


@pytest.mark.parametrize(
    ("verdict", "state"),
    [("accepted", "waiting"), ("corrected", "waiting"), ("rejected", "held"), ("unreviewed", "held")],
)
def test_a_reviewed_result_that_the_ehr_refused_is_sent_again(tmp_path, verdict, state):
    system = FakeSystem(tmp_path, destinations=(EHR,))
    job_id = result(system, 1, FHIR, send=["ehr"])
    with system.records.transaction() as unit:
        unit.deliveries.save(only_delivery(system, job_id).quarantined(code="TND-5002", reason="refused"))
        unit.jobs.save(replace(job(system, job_id), review=verdict))
    assert resumed(system, job_id).state == state


def test_a_result_without_patient_id_is_held_from_the_ehr(tmp_path):
    system = FakeSystem(tmp_path, destinations=(SHARE,))
    system.decide(rule(send=["ehr"]), destinations=(SHARE,))
    system.receive_and_route(*slices(patient=Patient()))
    job_id = system.report(FHIR)
    system.decide(rule(), destinations=(replace(EHR, release="at_once"),))
    assert resumed(system, job_id).code == Fault.PATIENT_UNKNOWN.code


def test_only_what_is_quarantined_can_be_resumed(system):
    job_id = result(system, 1)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            resumed(system, job_id)
        assert refused.value.fault is Fault.WRONG_STATE
        system.deliver()
    assert only_delivery(system, job_id).state == "proven"


def test_a_delivery_nobody_knows_is_not_found(system):
    with pytest.raises(Refused) as refused:
        resume_delivery(system.records, system.clock, "nobody")
    assert refused.value.fault is Fault.NOT_FOUND


@pytest.mark.parametrize("state", ["cancelled", "superseded"])
def test_a_job_that_is_over_is_not_resumed(system, state):
    over, other = results(system, 2)
    refuse(system, over, other)
    with system.records.transaction() as unit:
        unit.jobs.save(job(system, over).changed(state, system.clock.now()))
    with pytest.raises(Refused) as refused:
        resumed(system, over)
    assert refused.value.fault is Fault.WRONG_STATE
    assert resume_destination(system.records, system.clock, "pacs") == 1
    assert (only_delivery(system, over).state, only_delivery(system, other).state) == ("quarantined", "waiting")


def test_when_one_of_several_cannot_be_resumed_none_is(system):
    job_id = result(system, 1, SEG, SR)
    system.sender.refuses = frozenset(output_names(system, job_id)[:1])
    system.deliver()
    before = system.deliveries(job_id)
    with pytest.raises(Refused), system.records.transaction() as unit:
        resume(unit, job_id, [d.id for d in before], system.clock.now())
    assert system.deliveries(job_id) == before


def test_a_destination_nobody_knows_is_refused(system):
    with pytest.raises(Refused) as refused:
        resume_destination(system.records, system.clock, "nobody")
    assert refused.value.fault is Fault.UNKNOWN_DESTINATION
