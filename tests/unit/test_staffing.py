"""Workers say that they are there; what waits and none of them can run becomes an alarm, until one can."""

from __future__ import annotations

import pytest

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.pipeline import StagePlan
from orchestrator.domain.queue import Queue
from orchestrator.domain.worker import Waiting
from orchestrator.service.staffing import REPORTS_EVERY_S, Staff, complain, leave, look_after_workers, present, report
from orchestrator.service.working import fail_stage
from tests.fakes.system import FakeSystem, slices
from tests.rows import worker_of
from tests.strategies import START, manifest_of

GPU_PIPELINE = manifest_of("bone_ct", stages=(StagePlan("segment", "gpu", 60.0, 1000, "required"),))
OLD_BUILD = manifest_of("bone_ct", package_digest="a" * 64)
SUBJECT = "bone_ct in tendon.gpu.routine"


@pytest.fixture
def system(tmp_path):
    """One stage of lane gpu that requires a GPU has been ready for a minute."""
    system = FakeSystem(tmp_path, manifests=(GPU_PIPELINE,))
    system.receive_and_route(*slices())
    system.clock.pass_s(60)
    return system


@pytest.fixture
def staff(system):
    return Staff(system.records, system.clock)


def alarms(staff: Staff) -> list[tuple[str, str]]:
    with staff.records.reading() as unit:
        return [(alarm.code, alarm.subject) for alarm in unit.alarms.open()]


@pytest.mark.parametrize(
    ("worker", "fault"),
    [
        (worker_of(["cpu"], GPU_PIPELINE), Fault.NO_WORKER),
        (worker_of(["gpu"], GPU_PIPELINE, has_gpu=False), Fault.NO_DEVICE),
        (worker_of(["gpu"], OLD_BUILD), Fault.OTHER_BUILD),
        (worker_of(["gpu"], GPU_PIPELINE, OLD_BUILD), None),
    ],
    ids=["of another lane", "without a GPU", "with another build", "with all it needs"],
)
def test_what_waits_and_no_worker_can_run_is_an_alarm_that_says_what_is_lacking(system, staff, worker, fault):
    report(staff, worker)
    look_after_workers(staff)
    assert alarms(staff) == ([] if fault is None else [(fault.code, SUBJECT)])


def test_two_workers_that_can_do_half_of_it_each_are_none_that_can():
    waiting = Waiting(Queue("gpu", "stat"), "required", "bone_ct", "0" * 64, 1, START)
    halves = [worker_of(["gpu"], GPU_PIPELINE, has_gpu=False), worker_of(["gpu"], OLD_BUILD)]
    assert waiting.lacks(halves) is Fault.OTHER_BUILD
    assert waiting.lacks([*halves, worker_of(["gpu"], GPU_PIPELINE)]) is None


def test_the_alarm_tells_how_many_since_when_and_falls_silent_once_a_worker_has_come(system, staff):
    (alarm,) = look_after_workers(staff)
    assert alarm.detail == "1 stage waits since 2024-01-31 12:00 UTC: no worker serves the queue"
    system.clock.pass_s(20)
    look_after_workers(staff)
    assert alarms(staff) == [(Fault.NO_WORKER.code, SUBJECT)]
    report(staff, worker_of(["gpu"], GPU_PIPELINE))
    assert look_after_workers(staff) == []
    assert alarms(staff) == []


def test_what_became_ready_just_now_may_wait_a_minute(tmp_path):
    system = FakeSystem(tmp_path, manifests=(GPU_PIPELINE,))
    system.receive_and_route(*slices())
    staff = Staff(system.records, system.clock)
    system.clock.pass_s(59)
    assert look_after_workers(staff) == []
    system.clock.pass_s(1)
    assert len(look_after_workers(staff)) == 1


def test_a_worker_that_says_no_more_that_it_is_there_is_gone_and_one_that_ends_is_gone_at_once(system, staff):
    worker = worker_of(["gpu"], GPU_PIPELINE)
    report(staff, worker)
    system.clock.pass_s(3 * REPORTS_EVERY_S)
    assert present(staff) == [worker]
    system.clock.pass_s(1)
    assert present(staff) == []
    report(staff, worker)
    leave(staff, worker)
    assert present(staff) == []


def test_a_worker_of_another_build_takes_nothing_and_spoils_nothing_during_an_upgrade(system, staff):
    system.worker = worker_of(["gpu"], OLD_BUILD)
    with pytest.raises(AssertionError):
        system.claim()
    (stage,) = system.stages(system.job().id)
    assert (stage.state, stage.attempt) == ("ready", 0)
    system.worker = worker_of(["gpu"], GPU_PIPELINE)
    assert system.claim().stage.attempt == 1


def test_a_complaint_of_a_place_falls_silent_five_minutes_after_its_last_time(system, staff):
    full = (Fault.STORAGE_LOW.code, "worker on gpu7")
    report(staff, worker_of(["gpu"], GPU_PIPELINE, name="gpu7:12:ab"))
    complain(staff, worker_of(name="gpu7:12:ab"), Fault.STORAGE_LOW, "no room")
    system.clock.pass_s(240)
    fail_stage(system.workshop, system.claim(), Transient(Fault.OBJECTS_UNREACHABLE, "no answer"))
    report(staff, worker_of(["gpu"], GPU_PIPELINE, name="gpu7:12:ab"))
    look_after_workers(staff)
    assert alarms(staff) == [full, (Fault.OBJECTS_UNREACHABLE.code, "worker on worker")]
    system.clock.pass_s(61)
    report(staff, worker_of(["gpu"], GPU_PIPELINE, name="gpu7:12:ab"))
    look_after_workers(staff)
    assert alarms(staff) == [(Fault.OBJECTS_UNREACHABLE.code, "worker on worker")]


def test_alarms_of_others_are_left_alone(system, staff):
    with system.records.transaction() as unit:
        for code, subject in ((Fault.STORAGE_LOW.code, "objects"), (Fault.MESSAGE_UNUSABLE.code, "tendon.cpu.stat")):
            unit.alarms.sound(Alarm(code, subject, "", START, START))
    report(staff, worker_of(["gpu"], GPU_PIPELINE))
    system.clock.pass_s(1e6)
    report(staff, worker_of(["gpu"], GPU_PIPELINE))
    look_after_workers(staff)
    assert len(alarms(staff)) == 2
