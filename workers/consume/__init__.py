"""A worker: leases stages, has them run in confined processes, and hands in what those leave.

Holds the records and the objects; never loads a pipeline, nor reads DICOM.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final

from workers.consume.builds import Builds
from workers.consume.desk import Call, Office, open_desks
from workers.consume.workplace import workplace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from threading import Event

    from orchestrator.domain.queue import Queue
    from orchestrator.ports import Bell, Catalog, Objects
    from orchestrator.service.working import Workshop

_WAIT_S: Final = 1.0
_PAUSE_WITHOUT_BELL_S: Final = 0.2
_PAUSE_AFTER_FAULT_S: Final = 2.0
_log = logging.getLogger("tendon.worker")


@dataclass(frozen=True, slots=True)
class Bench:
    """What a worker needs. `work_dir` is its own and is removed at the end; `owner` names it and no other.

    `performer` is the module that runs the stages of the cpu lane in a process of its own.
    """

    workshop: Workshop
    objects: Objects
    catalog: Catalog
    installation: str
    environment: str
    work_dir: Path
    queues: Sequence[Queue]
    owner: str
    performer: str = "workers.perform"


def work_until(bench: Bench, stopping: Event, bell: Bell | None = None) -> None:
    """Lease and run stages of the bench's queues until told to stop; what is in hand then is left to its lease.

    Looks for stages whenever the bell rings and each second, without a bell five times a second. May be called
    in any thread.
    """
    call = Call()
    with workplace(bench.work_dir):
        desks = open_desks(Office(bench, Builds(bench.catalog), call, stopping))
        threads = [Thread(target=desk.work, name=type(desk).__name__) for desk in desks]
        for thread in threads:
            thread.start()
        while not stopping.is_set():
            _wait(bell, stopping)
            call.ring()
        call.ring()
        for thread in threads:
            thread.join()


def _wait(bell: Bell | None, stopping: Event) -> None:
    if bell is None:
        stopping.wait(_PAUSE_WITHOUT_BELL_S)
        return
    try:
        bell.wait(_WAIT_S)
    except Exception as error:  # noqa: BLE001 - a bell out of order makes the worker slow, not deaf
        _log.error("bell: %s", type(error).__name__)
        stopping.wait(_PAUSE_AFTER_FAULT_S)
