"""The worker's loop: when it looks for work, in which order it takes it, and what a lost database costs it."""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition

import pytest

from orchestrator.domain.errors import Fault
from orchestrator.domain.job import JobInput
from orchestrator.domain.pipeline import Input
from orchestrator.domain.queue import queues_of
from orchestrator.domain.upstream import identity_of
from orchestrator.service.operating import open_alarms
from tests.fakes.restarting import RestartingRecords
from tests.fakes.surroundings import SystemClock
from tests.house import write_limb_study
from tests.workbench import BONE, Workbench
from workers import consume
from workers.consume.workplace import LEAST_ROOM_BYTES
from workers.device import find_gpus
from workers.perform.task import Task


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_limb_study(tmp_path_factory.mktemp("ct"), with_region=False)


@pytest.fixture
def records():
    return RestartingRecords()


@pytest.fixture
def workbench(tmp_path, images, records):
    return Workbench(tmp_path, images, records=records)


class HandBell:
    """The port `Bell`, rung by the test."""

    def __init__(self):
        self._changed = Condition()
        self._rings = 0
        self.is_cracked = False

    def ring(self):
        with self._changed:
            self._rings += 1
            self._changed.notify_all()

    def wait(self, timeout_s):
        if self.is_cracked:
            raise OSError("no such bell")
        with self._changed:
            heard = self._rings
            self._changed.wait_for(lambda: self._rings != heard, timeout_s)

    def close(self):
        self.ring()


# lanes


def test_a_job_goes_through_both_lanes_to_its_end(workbench):
    name = workbench.pipeline("works")
    with workbench.at_work():
        job = workbench.add(name, send=())
        workbench.until(lambda: workbench.job(job).state not in ("waiting", "running"))
    assert (workbench.job(job).state, workbench.job(job).reason) == ("done", "")
    assert [(s.name, s.lane, s.state) for s in workbench.stages(job)] == [
        ("works", "gpu", "done"),
        ("report", "cpu", "done"),
    ]


def test_a_worker_takes_stages_of_its_own_lane_only(workbench):
    workbench.lanes = ["cpu"]
    on_gpu, on_cpu = workbench.pipeline("works"), workbench.pipeline("works", lane="cpu", name="on_cpu")
    with workbench.at_work():
        other, mine = workbench.add(on_gpu), workbench.add(on_cpu)
        workbench.until_stage(mine, "done")
    assert workbench.stage(other).state == "ready"


def test_a_stage_is_given_what_another_pipeline_found(workbench):
    upstream = workbench.pipeline("works", lane="cpu")
    inputs = (Input("ct", "volume"), Input("bone", "result", pipeline=upstream, segment=BONE))
    name = workbench.pipeline("builds_on_a_result", lane="cpu", inputs=inputs)
    workbench.lanes = ["cpu"]
    with workbench.at_work():
        first = workbench.add(upstream, send=())
        workbench.until_stage(first, "done")
        taken = JobInput("bone", "result", "1.2.3.1", {upstream: identity_of(workbench.job(first))})
        second = workbench.add(name, send=(), inputs=(workbench.job(first).primary, taken))
        workbench.until(lambda: workbench.job(second).state not in ("waiting", "running"))
    assert (workbench.job(second).state, workbench.job(second).reason) == ("done", "")
    assert workbench.notes(name) == ["found Bone"]


# order


def test_every_eighth_stage_is_the_one_that_waited_longest(workbench):
    workbench.lanes = ["gpu"]
    name = workbench.pipeline("works")
    old = workbench.add(name, priority="batch")
    urgent = [workbench.add(name, priority="stat") for _ in range(9)]
    with workbench.at_work():
        for job in [old, *urgent]:
            workbench.until_stage(job, "done")
    order = sorted([old, *urgent], key=lambda job: workbench.stage(job).started_at)
    assert order.index(old) == 7


# when it looks


def test_with_a_bell_it_hardly_looks_by_itself(workbench, records):
    bell = HandBell()
    name = workbench.pipeline("works", lane="cpu")
    with workbench.at_work(bell):
        workbench.until_stage(workbench.add(name, send=()), "done")
        workbench.until(lambda: workbench.job("j1").state == "done")
        asked = records.asked
        time.sleep(3)
        assert records.asked - asked <= 10
        job = workbench.add(name, send=())
        bell.ring()
        workbench.until_stage(job, "done")


