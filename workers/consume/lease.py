"""A stage in hand: its lease is prolonged from a thread of its own until it is handed in, lost, or left."""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, Self, TypeVar

from orchestrator.domain.errors import Fault, Transient
from orchestrator.service.working import renew_lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.job import Stage
    from orchestrator.service.working import Workshop

_BEATS_PER_LEASE: Final = 3
_LAST_BEAT_S: Final = 2.0
_ASK_AGAIN_S: Final = 0.5
_log = logging.getLogger("tendon.worker")

Answer = TypeVar("Answer")


class AbandonedError(Exception):
    """Nothing is to be handed in: the stage belongs to another attempt, its job was cancelled, or the worker stops."""


class Lease:
    """The lease of one stage, as a context: beats from begin to end, whatever the stage's process does.

    Only the answer that the stage is no longer ours ends it; a database that does not answer is asked at the next beat.
    """

    def __init__(self, workshop: Workshop, stage: Stage, stopping: Event) -> None:
        self._workshop = workshop
        self._stage = stage
        self._stopping = stopping
        self._lost = Event()
        self._ended = Event()
        self._progress = (0.0, "")
        self._thread = Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_LAST_BEAT_S)

    def note(self, fraction: float, text: str) -> None:
        """How far the stage is; kept with the next beat."""
        self._progress = (fraction, text)

    @property
    def is_over(self) -> bool:
        """Whether the stage's process is to be ended."""
        return self._lost.is_set() or self._stopping.is_set()

    def check(self) -> None:
        """Raise AbandonedError when it is over."""
        if self.is_over:
            raise AbandonedError

    def _beat(self) -> None:
        while not self._ended.wait(self._workshop.lease_s / _BEATS_PER_LEASE):
            try:
                is_ours = renew_lease(self._workshop, self._stage, *self._progress)
            except Exception as error:  # noqa: BLE001 - whatever keeps one beat from being heard, the next may be
                _log.warning("a lease could not be prolonged: %s", type(error).__name__)
                continue
            if not is_ours:
                self._lost.set()
                return


def insist(ask: Callable[[], Answer], stopping: Event) -> Answer:
    """Ask the records, again while they do not answer. Raises AbandonedError when told to stop meanwhile.

    What was kept although its answer got lost is fenced: the second asking finds the stage at its end.
    """
    while True:
        try:
            return ask()
        except Transient as error:
            if error.fault is not Fault.DATABASE_UNREACHABLE:
                raise
        if stopping.wait(_ASK_AGAIN_S):
            raise AbandonedError
