"""Workers are told of stages that are ready. The stage row is the outbox: it says when its workers were told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Transient
from orchestrator.domain.queue import Queue

if TYPE_CHECKING:
    from orchestrator.ports import Announcer, Clock, Records

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Crier:
    """What announcing needs. A stage nobody came for is announced again after `again_s`."""

    records: Records
    clock: Clock
    announcer: Announcer
    again_s: float


def announce_ready(crier: Crier) -> int:
    """Announce each stage that is ready and was not announced lately; returns how many the broker confirmed.

    A stage is marked only after the broker's confirmation: at worst its workers are told twice.
    While the broker does not answer nothing is marked, and workers find their work by looking.
    """
    now = crier.clock.now()
    with crier.records.reading() as unit:
        waiting = unit.jobs.unannounced(now, now - timedelta(seconds=crier.again_s), _BATCH)
    told = []
    for stage in waiting:
        try:
            crier.announcer.announce(Queue(stage.lane, stage.priority), stage.id)
        except Transient:
            break
        told.append(stage.id)
    if told:
        with crier.records.transaction() as unit:
            unit.jobs.mark_announced(told, now)
    return len(told)
