"""Stands in for `workers.perform`: stages last as long as their images say and leave prepared files.

No process is forked and nothing is built: what is left is leasing, handing in and everything around the stage.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import Broken, Fault, TendonError, Transient, Unfit
from orchestrator.domain.pipeline import REPORT_STAGE
from tests.load.arrivals import FAILURES
from tests.load.prepared import PREPARED, made_own
from tests.load.studies import core_of_uid, fate_in
from workers.perform.confine import guarding
from workers.perform.task import OUTPUTS_FILE, Task, save_error

_REASONS: dict[str, TendonError] = {
    "transient": Transient(Fault.STAGE_DIED, "a failure that passes"),
    "broken": Broken(Fault.PIPELINE_FAULT, "the stage failed"),
    "unfit": Unfit(Fault.OUT_OF_RANGE, "not made for this"),
}


def main() -> int:
    """Serve until the other side, whose process id is the one argument, closes."""
    tried: set[str] = set()
    with guarding(int(sys.argv[1])):
        _say({"ready": True})
        for line in iter(sys.stdin.readline, ""):
            order = json.loads(line)
            if "work" in order:
                _say({"ended": _perform(Path(order["work"]), tried)})
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _perform(work: Path, tried: set[str]) -> str:
    task = Task.load(work)
    prepared = Path(task.folder).parents[1] / PREPARED
    if task.stage == REPORT_STAGE:
        _report(task, prepared, work)
        return "done"
    compute_ms, index, _ = fate_in(Path(task.source[0]).read_bytes())
    time.sleep(compute_ms / 1e3)
    failure, study = FAILURES[index], task.provenance.study_uid
    passes = failure in {"transient", "killed"}
    if failure and not (passes and study in tried):
        tried.add(study)
        if failure == "killed":
            return "died"
        save_error(work, _REASONS[failure])
        return "done"
    for path in (*prepared.glob("results.json"), *prepared.glob("mask-*.npz")):
        shutil.copyfile(path, work / path.name)
    return "done"


def _report(task: Task, prepared: Path, work: Path) -> None:
    core, revision = core_of_uid(task.provenance.study_uid), int(task.provenance.input_set[:8], 16)
    listed = json.loads((prepared / OUTPUTS_FILE).read_bytes())
    for entry in listed:
        data = (prepared / entry["file"]).read_bytes()
        (work / entry["file"]).write_bytes(made_own(data, listed, core, revision))
    told = json.dumps(listed).encode()
    (work / OUTPUTS_FILE).write_bytes(made_own(told, listed, core, revision))


if __name__ == "__main__":
    sys.exit(main())
