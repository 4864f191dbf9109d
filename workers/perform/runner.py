"""The runner of one GPU: a long-lived confined process in which pipelines and their models stay loaded.

Three things go on at a time: one stage computes, the inputs of the next are read, the results of the one before
are written, so that the GPU waits for none of it. Speaks JSON lines with `consume`: in `{"key", "work"}` or
`{"drop": key}`, out `{"key", "phase"}`, `{"key", "progress", "text"}` and `{"key", "ended": "done" | "dropped" |
"lost"}`. After `lost` the device is of no use any more, nor is this process.
"""

from __future__ import annotations

import json
import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.errors import Fault
from workers.perform.computing import device_of, fault_of
from workers.perform.confine import begin_apart, guarding, has_ended, silence
from workers.perform.inputs import read_inputs, shape_of
from workers.perform.models import Models, Pipelines
from workers.perform.stage import compute, leave, reasons_left_in
from workers.perform.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TextIO

    from orchestrator.domain.result import Results
    from workers.perform.computing import Device

_LOOK_MS: Final = 100
_SWITCH_S: Final = 0.0005
"""How long one thread may keep the others from running Python: reading must not hold up the launch of kernels."""


@dataclass(frozen=True, slots=True)
class _Order:
    key: str
    work: Path


@dataclass(slots=True)
class _Prepared:
    """A stage whose inputs are read."""

    order: _Order
    task: Task
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Computed:
    """A stage whose results are to be written."""

    order: _Order
    task: Task
    shape: tuple[int, ...] | None
    results: Results


class Runner:
    """Takes orders from a stream and answers on a pipe; a stage goes from thread to thread."""

    def __init__(self, orders: TextIO, answers: int, device: Device, room_bytes: int) -> None:
        self._orders = orders
        self._answers = answers
        self._quiet = Lock()
        self._models = Models(device, room_bytes, self._quiet)
        self._pipelines = Pipelines()
        self._dropped: set[str] = set()
        self._to_read: SimpleQueue[_Order] = SimpleQueue()
        self._to_compute: SimpleQueue[_Prepared] = SimpleQueue()
        self._to_write: SimpleQueue[_Computed] = SimpleQueue()

    def serve(self) -> None:
        """Until the orders end. Computing keeps the main thread, as libraries like it."""
        for step in (self._listen, self._read_next, self._write_next):
            Thread(target=_for_ever, args=(step,), name=step.__name__).start()
        self._say(ready=os.getpid())
        _for_ever(self._compute_next)

    def _say(self, **message: Any) -> None:
        os.write(self._answers, (json.dumps(message) + "\n").encode())

    def _listen(self) -> None:
        line = self._orders.readline()
        if not line:
            os._exit(0)
        order = json.loads(line)
        if "drop" in order:
            self._dropped.add(order["drop"])
        else:
            self._to_read.put(_Order(order["key"], Path(order["work"])))

    def _is_dropped(self, order: _Order) -> bool:
        if order.key not in self._dropped:
            return False
        self._say(key=order.key, ended="dropped")
        return True

    def _read_next(self) -> None:
        order = self._to_read.get()
        if self._is_dropped(order):
            return
        with self._quiet, reasons_left_in(order.work) as reason:
            self._say(key=order.key, phase="reading")
            task = Task.load(order.work)
            inputs = read_inputs(task)
        if reason.error is None:
            self._say(key=order.key, phase="read")
            self._to_compute.put(_Prepared(order, task, inputs))
        else:
            self._say(key=order.key, ended="done")

    def _compute_next(self) -> None:
        prepared = self._to_compute.get()
        order, task = prepared.order, prepared.task
        if self._is_dropped(order):
            return
        self._say(key=order.key, phase="computing")
        with reasons_left_in(order.work) as reason:
            shape = shape_of(task, prepared.inputs)
            results = self._compute(prepared)
        if reason.error is None:
            self._say(key=order.key, phase="writing")
            self._to_write.put(_Computed(order, task, shape, results))
        elif reason.error.fault is Fault.DEVICE_LOST:
            self._say(key=order.key, ended="lost")
            os._exit(0)
        else:
            self._say(key=order.key, ended="done")

    def _compute(self, prepared: _Prepared) -> Results:
        """What the stage finds; where the device's memory was not enough, by a second try on an empty one."""

        def report(fraction: float, text: str) -> None:
            self._say(key=prepared.order.key, progress=min(max(fraction, 0.0), 1.0), text=text[:80])

        try:
            return compute(prepared.task, prepared.inputs, report, self._pipelines, self._models)
        except Exception as error:
            if fault_of(error) is not Fault.DEVICE_MEMORY:
                raise
        prepared.inputs.clear()
        self._models.clear()
        untouched = read_inputs(prepared.task)
        return compute(prepared.task, untouched, report, self._pipelines, self._models)

    def _write_next(self) -> None:
        computed = self._to_write.get()
        with reasons_left_in(computed.order.work):
            leave(computed.order.work, computed.task, computed.shape, computed.results)
        self._say(key=computed.order.key, ended="done")


def _for_ever(step: Callable[[], None]) -> NoReturn:
    """Again and again; whatever a step raises ends the process, as a thread missing would only be waited for."""
    try:
        while True:
            step()
    finally:
        os._exit(1)


def main() -> int:
    """Start the runner and watch over it; the arguments are the parent's process id, the device, its room in bytes."""
    parent_pid, device, room_bytes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with guarding(parent_pid):
        guard_pid = os.getpid()
        child = os.fork()
        if child == 0:
            _child(guard_pid, device, room_bytes)
        hung_up = select.poll()
        hung_up.register(0, 0)
        while not has_ended(child) and not hung_up.poll(_LOOK_MS):
            pass
    return 0


def _child(guard_pid: int, device: str, room_bytes: int) -> NoReturn:
    try:
        begin_apart(guard_pid)
        orders, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.dup(1)
        silence()
        sys.setswitchinterval(_SWITCH_S)
        Runner(orders, answers, device_of(device), room_bytes).serve()
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
