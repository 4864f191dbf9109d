"""A worker of the embedded system whose stages are performed by `tests.load.performer`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.commands.role import opened, stop_signal
from orchestrator.domain.queue import queues_of
from workers.bench import bench_for
from workers.consume import Bench, work_until
from workers.perform.confine import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.assembly import System
    from orchestrator.domain.queue import Queue


def bench(system: System, queues: Sequence[Queue]) -> Bench:
    """As a worker's own, but for who performs."""
    return replace(bench_for(system, queues), performer="tests.load.performer")


def main() -> int:
    """Work until told to stop, or until the process whose id is the one argument ends."""
    die_with_parent(int(sys.argv[1]))
    stopping = stop_signal()
    with opened() as system:
        bell = system.records.bell()
        work_until(bench(system, queues_of(["cpu"])), stopping, bell)
        bell.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
