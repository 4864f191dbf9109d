"""The stage's child: confined, bounded, and whatever a pipeline does ends as a reason."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from orchestrator.domain.pipeline import StagePlan
from tests.house import write_limb_study
from tests.synthetic import provenance
from workers.consume import Forge, LostLeaseError
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


def run(forge, images, work, stage, *, timeout_s=20.0, memory_mb=600, renew=lambda progress, text: True, beat_s=0.2):
    """Run one stage of the troublesome pipeline; gives how it ended and the error it left."""
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
    ended = forge.run(work, StagePlan(stage, "cpu", timeout_s, memory_mb), beat_s, renew)
    return ended, load_error(work)


def test_a_stage_leaves_its_results_as_files(forge, images, tmp_path, capfd):
    ended, error = run(forge, images, tmp_path, "works")

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
    ],
)
def test_whatever_a_pipeline_does_ends_as_a_reason(forge, images, tmp_path, stage, code, words):
    ended, error = run(forge, images, tmp_path, stage)
    assert (ended, error.code) == ("done", code)
    assert words in error.detail
    assert "quotes the images" not in error.detail


def test_a_pipeline_has_no_network(forge, images, tmp_path):
    assert probe() in ("namespace", "seccomp")
    _, error = run(forge, images, tmp_path, "opens_a_socket")
    assert "the stage could not read or write" in error.detail


def test_a_child_that_dies_says_so_and_the_next_one_runs(forge, images, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    assert run(forge, images, tmp_path / "first", "dies") == ("died", None)
    assert run(forge, images, tmp_path / "second", "works") == ("done", None)


def test_a_stage_over_its_time_is_ended(forge, images, tmp_path):
    assert run(forge, images, tmp_path, "never_ends", timeout_s=0.8) == ("timeout", None)


def test_a_stage_whose_lease_is_lost_is_ended(forge, images, tmp_path):
    heard = []

    def renew(progress, text):
        heard.append((progress, text))
        return len(heard) < 3

    with pytest.raises(LostLeaseError):
        run(forge, images, tmp_path, "never_ends", renew=renew)
    assert heard[-1] == (0.1, "still here")


def test_a_forge_that_was_killed_is_started_again(images, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    forge = Forge()
    forge.start()
    try:

        def kill(progress, text):
            os.kill(forge.pid, signal.SIGKILL)
            return True

        assert run(forge, images, tmp_path / "first", "never_ends", renew=kill) == ("died", None)
        assert run(forge, images, tmp_path / "second", "works") == ("done", None)
    finally:
        forge.close()
