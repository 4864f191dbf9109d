"""The gpu lane's process, from outside: one runner per GPU, replaced whenever it is of no use any more."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Lock
from typing import TYPE_CHECKING, Final

from workers.consume.guard import Guard
from workers.consume.lease import AbandonedError
from workers.device import host_memory_bytes
from workers.perform.computing import CudaDevice, HostDevice, resident_bytes
from workers.perform.task import STAGE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from orchestrator.domain.pipeline import StagePlan
    from workers.consume.guard import Message
    from workers.consume.lease import Lease
    from workers.device import Gpu

_LOOK_S: Final = 0.1
_BUSY: Final = ("reading", "computing", "writing")
_PAST_COMPUTING: Final = ("writing", "ended")
_SHARE_FOR_MODELS: Final = 0.5
"""The other half of the device's memory is for what stages compute."""


@dataclass(eq=False)
class Place:
    """One stage's place at the engine, from before it is leased until it is handed in."""

    phase: str = "waiting"
    key: str = ""
    work: str = ""
    timeout_s: float = 0.0
    memory_bytes: int = 0
    is_suspect: bool = False
    ended: str = ""
    progress: tuple[float, str] = (0.0, "")
    spent_s: float = 0.0
    since: float = 0.0
    resident_before: int = 0

    def enter(self, phase: str, resident: int) -> None:
        """Go on to another phase; the runner has so much memory now."""
        now = time.monotonic()
        if self.phase in _BUSY:
            self.spent_s += now - self.since
        self.phase, self.since, self.resident_before = phase, now, resident

    def begin_again(self) -> None:
        """As before it was given to a runner."""
        self.phase, self.spent_s, self.ended = "waiting", 0.0, ""

    @property
    def is_overdue(self) -> bool:
        """Whether it was read, computed and written for longer than it may; waiting for its turn does not count."""
        return self.phase in _BUSY and self.spent_s + time.monotonic() - self.since > self.timeout_s


@dataclass(eq=False)
class _Runner:
    """One life of the process, and the places it was given."""

    guard: Guard
    places: dict[str, Place] = field(default_factory=dict)
    is_gone: bool = False

    @property
    def pid(self) -> int:
        """The process that runs pipelines."""
        return int(self.guard.ready["ready"])


