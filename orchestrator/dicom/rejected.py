"""Has rejected associations written from a thread of its own: no peer waits for it, and none fails with it."""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING, Protocol

from orchestrator.domain.errors import TendonError

if TYPE_CHECKING:
    from orchestrator.domain.admission import Caller, NotAdmitted

_PAUSE_S = 1.0
"""Between two writings, so that a flood of peers does not keep the database from the others."""
_AGAIN_S = 5.0
_END_S = 5.0

LOG = logging.getLogger(__name__)


class Rejections(Protocol):
    """Where rejections are counted. Called from many threads at once."""

    def note(self, caller: Caller, refusal: NotAdmitted) -> None:
        """Count it; nothing is waited for."""

    def write(self, *, everything: bool = False) -> float | None:
        """Write what is due; gives in how many seconds more will be, None when nothing waits."""


class RejectionWriter:
    """Writes soon after the first rejection, then when more is due; sleeps while there are none."""

    def __init__(self, rejections: Rejections) -> None:
        self._rejections = rejections
        self._noted = Event()
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._stopping.clear()
        self._thread = Thread(target=self._run, name="rejections", daemon=True)
        self._thread.start()

    def note(self, caller: Caller, refusal: NotAdmitted) -> None:
        """A peer was rejected."""
        self._rejections.note(caller, refusal)
        self._noted.set()

    def stop(self) -> None:
        """Write the rest and end; a database that takes too long is not waited for. Harmless when stopped."""
        if self._thread is None:
            return
        self._stopping.set()
        self._noted.set()
        self._thread.join(_END_S)
        self._thread = None

    def _run(self) -> None:
        due_s: float | None = None
        while not self._stopping.is_set():
            self._noted.wait(due_s)
            self._noted.clear()
            due_s = self._write()
            self._stopping.wait(_PAUSE_S)
        self._write(everything=True)

    def _write(self, *, everything: bool = False) -> float | None:
        try:
            return self._rejections.write(everything=everything)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being written now may be over soon
            what = error.code if isinstance(error, TendonError) else type(error).__name__
            LOG.error("rejected associations could not be written: %s", what)  # noqa: TRY400
            self._stopping.wait(_AGAIN_S)
            return 0.0
