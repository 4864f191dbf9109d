"""Where stages are taken in hand: one desk for the cpu lane, one per GPU for the gpu lane."""

from __future__ import annotations

import logging
import shutil
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Broken, Fault, TendonError, Transient, is_full
from orchestrator.domain.queue import LANES, is_fair_turn
from orchestrator.service.working import claim_stage, fail_stage
from workers.consume.engine import Engine
from workers.consume.forge import Forge
from workers.consume.handover import hand_in, task_of
from workers.consume.lease import AbandonedError, Lease, insist
from workers.perform.task import load_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from threading import Event

    from orchestrator.domain.pipeline import StagePlan
    from orchestrator.domain.queue import Lane
    from orchestrator.domain.worker import Worker
    from orchestrator.ports import ClaimedStage
    from workers.consume import Bench
    from workers.consume.builds import Builds
    from workers.consume.engine import Place
    from workers.consume.workplace import Room
    from workers.device import Gpu

    Runs = Callable[[Path, StagePlan, Lease], str]

_LOOK_EACH_S: Final = 1.0
_LEAST_PAUSE_S: Final = 0.05
_PAUSE_AFTER_FAULT_S: Final = 2.0
_COURTESY_S: Final = 0.1
"""How long a desk that computes leaves a stage to those that do not."""
_LOSSES_IN_A_ROW: Final = 3
_REST_S: Final = 60.0
_STAGES_AT_ONCE: Final = 3
"""One is handed in, one computes, one is read."""
_log = logging.getLogger("tendon.worker")


class Call:
    """Calls all desks at once: there may be something to do."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = 0

    def ring(self) -> None:
        """Wake who waits."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    @property
    def count(self) -> int:
        """How often it rang."""
        return self._count

    def wait(self, heard: int, timeout_s: float) -> None:
        """Until it has rung more often than was heard."""
        with self._changed:
            self._changed.wait_for(lambda: self._count != heard, timeout_s)


@dataclass(frozen=True, slots=True)
class Office:
    """What all desks of a worker share."""

    bench: Bench
    builds: Builds
    room: Room
    call: Call
    stopping: Event


def repeat(step: Callable[[], None], stopping: Event) -> None:
    """Do it again and again until told to stop, whatever happens to one stage."""
    while not stopping.is_set():
        try:
            step()
        except AbandonedError:
            continue
        except Exception as error:  # noqa: BLE001 - the worker must outlive any fault of one stage
            _log.error("worker: %s", type(error).__name__)
            stopping.wait(_PAUSE_AFTER_FAULT_S)


class Desk(ABC):
    """Claims the stages that its worker can run and sees each to its end."""

    def __init__(self, office: Office, worker: Worker) -> None:
        self._bench, self._builds = office.bench, office.builds
        self._call, self._stopping = office.call, office.stopping
        self._room = office.room
        self._worker = worker
        self._claims = 0

    @abstractmethod
    def work(self) -> None:
        """Work until told to stop."""

    def _next(self, before_each: Callable[[], None] = lambda: None) -> ClaimedStage:
        """The next stage, waited for. Raises AbandonedError when told to stop."""
        while not self._stopping.is_set():
            heard, begun = self._call.count, time.monotonic()
            before_each()
            if self._room.is_enough():
                claimed = claim_stage(self._bench.workshop, self._worker, oldest_first=is_fair_turn(self._claims))
                if claimed is not None:
                    self._claims += 1
                    return claimed
            self._call.wait(heard, _LOOK_EACH_S)
            self._stopping.wait(max(begun + _LEAST_PAUSE_S - time.monotonic(), 0.0))
        raise AbandonedError

    def _see_through(self, claimed: ClaimedStage, run: Runs) -> None:
        """Run a stage and hand in how it ended, unless it is not ours to end any more."""
        work = self._bench.work_dir / f"{claimed.stage.id}-{claimed.stage.attempt}"
        try:
            with Lease(self._bench.workshop, claimed.stage, self._stopping) as lease:
                try:
                    self._run(claimed, work, run, lease)
                except (TendonError, OSError) as error:
                    reason = _reason(error)
                    insist(lambda: fail_stage(self._bench.workshop, claimed, reason), self._stopping)
        except AbandonedError:
            _log.warning("stage %s was taken over or cancelled, or is left", claimed.stage.id)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _run(self, claimed: ClaimedStage, work: Path, run: Runs, lease: Lease) -> None:
        manifest = self._builds.manifest(claimed.job)
        plan = manifest.stage(claimed.stage.name)
        work.mkdir(parents=True)
        insist(lambda: task_of(self._bench, claimed, manifest, plan), self._stopping).save(work)
        lease.check()
        ended = run(work, plan, lease)
        lease.check()
        if ended == "timeout":
            raise Transient(Fault.STAGE_TIMEOUT, f"stage {plan.name} ran longer than {plan.timeout_s:g} s")
        if ended == "memory":
            raise Broken(Fault.MEMORY_LIMIT)
        error = load_error(work)
        if error is not None:
            raise error
        if ended == "died":
            raise Transient(Fault.STAGE_DIED)
        hand_in(self._bench, claimed, manifest, work, self._stopping)


