"""What the data's way costs beside quiet time and compute, and how much memory the whole system takes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from orchestrator.service.operating import study_story
from tests.benchmarks.measure import PeakMemory, Row
from tests.benchmarks.site import open_site
from tests.house import TENDON
from workers.commands.demo import QUIET_S
from workers.commands.demo.outcome import moments

BOUND_S: Final = 1.0
BOUND_GB: Final = 2.0
_ROUNDS: Final = 3


def run() -> list[Row]:
    """Demo runs of the synthetic study: from the last success of C-STORE to the last proof in the receiving PACS."""
    runs = [_run() for _ in range(_ROUNDS)]
    overhead_s = statistics.median(overhead for overhead, _ in runs)
    return [
        Row(f"way of the demo's study, p50 of {_ROUNDS}", overhead_s, "s", "bound", BOUND_S, "at most 1"),
        Row("memory of all processes, peak", max(peak for _, peak in runs) / 1e9, "GB", "bound", BOUND_GB, "at most 1"),
    ]


def _run() -> tuple[float, int]:
    """Seconds beside quiet time and compute, and peak bytes, of one run."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        environment = {"PATH": os.environ["PATH"], "HOME": name}
        command = [TENDON, "demo", "--output", str(folder / "out")]
        with (
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process,
            PeakMemory(process.pid) as memory,
        ):
            assert process.wait() == 0, "the demo failed"
        study_uid = json.loads((folder / "out" / "summary.json").read_text())["study_uid"]
        system = open_site(folder / "out" / "state")
        story = study_story(system.records, study_uid)
        system.records.close()
        return moments(story, QUIET_S).overhead, memory.peak_bytes
