"""How long a worker takes to lease a stage and to have its end accepted, with 100,000 jobs in the table (SQLite)."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from orchestrator.domain.pipeline import StagePlan
from orchestrator.domain.queue import queues_of
from orchestrator.service.working import claim_stage, complete_stage
from tests.benchmarks.measure import Row, percentile
from tests.benchmarks.site import fill, open_site
from tests.strategies import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.assembly import System

JOBS: Final = 100_000
BOUND_MS: Final = 5.0
_ROUNDS: Final = 100
_QUEUES: Final = queues_of(["cpu"])
_MANIFEST: Final = manifest_of("bone_ct", stages=(StagePlan("segment", "cpu", 60.0, 1000),))


def run() -> list[Row]:
    """A long history, a long queue of one's own, and a long queue that waits for another lane."""
    return [
        *_with("done", lambda system: fill(system, "old", JOBS, job="done", stage="done", lane="cpu")),
        *_with("waiting", lambda system: fill(system, "more", JOBS, job="waiting", stage="ready", lane="cpu")),
        *_with("waiting for a GPU", lambda system: fill(system, "gpu", JOBS, job="waiting", stage="ready", lane="gpu")),
    ]


def _with(what: str, prepare: Callable[[System], None]) -> list[Row]:
    with TemporaryDirectory() as folder:
        system = open_site(Path(folder))
        prepare(system)
        fill(system, "new", _ROUNDS + 1, job="waiting", stage="ready", lane="cpu")
        took_ms = [_round_ms(system) for _ in range(_ROUNDS + 1)][1:]
        system.records.close()
    return [
        Row(
            f"claim and finish, {JOBS:,} jobs {what}, p{percent}",
            percentile(took_ms, percent),
            "ms",
            "bound",
            BOUND_MS,
            "at most 1",
        )
        for percent in (50, 95)
    ]


def _round_ms(system: System) -> float:
    workshop = system.workshop()
    start = time.perf_counter()
    claimed = claim_stage(workshop, _QUEUES, "benchmark")
    assert claimed is not None
    assert complete_stage(workshop, claimed, _MANIFEST, {"results.json": "0" * 64})
    return (time.perf_counter() - start) * 1e3