def _reason(error: TendonError | OSError) -> TendonError:
    """Why a stage has no result, where its work folder may be to blame."""
    if isinstance(error, TendonError):
        return error
    if is_full(error):
        return Transient(Fault.STORAGE_LOW)
    return Transient(Fault.STAGE_DIED, f"the worker could not read or write: {error.strerror}")


class CpuDesk(Desk):
    """One stage at a time, each in a child of its own."""

    def work(self) -> None:
        """Work until told to stop."""
        forge = Forge(self._bench.performer)

        def step() -> None:
            forge.start()
            self._see_through(self._next(), forge.run)

        try:
            repeat(step, self._stopping)
        finally:
            forge.close()


class GpuDesk(Desk):
    """The stages of one GPU: while one computes, the next is leased and read, and the one before handed in."""

    def __init__(self, office: Office, worker: Worker, gpu: Gpu | None) -> None:
        super().__init__(office, worker)
        self._gpu = gpu
        self._engine = Engine(gpu)
        self._front = Lock()
        self._losses = 0
        self._closed_until = 0.0

    def work(self) -> None:
        """Work until told to stop."""
        others = [
            Thread(target=repeat, args=(self._one, self._stopping), name="gpu") for _ in range(_STAGES_AT_ONCE - 1)
        ]
        for thread in others:
            thread.start()
        try:
            repeat(self._one, self._stopping)
        finally:
            for thread in others:
                thread.join()
            self._engine.close()

    def _one(self) -> None:
        """One stage; while one thread waits for the next, the others wait behind it."""
        with ExitStack() as held:
            with self._front:
                self._stopping.wait(max(self._closed_until - time.monotonic(), 0.0))
                if self._gpu is not None:
                    self._engine.start()
                place = held.enter_context(self._engine.place(self._stopping))
                claimed = self._next(self._let_others_first)
            self._see_through(claimed, partial(self._run_at, place))

    def _let_others_first(self) -> None:
        if self._engine.is_computing:
            self._stopping.wait(_COURTESY_S)

    def _run_at(self, place: Place, work: Path, plan: StagePlan, lease: Lease) -> str:
        """Run it, and have an eye on the GPU: one that fails again and again rests, instead of failing every job."""
        ended = self._engine.run(place, work, plan, lease)
        if ended == "done":
            self._losses = 0
        elif ended == "lost":
            self._losses += 1
            if self._losses >= _LOSSES_IN_A_ROW:
                self._closed_until = time.monotonic() + _REST_S
                name = "the processor" if self._gpu is None else f"GPU {self._gpu.index} ({self._gpu.name})"
                detail = f"{name} failed {self._losses} times in a row"
                _log.error("%s [%s]", detail, Fault.DEVICE_LOST.code)
                raise Broken(Fault.DEVICE_LOST, detail)
        return ended


def open_desks(office: Office, worker: Worker, gpus: Sequence[Gpu]) -> list[Desk]:
    """A desk for each lane that the worker serves, and each GPU; where there is no GPU the processor stands in."""
    lanes: dict[Lane, Worker] = {
        lane: replace(worker, queues=tuple(queue for queue in worker.queues if queue.lane == lane)) for lane in LANES
    }
    desks: list[Desk] = [CpuDesk(office, lanes["cpu"])] if lanes["cpu"].queues else []
    if lanes["gpu"].queues:
        if not gpus:
            _log.info("this machine has no GPU: of lane gpu, stages that allow it run on the processor")
        desks += [GpuDesk(office, lanes["gpu"], gpu) for gpu in gpus or (None,)]
    return desks
