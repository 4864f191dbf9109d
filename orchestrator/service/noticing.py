"""What happens is to be told to those whom the site in force names for it: in the transaction in which it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.domain.notice import Event, Happening

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from orchestrator.domain.alarm import Alarm
    from orchestrator.domain.delivery import Delivery
    from orchestrator.domain.job import Job, JobState
    from orchestrator.domain.site import SiteFile
    from orchestrator.ports import Unit

_OF_JOBS: Final[Mapping[JobState, Event]] = {
    "done": "job.done",
    "failed": "job.failed",
    "unfit": "job.unfit",
    "held": "job.held",
}


def tell(unit: Unit, happening: Happening) -> None:
    """Have every receiver told that the site in force names for the event."""
    site = unit.site.current()
    for notice in site.notices if site else ():
        if happening.event in notice.events:
            unit.notices.add(notice.name, happening)


def add_job(unit: Unit, job: Job) -> None:
    """Keep a new job."""
    unit.jobs.add(job)
    _tell_of_job(unit, job)


def save_job(unit: Unit, job: Job) -> None:
    """Keep a job's new state."""
    before = unit.jobs.get(job.id) if job.state in _OF_JOBS else None
    unit.jobs.save(job)
    if before is not None and before.state != job.state:
        _tell_of_job(unit, job)


def _tell_of_job(unit: Unit, job: Job) -> None:
    event = _OF_JOBS.get(job.state)
    if event is not None:
        at = job.changed_at or job.created_at
        tell(unit, _of_job(job, event, at, state=job.state, code=job.code, reason=job.reason))


def tell_of_quarantine(unit: Unit, deliveries: Iterable[Delivery], now: datetime) -> None:
    """Tell of these deliveries, once for all of a job that went wrong in one way at one destination."""
    stuck = {(d.job_id, d.destination, d.code): d for d in deliveries if d.state == "quarantined"}
    for delivery in stuck.values():
        job = unit.jobs.get(delivery.job_id)
        assert job is not None, "a delivery's job is kept by a foreign key"
        given = {"state": delivery.state, "code": delivery.code, "reason": delivery.reason}
        tell(unit, _of_job(job, "delivery.quarantined", now, destination=delivery.destination, **given))


def _of_job(job: Job, event: Event, at: datetime, **given: str) -> Happening:
    return Happening(event=event, at=at, study_uid=job.study_uid, job_id=job.id, pipeline=job.pipeline, **given)


def sound_alarm(unit: Unit, alarm: Alarm) -> None:
    """Note what an operator must act on; one that is open already is counted up and told no more."""
    if unit.alarms.sound(alarm):
        reason = f"{alarm.subject}: {alarm.detail}"
        tell(unit, Happening(event="alarm.raised", at=alarm.last_at, state="open", code=alarm.code, reason=reason))


def tell_of_rules(unit: Unit, site: SiteFile) -> None:
    """Tell that this version is in force now; a draft is not."""
    if site.activated_at is not None:
        reason = f"version {site.version}, switched on by {site.activated_by}"
        tell(unit, Happening(event="rules.activated", at=site.activated_at, state="in force", reason=reason))
