"""Kill what runs stages of the gpu lane while it computes: one set of results, and no process left over (I10)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.house import house, write_limb_study
from tests.workbench import is_alive

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
RULES = [
    {
        "name": "slowly",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
        "run": ["slow_device_bone"],
        "send": ["pacs"],
    }
]


@pytest.fixture
def tendon(tmp_path):
    with house(tmp_path, RULES, TENDON_PIPELINES_DIR=PIPELINES) as started:
        started.start()
        yield started


def runners_below(pid):
    """The guard and the runner it watches over, below a worker; fewer while they start."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:
                continue
    guards = [child for child, parent in parents.items() if parent == pid and "perform.runner" in commands[child]]
    return guards + [child for child, parent in parents.items() if parent in guards]


@pytest.mark.parametrize("victim", ["worker", "runner", "guard"])
def test_a_stage_of_the_gpu_lane_is_done_once_whatever_of_it_is_killed(tendon, tmp_path, victim):
    tendon.send(write_limb_study(tmp_path / "study", with_region=False))
    tendon.until(
        lambda: any(s["name"] == "wait" and s["state"] == "leased" for j in tendon.jobs() for s in j["stages"])
    )
    worker = tendon.worker_pid()
    tendon.until(lambda: len(runners_below(worker)) == 2)
    guard, runner = runners_below(worker)

    os.kill({"worker": worker, "runner": runner, "guard": guard}[victim], signal.SIGKILL)

    (job,) = tendon.settled(1)
    assert (job["state"], job["reason"]) == ("done", "")
    assert [(s["name"], s["attempt"]) for s in job["stages"]] == [("wait", 2), ("segment", 1), ("report", 1)]
    assert [dcmread(path).Modality for path in tendon.pacs_folder.glob("*.dcm")] == ["SEG"]
    tendon.until(lambda: not (is_alive(guard) or is_alive(runner)))
