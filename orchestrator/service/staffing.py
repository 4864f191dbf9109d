"""Workers say that they are there; the rounds sound the alarm for what waits and none of them can run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import OF_THE_SURROUNDINGS, Fault
from orchestrator.domain.queue import Queue
from orchestrator.domain.worker import PLACE, Waiting, place_of
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.worker import Worker
    from orchestrator.ports import Clock, Records, Unit

REPORTS_EVERY_S: Final = 15.0
"""How often a worker says that it is there; three times as long after its last word it counts as gone."""

_PATIENCE: Final = timedelta(seconds=60)
_QUIET: Final = timedelta(minutes=5)
_REMEMBERED: Final = timedelta(days=1)
_LACKS: Final = (Fault.NO_WORKER.code, Fault.NO_DEVICE.code, Fault.OTHER_BUILD.code)
_AT_WORKERS: Final = frozenset(fault.code for fault in OF_THE_SURROUNDINGS)


@dataclass(frozen=True, slots=True)
class Staff:
    """What looking after the workers needs."""

    records: Records
    clock: Clock


def report(staff: Staff, worker: Worker) -> None:
    """Say that a worker is there and what it can run."""
    with staff.records.transaction() as unit:
        unit.workers.report(worker, staff.clock.now())


def leave(staff: Staff, worker: Worker) -> None:
    """Say that a worker ends."""
    with staff.records.transaction() as unit:
        unit.workers.leave(worker.name)


def complain(staff: Staff, worker: Worker, fault: Fault, detail: str) -> None:
    """Sound the alarm on the place where a worker runs; it falls silent when nobody complains for five minutes."""
    now = staff.clock.now()
    with staff.records.transaction() as unit:
        sound_alarm(unit, Alarm(fault.code, place_of(worker.name), detail, now, now))


def present(staff: Staff) -> list[Worker]:
    """The workers that are there now, by name."""
    with staff.records.reading() as unit:
        return _present(unit, staff.clock.now())


def _present(unit: Unit, now: datetime) -> list[Worker]:
    return unit.workers.present(now - timedelta(seconds=3 * REPORTS_EVERY_S))


def lack_of(workers: Sequence[Worker], job: Job, stage: Stage) -> Fault | None:
    """Why a stage that is ready goes to none of these workers; None where one can run it, or it is not ready."""
    if stage.state != "ready":
        return None
    queue = Queue(stage.lane, stage.priority)
    return Waiting(queue, stage.gpu, job.pipeline, job.package_digest, 1, stage.not_before).lacks(workers)


def look_after_workers(staff: Staff) -> list[Alarm]:
    """Sound the alarm for stages that have been ready for a minute and that no worker here can run; gives the alarms.

    What holds no more, and what no worker complains of any more, falls silent.
    """
    now = staff.clock.now()
    with staff.records.reading() as unit:
        unserved = list(_unserved(unit.jobs.ready_since(now - _PATIENCE), _present(unit, now), now))
        over = list(_over(unit.alarms.open(), unserved, now))
    with staff.records.transaction() as unit:
        unit.workers.forget(now - _REMEMBERED)
        for alarm in unserved:
            sound_alarm(unit, alarm)
        for alarm in over:
            unit.alarms.clear(alarm.code, alarm.subject, now)
    return unserved


def _unserved(waiting: Sequence[Waiting], workers: Sequence[Worker], now: datetime) -> Iterator[Alarm]:
    for kind in waiting:
        fault = kind.lacks(workers)
        if fault is not None:
            stages = "1 stage waits" if kind.count == 1 else f"{kind.count} stages wait"
            detail = f"{stages} since {kind.since:%Y-%m-%d %H:%M} UTC: {fault.value.meaning}"
            yield Alarm(fault.code, f"{kind.pipeline} in {kind.queue}", detail, now, now)


def _over(alarms: Sequence[Alarm], unserved: Sequence[Alarm], now: datetime) -> Iterator[Alarm]:
    lacking = {(alarm.code, alarm.subject) for alarm in unserved}
    for alarm in alarms:
        if alarm.subject.startswith(PLACE):
            is_over = alarm.code in _AT_WORKERS and now - alarm.last_at > _QUIET
        else:
            is_over = alarm.code in _LACKS and (alarm.code, alarm.subject) not in lacking
        if is_over:
            yield alarm
