"""What staff ask and decide: what happened to a study, which jobs there are, which rules are in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import version_of
from orchestrator.service.noticing import sound_alarm, tell_of_rules

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.audit import AuditEvent
    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.outline import StudyOutline
    from orchestrator.domain.retention import Retirement
    from orchestrator.domain.route import Decision
    from orchestrator.domain.site import SiteContent, SiteFile
    from orchestrator.domain.study import Instance
    from orchestrator.domain.version import Version
    from orchestrator.notices import Notices
    from orchestrator.ports import Association, Clock, Deliveries, Jobs, Records, Studies, Unit
    from orchestrator.versions import Versions


@dataclass(frozen=True, slots=True)
class JobStory:
    """A job with its stages, outputs and deliveries."""

    job: Job
    stages: tuple[Stage, ...]
    outputs: tuple[Output, ...]
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class StudyStory:
    """All that happened to a study: what came, what was decided and why, what was done and sent."""

    study: StudyOutline
    retirement: Retirement | None
    associations: tuple[Association, ...]
    left_out: tuple[Instance, ...]
    versions: tuple[Version, ...]
    decisions: tuple[tuple[int, int, datetime, Decision], ...]
    jobs: tuple[JobStory, ...]


def study_story(records: Records, study_uid: str) -> StudyStory:
    """The story of one study. Raises Refused NOT_FOUND."""
    with records.reading() as unit:
        study = unit.lists.outline(study_uid)
        if study is None:
            raise Refused(Fault.NOT_FOUND, why_no_study(unit.studies.left_out(study_uid), study_uid))
        retirement = unit.keeping.retirement(study_uid)
        return StudyStory(
            study=study,
            retirement=retirement,
            associations=_visits(unit, study, retirement),
            left_out=tuple(unit.studies.left_out(study_uid)),
            versions=tuple(unit.versions.of_study(study_uid)),
            decisions=tuple(unit.jobs.decisions(study_uid)),
            jobs=tuple(_job_story(unit, job) for job in unit.jobs.of_study(study_uid)),
        )


def why_no_study(left_out: list[Instance], study_uid: str) -> str:
    """Why there is no study of this UID that could be routed."""
    if not left_out:
        return f"no study {study_uid} was received"
    reasons = "; ".join(dict.fromkeys(i.header.unreadable for i in left_out if i.header.unreadable))
    return f"{len(left_out)} objects of study {study_uid} were stored, but none can be routed: {reasons}"


def _visits(unit: Unit, study: StudyOutline, retirement: Retirement | None) -> tuple[Association, ...]:
    """The associations its instances came by, those of a retired study too."""
    ids = dict.fromkeys(retirement.association_ids if retirement else ())
    ids |= dict.fromkeys(study.association_ids)
    found = (unit.studies.association(identifier) for identifier in ids)
    return tuple(association for association in found if association is not None)


def newest_jobs(records: Records, limit: int) -> list[JobStory]:
    """The newest jobs, newest first."""
    with records.reading() as unit:
        return [_job_story(unit, job) for job in unit.jobs.page(limit)]


def _job_story(unit: Unit, job: Job) -> JobStory:
    return JobStory(
        job,
        tuple(unit.jobs.stages(job.id)),
        tuple(unit.deliveries.outputs(job.id)),
        tuple(unit.deliveries.of_job(job.id)),
    )


def job_summary(story: JobStory) -> dict[str, Any]:
    """A job as `tendon jobs --json` shows it."""
    return {
        "id": story.job.id,
        "study_uid": story.job.study_uid,
        "pipeline": story.job.pipeline,
        "state": story.job.state,
        "reason": story.job.reason,
        "stages": [{"name": s.name, "state": s.state, "attempt": s.attempt} for s in story.stages],
    }


def replace_site(records: Records, clock: Clock, content: SiteContent, author: str, reason: str = "") -> SiteFile:
    """Put all that staff decide in force as a new version, all or nothing."""
    now = clock.now()
    with records.transaction() as unit:
        site = version_of(content, unit.site.next_version(), author, now, reason, activated_by=author)
        unit.site.add(site)
        tell_of_rules(unit, site)
    return site


def current_site(records: Records) -> SiteFile:
    """The version in force. Raises Refused NOT_FOUND when nothing was imported yet."""
    with records.reading() as unit:
        site = unit.site.current()
    if site is None:
        raise Refused(Fault.NOT_FOUND, "nothing was imported yet")
    return site


def is_under_way(records: Records, what: Literal["studies", "versions", "jobs", "deliveries", "notices"]) -> bool:
    """Whether studies wait to be routed, versions to be decided on, jobs for a worker, or anything to be sent."""
    with records.reading() as unit:
        part: Studies | Versions | Jobs | Deliveries | Notices = getattr(unit, what)
        return part.is_under_way()


def open_alarms(records: Records) -> list[Alarm]:
    """What an operator must act on and nobody has cleared, oldest first."""
    with records.reading() as unit:
        return unit.alarms.open()


def clear_alarm(records: Records, clock: Clock, code: str, subject: str) -> None:
    """Note that an alarm was seen to. Raises Refused NOT_FOUND."""
    with records.transaction() as unit:
        if not unit.alarms.clear(code, subject, clock.now()):
            raise Refused(Fault.NOT_FOUND, f"no alarm {code} on {subject} is open")


def note_unusable_message(records: Records, clock: Clock, queue_name: str, reason: str) -> None:
    """Sound the alarm on a queue that held a message no worker can use; `reason` quotes nothing of the message."""
    now = clock.now()
    with records.transaction() as unit:
        sound_alarm(unit, Alarm(Fault.MESSAGE_UNUSABLE.code, queue_name, reason, now, now))


def audited(records: Records, limit: int, since: datetime | None = None) -> list[AuditEvent]:
    """The newest events of the audit trail, newest first."""
    with records.reading() as unit:
        return unit.audit.newest(limit, since)
