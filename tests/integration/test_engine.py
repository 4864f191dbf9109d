"""The engine of one GPU: what computes and what is read at the same time, and who is to blame when its process dies."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from tests.house import write_limb_study
from tests.synthetic import provenance
from tests.workbench import BONE, Workbench, hold
from workers.consume.engine import Engine
from workers.perform.task import Task, TaskInput, load_error


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return [str(path) for path in write_limb_study(tmp_path_factory.mktemp("ct"), with_region=False)]


@pytest.fixture
def workbench(tmp_path):
    return Workbench(tmp_path, [])


@pytest.fixture
def engine():
    made = Engine(None)
    made.start()
    yield made
    made.close()


class Running:
    """A stage at the engine, in a thread of its own."""

    def __init__(self, engine, workbench, pipeline, files):
        manifest = workbench.manifests[pipeline]
        self.work = workbench.folder / f"{pipeline}-{len(list(workbench.folder.iterdir()))}"
        self.work.mkdir()
        (self.plan,) = manifest.stages
        Task(
            pipeline=pipeline,
            folder=manifest.folder,
            stage=self.plan.name,
            inputs=(TaskInput("ct", "volume", tuple(files)),),
            segments=(BONE,),
            measurements=(),
            provenance=provenance(package_digest=manifest.package_digest),
            memory_mb=self.plan.memory_mb,
        ).save(self.work)
        self.place = None
        self.ended = ""
        self.phases = []
        self._engine = engine
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with hold() as held, self._engine.place(Event()) as self.place:
            self.ended = self._engine.run(self.place, self.work, self.plan, held.lease)

    def until(self, *phases, timeout_s=20.0):
        """Wait for one of these phases."""
        deadline = time.monotonic() + timeout_s
        while self.place is None or self.place.phase not in phases:
            assert time.monotonic() < deadline, (self.place, self.ended)
            time.sleep(0.002)
            if self.place is not None and self.place.phase not in self.phases[-1:]:
                self.phases.append(self.place.phase)
        return self.place.phase

    def result(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.ended, load_error(self.work)


def until(is_so, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def unreadable_until_closed(path):
    """A file whose reading goes on until it is let go."""
    os.mkfifo(path)
    opened = os.open(path, os.O_RDWR)
    try:
        yield lambda: os.close(opened)
    finally:
        path.unlink()


def test_the_next_stage_is_read_whole_while_one_computes(engine, workbench, images):
    slow, quick = workbench.pipeline("waits"), workbench.pipeline("works")
    first = Running(engine, workbench, slow, images)
    first.until("computing")
    second = Running(engine, workbench, quick, images)

    second.until("read")
    assert first.until("computing") == "computing"
    assert workbench.notes(quick) == []

    workbench.let_go(slow)
    assert first.result() == ("done", None)
    assert second.result() == ("done", None)


def test_a_death_with_one_stage_at_work_is_its_own_fault(engine, workbench, images):
    slow, quick = workbench.pipeline("waits"), workbench.pipeline("works")
    first = Running(engine, workbench, slow, images)
    first.until("computing")
    second = Running(engine, workbench, quick, images)
    second.until("read")

    os.kill(engine.pid, signal.SIGKILL)

    assert first.result() == ("died", None)
    assert second.result() == ("done", None)


def test_of_two_at_work_when_the_process_died_none_is_blamed_and_each_runs_alone(engine, workbench, images, tmp_path):
    slow, quick = workbench.pipeline("waits"), workbench.pipeline("works")
    first = Running(engine, workbench, slow, images)
    first.until("computing")
    with unreadable_until_closed(tmp_path / "image.dcm") as let_go:
        second = Running(engine, workbench, quick, [str(tmp_path / "image.dcm")])
        second.until("reading")
        killed = engine.pid

        os.kill(killed, signal.SIGKILL)

        until(lambda: engine.pid not in (0, killed))
        until(lambda: first.place.phase == "computing" or second.place.phase == "reading")
        assert [first.place.phase, second.place.phase].count("waiting") == 1
        workbench.let_go(slow)
        second.until("reading")
        let_go()
        assert first.result() == ("done", None)
        assert second.result()[0] == "done"
        assert second.result()[1].code == "TND-3007"


def test_reading_that_never_ends_is_ended_at_the_stages_limit_and_the_one_that_computes_runs_again(
    engine, workbench, images, tmp_path
):
    slow, quick = workbench.pipeline("waits"), workbench.pipeline("works", timeout_s=0.7)
    first = Running(engine, workbench, slow, images)
    first.until("computing")
    with unreadable_until_closed(tmp_path / "image.dcm") as let_go:
        (first.work / "mask-9.npz").touch()
        second = Running(engine, workbench, quick, [str(tmp_path / "image.dcm")])
        assert second.result() == ("timeout", None)
        let_go()
    workbench.let_go(slow)
    assert first.result() == ("done", None)
    assert sorted(path.name for path in first.work.iterdir()) == ["mask-0.npz", "results.json", "stage.json"]
    assert workbench.notes(slow).count("begun") == 2
