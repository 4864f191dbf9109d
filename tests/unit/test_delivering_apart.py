"""One destination never delays another: queues, order, batches, pace, and circuits that open and close."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.circuit import FAILURES_TO_OPEN
from orchestrator.domain.delivery import PATIENCE
from orchestrator.domain.errors import Fault
from orchestrator.service.delivering import deliver_to, destinations_due
from orchestrator.service.desks import Desks
from orchestrator.service.resuming import resume_destination
from tests.fakes.system import PACS, SEG, SHARE, FakeSystem, rule
from tests.parcels import (
    SR,
    counts,
    die,
    every_delivery,
    is_open,
    job,
    only_delivery,
    output_names,
    result,
    results,
    sent_to,
    shut,
    wait_for_probe,
)


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


# queues


def test_each_destination_with_something_due_is_named_once(system):
    assert destinations_due(system.dispatch) == []
    results(system, 3, send=["pacs", "share"])
    assert destinations_due(system.dispatch) == ["pacs", "share"]
    deliver_to(system.dispatch, "share")
    assert destinations_due(system.dispatch) == ["pacs"]


def test_delivering_to_one_destination_touches_no_other(system):
    result(system, 1, send=["pacs", "share"])
    assert deliver_to(system.dispatch, "pacs") == 1
    assert [name for name, _ in system.sender.calls] == ["pacs"]
    assert deliver_to(system.dispatch, "pacs") == 0
    assert deliver_to(system.dispatch, "nobody") == 0


def test_while_one_sender_is_with_a_destination_no_other_of_the_process_goes_there(system):
    results(system, 2)
    seen = []
    system.sender.on_send = lambda: seen.append(deliver_to(system.dispatch, "pacs"))
    assert deliver_to(system.dispatch, "pacs") == 2
    assert seen == [0, 0]
    assert len(system.sender.calls) == 1


def test_the_desk_is_free_again_after_a_failure(system):
    result(system, 1)
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        deliver_to(system.dispatch, "pacs")
    assert deliver_to(system.dispatch, "pacs") == 1


# order


def test_the_most_urgent_goes_first_then_the_oldest(system):
    batch, old, new = result(system, 1, priority="batch"), result(system, 2), result(system, 3)
    stat = result(system, 4, priority="stat")
    deliver_to(system.dispatch, "pacs")
    assert sent_to(system, "pacs") == [(stat, old, new, batch)]


def test_outputs_of_a_result_go_in_the_order_they_were_built_over_one_association(system):
    first, second = result(system, 1, SEG, SR), result(system, 2, SEG, SR)
    deliver_to(system.dispatch, "pacs")
    assert sent_to(system, "pacs") == [(first, first, second, second)]
    assert [name.partition("-")[0] for name in system.sender.sent] == ["bone.seg", "bone.sr", "bone.seg", "bone.sr"]


def test_a_report_does_not_overtake_the_segmentation_it_refers_to(system):
    job_id = result(system, 1, SEG, SR)
    seg, _ = output_names(system, job_id)
    system.sender.ends_over = frozenset({seg})
    deliver_to(system.dispatch, "pacs")
    system.sender.ends_over = frozenset()
    by_name = dict(zip(("seg", "sr"), system.deliveries(job_id), strict=True))
    assert by_name["seg"].state == by_name["sr"].state == "waiting"
    system.clock.moment = by_name["seg"].due_at
    deliver_to(system.dispatch, "pacs")
    assert [d.state for d in system.deliveries(job_id)] == ["proven", "proven"]
    assert system.sender.sent[-2:] == output_names(system, job_id)


def test_what_is_refused_keeps_the_report_from_nothing(system):
    job_id = result(system, 1, SEG, SR)
    system.sender.refuses = frozenset(output_names(system, job_id)[:1])
    deliver_to(system.dispatch, "pacs")
    assert [d.state for d in system.deliveries(job_id)] == ["quarantined", "proven"]


# batches


def test_a_batch_holds_so_many_objects_and_cuts_no_result_it_need_not(tmp_path):
    system = FakeSystem(tmp_path, destinations=(replace(PACS, max_batch=3),))
    first, second = result(system, 1, SEG, SR), result(system, 2, SEG, SR)
    assert [deliver_to(system.dispatch, "pacs") for _ in range(3)] == [2, 2, 0]
    assert sent_to(system, "pacs") == [(first, first), (second, second)]


def test_a_result_larger_than_a_batch_goes_in_parts(tmp_path):
    system = FakeSystem(tmp_path, destinations=(replace(PACS, max_batch=1),))
    job_id = result(system, 1, SEG, SR)
    assert [deliver_to(system.dispatch, "pacs") for _ in range(3)] == [1, 1, 0]
    assert job(system, job_id).state == "done"


def test_an_object_over_which_the_association_ends_delays_no_other(system):
    poison, *others = results(system, 6)
    system.sender.ends_over = frozenset(output_names(system, poison))
    for _ in range(60):
        system.clock.pass_s(1)
        system.deliver()
    assert {only_delivery(system, job_id).state for job_id in others} == {"proven"}
    assert only_delivery(system, poison).state == "waiting"


def test_what_came_after_the_end_of_an_association_was_not_tried_and_goes_at_once(system):
    first, poison, third = results(system, 3)
    system.sender.ends_over = frozenset(output_names(system, poison))
    deliver_to(system.dispatch, "pacs")
    assert [only_delivery(system, job_id).tries for job_id in (first, poison, third)] == [0, 1, 0]
    deliver_to(system.dispatch, "pacs")
    assert only_delivery(system, third).state == "proven"


# pace


def test_no_more_objects_go_in_a_second_than_the_destination_takes(tmp_path):
    system = FakeSystem(tmp_path, destinations=(replace(PACS, max_per_s=2.0),))
    results(system, 7)
    went = []
    for _ in range(4):
        went.append(deliver_to(system.dispatch, "pacs"))
        assert deliver_to(system.dispatch, "pacs") == 0
        assert destinations_due(system.dispatch) == []
        system.clock.pass_s(1)
    assert went == [2, 2, 2, 1]


def test_late_proofs_are_asked_for_whatever_the_pace(tmp_path):
    system = FakeSystem(tmp_path, destinations=(replace(PACS, max_per_s=1.0),))
    system.sender.is_blind = True
    results(system, 2)
    deliver_to(system.dispatch, "pacs")
    system.clock.pass_s(0.9)
    system.sender.is_blind = False
    while system.deliver() == 0:
        system.clock.pass_s(0.01)
    assert counts(system) == {"proven": 1, "waiting": 1}


def test_a_slow_destination_slows_no_other(tmp_path):
    system = FakeSystem(tmp_path, destinations=(replace(PACS, max_per_s=1.0), SHARE))
    results(system, 5, send=["pacs", "share"])
    system.deliver()
    assert counts(system) == {"accepted": 5, "proven": 1, "waiting": 4}


# circuits


def test_after_five_calls_without_an_answer_nothing_is_tried_and_nothing_burnt(system):
    results(system, 3)
    shut(system)
    before = every_delivery(system)
    calls = len(system.sender.calls)
    assert calls == FAILURES_TO_OPEN
    assert destinations_due(system.dispatch) == []
    assert deliver_to(system.dispatch, "pacs") == 0
    result(system, 2)
    assert len(system.sender.calls) == calls
    assert every_delivery(system)[: len(before)] == before


def test_everybody_can_see_that_a_circuit_is_open_and_why(system):
    result(system, 1)
    shut(system)
    with system.records.reading() as unit:
        (seen,) = unit.deliveries.circuits()
    assert (seen.destination, seen.reason) == ("pacs", "nobody answers")
    assert seen.state(system.clock.now()) == "open"


def test_an_open_circuit_is_probed_by_one_delivery_at_a_time(system):
    results(system, 4)
    shut(system)
    before = len(system.sender.calls)
    for _ in range(4):
        wait_for_probe(system)
        assert destinations_due(system.dispatch) == ["pacs"]
        assert deliver_to(system.dispatch, "pacs") == 1
        assert deliver_to(system.dispatch, "pacs") == 0
    probes = sent_to(system, "pacs")[before:]
    assert [len(probe) for probe in probes] == [1, 1, 1, 1]
    assert len(set(probes)) == 4, "each time the one that failed least often"


def test_of_two_processes_that_would_probe_at_once_one_does(system):
    results(system, 2)
    shut(system)
    wait_for_probe(system)
    other = replace(system.dispatch, desks=Desks())
    look, probed = system.records.reading, []

    @contextmanager
    def reading():
        with look() as unit:
            yield unit
        system.records.reading = look
        probed.append(deliver_to(other, "pacs"))

    system.records.reading = reading
    before = len(system.sender.calls)
    assert deliver_to(system.dispatch, "pacs") == 0
    assert probed == [1]
    assert len(system.sender.calls) == before + 1


def test_the_first_answer_closes_the_circuit_and_all_that_waits_is_due(system):
    results(system, 4)
    shut(system)
    system.sender.down = frozenset()
    wait_for_probe(system)
    assert deliver_to(system.dispatch, "pacs") == 1
    assert not is_open(system)
    assert deliver_to(system.dispatch, "pacs") == 3
    assert counts(system) == {"proven": 4}


def test_a_refusal_is_an_answer(system):
    jobs = results(system, 2)
    shut(system)
    system.sender.down = frozenset()
    system.sender.refuses = frozenset(name for job_id in jobs for name in output_names(system, job_id))
    wait_for_probe(system)
    deliver_to(system.dispatch, "pacs")
    assert not is_open(system)


def test_a_probe_that_may_not_be_sent_leaves_the_circuit_to_the_next_one(system):
    older, _ = results(system, 2)
    shut(system)
    with system.records.transaction() as unit:
        unit.jobs.save(job(system, older).changed("cancelled", system.clock.now()))
    system.sender.down = frozenset()
    wait_for_probe(system)
    for _ in range(2):
        deliver_to(system.dispatch, "pacs")
    assert not is_open(system)
    assert counts(system) == {"proven": 1, "withdrawn": 1}


def test_a_probe_whose_sender_died_is_followed_by_another_within_a_minute(system):
    results(system, 2)
    shut(system)
    system.sender.down = frozenset()
    wait_for_probe(system)
    system.sender.on_send = die
    with pytest.raises(SystemExit):
        deliver_to(system.dispatch, "pacs")
    system.sender.on_send = lambda: None
    assert deliver_to(system.dispatch, "pacs") == 0
    system.clock.pass_s(60)
    while system.deliver():
        pass
    assert counts(system) == {"proven": 2}


def test_a_proof_shown_by_what_a_crash_left_closes_the_circuit_too(system):
    result(system, 1)
    shut(system)
    system.sender.down = frozenset()
    with system.records.transaction() as unit:
        (delivery,) = every_delivery(system)
        unit.deliveries.save(replace(delivery, state="sent"))
    system.sender.shown["pacs", output_names(system, delivery.job_id)[0]] = b""
    wait_for_probe(system)
    deliver_to(system.dispatch, "pacs")
    assert not is_open(system)
    assert counts(system) == {"proven": 1}


def test_after_72_hours_all_that_waits_for_a_silent_destination_is_quarantined_together(system):
    results(system, 5)
    shut(system)
    system.clock.moment = max(d.created_at for d in every_delivery(system)) + PATIENCE
    young = result(system, 99)
    deliver_to(system.dispatch, "pacs")
    deliver_to(system.dispatch, "pacs")
    wait_for_probe(system)
    deliver_to(system.dispatch, "pacs")
    assert counts(system) == {"quarantined": 5, "waiting": 1}
    assert only_delivery(system, young).state == "waiting"
    assert {d.code for d in every_delivery(system) if d.state == "quarantined"} == {Fault.PEER_UNREACHABLE.code}


def test_resuming_a_destination_probes_it_at_once(system):
    result(system, 1)
    shut(system)
    assert deliver_to(system.dispatch, "pacs") == 0
    resume_destination(system.records, system.clock, "pacs")
    assert deliver_to(system.dispatch, "pacs") == 1


def test_a_silent_destination_opens_its_own_circuit_only(system):
    results(system, 2, send=["pacs", "share"])
    shut(system)
    assert destinations_due(system.dispatch) == ["share"]
    deliver_to(system.dispatch, "share")
    assert counts(system) == {"accepted": 2, "waiting": 2}


def test_a_destination_taken_away_while_its_circuit_is_open_is_quarantined(system):
    result(system, 1)
    shut(system)
    system.decide(rule(), destinations=(SHARE,))
    assert destinations_due(system.dispatch) == ["pacs"]
    system.deliver()
    assert counts(system) == {"quarantined": 1}


def test_one_answer_among_failures_keeps_the_circuit_closed(system):
    results(system, 2)
    system.sender.down = frozenset({"pacs"})
    for _ in range(FAILURES_TO_OPEN - 1):
        system.clock.pass_s(60)
        system.deliver()
    system.sender.down = frozenset()
    system.clock.pass_s(60)
    system.deliver()
    assert counts(system) == {"proven": 2}
    result(system, 2)
    system.sender.down = frozenset({"pacs"})
    for _ in range(FAILURES_TO_OPEN - 1):
        system.clock.pass_s(60)
        system.deliver()
    assert not is_open(system)


def test_late_proofs_are_asked_for_while_nothing_waits_to_probe(system):
    system.sender.is_blind = True
    job_id = result(system, 1)
    system.deliver()
    other = result(system, 2)
    shut(system)
    with system.records.transaction() as unit:
        (waiting,) = unit.deliveries.of_job(other)
        unit.deliveries.save(waiting.stopped("withdrawn", reason="test"))
    system.sender.down, system.sender.is_blind = frozenset(), False
    system.clock.pass_s(timedelta(hours=2).total_seconds())
    system.deliver()
    assert only_delivery(system, job_id).state == "proven"
    assert not is_open(system)
