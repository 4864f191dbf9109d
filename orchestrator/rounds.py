"""Timed rounds: route what is ready, give up what died too often, deliver what is due."""

from __future__ import annotations

import logging
import traceback
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from orchestrator.service.delivering import deliver_due
from orchestrator.service.routing import due_studies, put_off, route_study
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
            except Exception as error:  # noqa: BLE001 - one failed round must not end all later ones
                _log.error("round failed: %s", _where(error))
                self._stopping.wait(_PAUSE_AFTER_FAULT_S)
            self._stopping.wait(_PAUSE_S)


def _route(router: Router, workshop: Workshop) -> None:
    for study_uid in due_studies(router):
        try:
            route_study(router, study_uid)
        except Exception as error:  # noqa: BLE001 - one study that cannot be routed must not stop the others
            _log.error("study %s cannot be routed: %s", study_uid, _where(error))
            put_off(router, study_uid, f"routing failed: {type(error).__name__}")
    fail_exhausted(workshop)


def _where(error: Exception) -> str:
    """Kind and place of an error for the log; its text may quote records, so it stays out."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}, line {place.lineno} of {place.filename}"
