"""Timed rounds: route what is ready, tell workers, give up what died too often, deliver, keep the store in bounds.

One process leads by a row lease; the others stand by. Each duty has a thread of its own, so that a slow
destination or PACS never keeps a study from being routed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Transient, where
from orchestrator.service.identifying import settle_question, studies_in_question
from orchestrator.service.routing import due_studies, put_off, route_study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.ports import Bell
    from orchestrator.service.leading import Office
    from orchestrator.service.routing import Router

_PAUSE_S: Final = 0.05
_IDLE_S: Final = 5.0
"""While nothing is under way all that can happen rings a bell, but a bell may be out of order."""
_PAUSE_AFTER_FAULT_S: Final = 1.0
_log = logging.getLogger("tendon.rounds")


@dataclass(frozen=True, slots=True)
class Duty:
    """One thing to do again and again: every `every_s`, and sooner when the bell rings.

    `is_under_way` says whether something is that no bell will tell of, such as a time to come; seldom looked
    otherwise. `finish` waits for what a step may have left at work.
    """

    name: str
    step: Callable[[], object]
    every_s: float
    bell: Bell | None = None
    is_under_way: Callable[[], bool] = lambda: True
    finish: Callable[[], object] = lambda: None


class Rounds:
    """Does its duties while this process holds the office."""

    def __init__(self, office: Office, duties: Sequence[Duty]) -> None:
        self._office = office
        self._duties = duties
        self._stopping = Event()
        lead = Duty("leading", office.take, office.lease_s / 3)
        self._threads = [Thread(target=self._repeat, args=(lead, lambda: True), name="rounds-leading")]
        self._threads += [
            Thread(target=self._repeat, args=(duty, lambda: office.leads), name=f"rounds-{duty.name}")
            for duty in duties
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the steps in hand and leave the office to others."""
        self._stopping.set()
        for duty in self._duties:
            if duty.bell is not None:
                duty.bell.close()
        for thread in self._threads:
            thread.join()
        for duty in self._duties:
            duty.finish()
        try:
            self._office.give_up()
        except Transient:
            _log.warning("the office is left to run out: the database does not answer")

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _repeat(self, duty: Duty, is_ours: Callable[[], bool]) -> None:
        while not self._stopping.is_set():
            try:
                if is_ours():
                    duty.step()
                self._rest(duty, is_ours=is_ours())
            except Transient as error:
                _log.warning("round %s: %s", duty.name, error)
                self._stopping.wait(_PAUSE_AFTER_FAULT_S + duty.every_s)
            except Exception as error:  # noqa: BLE001 - one failed round must not end all later ones
                _log.error("round %s failed: %s", duty.name, where(error))
                self._stopping.wait(_PAUSE_AFTER_FAULT_S + duty.every_s)

    def _rest(self, duty: Duty, *, is_ours: bool) -> None:
        """Until the duty's time, or its bell; a little in any case, so that a burst is met at once as a whole."""
        self._stopping.wait(min(_PAUSE_S, duty.every_s))
        rest_s = duty.every_s if not is_ours or duty.is_under_way() else max(duty.every_s, _IDLE_S)
        if duty.bell is None:
            self._stopping.wait(rest_s)
        else:
            duty.bell.wait(rest_s)


def route_due(router: Router) -> None:
    """Route every study whose time has come; one that cannot be routed is put off and stops no other."""
    for study_uid in due_studies(router):
        try:
            route_study(router, study_uid)
        except Transient:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            _log.error("study %s cannot be routed: %s", study_uid, where(error))
            put_off(router, study_uid, f"routing failed: {type(error).__name__}")


def settle_questions(router: Router) -> None:
    """See to every study of which something came again; one that cannot be seen to stops no other."""
    for study_uid in studies_in_question(router):
        try:
            settle_question(router, study_uid)
        except Transient:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            _log.error("the identity of study %s cannot be settled: %s", study_uid, where(error))


class Couriers:
    """Visits each peer in a thread of its own, so that none delays another. `errand` says what for in the log."""

    def __init__(
        self, due: Callable[[], Sequence[str]], visit: Callable[[str], object], errand: str = "delivering to"
    ) -> None:
        self._due = due
        self._visit = visit
        self._errand = errand
        self._at_work: dict[str, Thread] = {}

    def send_out(self) -> None:
        """Start a courier for each peer that something is due for and none on its way to."""
        self._at_work = {name: thread for name, thread in self._at_work.items() if thread.is_alive()}
        for name in self._due():
            if name not in self._at_work:
                self._at_work[name] = Thread(target=self._go, args=(name,), name=f"courier-{name}")
                self._at_work[name].start()

    def wait(self) -> None:
        """Until every courier is back."""
        for thread in self._at_work.values():
            thread.join()

    def _go(self, name: str) -> None:
        try:
            self._visit(name)
        except Transient as error:
            _log.warning("%s %s: %s", self._errand, name, error)
        except Exception as error:  # noqa: BLE001 - what is due stays due and is tried in the next round
            _log.error("%s %s failed: %s", self._errand, name, where(error))
