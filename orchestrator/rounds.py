"""Timed rounds: route what is ready, give up what died too often, deliver what is due."""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from orchestrator.service.delivering import deliver_due
from orchestrator.service.routing import route_due
from orchestrator.service.working import fail_exhausted

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.service.delivering import Dispatch
    from orchestrator.service.routing import Router
    from orchestrator.service.working import Workshop

_PAUSE_S: Final = 0.1
_PAUSE_AFTER_FAULT_S: Final = 2.0
_log = logging.getLogger("tendon.rounds")


class Rounds:
    """Two threads, so that a slow destination never keeps a study from being routed."""

    def __init__(self, router: Router, workshop: Workshop, dispatch: Dispatch) -> None:
        self._stopping = Event()
        self._threads = [
            Thread(target=self._repeat, args=(lambda: _route(router, workshop),), name="rounds-routing"),
            Thread(target=self._repeat, args=(lambda: deliver_due(dispatch),), name="rounds-delivering"),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the step in hand."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def _repeat(self, step: Callable[[], object]) -> None:
        while not self._stopping.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001 - a round that ends takes the service down with it
                _log.error("round failed: %s", type(error).__name__, exc_info=_without_values(error))  # noqa: TRY400
                self._stopping.wait(_PAUSE_AFTER_FAULT_S)
            self._stopping.wait(_PAUSE_S)


def _route(router: Router, workshop: Workshop) -> None:
    route_due(router)
    fail_exhausted(workshop)


def _without_values(error: Exception) -> Exception:
    """The error for the log: its kind and where, but not its text, which may quote records."""
    return type("Hidden" + type(error).__name__, (Exception,), {})().with_traceback(error.__traceback__)
