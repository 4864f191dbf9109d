"""A stage is leased, run by a worker, and its end accepted once (I2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.delivery import Delivery, Output, job_state, opening, wants
from orchestrator.domain.errors import OF_THE_SURROUNDINGS, Broken, Fault, Unfit
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.worker import place_of
from orchestrator.service.depending import Moment, upstream_changed
from orchestrator.service.noticing import save_job, sound_alarm, tell_of_quarantine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.delivery import DeliveryState, Destination
    from orchestrator.domain.errors import TendonError
    from orchestrator.domain.job import Job, JobState, Stage
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.worker import Worker
    from orchestrator.ports import BuiltObject, ClaimedStage, Clock, Identifiers, Records, Unit
    from orchestrator.site import Catalog


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the verbs of a worker need."""

    records: Records
    catalog: Catalog
    clock: Clock
    identifiers: Identifiers
    lease_s: float

    def moment(self, unit: Unit, now: datetime) -> Moment:
        """For what follows for the jobs that build on one."""
        return Moment(unit, self.catalog.manifests(), self.identifiers, now)


def claim_stage(workshop: Workshop, worker: Worker, *, oldest_first: bool = False) -> ClaimedStage | None:
    """Lease the next stage the worker can run, the most urgent or else the oldest; its job is running from now on."""
    now = workshop.clock.now()
    until = now + timedelta(seconds=workshop.lease_s)
    with workshop.records.transaction() as unit:
        return unit.jobs.claim(worker, now, until, oldest_first=oldest_first)


def renew_lease(workshop: Workshop, stage: Stage, progress: float, text: str) -> bool:
    """Prolong the lease; False when the stage is no longer ours."""
    until = workshop.clock.now() + timedelta(seconds=workshop.lease_s)
    with workshop.records.transaction() as unit:
        return unit.jobs.renew(stage, until, progress, text)


def complete_stage(workshop: Workshop, claimed: ClaimedStage, manifest: Manifest, artefacts: Mapping[str, str]) -> bool:
    """Accept a stage's artefacts (name to digest) and open the next stage. False: another attempt owns it.

    With the last stage before the report the result is there, and what waits for it starts.
    """
    now = workshop.clock.now()
    following = manifest.after(claimed.stage.name)
    assert following is not None, "the report stage is completed by `complete_report`"
    opened = claimed.job.opened(manifest.stage(following), workshop.identifiers.new(), now)
    with workshop.records.transaction() as unit:
        if following == REPORT_STAGE:
            unit.studies.hold(claimed.job.study_uid)
        if not unit.jobs.finish(_done(claimed.stage, now, artefacts)):
            return False
        unit.jobs.add_stage(opened)
        if following == REPORT_STAGE:
            upstream_changed(workshop.moment(unit, now), claimed.job)
    return True


def complete_report(workshop: Workshop, claimed: ClaimedStage, built: Sequence[tuple[BuiltObject, str]]) -> bool:
    """Accept the report objects (each with its digest) and open their deliveries.

    The UIDs enter the ledger before anything is sent, so that they are known when they come back (I13).
    """
    now = workshop.clock.now()
    outputs = [_output(workshop, claimed.job, made, digest) for made, digest in built]
    with workshop.records.transaction() as unit:
        unit.studies.hold(claimed.job.study_uid)
        if not unit.jobs.finish(_done(claimed.stage, now, {o.name: o.digest for o in outputs})):
            return False
        unit.studies.claim_uids(o.sop_instance_uid for o in outputs if o.sop_instance_uid)
        for output in outputs:
            unit.deliveries.add_output(output)
        deliveries = _deliveries(workshop, unit, claimed.job, outputs, now)
        for delivery in deliveries:
            unit.deliveries.add(delivery)
        state, reason = job_state(deliveries)
        save_job(unit, _as_it_is(unit, claimed.job).changed(state, now, reason=reason))
        tell_of_quarantine(unit, deliveries, now)
    return True


def _as_it_is(unit: Unit, job: Job) -> Job:
    """The job with what was noted on it since its stage was claimed."""
    found = unit.jobs.get(job.id)
    assert found is not None, "jobs are never removed"
    return found


def _done(stage: Stage, now: datetime, artefacts: Mapping[str, str]) -> Stage:
    return replace(stage, state="done", finished_at=now, progress=1.0, progress_text="", artefacts=artefacts)


def _output(workshop: Workshop, job: Job, made: BuiltObject, digest: str) -> Output:
    return Output(
        id=workshop.identifiers.new(),
        job_id=job.id,
        kind=made.kind,
        name=_lasting_name(made.name, job),
        digest=digest,
        study_uid=job.study_uid,
        sop_class_uid=made.sop_class_uid,
        sop_instance_uid=made.sop_instance_uid,
        series_uid=made.series_uid,
        transfer_syntax_uid=made.transfer_syntax_uid,
    )


def _lasting_name(name: str, job: Job) -> str:
    """A file name that tells results of other studies and series apart, and stays when a result is renewed."""
    subject = hashlib.sha256(f"{job.study_uid} {job.primary.series_uid}".encode()).hexdigest()[:12]
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-{subject}{dot}{suffix}"


def _deliveries(workshop: Workshop, unit: Unit, job: Job, outputs: Sequence[Output], now: datetime) -> list[Delivery]:
    site = unit.site.current()
    known = {d.name: d for d in site.destinations} if site else {}
    study = unit.studies.get(job.study_uid)
    has_patient = study is not None and all(patient_id for _, patient_id in study.patients)
    opened = []
    for name in () if job.release == "shadow" else job.send:
        for output in outputs:
            if name not in known or wants(known[name], output.kind):
                new = Delivery(
                    workshop.identifiers.new(), job.id, output.id, name, "waiting", now, now, priority=job.priority
                )
                state, code, reason = _opening(job, output, name, known.get(name), has_patient=has_patient)
                opened.append(replace(new, state=state, code=code, reason=reason))
    return opened


def _opening(
    job: Job, output: Output, name: str, destination: Destination | None, *, has_patient: bool
) -> tuple[DeliveryState, str, str]:
    """In which state a delivery begins, with code and reason."""
    if destination is None:
        return "quarantined", Fault.UNKNOWN_DESTINATION.code, f"there is no destination named {name}"
    return opening(destination, output.kind, release=job.release, review=job.review, has_patient=has_patient)


def fail_stage(workshop: Workshop, claimed: ClaimedStage, error: TendonError) -> bool:
    """Accept that a stage ended without a result, and what follows from the kind of error."""
    now = workshop.clock.now()
    job, ended = claimed.job, claimed.stage.ended_without_result(error, now)
    with workshop.records.transaction() as unit:
        unit.studies.hold(job.study_uid)
        if not unit.jobs.finish(ended):
            return False
        if error.fault in OF_THE_SURROUNDINGS:
            sound_alarm(unit, Alarm(error.code, place_of(ended.owner), error.detail, now, now))
        if ended.state == "failed":
            state: JobState = "unfit" if isinstance(error, Unfit) else "failed"
            ended_job = _as_it_is(unit, job).changed(state, now, reason=error.detail, code=error.code)
            save_job(unit, ended_job)
            upstream_changed(workshop.moment(unit, now), ended_job)
    return True


def fail_exhausted(workshop: Workshop) -> int:
    """Give up on stages whose worker died in every attempt allowed; returns how many."""
    with workshop.records.reading() as unit:
        exhausted = unit.jobs.exhausted(workshop.clock.now())
    error = Broken(Fault.STAGE_DIED, "the stage's worker died in every attempt")
    return sum(fail_stage(workshop, claimed, error) for claimed in exhausted)
