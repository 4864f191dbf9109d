"""Nothing is sent twice at once, by two leaders or after its time, and nothing that must not be sent (I2, I5)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.delivery import PATIENCE
from orchestrator.domain.errors import Fault
from orchestrator.domain.study import Patient
from orchestrator.ports import Sent
from orchestrator.service.delivering import deliver_to
from orchestrator.service.leading import ROUNDS, Office
from orchestrator.service.resuming import resume_destination
from tests.fakes.system import EHR, FHIR, LEASE_S, PACS, SEG, SHARE, FakeSystem, rule, slices
from tests.parcels import SR, counts, die, every_delivery, job, only_delivery, output_names, result, results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.domain.delivery import Destination, Output
    from orchestrator.service.delivering import Dispatch


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


@dataclass
class Scripted:
    """A sender that answers as it is told and shows nothing of itself."""

    answer: Callable[[Sequence[Output]], object]
    shown: set[str] = field(default_factory=set)
    calls: list[list[str]] = field(default_factory=list)

    def send(self, destination: Destination, outputs: Sequence[tuple[Output, str]]):
        self.calls.append([output.name for output, _ in outputs])
        return self.answer([output for output, _ in outputs])

    def prove(self, destination: Destination, outputs: Sequence[Output]) -> dict[str, str]:
        return {output.id: "query" for output in outputs if output.name in self.shown}


def dispatch_of(system: FakeSystem, holder: str) -> Dispatch:
    """Delivering as another process does it, which contends for the office."""
    office = Office(system.records, system.clock, ROUNDS, holder, LEASE_S)
    made = replace(system.dispatch, office=office)
    return replace(made, desks=type(made.desks)())


def takes(dispatch: Dispatch) -> bool:
    assert dispatch.office is not None
    return dispatch.office.take()


# two leaders


def test_who_does_not_hold_the_office_sends_nothing(system):
    result(system, 1)
    first, second = dispatch_of(system, "first"), dispatch_of(system, "second")
    assert takes(first)
    assert not takes(second)
    deliver_to(second, "pacs")
    assert system.sender.calls == []
    assert counts(system) == {"waiting": 1}
    deliver_to(first, "pacs")
    assert counts(system) == {"proven": 1}


def test_a_leader_paused_before_it_sends_leaves_it_to_its_successor(system):
    result(system, 1)
    first, second = dispatch_of(system, "first"), dispatch_of(system, "second")
    takes(first)
    read, paused = system.objects.path, []

    def path(digest: str) -> str:
        if not paused:
            paused.append(True)
            system.clock.pass_s(LEASE_S)
            takes(second)
            deliver_to(second, "pacs")
        return read(digest)

    system.objects.path = path
    deliver_to(first, "pacs")
    assert len(system.sender.calls) == 1
    assert counts(system) == {"proven": 1}


def test_a_leader_paused_between_note_and_sending_does_not_send(system):
    result(system, 1)
    first, second = dispatch_of(system, "first"), dispatch_of(system, "second")
    takes(first)
    pausing = replace(first, records=PausingAfter(first.records, lambda: system.clock.pass_s(LEASE_S)))
    deliver_to(pausing, "pacs")
    assert (system.sender.calls, counts(system)) == ([], {"sent": 1})
    takes(second)
    deliver_to(second, "pacs")
    assert system.sender.questions[0] == system.sender.calls[0], "asked for before it was sent"
    assert counts(system) == {"proven": 1}


@dataclass
class PausingAfter:
    """Records whose process is paused once, after its first transaction."""

    records: object
    pause: Callable[[], None]
    is_over: bool = False

    def reading(self):
        return self.records.reading()

    def transaction(self):
        context = self.records.transaction()
        return context if self.is_over else self._then_pause(context)

    def _then_pause(self, context):
        return _Paused(self, context)


@dataclass
class _Paused:
    owner: PausingAfter
    context: object

    def __enter__(self):
        return self.context.__enter__()

    def __exit__(self, *error):
        suppressed = self.context.__exit__(*error)
        self.owner.is_over = True
        self.owner.pause()
        return suppressed


@pytest.mark.parametrize("late", ["unreachable", "refused", "accepted"])
def test_the_answer_to_a_leader_that_was_paused_while_it_sent_overwrites_nothing_newer(system, late):
    job_id = result(system, 1)
    first, second = dispatch_of(system, "first"), dispatch_of(system, "second")
    takes(first)

    def answer(outputs: Sequence[Output]) -> list[Sent]:
        system.clock.pass_s(LEASE_S)
        takes(second)
        deliver_to(second, "pacs")
        return [Sent(output.id, late, "late") for output in outputs]

    deliver_to(replace(first, senders={"dicom": Scripted(answer)}), "pacs")
    delivery = only_delivery(system, job_id)
    assert (delivery.state, delivery.attempt, delivery.reason) == ("proven", 2, "")
    assert job(system, job_id).state == "done"
    assert list(system.sender.shown.values()) == [SEG.data]


def test_every_sending_raises_the_attempt_and_resuming_does_not_lower_it(system):
    job_id = result(system, 1)
    system.sender.down = frozenset({"pacs"})
    for attempt in (1, 2, 3):
        system.clock.pass_s(60)
        system.deliver()
        assert only_delivery(system, job_id).attempt == attempt


# senders that do not keep their promises


@pytest.mark.parametrize(
    "answer",
    [
        lambda outputs: [],
        lambda outputs: None,
        lambda outputs: [Sent("nobody", "accepted")],
        lambda outputs: [Sent(outputs[0].id, "perhaps")],
        lambda outputs: [("not", "an answer")],
        lambda outputs: 1 / 0,
        lambda outputs: (Sent(o.id, "accepted") for o in (*outputs, *die_of_reset())),
    ],
    ids=["nothing", "None", "unknown ids", "no such outcome", "no answers", "raises", "hangs up half-way"],
)
def test_an_answer_that_means_nothing_is_as_good_as_none(system, answer):
    job_id = result(system, 1, SEG, SR, send=["pacs", "share"])
    sender = Scripted(answer)
    deliver_to(replace(system.dispatch, senders={"dicom": sender}), "pacs")
    assert len(sender.calls) == 1
    waiting = [d for d in system.deliveries(job_id) if d.destination == "pacs"]
    assert {(d.state, d.code, d.tries) for d in waiting} == {("waiting", Fault.PEER_UNREACHABLE.code, 1)}
    assert all(d.reason for d in waiting)
    system.clock.pass_s(1)
    system.deliver()
    assert counts(system) == {"accepted": 2, "proven": 2}


def die_of_reset():
    raise ConnectionResetError
    yield


def test_answers_for_some_count_for_those(system):
    job_id = result(system, 1, SEG, SR)
    sender = Scripted(lambda outputs: [Sent(outputs[1].id, "accepted"), Sent("nobody", "refused")])
    sender.shown = set(output_names(system, job_id)[1:])
    deliver_to(replace(system.dispatch, senders={"dicom": sender}), "pacs")
    assert [(d.state, d.tries) for d in system.deliveries(job_id)] == [("waiting", 1), ("proven", 0)]


def test_an_object_whose_answer_was_lost_is_asked_for_before_it_is_sent_again(system):
    job_id = result(system, 1)
    sender = Scripted(lambda outputs: [Sent(outputs[0].id, "unreachable", "it ended")])
    dispatch = replace(system.dispatch, senders={"dicom": sender})
    deliver_to(dispatch, "pacs")
    sender.shown = set(output_names(system, job_id))
    system.clock.pass_s(1)
    deliver_to(dispatch, "pacs")
    assert only_delivery(system, job_id).state == "proven"
    assert len(sender.calls) == 1


def test_only_what_the_destination_shows_is_proven(system):
    job_id = result(system, 1)
    sender = Scripted(lambda outputs: [Sent(output.id, "accepted") for output in outputs])
    sender.prove = lambda destination, outputs: {"nobody": "query"}
    deliver_to(replace(system.dispatch, senders={"dicom": sender}), "pacs")
    assert only_delivery(system, job_id).state == "accepted"
    sender.prove = lambda destination, outputs: 1 / 0
    system.clock.pass_s(1)
    deliver_to(replace(system.dispatch, senders={"dicom": sender}), "pacs")
    assert (only_delivery(system, job_id).state, only_delivery(system, job_id).tries) == ("accepted", 2)


# jobs that stand still


def put(system: FakeSystem, job_id: str, state: str, reason: str = "a person said so", code: str = "") -> None:
    with system.records.transaction() as unit:
        unit.jobs.save(job(system, job_id).changed(state, system.clock.now(), reason=reason, code=code))


def test_a_job_held_by_a_person_is_not_sent(system):
    job_id = result(system, 1, SEG, SR)
    put(system, job_id, "held", code="TND-2006")
    system.deliver()
    assert system.sender.calls == []
    assert {(d.state, d.reason, d.code) for d in system.deliveries(job_id)} == {
        ("held", "a person said so", "TND-2006")
    }
    assert (job(system, job_id).state, job(system, job_id).reason) == ("held", "a person said so")
    system.clock.pass_s(1e6)
    assert system.deliver() == 0


def test_a_job_held_while_one_of_its_objects_is_on_its_way_stays_held(system):
    job_id = result(system, 1, send=["pacs", "share"])
    system.sender.on_send = lambda: put(system, job_id, "held") if job(system, job_id).state != "held" else None
    deliver_to(system.dispatch, "pacs")
    assert job(system, job_id).state == "held"
    deliver_to(system.dispatch, "share")
    assert {(d.destination, d.state) for d in system.deliveries(job_id)} == {("pacs", "proven"), ("share", "held")}
    assert (job(system, job_id).state, job(system, job_id).reason) == ("held", "a person said so")


def test_resuming_a_delivery_does_not_end_the_hold_on_its_job(system):
    job_id = result(system, 1, send=["pacs", "share"])
    system.sender.refuses = frozenset(output_names(system, job_id))
    deliver_to(system.dispatch, "share")
    put(system, job_id, "held")
    deliver_to(system.dispatch, "pacs")
    resume_destination(system.records, system.clock, "share")
    system.deliver()
    assert (job(system, job_id).state, job(system, job_id).reason) == ("held", "a person said so")
    assert counts(system) == {"held": 2}
    assert len(system.sender.calls) == 1


def test_what_a_pacs_forgot_is_not_sent_to_it_again_while_a_person_holds_the_job(system):
    system.sender.forgets = 1
    job_id = result(system, 1, send=["pacs", "share"])
    deliver_to(system.dispatch, "pacs")
    put(system, job_id, "held")
    for _ in range(10):
        system.deliver()
        system.clock.pass_s(60)
    assert len(system.sender.calls) == 1
    assert counts(system) == {"held": 2}


def test_a_job_held_for_review_is_not_sent_to_where_the_review_is_awaited(tmp_path):
    system = FakeSystem(tmp_path, destinations=(PACS, EHR))
    job_id = result(system, 1, SEG, FHIR, send=["pacs", "ehr"])
    for _ in range(5):
        system.deliver()
        system.clock.pass_s(3600)
    assert [name for name, _ in system.sender.calls] == ["pacs"]
    assert (job(system, job_id).state, job(system, job_id).reason) == ("held", "waits for a person's review")


def test_what_a_pacs_forgot_is_sent_to_it_again_while_the_review_for_the_ehr_is_awaited(tmp_path):
    system = FakeSystem(tmp_path, destinations=(PACS, EHR))
    system.sender.forgets = 1
    result(system, 1, SEG, FHIR, send=["pacs", "ehr"])
    for _ in range(10):
        system.deliver()
        system.clock.pass_s(60)
    assert counts(system) == {"held": 1, "proven": 1}


@pytest.mark.parametrize(
    ("state", "becomes"), [("cancelled", "withdrawn"), ("withdrawn", "withdrawn"), ("superseded", "superseded")]
)
def test_what_is_over_is_not_sent(system, state, becomes):
    job_id = result(system, 1)
    put(system, job_id, state)
    system.deliver()
    assert system.sender.calls == []
    assert only_delivery(system, job_id).state == becomes
    assert job(system, job_id).state == state


# whose images they are


def version(uid: str = "1.2.1.1.0", **changed):
    """Other bytes under the UID of an image that a result was made from."""
    (header,) = slices("1.2.1.1", count=1, study_uid="1.2.1")
    assert header.sop_instance_uid == uid
    return replace(header, **changed)


def come_again(system: FakeSystem, header) -> None:
    visit = system.visit()
    system.send(visit, header, b"other pixels")
    system.reception.close(visit, "released")


@pytest.mark.parametrize(
    "changed",
    [
        {"patient": Patient("P2", "MAIN")},
        {"patient": Patient("P1", "OTHER")},
        {"patient": Patient("P1", "MAIN", name="Ash^Robin")},
        {"patient": Patient("P1", "MAIN", birth_date="19700101")},
        {"patient": Patient("P1", "MAIN", sex="F")},
        {"accession_number": "A9"},
        {"study_uid": "1.2.77"},
    ],
    ids=["another id", "another issuer", "name", "birth date", "sex", "another accession number", "another study"],
)
def test_an_image_that_came_again_as_another_patients_stops_the_sending(system, changed):
    job_id = result(system, 1)
    come_again(system, version(**changed))
    system.deliver()
    assert system.sender.calls == []
    delivery = only_delivery(system, job_id)
    assert (delivery.state, delivery.code) == ("held", Fault.IDENTITY_CHANGED.code)
    assert job(system, job_id).state == "held"
    assert "P2" not in delivery.reason
    assert "A9" not in delivery.reason


@pytest.mark.parametrize(
    "changed", [{}, {"patient": Patient("P1", "MAIN", name="^^ ")}], ids=["other pixels", "the same empty name"]
)
def test_an_image_that_came_again_as_the_same_patients_stops_nothing(system, changed):
    result(system, 1)
    come_again(system, version(**changed))
    system.deliver()
    assert counts(system) == {"proven": 1}


def test_a_doubtful_study_holds_up_no_other(system):
    doubtful, sound = result(system, 1), result(system, 2)
    come_again(system, version(patient=Patient("P2", "MAIN")))
    system.deliver()
    assert (only_delivery(system, doubtful).state, only_delivery(system, sound).state) == ("held", "proven")
    assert len(system.sender.calls) == 1


def test_a_result_whose_images_are_not_there_any_more_is_held(system):
    job_id = result(system, 1)
    with system.records.transaction() as unit:
        unit.studies._state.instances.clear()
    system.deliver()
    assert system.sender.calls == []
    assert only_delivery(system, job_id).state == "held"


# crashes


def test_many_results_are_kept_a_few_studies_at_a_time_and_a_crash_between_loses_none(system):
    results(system, 9)
    system.sender.on_send = lambda: setattr(system.records, "fail_next", ConnectionError())
    with pytest.raises(ConnectionError):
        deliver_to(system.dispatch, "pacs")
    assert counts(system) == {"sent": 9}
    system.sender.on_send = lambda: None
    system.deliver()
    assert counts(system) == {"proven": 9}
    assert len(system.sender.calls) == 1, "all of it was there"


def test_a_destination_changed_to_acknowledgement_settles_what_a_crash_left(system):
    job_id = result(system, 1)
    system.sender.on_send = die
    with pytest.raises(SystemExit):
        system.deliver()
    system.sender.on_send = lambda: None
    system.sender.shown.clear()
    system.decide(rule(), destinations=(replace(PACS, proof="ack"), SHARE))
    system.deliver()
    assert (only_delivery(system, job_id).state, only_delivery(system, job_id).proof) == ("accepted", "ack")


def test_nothing_is_given_up_by_a_clock_that_went_back(system):
    result(system, 1)
    system.clock.moment -= PATIENCE
    system.deliver()
    assert counts(system) == {"waiting": 1}
    system.clock.moment += PATIENCE
    system.deliver()
    assert counts(system) == {"proven": 1}
    assert len(every_delivery(system)) == 1
