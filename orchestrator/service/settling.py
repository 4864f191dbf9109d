"""Deliveries change only as they were read, and their jobs with them (I2).

Whoever changes them holds their studies first: two destinations that end one job at the same time lose no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import job_state
from orchestrator.domain.errors import Fault
from orchestrator.domain.route import FORWARD
from orchestrator.service.noticing import save_job, tell_of_quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job
    from orchestrator.ports import Clock, Records, Unit

STUDIES_AT_ONCE: Final = 4
"""How many studies one transaction holds: others, who receive or route them, wait meanwhile."""

_SETTLED_BY_DELIVERIES: Final = ("delivering", "held", "failed", "done")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery as it was read, with what it carries."""

    delivery: Delivery
    output: Output


def in_parts(parcels: Iterable[Parcel]) -> Iterator[list[Parcel]]:
    """The parcels in their order, study by study, a few studies at a time."""
    by_study: dict[str, list[Parcel]] = {}
    for parcel in parcels:
        by_study.setdefault(parcel.output.study_uid, []).append(parcel)
    studies = iter(by_study.values())
    while part := list(islice(studies, STUDIES_AT_ONCE)):
        yield [parcel for of_study in part for parcel in of_study]


def hold(unit: Unit, parcels: Iterable[Parcel]) -> dict[str, list[Delivery]]:
    """Hold the parcels' studies; gives the deliveries of each of their jobs as they are now."""
    kept = list(parcels)
    unit.studies.hold(*{parcel.output.study_uid for parcel in kept})
    return {job_id: unit.deliveries.of_job(job_id) for job_id in {parcel.delivery.job_id for parcel in kept}}


def keep(unit: Unit, present: Mapping[str, Sequence[Delivery]], changed: Iterable[Delivery], now: datetime) -> None:
    """Keep new states of deliveries that `hold` gave, and what they make of their jobs."""
    kept = list(changed)
    for delivery in kept:
        unit.deliveries.save(delivery)
    for job_id in sorted({delivery.job_id for delivery in kept}):
        settle_job(unit, job_id, present[job_id], now)
    stuck = {before.id for of_job in present.values() for before in of_job if before.state == "quarantined"}
    tell_of_quarantine(unit, [delivery for delivery in kept if delivery.id not in stuck], now)


def is_unchanged(parcel: Parcel, present: Mapping[str, Sequence[Delivery]]) -> bool:
    """Whether the delivery is as it was read."""
    return any(d.id == parcel.delivery.id and d.fence == parcel.delivery.fence for d in present[parcel.delivery.job_id])


def change(
    records: Records, clock: Clock, parcels: Iterable[Parcel], step: Callable[[Parcel], Delivery]
) -> list[Parcel]:
    """Take a step with each parcel that nobody has changed since it was read; gives those parcels, changed."""
    taken = []
    for part in in_parts(parcels):
        with records.transaction() as unit:
            present = hold(unit, part)
            changed = [Parcel(step(parcel), parcel.output) for parcel in part if is_unchanged(parcel, present)]
            keep(unit, present, [parcel.delivery for parcel in changed], clock.now())
        taken += changed
    return taken


def is_on_hold(job: Job, deliveries: Sequence[Delivery]) -> bool:
    """Whether a job is held as a whole, and not only because some of its deliveries are, each for itself."""
    held = [delivery for delivery in deliveries if delivery.state == "held"]
    only_waits = job_state(deliveries)[0] == "held" and all(
        delivery.waits_for_release or delivery.code == Fault.IDENTITY_CHANGED.code for delivery in held
    )
    return job.state == "held" and not only_waits


def settle_job(unit: Unit, job_id: str, before: Sequence[Delivery], now: datetime) -> None:
    """Give a job the state its deliveries make of it.

    A job that was on hold `before` they changed stays so: who ends the hold gives the job its state.
    """
    job = unit.jobs.get(job_id)
    if job is None or job.state not in _SETTLED_BY_DELIVERIES:
        return
    state, reason = job_state(unit.deliveries.of_job(job_id))
    if is_on_hold(job, before) and state != "held":
        return
    if (state, reason) != (job.state, job.reason):
        save_job(unit, job.changed(state, now, reason=reason))
    if state == "done" and job.pipeline != FORWARD:
        _supersede_older(unit, job, now)


def _supersede_older(unit: Unit, job: Job, now: datetime) -> None:
    """What a person has decided on stays beside the newer result (I9)."""
    for older in unit.jobs.of_study(job.study_uid):
        is_same_subject = (older.pipeline, older.primary.series_uid) == (job.pipeline, job.primary.series_uid)
        is_older = is_same_subject and older.created_at < job.created_at
        if is_older and older.state == "done" and older.review == "unreviewed":
            save_job(unit, older.changed("superseded", now, reason="a newer result was delivered"))
