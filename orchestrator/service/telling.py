"""What happened and what is there, as JSON values: the same for commands, API and pages."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestrator.service.staffing import lack_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.domain.alarm import Alarm
    from orchestrator.domain.audit import AuditEvent
    from orchestrator.domain.delivery import Delivery, Destination, Node, Output
    from orchestrator.domain.errors import Fault
    from orchestrator.domain.job import Job
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.retention import Retirement
    from orchestrator.domain.route import Decision
    from orchestrator.domain.search import Listed, ListedJob
    from orchestrator.domain.site import SiteFile
    from orchestrator.domain.trial import Change
    from orchestrator.domain.version import Version
    from orchestrator.domain.worker import Worker
    from orchestrator.service.operating import JobStory, StudyStory
    from orchestrator.service.repairing import Cancelled, Rerouted, Retried


def story_told(story: StudyStory, workers: Sequence[Worker]) -> dict[str, Any]:
    """A study's story without names of persons; stages that none of the workers can run say why."""
    versions = {(version.uid, version.instance.digest) for version in story.versions}
    return {
        "study_uid": story.study.uid,
        "revision": story.study.revision,
        "retired": _retirement_told(story.retirement),
        "series": [
            {
                "series_uid": series.uid,
                "modality": series.header.modality,
                "instances": series.instances,
                "settled": series.is_settled,
                "signal": series.signal,
                "ready_at": series.ready_at.isoformat() if series.ready_at else None,
            }
            for series in story.study.series
        ],
        "left_out": [
            {"sop_instance_uid": i.header.sop_instance_uid, "reason": _why_left_out(i.is_own, i.header.unreadable)}
            for i in story.left_out
            if (i.header.sop_instance_uid, i.digest) not in versions
        ],
        "versions": [_version_told(version) for version in story.versions],
        "decisions": [
            {"revision": revision, "rule_set_version": version, "at": at.isoformat(), **decision_told(decision)}
            for revision, version, at, decision in story.decisions
        ],
        "jobs": [job_story_told(job, workers) for job in story.jobs],
    }


def decision_told(decision: Decision) -> dict[str, Any]:
    """One yes or no, and why."""
    return {
        "rule": decision.rule,
        "pipeline": decision.pipeline,
        "series_uid": decision.series_uid,
        "yes": decision.is_yes,
        "reason": decision.reason,
        "code": decision.code,
    }


def _version_told(version: Version) -> dict[str, Any]:
    return {
        "sop_instance_uid": version.uid,
        "received_at": version.received_at.isoformat(),
        "class": version.difference,
        "standing": version.standing,
        "reason": version.reason,
        "decided_by": version.decided_by,
        "decided_at": version.decided_at.isoformat() if version.decided_at else None,
    }


def _retirement_told(retirement: Retirement | None) -> dict[str, Any] | None:
    if retirement is None:
        return None
    return {
        "at": retirement.at.isoformat(),
        "reason": retirement.reason,
        "series": [
            {"series_uid": series.uid, "modality": series.modality, "instances": series.instances}
            for series in retirement.series
        ],
    }


def job_story_told(story: JobStory, workers: Sequence[Worker]) -> dict[str, Any]:
    """A job with what was done for it, built and sent."""
    outputs = {output.id: output for output in story.outputs}
    return {
        "id": story.job.id,
        "pipeline": story.job.pipeline,
        "version": story.job.version,
        "series_uid": story.job.primary.series_uid,
        "state": story.job.state,
        "reason": story.job.reason,
        "code": story.job.code,
        "rules": [rule["name"] for rule in story.job.rules],
        "stages": [
            {
                "name": stage.name,
                "state": stage.state,
                "attempt": stage.attempt,
                "attempts_allowed": stage.attempts_allowed,
                "reason": stage.reason,
                "lacks": _told(lack_of(workers, story.job, stage)),
            }
            for stage in story.stages
        ],
        "outputs": [{"name": output.name, "kind": output.kind} for output in story.outputs],
        "deliveries": [
            {"id": d.id, "object": outputs[d.output_id].name, "kind": outputs[d.output_id].kind, **_delivery_told(d)}
            for d in story.deliveries
        ],
    }


def _delivery_told(delivery: Delivery) -> dict[str, Any]:
    return {
        "destination": delivery.destination,
        "state": delivery.state,
        "proof": delivery.proof,
        "reason": delivery.reason,
        "code": delivery.code,
    }


def _told(lack: Fault | None) -> str:
    return "" if lack is None else f"{lack.value.meaning} [{lack.code}]"


def _why_left_out(is_own: bool, unreadable: str) -> str:  # noqa: FBT001
    if is_own:
        return "Tendon made it: it came back and starts nothing"
    return unreadable or "other bytes came under a known SOP Instance UID; another version is in use"


