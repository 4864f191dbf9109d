"""Just before an output is sent it is asked whether it may still go, and whose images it was made from (I5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import SUPERSEDED_REASON
from orchestrator.domain.identity import contradiction
from orchestrator.service.depending import source_of
from orchestrator.service.settling import Parcel, hold, in_parts, is_on_hold, is_unchanged, keep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.domain.delivery import Delivery, DeliveryState
    from orchestrator.domain.job import Job, JobInput, JobState
    from orchestrator.domain.study import Study
    from orchestrator.domain.version import Version
    from orchestrator.ports import Clock, Records, Unit
    from orchestrator.service.leading import Office

_ENDED: Final[Mapping[JobState, tuple[DeliveryState, str]]] = {
    "superseded": ("superseded", SUPERSEDED_REASON),
    "cancelled": ("withdrawn", "its job was cancelled"),
    "withdrawn": ("withdrawn", "its result was withdrawn"),
}


@dataclass(frozen=True, slots=True)
class _Stop:
    """Why nothing of a job may be sent, and what becomes of its deliveries."""

    state: DeliveryState
    reason: str
    code: str = ""


def mark(records: Records, clock: Clock, office: Office | None, parcels: Sequence[Parcel]) -> list[Parcel]:
    """Note as being sent what may go and nobody has changed since it was read; gives those parcels, in their order.

    None where the office is no longer ours: what was noted already is for the next holder, who asks for it first.
    """
    marked: dict[str, Parcel] = {}
    for part in in_parts(parcels):
        with records.transaction() as unit:
            present = hold(unit, part)
            if office is not None and not office.is_held(unit):
                return []
            stops = _stops(unit, present)
            changed = [
                Parcel(_next(parcel.delivery, stops[parcel.delivery.job_id]), parcel.output)
                for parcel in part
                if is_unchanged(parcel, present)
            ]
            keep(unit, present, [parcel.delivery for parcel in changed], clock.now())
        going = (parcel for parcel in changed if stops[parcel.delivery.job_id] is None)
        marked.update({parcel.delivery.id: parcel for parcel in going})
    return [marked[parcel.delivery.id] for parcel in parcels if parcel.delivery.id in marked]


def _next(delivery: Delivery, stop: _Stop | None) -> Delivery:
    return delivery.sending() if stop is None else delivery.stopped(stop.state, code=stop.code, reason=stop.reason)


def _stops(unit: Unit, present: Mapping[str, Sequence[Delivery]]) -> dict[str, _Stop | None]:
    """By job, each study read once."""

    @cache
    def received(study_uid: str) -> tuple[Study | None, list[Version]]:
        return unit.studies.get(study_uid), unit.versions.of_study(study_uid)

    stops = {}
    for job_id, deliveries in present.items():
        job = unit.jobs.get(job_id)
        assert job is not None, "a delivery's job is kept by a foreign key"
        ended = _Stop(*_ENDED[job.state]) if job.state in _ENDED else None
        doubtful = ended or _doubtful(job, source_of(unit, job), *received(job.study_uid))
        stops[job_id] = doubtful or _on_hold(job, deliveries)
    return stops


def _doubtful(job: Job, source: JobInput, study: Study | None, versions: Sequence[Version]) -> _Stop | None:
    doubt = contradiction(job, source, study, versions)
    return _Stop("held", doubt.reason, doubt.fault.code) if doubt else None


def _on_hold(job: Job, deliveries: Sequence[Delivery]) -> _Stop | None:
    return _Stop("held", job.reason, job.code) if is_on_hold(job, deliveries) else None
