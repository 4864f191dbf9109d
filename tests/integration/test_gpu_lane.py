"""The gpu lane on a machine without a GPU: one long-lived runner, warm, replaced whenever it is of no use any more."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.house import write_limb_study
from tests.workbench import Workbench, is_alive


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_limb_study(tmp_path_factory.mktemp("ct"), with_region=False)


@pytest.fixture
def workbench(tmp_path, images):
    return Workbench(tmp_path, images, lanes=["gpu"])


def noted_pid(workbench, name):
    """The process id in the first note of a pipeline, once there is one."""
    workbench.until(lambda: workbench.notes(name))
    return int(workbench.notes(name)[0].split()[-1])


# a stage and its process


def test_a_stage_runs_in_the_runner_and_opens_the_next(workbench, capfd):
    name = workbench.pipeline("works", "is_unfit")
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until(lambda: workbench.job(job).state == "unfit")
    first, second = workbench.stages(job)
    assert (first.state, sorted(first.artefacts)) == ("done", ["mask-0.npz", "results.json"])
    assert (second.state, second.code) == ("failed", "TND-3008")
    assert workbench.notes(name) == ["computed on cpu"]
    assert "goes nowhere" not in "".join(capfd.readouterr())


def test_a_model_is_loaded_once_for_many_stages(workbench):
    name = workbench.pipeline("uses_its_model", weights=b"numbers")
    with workbench.at_work():
        for job in [workbench.add(name) for _ in range(3)]:
            workbench.until_stage(job, "done")
    loaded, *used = workbench.notes(name)
    assert loaded == "loaded weights on cpu"
    assert len(used) == 3
    assert len(set(used)) == 1


@pytest.mark.parametrize(
    ("stage", "code", "words"),
    [
        ("raises", "TND-4003", "ValueError in pipeline.py, line"),
        ("finds_what_it_did_not_declare", "TND-4004", "SCT:52988006 is not declared"),
        ("is_unfit", "TND-3008", "not made for this"),
        ("opens_a_socket", "TND-4002", "could not read or write"),
        ("leaves_without_a_word", "TND-4002", "ended without a result"),
        ("lacks_device_memory", "TND-4009", "memory was not enough"),
    ],
)
def test_whatever_a_pipeline_does_ends_as_a_reason(workbench, stage, code, words):
    name = workbench.pipeline(stage)
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until(lambda: workbench.stage(job).code)
    assert (workbench.stage(job).code, workbench.stage(job).artefacts) == (code, {})
    assert words in workbench.stage(job).reason
    assert "quotes the images" not in workbench.stage(job).reason


def test_device_files_stay_usable_without_network_and_environment(workbench):
    name = workbench.pipeline("reads_device_files")
    with workbench.at_work():
        assert workbench.until_stage(workbench.add(name), "done", "failed").reason == ""


def test_a_stage_that_requires_a_gpu_is_passed_by_without_one(workbench):
    on_gpu, anywhere = workbench.pipeline("works", gpu="required"), workbench.pipeline("works", name="anywhere")
    with workbench.at_work():
        first, second = workbench.add(on_gpu), workbench.add(anywhere)
        workbench.until_stage(second, "done")
    assert (workbench.stage(first).state, workbench.stage(first).attempt) == ("ready", 0)
    assert workbench.job(first).state == "waiting"
    assert workbench.notes(on_gpu) == []


# the runner is replaced


def test_a_stage_over_its_time_is_ended_whatever_signals_it_blocks_and_the_next_one_runs(workbench):
    slow, quick = workbench.pipeline("never_ends", timeout_s=0.8), workbench.pipeline("works")
    with workbench.at_work():
        job = workbench.add(slow)
        pid = noted_pid(workbench, slow)
        innocent = workbench.add(quick)
        workbench.until(lambda: workbench.stage(job).code)
        assert workbench.stage(job).code == "TND-4001"
        workbench.until(lambda: not is_alive(pid))
        assert workbench.until_stage(innocent, "done").attempt == 1


def test_a_cancelled_stage_is_ended_at_the_next_beat_and_nothing_is_handed_in(workbench):
    slow, quick = workbench.pipeline("never_ends", timeout_s=60), workbench.pipeline("works")
    with workbench.at_work():
        job = workbench.add(slow)
        pid = noted_pid(workbench, slow)
        workbench.until(lambda: workbench.stage(job).progress_text == "still here")
        workbench.cancel(job)
        workbench.until(lambda: not is_alive(pid))
        workbench.until_stage(workbench.add(quick), "done")
    assert workbench.job(job).state == "cancelled"
    assert (workbench.stage(job).state, workbench.stage(job).artefacts) == ("leased", {})


def test_a_worker_told_to_stop_ends_what_runs_and_leaves_it_to_its_lease(workbench):
    name = workbench.pipeline("never_ends", timeout_s=60)
    with workbench.at_work():
        job = workbench.add(name)
        pid = noted_pid(workbench, name)
    assert not is_alive(pid)
    assert workbench.stage(job).state == "leased"
    assert not (workbench.folder / "work" / "mine").exists()


def test_a_stage_that_takes_more_memory_than_it_may_is_ended_from_outside(workbench):
    greedy, modest = workbench.pipeline("takes_all_memory", memory_mb=200), workbench.pipeline("works")
    with workbench.at_work():
        job = workbench.add(greedy)
        workbench.until_stage(job, "failed")
        workbench.until_stage(workbench.add(modest), "done")
    assert workbench.job(job).code == "TND-4006"


def test_a_stage_that_kills_its_process_each_time_ends_after_its_attempts_while_others_go_on(workbench):
    poison, sound = workbench.pipeline("dies"), workbench.pipeline("works")
    with workbench.at_work():
        job = workbench.add(poison)
        others = []
        while workbench.stage(job).state != "failed":
            others.append(workbench.add(sound))
            workbench.until_stage(others[-1], "done")
    assert (workbench.job(job).state, workbench.job(job).code) == ("failed", "TND-4002")
    assert workbench.notes(poison).count("died") >= 3
    assert workbench.stage(job).attempt == 3
    assert {workbench.stage(other).attempt for other in others} == {1}


def test_nothing_a_stage_starts_outlives_it(workbench):
    name = workbench.pipeline("leaves_a_process_behind")
    with workbench.at_work():
        job = workbench.add(name)
        left = noted_pid(workbench, name)
        workbench.until(lambda: workbench.stage(job).code == "TND-4002")
        workbench.until(lambda: not is_alive(left))


# the device


def test_where_memory_was_not_enough_a_stage_is_tried_again_on_an_empty_device_with_untouched_inputs(workbench):
    name = workbench.pipeline("lacks_device_memory_once")
    with workbench.at_work():
        assert workbench.until_stage(workbench.add(name), "done").attempt == 1
    first_load, first, second_load, second = workbench.notes(name)
    assert first_load == second_load == "loaded nothing on cpu"
    assert first == second


def test_memory_that_is_never_enough_costs_two_tries_in_each_attempt(workbench):
    name = workbench.pipeline("lacks_device_memory")
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until_stage(job, "failed")
    assert (workbench.job(job).code, workbench.stage(job).attempt) == ("TND-4009", 3)
    assert workbench.notes(name) == ["tried"] * 6


def test_a_device_lost_is_met_by_a_new_process_and_again_and_again_by_an_operator(workbench, caplog):
    name = workbench.pipeline("loses_the_device")
    with workbench.at_work():
        job = workbench.add(name)
        workbench.until(lambda: workbench.stage(job).code)
        assert (workbench.stage(job).state, workbench.stage(job).code) == ("ready", "TND-4010")
        workbench.until_stage(job, "failed")
    assert workbench.job(job).code == "TND-4010"
    assert "failed 3 times in a row" in workbench.job(job).reason
    assert len(set(workbench.notes(name))) == 3


# one computes, the next is read


def test_while_one_stage_computes_the_next_is_leased_and_no_more_than_that(workbench):
    name = workbench.pipeline("waits")
    with workbench.at_work():
        first = workbench.add(name)
        workbench.until(lambda: workbench.notes(name) == ["begun"])
        second, third = workbench.add(name), workbench.add(name)
        workbench.until_stage(second, "leased")
        time.sleep(0.5)
        assert workbench.stage(third).state == "ready"
        assert workbench.notes(name) == ["begun"]
        workbench.let_go(name)
        for job in (first, second, third):
            assert workbench.until_stage(job, "done").attempt == 1
    assert workbench.notes(name) == ["begun", "over"] * 3


def test_a_stage_cancelled_while_it_is_ahead_never_runs_and_disturbs_nobody(workbench):
    waiting, works = workbench.pipeline("waits"), workbench.pipeline("works")
    with workbench.at_work():
        first = workbench.add(waiting)
        workbench.until(lambda: workbench.notes(waiting))
        ahead = workbench.add(works)
        workbench.until_stage(ahead, "leased")
        workbench.cancel(ahead)
        following = workbench.add(works)
        workbench.until_stage(following, "leased")
        workbench.let_go(waiting)
        assert workbench.until_stage(first, "done").attempt == 1
        workbench.until_stage(following, "done")
    assert workbench.notes(works) == ["computed on cpu"]
    assert workbench.stage(ahead).artefacts == {}


# the build


def test_a_job_planned_with_another_build_is_not_run(workbench):
    name = workbench.pipeline("works")
    with workbench.at_work():
        other_bytes = workbench.add(name, package_digest="f" * 64)
        other_version = workbench.add(name, version="0.9.0", input_set="older")
        workbench.until(lambda: workbench.stage(other_version).code == "TND-4008")
        workbench.until_stage(workbench.add(name, package_digest=""), "done")
    assert workbench.stage(other_bytes).attempt == 0, "it is left to a worker that has this build"
    assert workbench.notes(name) == ["computed on cpu"]


def test_a_pipeline_changed_under_a_running_worker_is_not_run(workbench):
    name = workbench.pipeline("works")
    with workbench.at_work():
        workbench.until_stage(workbench.add(name), "done")
        code = Path(workbench.manifests[name].folder) / "pipeline.py"
        code.write_text(code.read_text() + "\n")
        job = workbench.add(name)
        workbench.until(lambda: workbench.stage(job).code == "TND-4008")
    assert "restart" in workbench.stage(job).reason
    assert workbench.notes(name) == ["computed on cpu"]


def test_a_pipeline_taken_away_under_a_running_worker_is_not_run(workbench):
    name = workbench.pipeline("works")
    with workbench.at_work():
        shutil.rmtree(workbench.manifests[name].folder)
        job = workbench.add(name)
        workbench.until(lambda: workbench.stage(job).code == "TND-4008")
