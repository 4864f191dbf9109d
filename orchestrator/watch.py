"""Looks all the time whether the parts of a process work: monitors are answered at once, changes are logged once.

Each part is looked at by a thread of its own, for a disk or a database that hangs answers nobody.
"""

from __future__ import annotations

import logging
import time
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import TendonError, where
from orchestrator.domain.health import Health

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_EVERY_S: Final = 2.0
_PATIENCE_S: Final = 2.0
_UNKNOWN: Final = Health("fail", detail="it was not looked at yet")
_SILENT: Final = Health("fail", detail="it does not answer")

_log = logging.getLogger("tendon.watch")


class _Look:
    """One part, as it was found last."""

    def __init__(self, check: Callable[[], Health]) -> None:
        self._check = check
        self._found = _UNKNOWN
        self._began_s: float | None = None

    @property
    def found(self) -> Health:
        """How it is; who has been asked for too long without an answer does not work."""
        began_s = self._began_s
        is_late = began_s is not None and time.monotonic() - began_s > _PATIENCE_S
        return _SILENT if is_late else self._found

    def repeat(self, stopping: Event) -> None:
        """Look now and again."""
        while not stopping.is_set():
            self._began_s = time.monotonic()
            try:
                self._found = self._check()
            except TendonError as error:
                self._found = Health("fail", error.code, error.detail)
            except Exception as error:  # noqa: BLE001 - whatever it is, the part does not work
                self._found = Health("fail", detail=where(error))
            self._began_s = None
            stopping.wait(_EVERY_S)


class Watch:
    """The parts of a process by name."""

    def __init__(self, checks: Mapping[str, Callable[[], Health]]) -> None:
        self._looks = {name: _Look(check) for name, check in checks.items()}
        self._stopping = Event()
        jobs = [*(look.repeat for look in self._looks.values()), self._tell_changes]
        self._threads = [Thread(target=job, args=(self._stopping,), name="watch", daemon=True) for job in jobs]

    def start(self) -> None:
        """Begin to look."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Look no more; a look that hangs is left to itself."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def states(self) -> dict[str, Health]:
        """How each part is; never waits."""
        return {name: look.found for name, look in self._looks.items()}

    def _tell_changes(self, stopping: Event) -> None:
        told = dict.fromkeys(self._looks, Health("pass"))
        while not stopping.wait(_EVERY_S / 4):
            for name, state in self.states().items():
                if state not in (_UNKNOWN, told[name]):
                    _tell(name, state)
                    told[name] = state


def _tell(name: str, state: Health) -> None:
    level = {"pass": logging.INFO, "warn": logging.WARNING, "fail": logging.ERROR}[state.status]
    what = " ".join(filter(None, (state.status, state.code, state.detail and f"({state.detail})")))
    _log.log(level, "%s: %s", name, what)
