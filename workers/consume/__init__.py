"""A worker: leases stages, has them run in confined processes, and hands in what those leave.

Holds the records and the objects; never loads a pipeline, nor reads DICOM.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault
from orchestrator.domain.worker import Worker
from orchestrator.service.staffing import REPORTS_EVERY_S, Staff, complain, leave, report
from orchestrator.store.spool import free_bytes
from workers.consume.builds import Builds
from workers.consume.comparing import VersionDesk
from workers.consume.desk import Call, Office, open_desks
from workers.consume.workplace import Room, workplace
from workers.device import find_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from orchestrator.domain.queue import Queue
    from orchestrator.ports import Bell, Objects
    from orchestrator.service.working import Workshop
    from orchestrator.site import Catalog

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

    Looks for stages whenever the bell rings and each second, without a bell five times a second. Says each while
    that it is there. With the cpu lane it also compares other versions of known objects. May be called in any thread.
    """
    call, gpus = Call(), find_gpus()
    builds = frozenset(manifest.package_digest for manifest in bench.catalog.manifests().values())
    worker = Worker(bench.owner, tuple(bench.queues), bool(gpus), builds)
    presence = _Presence(Staff(bench.workshop.records, bench.workshop.clock), worker)
    spaces: dict[str, Callable[[], int]] = {
        "work": partial(free_bytes, bench.work_dir),
        "objects": bench.objects.free_bytes,
    }
    with workplace(bench.work_dir):
        office = Office(bench, Builds(bench.catalog), Room(spaces, presence.complain), call, stopping)
        work = [desk.work for desk in open_desks(office, worker, gpus)]
        if worker.serves("cpu"):
            work.append(VersionDesk(office).work)
        threads = [Thread(target=at_desk, name=at_desk.__qualname__) for at_desk in work]
        for thread in threads:
            thread.start()
        while not stopping.is_set():
            presence.keep()
            _wait(bell, stopping)
            call.ring()
        call.ring()
        for thread in threads:
            thread.join()
        presence.end()


class _Presence:
    """Says now and then that the worker is there; a database that does not answer hears it later."""

    def __init__(self, staff: Staff, worker: Worker) -> None:
        self._staff = staff
        self._worker = worker
        self._next_s = 0.0

    def keep(self) -> None:
        """Say it when it is time to."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + REPORTS_EVERY_S
            with _whatever_the_records_say():
                report(self._staff, self._worker)

    def complain(self, detail: str) -> None:
        """Have an operator know that there is no room here."""
        _log.error("%s", detail)
        with _whatever_the_records_say():
            complain(self._staff, self._worker, Fault.STORAGE_LOW, detail)

    def end(self) -> None:
        """Say that it ends."""
        with _whatever_the_records_say():
            leave(self._staff, self._worker)


@contextmanager
def _whatever_the_records_say() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - being known is of use to operators, and to no stage
        _log.warning("the records were not told: %s", type(error).__name__)


def _wait(bell: Bell | None, stopping: Event) -> None:
    if bell is None:
        stopping.wait(_PAUSE_WITHOUT_BELL_S)
        return
    try:
        bell.wait(_WAIT_S)
    except Exception as error:  # noqa: BLE001 - a bell out of order makes the worker slow, not deaf
        _log.error("bell: %s", type(error).__name__)
        stopping.wait(_PAUSE_AFTER_FAULT_S)
