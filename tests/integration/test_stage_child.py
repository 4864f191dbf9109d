"""The stage's child: confined, bounded, and whatever a pipeline does ends as a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from orchestrator.domain.pipeline import StagePlan
from tests.house import write_limb_study
from tests.synthetic import provenance
from tests.workbench import hold, is_alive
from workers.consume.forge import Forge
from workers.consume.lease import AbandonedError
from workers.perform.confine import probe
from workers.perform.task import Task, TaskInput, load_error, load_results

TROUBLE = Path(__file__).resolve().parents[1] / "pipelines" / "trouble"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return tuple(str(path) for path in write_limb_study(tmp_path_factory.mktemp("ct"), with_region=False))


@pytest.fixture(scope="module")
def forge():
    made = Forge()
    made.start()
    yield made
    made.close()


@pytest.fixture
def held():
    with hold() as taken:
        yield taken


def order(images, work, stage, *, timeout_s=20.0, memory_mb=600):
    """Leave the task of one stage of the troublesome pipeline in a folder; gives its plan."""
    Task(
        pipeline="trouble",
        folder=str(TROUBLE),
        stage=stage,
        inputs=(TaskInput("ct", "volume", images),),
        segments=("SCT:272673000",),
        measurements=(),
        provenance=provenance(),
        memory_mb=memory_mb,
    ).save(work)
    return StagePlan(stage, "cpu", timeout_s, memory_mb)


def run(forge, held, images, work, stage, **given):
    """Run one stage of the troublesome pipeline; gives how it ended and the error it left."""
    ended = forge.run(work, order(images, work, stage, **given), held.lease)
    return ended, load_error(work)


def text_from(path, timeout_s=20.0):
    """What a stage wrote into a file beside its code, once it has."""
    deadline = time.monotonic() + timeout_s
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().strip()


@pytest.fixture
def left_pid():
    """The process that a stage leaves behind writes its number here."""
    path = TROUBLE / ".left"
    path.unlink(missing_ok=True)
    yield lambda: int(text_from(path))
    path.unlink(missing_ok=True)


def test_a_stage_leaves_its_results_as_files(forge, held, images, tmp_path, capfd):
    ended, error = run(forge, held, images, tmp_path, "works")

    assert (ended, error) == ("done", None)
    (bone,) = load_results({path.name: str(path) for path in tmp_path.iterdir()}).segments
    assert np.count_nonzero(bone.mask) > 100
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("stage", "code", "words"),
    [
        ("is_unfit", "TND-3008", "not made for this"),
        ("raises", "TND-4003", "ValueError in pipeline.py, line"),
        ("takes_all_memory", "TND-4006", "more memory"),
        ("has_another_shape", "TND-4004", "mask of 'Bone' is (2, 2, 2)"),
        ("finds_what_it_did_not_declare", "TND-4004", "SCT:52988006 is not declared"),
        ("no_such_stage", "TND-4003", "has no stage no_such_stage"),
        ("reads_the_environment", "TND-3008", "found []"),
        ("computes_on", "TND-3008", "on cpu with a model of cpu"),
    ],
)
def test_whatever_a_pipeline_does_ends_as_a_reason(forge, held, images, tmp_path, stage, code, words):
    ended, error = run(forge, held, images, tmp_path, stage)
    assert (ended, error.code) == ("done", code)
    assert words in error.detail
    assert "quotes the images" not in error.detail


def test_a_pipeline_has_no_network(forge, held, images, tmp_path):
    assert probe() in ("namespace", "seccomp")
    _, error = run(forge, held, images, tmp_path, "opens_a_socket")
    assert "the stage could not read or write" in error.detail


def test_a_child_that_dies_says_so_and_the_next_one_runs(forge, held, images, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    assert run(forge, held, images, tmp_path / "first", "dies") == ("died", None)
    assert run(forge, held, images, tmp_path / "second", "works") == ("done", None)


@pytest.mark.parametrize("stage", ["never_ends", "blocks_every_signal", "is_stuck_in_c", "hangs_up"])
def test_a_stage_over_its_time_is_ended_from_outside(forge, held, images, tmp_path, stage):
    assert run(forge, held, images, tmp_path, stage, timeout_s=0.8) == ("timeout", None)


def test_a_stage_that_stops_its_warm_parent_is_ended_too(held, images, tmp_path):
    forge = Forge()
    try:
        assert run(forge, held, images, tmp_path, "stops_its_parent", timeout_s=0.3)[0] == "timeout"
    finally:
        forge.close()


@pytest.mark.parametrize(
    ("stage", "ended"), [("leaves_a_process_behind", "done"), ("waits_for_its_process", "timeout")]
)
def test_no_process_that_a_stage_started_outlives_it(forge, held, images, tmp_path, left_pid, stage, ended):
    assert run(forge, held, images, tmp_path, stage, timeout_s=3.0) == (ended, None)
    assert not is_alive(left_pid())


def test_a_stage_whose_job_is_cancelled_is_ended(forge, held, images, tmp_path):
    plan = order(images, tmp_path, "never_ends", timeout_s=60.0)
    held.lease.note(0.0, "")
    held.cancel()
    with pytest.raises(AbandonedError):
        forge.run(tmp_path, plan, held.lease)


def test_progress_is_kept_with_the_next_beat(forge, held, images, tmp_path):
    assert run(forge, held, images, tmp_path, "never_ends", timeout_s=1.5) == ("timeout", None)
    assert (held.stage.progress, held.stage.progress_text) == (0.1, "still here")


def test_a_forge_that_was_killed_is_started_again(held, images, tmp_path):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    forge = Forge()
    forge.start()

    def kill_at_work():
        while held.stage.progress_text != "still here":
            time.sleep(0.01)
        os.kill(forge.pid, signal.SIGKILL)

    killer = Thread(target=kill_at_work)
    killer.start()
    try:
        assert run(forge, held, images, tmp_path / "first", "never_ends") == ("died", None)
        assert run(forge, held, images, tmp_path / "second", "works") == ("done", None)
        os.kill(forge.pid, signal.SIGKILL)
        while is_alive(forge.pid):
            time.sleep(0.01)
        assert run(forge, held, images, tmp_path / "third", "works") == ("done", None)
    finally:
        killer.join()
        forge.close()


def test_nothing_outlives_a_worker_that_is_killed(tmp_path):
    code = (
        "from workers.consume.engine import Engine; from workers.consume.forge import Forge\n"
        "forge, engine = Forge(), Engine(None); forge.start(); engine.start()\n"
        "print(forge.pid, engine.pid, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        assert [is_alive(pid) for pid in pids] == [True, True]
        worker.kill()
        deadline = time.monotonic() + 20
        while any(is_alive(pid) for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.01)