class Engine:
    """The runner of one GPU (`python -m workers.perform.runner`), or of the processor where there is none.

    Stages are run by several threads, one a stage; at most one of them is ahead of the one that computes. When the
    runner dies, the stage that was at work in it is to blame and costs an attempt; the others run in the next one. Of
    several that were at work nobody knows which it was: each runs alone then.
    """

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu
        self._changed = Condition()
        self._starting = Lock()
        self._places: list[Place] = []
        self._runner: _Runner | None = None

    # places

    @contextmanager
    def place(self, stopping: Event) -> Iterator[Place]:
        """A place, once there is room: for one stage, and for the next while that one computes.

        Raises AbandonedError when told to stop meanwhile.
        """
        place = Place()
        with self._changed:
            while not self._has_room():
                if stopping.is_set():
                    raise AbandonedError
                self._changed.wait(_LOOK_S)
            self._places.append(place)
        try:
            yield place
        finally:
            with self._changed:
                self._places.remove(place)
                self._changed.notify_all()

    def _has_room(self) -> bool:
        ahead = [place.phase for place in self._places if place.phase not in _PAST_COMPUTING]
        return ahead in ([], ["computing"])

    @property
    def is_computing(self) -> bool:
        """Whether a stage computes at this moment."""
        with self._changed:
            return any(place.phase == "computing" for place in self._places)

    # stages

    def run(self, place: Place, work: Path, plan: StagePlan, lease: Lease) -> str:
        """Run the stage of a work folder at its place; says how it ended: done, died, timeout or memory.

        Raises AbandonedError, once nothing of it goes on any more, when the lease is over.
        """
        place.key, place.work = work.name, str(work)
        place.timeout_s, place.memory_bytes = plan.timeout_s, plan.memory_mb << 20
        while True:
            runner = self._enter(place, lease)
            ended = self._follow(runner, place, lease)
            if ended:
                return ended
            place.begin_again()
            for left in work.iterdir():
                if left.name != STAGE_FILE:
                    left.unlink()

    def _enter(self, place: Place, lease: Lease) -> _Runner:
        """Give the stage to the runner as soon as that may be, started before if there is none."""
        while True:
            lease.check()
            runner = self._ready_runner()
            with self._changed:
                if not runner.is_gone and self._may_enter(place, runner):
                    runner.places[place.key] = place
                    runner.guard.tell({"key": place.key, "work": place.work})
                    return runner
                self._changed.wait(_LOOK_S)

    @staticmethod
    def _may_enter(place: Place, runner: _Runner) -> bool:
        """Those that may have killed a runner are alone in theirs."""
        inside = runner.places.values()
        return not inside or not (place.is_suspect or any(other.is_suspect for other in inside))

    def _follow(self, runner: _Runner, place: Place, lease: Lease) -> str:
        """Until the stage has ended; empty when its runner is gone by another's fault."""
        while True:
            with self._changed:
                if not (place.ended or runner.is_gone):
                    self._changed.wait(_LOOK_S)
                if place.ended or runner.is_gone:
                    return place.ended
                late = next((other for other in runner.places.values() if other.is_overdue), None)
            lease.note(*place.progress)
            if lease.is_over:
                self._abandon(runner, place)
                raise AbandonedError
            if late is not None:
                self._condemn(runner, late, "timeout")
            elif self._takes_too_much(runner, place):
                self._condemn(runner, place, "memory")

    @staticmethod
    def _takes_too_much(runner: _Runner, place: Place) -> bool:
        """Whether the runner grew by more than this stage, and whoever else is in it, may take."""
        if place.phase != "computing":
            return False
        allowed = sum(other.memory_bytes for other in list(runner.places.values()))
        return resident_bytes(runner.pid) > place.resident_before + allowed

    def _abandon(self, runner: _Runner, place: Place) -> None:
        """Have no more of a stage: with its runner when it computes, else the runner passes it over."""
        with self._changed:
            is_computing = place.phase == "computing"
            if not is_computing:
                place.ended = place.ended or "dropped"
                runner.guard.tell({"drop": place.key})
        if is_computing:
            self._condemn(runner, place, "dropped")

    # the process

    def start(self) -> None:
        """Start the runner ahead of its first stage. Raises Transient STAGE_DIED."""
        self._ready_runner()

    @property
    def pid(self) -> int:
        """The process that runs pipelines now, 0 when there is none."""
        runner = self._runner
        return 0 if runner is None else runner.pid

    def _ready_runner(self) -> _Runner:
        """The runner in charge; a new one where the last is gone, once nothing of that is left."""
        with self._starting:
            if self._runner is not None and not self._runner.is_gone:
                return self._runner
            if self._runner is not None:
                self._runner.guard.end()
            runner = _Runner(self._guard())
            runner.guard.start(partial(self._hear, runner), partial(self._fallen, runner))
            self._runner = runner
            return runner

    def _guard(self) -> Guard:
        device = HostDevice.name if self._gpu is None else CudaDevice.name
        memory_bytes = host_memory_bytes() if self._gpu is None else self._gpu.memory_bytes
        environment = {
            "CUDA_VISIBLE_DEVICES": "" if self._gpu is None else self._gpu.uuid,
            "OPENBLAS_NUM_THREADS": "1",
            "LC_ALL": "C.UTF-8",
        }
        room_bytes = int(memory_bytes * _SHARE_FOR_MODELS)
        return Guard("workers.perform.runner", [device, str(room_bytes)], environment)

    def _fallen(self, runner: _Runner) -> None:
        with self._changed:
            if not runner.is_gone:
                self._blame(runner)
                runner.is_gone = True
            self._changed.notify_all()

    def _hear(self, runner: _Runner, message: Message) -> None:
        with self._changed:
            place = runner.places.get(message["key"])
            if place is None or runner.is_gone:
                return
            if "progress" in message:
                place.progress = (message["progress"], message["text"])
            elif "phase" in message:
                place.enter(message["phase"], resident_bytes(runner.pid))
            else:
                place.enter("ended", 0)
                place.ended = place.ended or message["ended"]
                del runner.places[place.key]
                runner.is_gone = message["ended"] == "lost"
            begun_in_vain = place.ended == "dropped" and place.phase == "computing"
            self._changed.notify_all()
        if begun_in_vain:
            self._condemn(runner, place, "dropped")

    @staticmethod
    def _blame(runner: _Runner) -> None:
        """The runner died by itself: say whose fault it was, or who may have been at fault."""
        left = list(runner.places.values())
        suspects = [place for place in left if place.phase in _BUSY] or left
        if len(suspects) == 1:
            suspects[0].ended = suspects[0].ended or "died"
        for place in suspects:
            place.is_suspect = True

    def _condemn(self, runner: _Runner, place: Place, ended: str) -> None:
        """End the runner because of one stage; the others are innocent."""
        with self._changed:
            if runner.is_gone:
                return
            place.ended = place.ended or ended
            runner.is_gone = True
            self._changed.notify_all()
        runner.guard.end()

    def close(self) -> None:
        """End the runner and whatever is at work in it."""
        with self._starting:
            runner, self._runner = self._runner, None
            if runner is not None:
                with self._changed:
                    runner.is_gone = True
                    self._changed.notify_all()
                runner.guard.end()