def test_a_bell_out_of_order_keeps_it_from_nothing(workbench):
    name = workbench.pipeline("works", lane="cpu")
    bell = HandBell()
    bell.is_cracked = True
    with workbench.at_work(bell):
        workbench.until_stage(workbench.add(name), "done")


# a database that is restarted


def test_records_lost_while_a_stage_runs_cost_it_no_attempt(workbench, records):
    name = workbench.pipeline("waits")
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until(lambda: workbench.notes(name) == ["begun"])
        records.is_down = True
        workbench.let_go(name)
        workbench.until(lambda: workbench.notes(name) == ["begun", "over"])
        asked = records.asked
        workbench.until(lambda: records.asked > asked + 3)
        records.is_down = False
        assert workbench.until_stage(job, "done").attempt == 1
    assert workbench.notes(name) == ["begun", "over"]


def test_an_end_whose_answer_was_lost_is_no_second_end(workbench, records):
    name = workbench.pipeline("waits")
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until(lambda: workbench.notes(name) == ["begun"])
        records.answers_lost = 1
        workbench.let_go(name)
        workbench.until_stage(job, "done")
        workbench.until(lambda: records.answers_lost == 0)
    assert [stage.name for stage in workbench.stages(job)] == ["waits", "report"]
    assert workbench.notes(name) == ["begun", "over"]


def test_records_lost_while_it_looks_for_work_are_waited_for(workbench, records):
    name = workbench.pipeline("works", lane="cpu")
    records.is_down = True
    with workbench.at_work():
        asked = records.asked
        workbench.until(lambda: records.asked > asked + 1)
        records.is_down = False
        workbench.until_stage(workbench.add(name), "done")


# a full disk


def test_without_room_no_stage_is_taken_and_none_is_spoilt(workbench, monkeypatch):
    name = workbench.pipeline("works", lane="cpu")
    free = [LEAST_ROOM_BYTES - 1]
    monkeypatch.setattr(consume, "free_bytes", lambda _: free[0])
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until(lambda: len(open_alarms(workbench.records)) == 1)
        (alarm,) = open_alarms(workbench.records)
        assert (alarm.code, alarm.subject) == (Fault.STORAGE_LOW.code, "worker on worker")
        assert alarm.detail == "takes no stage below 256 MiB: free are work 255 MiB"
        assert (workbench.stage(job).state, workbench.stage(job).attempt) == ("ready", 0)
        free[0] = LEAST_ROOM_BYTES
        assert workbench.until_stage(job, "done").attempt == 1


def test_a_disk_that_fills_up_under_a_stage_costs_it_no_attempt(workbench, monkeypatch):
    name = workbench.pipeline("works", lane="cpu")
    save, failures = Task.save, [OSError(errno.ENOSPC, "no space")] * 2

    def saved(task, work):
        if failures:
            raise failures.pop()
        save(task, work)

    monkeypatch.setattr(Task, "save", saved)
    with workbench.at_work():
        job = workbench.add(name, opened_at=SystemClock().now())
        stage = workbench.until_stage(job, "done", "failed")
    assert (stage.state, stage.attempt, stage.attempts_allowed) == ("done", 3, 5)


# who is there


def test_a_worker_is_known_while_it_works_and_with_what_it_can_run(workbench):
    name = workbench.pipeline("works")
    workbench.lanes = ["gpu"]

    def present():
        with workbench.records.reading() as unit:
            return unit.workers.present(datetime.min.replace(tzinfo=UTC))

    with workbench.at_work():
        workbench.until(present)
        (worker,) = present()
        assert (worker.name, worker.queues, worker.has_gpu) == ("worker", queues_of(["gpu"]), bool(find_gpus()))
        assert worker.builds == {workbench.manifests[name].package_digest}
    assert present() == []


# what is left


def test_folders_of_killed_workers_are_removed_and_those_of_living_ones_stay(workbench):
    dead = workbench.folder / "work" / "dead"
    (dead / "stage").mkdir(parents=True)
    (dead / "lock").touch()
    foreign = workbench.folder / "work" / "foreign"
    foreign.mkdir()
    beside = replace(workbench.bench(), work_dir=workbench.folder / "work" / "beside")
    with workbench.at_work():
        workbench.until(lambda: not dead.exists())
        with workbench.at_work(bench=beside):
            workbench.until((beside.work_dir / "lock").exists)
            assert (workbench.folder / "work" / "mine" / "lock").exists()
    assert sorted(path.name for path in (workbench.folder / "work").iterdir()) == ["foreign"]
    assert Path(foreign).is_dir()
