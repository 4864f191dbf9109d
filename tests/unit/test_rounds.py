"""Rounds route, give up and deliver; one failing study or round stops no other."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from orchestrator import rounds
from orchestrator.domain.errors import Fault
from orchestrator.domain.study import Patient
from orchestrator.rounds import Couriers, Duty, Rounds, route_due
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.delivering import deliver_to, destinations_due
from orchestrator.service.leading import ROUNDS, Office
from orchestrator.service.working import fail_exhausted
from tests.dicom_peers import eventually
from tests.fakes.system import QUIET_S, FakeSystem, slices
from tests.returns import send_again
from tests.strategies import STUDY_UID

OFFICE_S = 0.3  # real seconds pass between renewals, the clock of the system stands still
FAULTY, PATIENT = "1.2.9", "Canary^Yellow"


class ExplodingRulebook(YamlRulebook):
    """Fails as often as told, as a programming fault would, with patient data in its message."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def rules(self, source):
        if self.times:
            self.times -= 1
            raise KeyError(PATIENT)
        return super().rules(source)


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


def rounds_of(system: FakeSystem, holder: str = "rounds") -> Rounds:
    office = Office(system.records, system.clock, ROUNDS, holder, OFFICE_S)
    dispatch = replace(system.dispatch, office=office)
    couriers = Couriers(partial(destinations_due, dispatch), partial(deliver_to, dispatch))
    return Rounds(
        office,
        [
            Duty("routing", partial(route_due, system.router), 0.02),
            Duty("delivering", couriers.send_out, 0.02, finish=couriers.wait),
            Duty("giving up", partial(fail_exhausted, system.workshop), 0.02),
        ],
    )


@pytest.fixture
def running(system):
    """Starts rounds over the system; they are stopped when the test ends."""
    started = []

    def start() -> Rounds:
        started.append(rounds_of(system))
        started[-1].start()
        return started[-1]

    before = set(threading.enumerate())
    yield start
    for one in started:
        one.stop()
    assert set(threading.enumerate()) <= before


def test_what_is_ready_is_routed_and_what_is_due_is_delivered(system, running):
    system.receive(*slices())
    system.clock.pass_s(QUIET_S)
    at_work = running()
    assert eventually(lambda: bool(system.jobs()))
    system.report()
    assert eventually(lambda: system.job().state == "done")
    assert system.sender.shown
    assert at_work.is_alive
    at_work.stop()
    assert not at_work.is_alive


def test_what_died_too_often_is_given_up(system, running):
    system.receive_and_route(*slices())
    for _ in range(3):
        system.claim()
        system.clock.pass_s(60)
    running()
    assert eventually(lambda: system.job().state == "failed")


def test_a_faulty_study_is_put_off_with_a_reason_and_does_not_stop_the_others(system, running, caplog):
    system.receive(*slices("1.2.9.1", study_uid=FAULTY))
    system.clock.pass_s(1)
    system.receive(*slices())
    system.clock.pass_s(QUIET_S)
    system.rulebook = ExplodingRulebook(times=1)
    with caplog.at_level(logging.ERROR):
        running()
        assert eventually(lambda: bool(system.jobs(STUDY_UID)))
    with system.records.reading() as unit:
        (reason,) = {d.reason for _, _, _, d in unit.jobs.decisions(FAULTY) if d.code == Fault.ROUTING_FAILED.code}
    assert reason == "routing failed: KeyError"
    assert PATIENT not in caplog.text
    assert f"study {FAULTY} cannot be routed: KeyError in rules" in caplog.text
    system.clock.pass_s(60)
    assert eventually(lambda: bool(system.jobs(FAULTY))), "it is tried again"


def test_a_study_whose_identity_cannot_be_settled_stops_no_other_and_is_not_quoted(system, caplog, monkeypatch):
    for study_uid in (FAULTY, STUDY_UID):
        headers = slices(f"{study_uid}.1", study_uid=study_uid, count=1)
        system.receive(*headers)
        send_again(system, [replace(header, patient=Patient(name=PATIENT)) for header in headers], by="CT1")
    settled = []

    def settle(router, study_uid):
        if study_uid == FAULTY:
            raise ValueError(PATIENT)
        settled.append(study_uid)

    monkeypatch.setattr(rounds, "settle_question", settle)
    rounds.settle_questions(system.router)
    assert settled == [STUDY_UID]
    assert FAULTY in caplog.text
    assert PATIENT not in caplog.text


def test_a_round_that_fails_is_followed_by_the_next(system, running, monkeypatch, caplog):
    monkeypatch.setattr(rounds, "_PAUSE_AFTER_FAULT_S", 0.01)
    system.receive_and_route(*slices())
    system.report()
    system.records.fail_next = ConnectionError(PATIENT)
    with caplog.at_level(logging.ERROR):
        at_work = running()
        assert eventually(lambda: system.job().state == "done")
    assert at_work.is_alive
    assert "failed: ConnectionError in transaction" in caplog.text
    assert PATIENT not in caplog.text


def test_a_destination_that_hangs_keeps_no_study_from_being_routed(system, running):
    system.receive_and_route(*slices())
    system.report()
    hanging, released = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        released.wait(10)

    system.sender.on_send = hang
    running()
    try:
        assert hanging.wait(5)
        system.receive(*slices("1.2.8.1", study_uid="1.2.8"))
        system.clock.pass_s(QUIET_S)
        assert eventually(lambda: bool(system.jobs("1.2.8")))
    finally:
        released.set()
    assert eventually(lambda: bool(system.sender.shown))


def test_of_two_contenders_one_works_and_the_other_takes_over_when_it_stops(system):
    first, second = rounds_of(system, "first"), rounds_of(system, "second")
    first.start()
    assert eventually(lambda: holder(system) == "first")
    second.start()
    try:
        first.stop()
        assert eventually(lambda: holder(system) == "second")
        system.receive(*slices())
        system.clock.pass_s(QUIET_S)
        assert eventually(lambda: bool(system.jobs()))
    finally:
        second.stop()


def holder(system: FakeSystem) -> str:
    now = system.clock.now()
    with system.records.reading() as unit:
        return next(
            (name for name in ("first", "second") for term in (1, 2) if unit.leases.is_held(ROUNDS, name, term, now)),
            "",
        )


@pytest.mark.parametrize("is_under_way", [True, False])
def test_a_duty_is_done_often_while_something_is_under_way_and_seldom_otherwise(system, is_under_way):
    steps = []
    office = Office(system.records, system.clock, ROUNDS, "rounds", OFFICE_S)
    duty = Duty("looking", partial(steps.append, 1), 0.01, is_under_way=lambda: is_under_way)
    at_work = Rounds(office, [duty])
    at_work.start()
    try:
        assert eventually(lambda: bool(steps))
        if is_under_way:
            assert eventually(lambda: len(steps) > 4)
        else:
            time.sleep(0.5)
            assert len(steps) == 1
    finally:
        at_work.stop()


def test_who_stands_by_looks_often_whether_the_office_is_free(system):
    taken_over = threading.Event()
    office = Office(system.records, system.clock, ROUNDS, "second", OFFICE_S)
    first = rounds_of(system, "first")
    second = Rounds(office, [Duty("looking", taken_over.set, 0.02, is_under_way=lambda: False)])
    first.start()
    assert eventually(lambda: holder(system) == "first")
    second.start()
    try:
        first.stop()
        assert taken_over.wait(2)
    finally:
        second.stop()