def listed_told(listed: Listed, jobs: Sequence[ListedJob]) -> dict[str, Any]:
    """A study in a list, with what became of it."""
    summary = listed.summary
    return {
        "study_uid": summary.uid,
        "patient": asdict(summary.patient),
        "accession_number": summary.accession_number,
        "study_date": summary.study_date,
        "description": summary.description,
        "modalities": list(summary.modalities),
        "body_parts": list(summary.body_parts),
        "received_at": listed.newest_at.isoformat(),
        "routed": listed.is_closed,
        "retired": listed.is_retired,
        "jobs": [{"id": job.id, "pipeline": job.pipeline, "state": job.state} for job in jobs],
    }


def job_told(job: Job) -> dict[str, Any]:
    """A job in a list."""
    return {
        "id": job.id,
        "study_uid": job.study_uid,
        "pipeline": job.pipeline,
        "version": job.version,
        "series_uid": job.primary.series_uid,
        "generation": job.generation,
        "priority": job.priority,
        "state": job.state,
        "reason": job.reason,
        "code": job.code,
        "review": job.review,
        "rule_set_version": job.rule_set_version,
        "created_at": job.created_at.isoformat(),
        "changed_at": job.changed_at.isoformat() if job.changed_at else None,
    }


def delivery_told(delivery: Delivery, output: Output, job: Job) -> dict[str, Any]:
    """A delivery in a list."""
    return {
        "id": delivery.id,
        "job_id": job.id,
        "study_uid": job.study_uid,
        "pipeline": job.pipeline,
        "object": output.name,
        "kind": output.kind,
        **_delivery_told(delivery),
        "tries": delivery.tries,
        "created_at": delivery.created_at.isoformat(),
        "due_at": delivery.due_at.isoformat(),
    }


def retried_told(retried: Retried) -> dict[str, Any]:
    """What is tried again."""
    return {
        **_named(retried.job),
        "stage": retried.stage,
        "resumed": retried.resumed,
        "still_quarantined": retried.still_quarantined,
    }


def cancelled_told(cancelled: Cancelled) -> dict[str, Any]:
    """What was called off, and what had left before."""
    return {
        **_named(cancelled.job),
        "was_cancelled": cancelled.was_cancelled,
        "withdrawn": cancelled.withdrawn,
        "sent": dict(cancelled.sent),
    }


def rerouted_told(rerouted: Rerouted) -> dict[str, Any]:
    """What was decided anew."""
    return {
        "study_uid": rerouted.study_uid,
        "rule_set_version": rerouted.rule_set_version,
        "new": [_routed(job) for job in rerouted.made],
        "kept": [_routed(job) for job in rerouted.kept],
        "unasked": [_routed(job) for job in rerouted.unasked],
        "decisions": [decision_told(decision) for decision in rerouted.decisions],
    }


def _routed(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "pipeline": job.pipeline,
        "series_uid": job.primary.series_uid,
        "generation": job.generation,
        "state": job.state,
        "reason": job.reason,
    }


def _named(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "study_uid": job.study_uid,
        "pipeline": job.pipeline,
        "state": job.state,
        "reason": job.reason,
    }


def change_told(change: Change) -> dict[str, Any]:
    """What other rules would do with a study."""
    return {
        "study_uid": change.study_uid,
        "changed": not change.is_none,
        "rules": {"before": list(change.before.rules), "after": list(change.after.rules)},
        "begun": [asdict(job) for job in change.begun],
        "dropped": [asdict(job) for job in change.dropped],
        "altered": [{"before": asdict(before), "after": asdict(after)} for before, after in change.altered],
    }


def pipeline_told(manifest: Manifest) -> dict[str, Any]:
    """A pipeline that is installed."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.title,
        "standing": manifest.standing,
        "weights_digest": manifest.weights_digest or "none",
        "package_digest": manifest.package_digest,
    }


def version_told(site: SiteFile, *, is_current: bool) -> dict[str, Any]:
    """A version of what staff decide, without what it holds."""
    return {
        "version": site.version,
        "author": site.author,
        "at": site.at.isoformat(),
        "reason": site.reason,
        "is_draft": site.is_draft,
        "is_current": is_current,
        "activated_by": site.activated_by,
        "activated_at": site.activated_at.isoformat() if site.activated_at else None,
    }


def node_told(node: Node) -> dict[str, Any]:
    """A node, as the site file writes it."""
    return asdict(node)


def destination_told(destination: Destination) -> dict[str, Any]:
    """A destination, as the site file writes it."""
    return {**asdict(destination), "patient_systems": dict(destination.patient_systems)}


def alarm_told(alarm: Alarm) -> dict[str, Any]:
    """What an operator must act on."""
    return {**asdict(alarm), "raised_at": alarm.raised_at.isoformat(), "last_at": alarm.last_at.isoformat()}


def event_told(event: AuditEvent) -> dict[str, Any]:
    """What was done or refused."""
    return {**asdict(event), "at": event.at.isoformat(), "last_at": event.last_at.isoformat()}
