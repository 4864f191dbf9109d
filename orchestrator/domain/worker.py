"""Workers as the records know them: what each serves and can run, and what waits that none of them can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault
from orchestrator.domain.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.queue import Lane


PLACE: Final = "worker on "
"""How the subject of an alarm on the place of a worker begins."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process: its name, which owns its leases, the queues it serves and what it can run of them.

    `builds` are the package digests of the pipelines installed where it runs.
    """

    name: str
    queues: tuple[Queue, ...]
    has_gpu: bool
    builds: frozenset[str]

    def can_run(self, stage: Stage, job: Job) -> bool:
        """Whether the stage lies in one of its queues and it has what the stage needs."""
        return (
            Queue(stage.lane, stage.priority) in self.queues
            and self.has_device(stage.gpu)
            and self.has_build(job.package_digest)
        )

    def serves(self, lane: Lane) -> bool:
        """Whether any of its queues is of the lane."""
        return any(queue.lane == lane for queue in self.queues)

    def has_device(self, gpu: str) -> bool:
        """Whether a stage that uses the GPU so can run here."""
        return self.has_gpu or gpu != "required"

    def has_build(self, package_digest: str) -> bool:
        """Whether this build is installed here; a job that was planned before builds were pinned names none."""
        return package_digest in self.builds or not package_digest


def place_of(name: str) -> str:
    """Where a worker of this name runs, as alarms name it: its host, whichever process it was."""
    return f"{PLACE}{name.partition(':')[0]}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Stages of one kind that have been ready `since` a moment: their queue, what they need, and how many they are."""

    queue: Queue
    gpu: str
    pipeline: str
    package_digest: str
    count: int
    since: datetime

    def lacks(self, workers: Iterable[Worker]) -> Fault | None:
        """Why none of these workers can run them: NO_WORKER, NO_DEVICE or OTHER_BUILD; None when one can."""
        serving = [worker for worker in workers if self.queue in worker.queues]
        if not serving:
            return Fault.NO_WORKER
        equipped = [worker for worker in serving if worker.has_device(self.gpu)]
        if not equipped:
            return Fault.NO_DEVICE
        has_build = any(worker.has_build(self.package_digest) for worker in equipped)
        return None if has_build else Fault.OTHER_BUILD
