"""The cpu lane's process, from outside: a warm parent that forks one confined child per stage."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from workers.consume.guard import Guard
from workers.consume.lease import AbandonedError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.domain.pipeline import StagePlan
    from workers.consume.guard import Message

_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
_LOOK_S: Final = 0.1
_GRACE_S: Final = 3.0


class Watch(Protocol):
    """Who asked for the work: hears how far it is, and may not want it any more."""

    def note(self, fraction: float, text: str) -> None:
        """How far it is."""

    @property
    def is_over(self) -> bool:
        """Whether the process is to be ended."""


class Forge:
    """The warm parent of the stage's children (`python -m workers.perform`), started again when it is gone."""

    def __init__(self, performer: str = "workers.perform") -> None:
        self._performer = performer
        self._guard: Guard | None = None
        self._messages: SimpleQueue[Message] = SimpleQueue()

    def start(self) -> Guard:
        """The warm parent; started, unless it runs, with all a stage needs imported. Raises Transient STAGE_DIED."""
        if self._guard is None or not self._guard.is_alive:
            self.close()
            messages: SimpleQueue[Message] = SimpleQueue()
            guard = Guard(self._performer, [], _ENVIRONMENT)
            guard.start(messages.put, lambda: messages.put({"gone": True}))
            self._guard, self._messages = guard, messages
        return self._guard

    @property
    def pid(self) -> int:
        """The process in charge now, 0 when there is none."""
        return 0 if self._guard is None else self._guard.pid

    def run(self, work: Path, plan: StagePlan, lease: Watch) -> str:
        """Run the stage of a work folder; says how it ended: done, died or timeout.

        Raises AbandonedError, once the child is ended, when the lease is over. Should the warm parent itself
        not keep the time, it is ended too.
        """
        guard = self.start()
        guard.tell({"work": str(work), "memory_mb": plan.memory_mb, "timeout_s": plan.timeout_s})
        deadline = time.monotonic() + plan.timeout_s + _GRACE_S
        while time.monotonic() < deadline:
            with suppress(Empty):
                message = self._messages.get(timeout=_LOOK_S)
                if "gone" in message:
                    self.close()
                    return "died"
                if "ended" in message:
                    return str(message["ended"])
                lease.note(message["progress"], message["text"])
            if lease.is_over:
                self._stop_child(guard)
                raise AbandonedError
        self.close()
        return "timeout"

    def _stop_child(self, guard: Guard) -> None:
        guard.tell({"stop": True})
        with suppress(Empty):
            while True:
                message = self._messages.get(timeout=_GRACE_S)
                if "ended" in message:
                    return
                if "gone" in message:
                    break
        self.close()

    def close(self) -> None:
        """End it, and with it any child."""
        if self._guard is not None:
            self._guard.end()
            self._guard = None
