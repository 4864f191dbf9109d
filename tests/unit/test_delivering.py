"""Outputs go to their destinations and are proven there (I2, I4, I5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from orchestrator.domain.delivery import PATIENCE, Destination
from orchestrator.domain.errors import Fault
from orchestrator.domain.study import Patient
from orchestrator.ports import BuiltObject
from orchestrator.service.settling import settle_job
from tests.fakes.system import PACS, SEG, SHARE, FakeSystem, rule, slices
from tests.strategies import CT_IMAGE, EXPLICIT_LITTLE

SR = BuiltObject("sr", "bone.sr.dcm", b"a report", CT_IMAGE, "2.25.2", "2.25.8", EXPLICIT_LITTLE)
YEARS = timedelta(days=3650)


def reported(tmp_path, *built: BuiltObject, destinations=None, **given) -> FakeSystem:
    """A job whose report is made, with its deliveries open."""
    more = {} if destinations is None else {"destinations": destinations}
    system = FakeSystem(tmp_path, rules=(rule(**given),), **more)
    system.receive_and_route(*slices())
    system.report(*built)
    return system


@pytest.fixture
def system(tmp_path):
    """One output on its way to the PACS."""
    return reported(tmp_path)


def states(system: FakeSystem, job_id: str = "") -> list[str]:
    return [d.state for d in system.deliveries(job_id)]


def digest(system: FakeSystem) -> str:
    with system.records.reading() as unit:
        (output,) = unit.deliveries.outputs(system.job().id)
    return output.digest


# proof


def test_what_was_sent_is_proven_by_asking_for_it(system):
    assert system.deliver() == 1
    delivery = system.delivery()
    assert (delivery.state, delivery.proof, delivery.proven_at) == ("proven", "query", system.clock.now())
    assert (delivery.reason, delivery.code, delivery.tries) == ("", "", 0)
    assert list(system.sender.shown.values()) == [SEG.data]
    assert system.job().state == "done"


def test_nothing_is_due_once_it_is_proven(system):
    system.deliver()
    system.clock.pass_s(1e6)
    assert system.deliver() == 0
    assert len(system.sender.calls) == 1


def test_all_that_is_due_for_a_destination_goes_over_one_association(tmp_path):
    system = reported(tmp_path, SEG, SR, send=["pacs", "share"])
    system.deliver()
    assert sorted((name, len(names)) for name, names in system.sender.calls) == [("pacs", 2), ("share", 2)]
    assert system.job().state == "done"


def test_an_acknowledgement_is_enough_where_nothing_better_exists_and_is_no_proof(tmp_path):
    system = reported(tmp_path, send=["share"])
    system.deliver()
    delivery = system.delivery()
    assert (delivery.state, delivery.proof, delivery.proven_at) == ("accepted", "ack", None)
    assert system.job().state == "done"
    assert system.sender.questions == []
    system.clock.pass_s(YEARS.total_seconds())
    assert system.deliver() == 0


def test_proof_that_is_late_blocks_nothing_and_is_asked_for_again(system):
    system.sender.is_blind = True
    system.deliver()
    delivery = system.delivery()
    assert (delivery.state, delivery.code, delivery.tries) == ("accepted", Fault.NOT_PROVEN.code, 1)
    assert system.job().state == "done"
    system.sender.is_blind = False
    system.clock.pass_s(1)
    system.deliver()
    assert system.delivery().state == "proven"
    assert len(system.sender.calls) == 1, "asked again, not sent again"
    assert (system.delivery().code, system.delivery().reason) == ("", "")


def test_what_was_accepted_and_forgotten_is_sent_again(system):
    system.sender.forgets = 1
    for _ in range(20):
        system.deliver()
        system.clock.pass_s(60)
    assert system.delivery().state == "proven"
    assert len(system.sender.calls) == 2
    assert list(system.sender.shown.values()) == [SEG.data]


def test_what_was_accepted_is_never_given_up_however_late_its_proof_is(system):
    system.sender.is_blind = True
    system.deliver()
    while system.clock.now() < system.delivery().created_at + 2 * PATIENCE:
        assert (system.delivery().state, system.delivery().code) == ("accepted", Fault.NOT_PROVEN.code)
        assert system.job().state == "done"
        system.clock.moment = system.delivery().due_at
        assert system.deliver() == 1
    system.sender.is_blind = False
    system.clock.moment = system.delivery().due_at
    system.deliver()
    assert system.delivery().state == "proven"


def test_a_late_proof_is_asked_for_less_and_less_often_down_to_once_an_hour(system):
    system.sender.is_blind = True
    system.deliver()
    waits = []
    for _ in range(20):
        waits.append((system.delivery().due_at - system.clock.now()).total_seconds())
        system.clock.moment = system.delivery().due_at
        system.deliver()
    for tries, wait_s in enumerate(waits):
        longest_s = min(2**tries, 3600)
        assert longest_s / 2 <= wait_s <= longest_s


def test_what_is_never_shown_is_not_sent_again_for_ever(system):
    system.sender.is_blind = True
    system.deliver()
    while system.clock.now() < system.delivery().created_at + PATIENCE:
        system.clock.moment = system.delivery().due_at
        system.deliver()
    sent = len(system.sender.calls)
    assert 2 < sent < 30
    for _ in range(50):
        system.clock.moment = system.delivery().due_at
        system.deliver()
    assert len(system.sender.calls) == sent


@pytest.mark.parametrize("answer", ["down", "refuses", "breaks"])
def test_what_was_accepted_stays_so_when_it_cannot_be_sent_a_second_time(system, answer):
    system.sender.is_blind = True
    system.deliver()
    faults = {"down": frozenset({"pacs"}), "refuses": frozenset(system.sender.sent), "breaks": {"pacs": KeyError()}}
    setattr(system.sender, answer, faults[answer])
    for _ in range(10):
        system.clock.pass_s(3600)
        system.deliver()
        assert (system.delivery().state, system.job().state) == ("accepted", "done")


def test_a_warning_at_acceptance_stays_in_sight_once_it_is_proven(system):
    system.sender.detail = "stored with warning 0xB000"
    system.deliver()
    assert (system.delivery().state, system.delivery().reason) == ("proven", "stored with warning 0xB000")


def test_late_proofs_are_not_asked_for_where_an_acknowledgement_has_become_enough(system):
    system.sender.is_blind = True
    system.deliver()
    system.decide(rule(), destinations=(replace(PACS, proof="ack"),))
    system.clock.pass_s(1)
    asked = len(system.sender.questions)
    system.deliver()
    delivery = system.delivery()
    assert (delivery.state, delivery.proof, delivery.reason, delivery.code) == ("accepted", "ack", "", "")
    assert len(system.sender.questions) == asked
    system.clock.pass_s(1e6)
    assert system.deliver() == 0


# unreachable


def test_a_destination_that_does_not_answer_is_tried_less_and_less_often_but_every_minute(system):
    system.sender.down = frozenset({"pacs"})
    tried_at = []
    while len(tried_at) < 20:
        if system.deliver():
            tried_at.append(system.clock.now())
            assert (system.delivery().state, system.delivery().code) == ("waiting", Fault.PEER_UNREACHABLE.code)
        system.clock.pass_s(0.25)
    waits = [(later - sooner).total_seconds() for sooner, later in pairwise(tried_at)]
    assert 0.5 <= waits[0] <= 1.25
    assert all(30 <= wait_s <= 60.25 for wait_s in waits[-5:])
    assert (system.job().state, system.job().reason) == ("delivering", "nobody answers")
    system.sender.down = frozenset()
    system.clock.pass_s(60)
    system.deliver()
    assert system.delivery().state == "proven"
    assert (system.job().state, system.job().reason) == ("done", "")


def test_nothing_unreachable_is_quarantined_before_72_hours(system):
    system.sender.down = frozenset({"pacs"})
    created_at = system.delivery().created_at
    system.clock.moment = created_at + PATIENCE - timedelta(seconds=1)
    system.deliver()
    assert states(system) == ["waiting"]
    system.clock.moment = created_at + PATIENCE + timedelta(minutes=1)
    system.deliver()
    assert (system.delivery().state, system.delivery().code) == ("quarantined", Fault.PEER_UNREACHABLE.code)
    assert system.job().state == "failed"


def test_one_destination_that_does_not_answer_keeps_nothing_from_another(tmp_path):
    system = reported(tmp_path, send=["pacs", "share"])
    system.sender.down = frozenset({"pacs"})
    system.deliver()
    assert sorted(states(system)) == ["accepted", "waiting"]
    assert system.job().state == "delivering"


def test_a_sender_that_fails_by_a_fault_of_ours_keeps_nothing_from_another(tmp_path):
    system = reported(tmp_path, send=["pacs", "share"])
    system.sender.breaks = {"pacs": KeyError("Canary^Yellow")}
    system.deliver()
    assert {d.destination: d.state for d in system.deliveries()} == {"pacs": "waiting", "share": "accepted"}
    waiting = next(d for d in system.deliveries() if d.destination == "pacs")
    assert waiting.reason == "sending failed: KeyError"
    assert waiting.due_at > system.clock.now()
    system.sender.breaks = {}
    system.clock.pass_s(1)
    system.deliver()
    assert system.job().state == "done"


# refused


def test_a_refusal_for_good_is_quarantined_at_once(tmp_path):
    system = reported(tmp_path, SEG, SR)
    with system.records.reading() as unit:
        seg, _ = unit.deliveries.outputs(system.job().id)
    system.sender.refuses = frozenset({seg.name})
    system.deliver()
    assert sorted(states(system)) == ["proven", "quarantined"]
    refused = next(d for d in system.deliveries() if d.state == "quarantined")
    assert (refused.code, refused.reason) == (Fault.PEER_REFUSED.code, "status 0xC000")
    assert (system.job().state, system.job().reason) == ("failed", "status 0xC000")
    system.clock.pass_s(1e6)
    assert system.deliver() == 0


def test_a_destination_taken_away_is_quarantined(system):
    system.decide(rule(), destinations=(SHARE,))
    system.deliver()
    assert (system.delivery().state, system.delivery().code) == ("quarantined", Fault.UNKNOWN_DESTINATION.code)
    assert system.job().state == "failed"


def test_a_destination_of_a_kind_nobody_can_send_to_is_quarantined(tmp_path):
    web = Destination("pacs", "dicomweb", url="https://pacs.example")
    system = reported(tmp_path, destinations=(web,))
    system.deliver()
    assert system.delivery().code == Fault.UNKNOWN_DESTINATION.code


# crashes


def test_what_a_crash_left_sent_and_is_there_is_only_asked_for(system):
    system.sender.on_send = die
    with pytest.raises(SystemExit):
        system.deliver()
    assert states(system) == ["sent"]
    assert len(system.sender.shown) == 1
    system.sender.on_send = lambda: None
    system.deliver()
    assert states(system) == ["proven"]
    assert len(system.sender.calls) == 1


def die() -> None:
    raise SystemExit


def test_what_a_crash_left_sent_and_is_not_there_is_sent_again(system):
    system.change_delivery(state="sent")
    system.deliver()
    assert states(system) == ["proven"]
    assert system.sender.questions[0][1] == system.sender.calls[0][1]


def test_after_a_crash_only_what_is_not_there_is_sent_again(tmp_path):
    system = reported(tmp_path, SEG, SR)
    system.sender.on_send = die
    with pytest.raises(SystemExit):
        system.deliver()
    assert states(system) == ["sent", "sent"]
    system.sender.on_send = lambda: None
    system.deliver()
    assert states(system) == ["proven", "proven"]
    assert [len(names) for _, names in system.sender.calls] == [2, 1]
    assert len(system.sender.shown) == 2


def test_a_crash_before_anything_was_noted_sends_nothing(system):
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        system.deliver()
    assert system.sender.calls == []
    assert states(system) == ["waiting"]
    system.deliver()
    assert states(system) == ["proven"]


# what must not be sent


def test_an_object_that_changed_on_disk_is_never_sent(system):
    system.objects.damage(digest(system))
    system.deliver()
    assert (system.delivery().state, system.delivery().code) == ("quarantined", Fault.OBJECT_DAMAGED.code)
    assert system.sender.calls == []
    assert system.job().state == "failed"


def test_a_damaged_object_holds_up_no_other(tmp_path):
    system = reported(tmp_path, SEG, SR)
    with system.records.reading() as unit:
        seg, _ = unit.deliveries.outputs(system.job().id)
    system.objects.damage(seg.digest)
    system.deliver()
    assert sorted(states(system)) == ["proven", "quarantined"]


def test_a_patient_that_became_doubtful_before_sending_holds_the_delivery(system):
    system.receive(*slices("1.2.3.5", patient=Patient("P2", "MAIN")))
    system.deliver()
    assert (system.delivery().state, system.delivery().code) == ("held", Fault.IDENTITY_CONFLICT.code)
    assert system.sender.calls == []
    assert system.job().state == "held"


@pytest.mark.parametrize(
    ("spoil", "state", "code"),
    [
        (lambda s: s.objects.damage(digest(s)), "failed", Fault.OBJECT_DAMAGED),
        (lambda s: s.receive(*slices("1.2.3.5", patient=Patient("P2", "MAIN"))), "held", Fault.IDENTITY_CONFLICT),
        (lambda s: s.decide(rule(), destinations=(SHARE,)), "failed", Fault.UNKNOWN_DESTINATION),
    ],
    ids=["damaged", "doubtful", "destination gone"],
)
def test_a_job_done_without_proof_tells_when_sending_again_is_not_possible(system, spoil, state, code):
    system.sender.is_blind = True
    system.deliver()
    assert system.job().state == "done"
    spoil(system)
    for _ in range(20):
        system.clock.pass_s(60)
        system.deliver()
    assert (system.job().state, system.delivery().code) == (state, code.code)
    assert len(system.sender.calls) == 1


# superseded


def test_what_a_person_has_decided_on_stays_beside_the_newer_result(system):
    older = system.job().id
    system.deliver()
    with system.records.transaction() as unit:
        unit.jobs.save(replace(unit.jobs.get(older), review="accepted"))
    system.receive_and_route(*slices(first=3, count=1))
    system.report()
    system.deliver()
    assert [job.state for job in system.jobs()] == ["done", "done"]


def test_what_a_newer_result_replaced_is_not_sent_again(system):
    system.sender.is_blind = True
    older = system.job().id
    system.deliver()
    system.receive_and_route(*slices(first=3, count=1))
    system.report()
    system.deliver()
    assert system.job(older).state == "superseded"
    before = system.sender.sent.count(system.sender.sent[0])
    calls = len(system.sender.calls)
    system.clock.pass_s(60)
    for _ in range(5):
        system.deliver()
        system.clock.pass_s(60)
    assert before == calls == 2
    assert states(system, older) == ["superseded"]


def test_a_result_replaced_in_the_very_moment_of_sending_is_not_sent(system):
    older = system.job().id
    system.receive(*slices(first=3, count=1))
    system.clock.pass_s(30)
    read = system.objects.path

    def path(digest: str) -> str:
        system.route()
        return read(digest)

    system.objects.path = path
    system.deliver()
    assert system.sender.calls == []
    assert states(system, older) == ["superseded"]
    assert system.job(older).state == "superseded"


# the job's state


def test_the_job_is_done_only_when_its_last_delivery_is(tmp_path):
    system = reported(tmp_path, send=["pacs", "share"])
    system.sender.down = frozenset({"share"})
    system.deliver()
    assert system.job().state == "delivering"
    system.sender.down = frozenset()
    system.clock.pass_s(1)
    system.deliver()
    assert system.job().state == "done"


def test_a_job_that_failed_by_one_delivery_is_done_once_that_one_arrives(system):
    system.decide(rule(), destinations=(SHARE,))
    system.deliver()
    assert system.job().state == "failed"
    system.decide(rule(), destinations=(PACS,))
    system.change_delivery(state="waiting")
    system.deliver()
    assert system.job().state == "done"


def test_a_released_delivery_of_a_held_job_is_sent(tmp_path):
    system = reported(tmp_path, destinations=(replace(PACS, release="after_review"),))
    assert system.job().state == "held"
    with system.records.transaction() as unit:
        before = unit.deliveries.of_job(system.job().id)
        unit.deliveries.save(replace(before[0], state="waiting"))
        settle_job(unit, system.job().id, before, system.clock.now())
    assert system.job().state == "delivering"
    system.deliver()
    assert system.job().state == "done"


def test_nothing_due_asks_nobody(tmp_path):
    system = FakeSystem(tmp_path)
    assert system.deliver() == 0
    assert system.sender.calls == []
