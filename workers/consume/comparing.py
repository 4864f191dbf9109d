"""Other versions of known objects, compared in a confined process beside the stages; no stage waits for them."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Broken
from orchestrator.domain.pipeline import StagePlan
from orchestrator.service.classing import claim_versions, class_version, put_back
from workers.consume.desk import repeat
from workers.consume.forge import Forge
from workers.perform.pairs import load_answer, save_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from threading import Event

    from orchestrator.service.classing import Pair
    from workers.consume.desk import Office

_PERFORMER: Final = "workers.perform.comparing"
_PLAN: Final = StagePlan("compare", "cpu", timeout_s=120.0, memory_mb=2000)
_LEASE: Final = timedelta(seconds=_PLAN.timeout_s + 30)
_LOOK_EACH_S: Final = 3.0
"""Objects come again seldom, and no other study waits for the answer: a bell is not worth it."""


class VersionDesk:
    """Compares what came again with what is in use, some pairs at a time; its process lives while there are any."""

    def __init__(self, office: Office) -> None:
        self._bench = office.bench
        self._room, self._stopping = office.room, office.stopping
        self._forge = Forge(_PERFORMER)

    def work(self) -> None:
        """Work until told to stop."""
        try:
            repeat(self._step, self._stopping)
        finally:
            self._forge.close()

    def _step(self) -> None:
        workshop = self._bench.workshop
        pairs = claim_versions(workshop.records, workshop.clock, _LEASE) if self._room.is_enough() else []
        if pairs:
            self._compare(pairs)
        else:
            self._forge.close()
            self._stopping.wait(_LOOK_EACH_S)

    def _compare(self, claimed: Sequence[Pair]) -> None:
        """Have pairs compared; the one at which the process ended has used up an attempt, those after it none."""
        workshop = self._bench.workshop
        work = self._bench.work_dir / f"versions-{time.monotonic_ns()}"
        work.mkdir(parents=True)
        left = list(claimed)
        try:
            pairs = self._files(left, work)
            left = pairs
            self._forge.run(work, _PLAN, _Unleased(self._stopping))
            for number, pair in enumerate(pairs):
                answer = load_answer(work, number)
                if answer is None:
                    left = left[1:]
                    break
                class_version(
                    workshop.records, workshop.clock, pair.version, pair.current, answer.content, answer.reason
                )
                left = left[1:]
        finally:
            shutil.rmtree(work, ignore_errors=True)
            put_back(workshop.records, workshop.clock, [pair.version for pair in left])

    def _files(self, claimed: Sequence[Pair], work: Path) -> list[Pair]:
        """The pairs whose files are there and whole, asked about; what is damaged cannot be compared by anybody."""
        workshop, objects = self._bench.workshop, self._bench.objects
        asked, files = [], []
        for pair in claimed:
            try:
                files.append((objects.path(pair.current.digest), objects.path(pair.version.instance.digest)))
                asked.append(pair)
            except Broken as error:
                class_version(workshop.records, workshop.clock, pair.version, pair.current, "unknown", error.detail)
        save_pairs(work, files)
        return asked


class _Unleased:
    """What is compared needs no lease to be prolonged: it is over only when the worker is told to stop."""

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping

    def note(self, fraction: float, text: str) -> None:
        """How far it is, which nobody asks."""

    @property
    def is_over(self) -> bool:
        """Whether the process is to be ended."""
        return self._stopping.is_set()
