"""Deliveries that a person had to look at go on their way again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.delivery import job_state, opening, wants
from orchestrator.domain.errors import Fault, Refused
from orchestrator.service.noticing import save_job
from orchestrator.service.settling import settle_job

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.delivery import Delivery, Destination
    from orchestrator.domain.job import Job
    from orchestrator.ports import Clock, Records, Unit

_OVER = ("cancelled", "superseded", "withdrawn")


def resume_delivery(records: Records, clock: Clock, delivery_id: str) -> Delivery:
    """Try a quarantined delivery again, with all patience. Raises Refused as `resume`, or NOT_FOUND."""
    with records.transaction() as unit:
        delivery = unit.deliveries.get(delivery_id)
        job = unit.jobs.get(delivery.job_id) if delivery else None
        if delivery is None or job is None:
            raise Refused(Fault.NOT_FOUND, f"there is no delivery {delivery_id[:80]!r}")
        unit.studies.hold(job.study_uid)
        (resumed,) = resume(unit, job.id, [delivery.id], clock.now())
    return resumed


def resume_destination(records: Records, clock: Clock, name: str) -> int:
    """Try again all that is quarantined on its way to a destination; returns how many. One study at a time.

    If its circuit is open the next try is made at once. Raises Refused UNKNOWN_DESTINATION.
    """
    with records.transaction() as unit:
        _destination(unit, name)
        circuit = unit.deliveries.circuit(name)
        if circuit.open_until is not None:
            unit.deliveries.turn(circuit.retried(clock.now()), circuit)
        quarantined = [d.job_id for d in unit.deliveries.quarantined(name)]
    return sum(_resume_job(records, clock, job_id, name) for job_id in dict.fromkeys(quarantined))


def _resume_job(records: Records, clock: Clock, job_id: str, name: str) -> int:
    with records.transaction() as unit:
        job = unit.jobs.get(job_id)
        assert job is not None, "a delivery's job is kept by a foreign key"
        unit.studies.hold(job.study_uid)
        found = [d.id for d in unit.deliveries.of_job(job_id) if (d.destination, d.state) == (name, "quarantined")]
        return len(resume(unit, job_id, found, clock.now())) if job.state not in _OVER else 0


def resume(unit: Unit, job_id: str, delivery_ids: Iterable[str], now: datetime) -> list[Delivery]:
    """Quarantined deliveries of one job as if opened now, by the destinations in force now; their job with them.

    What may not go without a review is held for it, what a destination does not take is withdrawn. Nothing is kept
    that raises. To be called with the study held. Raises Refused UNKNOWN_DESTINATION, or WRONG_STATE when one is
    not quarantined or its job is over.
    """
    job, before = unit.jobs.get(job_id), unit.deliveries.of_job(job_id)
    assert job is not None, "a delivery's job is kept by a foreign key"
    if job.state in _OVER:
        raise Refused(Fault.WRONG_STATE, f"its job is {job.state}")
    wanted = set(delivery_ids)
    chosen = [delivery for delivery in before if delivery.id in wanted]
    for delivery in chosen:
        if delivery.state != "quarantined":
            raise Refused(Fault.WRONG_STATE, f"the delivery is {delivery.state}, not quarantined")
        _destination(unit, delivery.destination)
    resumed = _opened(unit, job, chosen, now)
    for delivery in resumed:
        unit.deliveries.save(delivery)
    settle_job(unit, job_id, before, now)
    return resumed


def release(unit: Unit, job: Job, code: str, now: datetime) -> int:
    """Deliveries of a job that were held for this reason alone go on as if opened now; returns how many.

    To be called with the study held.
    """
    held = [d for d in unit.deliveries.of_job(job.id) if (d.state, d.code) == ("held", code)]
    if not held or job.state in _OVER:
        return 0
    for delivery in _opened(unit, job, held, now):
        unit.deliveries.save(delivery)
    state, reason = job_state(unit.deliveries.of_job(job.id))
    save_job(unit, job.changed(state, now, reason=reason))
    return len(held)


def _opened(unit: Unit, job: Job, deliveries: Iterable[Delivery], now: datetime) -> list[Delivery]:
    """The deliveries as new; one whose destination is not there any more waits, and is quarantined when it is due."""
    study, site = unit.studies.get(job.study_uid), unit.site.current()
    has_patient = study is not None and all(patient_id for _, patient_id in study.patients)
    destinations = {destination.name: destination for destination in site.destinations} if site else {}
    kinds = {output.id: output.kind for output in unit.deliveries.outputs(job.id)}
    opened = []
    for delivery in deliveries:
        destination, again = destinations.get(delivery.destination), delivery.resumed(now)
        if destination is None:
            opened.append(again)
        elif wants(destination, kinds[delivery.output_id]):
            state, code, reason = opening(
                destination, kinds[delivery.output_id], release=job.release, review=job.review, has_patient=has_patient
            )
            opened.append(replace(again, state=state, code=code, reason=reason))
        else:
            opened.append(delivery.stopped("withdrawn", reason="the destination takes no such object"))
    return opened


def _destination(unit: Unit, name: str) -> Destination:
    site = unit.site.current()
    found = next((d for d in site.destinations if d.name == name), None) if site else None
    if found is None:
        raise Refused(Fault.UNKNOWN_DESTINATION, f"there is no destination named {name}")
    return found
