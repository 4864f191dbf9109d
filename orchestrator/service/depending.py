"""Jobs that build on results of others: they start, wait, end or run again with what becomes of those (I3, I9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import SUPERSEDED_REASON
from orchestrator.domain.errors import Fault
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.plan import input_set
from orchestrator.domain.upstream import Upstream, exchanged, identity_of, result_inputs, results_taken
from orchestrator.service.noticing import add_job as keep_new_job
from orchestrator.service.noticing import save_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from orchestrator.domain.job import Job, JobInput, JobState
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.review import Verdict
    from orchestrator.domain.study import Study
    from orchestrator.domain.upstream import Prospect
    from orchestrator.ports import Identifiers, Unit

_UNDELIVERED: Final = ("waiting", "running", "held", "failed", "delivering")
_ENDED_BY_OTHERS: Final = ("superseded", "cancelled", "withdrawn")
_JUDGED_ANEW: Final = "a result it builds on was judged by a person"
_DROPPED: Final = "runs without a result that is not there"


@dataclass(frozen=True, slots=True)
class Moment:
    """What a change in the graph of jobs needs: its transaction, which holds the study, and its time."""

    unit: Unit
    manifests: Mapping[str, Manifest]
    identifiers: Identifiers
    now: datetime


@dataclass(frozen=True, slots=True)
class _Taken:
    """An input of kind result and whether its result can be taken."""

    given: JobInput
    prospect: Prospect
    reason: str
    required: bool


# how jobs begin


def add_job(moment: Moment, job: Job, study: Study | None) -> None:
    """Keep a new job; it is held when the images of its study name different patients (I5)."""
    if study is not None and len(study.patients) > 1:
        fault = Fault.IDENTITY_CONFLICT
        keep_new_job(moment.unit, replace(job, state="held", reason=fault.value.meaning, code=fault.code))
        return
    keep_new_job(moment.unit, job)
    start_or_wait(moment, job)


def start_or_wait(moment: Moment, job: Job) -> None:
    """Open the first stage of a job that has none, as soon as the results it builds on are there and allowed.

    Until then it waits, or is held for a person's review. Without a result that it requires it is unfit;
    one that it does not require and that will never be there is dropped: a job without it takes its place.
    """
    manifest = _manifest(moment, job)
    if manifest is None:
        if job.state != "unfit":
            reason = f"{job.pipeline} {job.version} is no longer installed"
            _change(moment, job, "failed", Fault.UNKNOWN_PIPELINE, reason)
        return
    taken = _taken(moment, manifest, job.study_uid, job.inputs)
    gone = [t for t in taken if t.prospect == "gone"]
    lost = next((t for t in gone if t.required), None)
    coming = next((t for t in taken if t.prospect == "coming"), None)
    in_review = next((t for t in taken if t.prospect == "in_review"), None)
    if lost:
        _change(moment, job, "unfit", Fault.UPSTREAM_MISSING, lost.reason)
    elif gone:
        _plan_again(moment, job.study_uid, {job.id: job.inputs}, _DROPPED)
    elif coming:
        _change(moment, job, "waiting", None, coming.reason)
    elif in_review:
        _change(moment, job, "held", Fault.REVIEW_AWAITED, in_review.reason)
    else:
        moment.unit.jobs.add_stage(job.opened(manifest.stages[0], moment.identifiers.new(), moment.now))
        _change(moment, job, "waiting", None, "")


def _change(moment: Moment, job: Job, state: JobState, fault: Fault | None, reason: str) -> None:
    code = fault.code if fault else ""
    if (job.state, job.reason, job.code) != (state, reason, code):
        changed = job.changed(state, moment.now, reason=reason, code=code)
        save_job(moment.unit, changed)
        upstream_changed(moment, changed)


def _manifest(moment: Moment, job: Job) -> Manifest | None:
    """The pipeline as it is installed now, if it still takes results under the names that the job has them under."""
    manifest = moment.manifests.get(job.pipeline)
    declared = {given.name for given in manifest.inputs if given.kind == "result"} if manifest else set()
    return manifest if {given.name for given, _ in result_inputs(job.inputs)} <= declared else None


def _taken(moment: Moment, manifest: Manifest, study_uid: str, inputs: Iterable[JobInput]) -> list[_Taken]:
    """Every input of kind result, as its upstream job stands now."""
    if not manifest.upstream:
        return []
    made = {identity_of(job): job for job in moment.unit.jobs.of_study(study_uid)}
    taken = []
    for given, identity in result_inputs(inputs):
        wanted = manifest.input(given.name)
        prospect, reason = _seen(moment.unit, made[identity]).prospect(wanted)
        taken.append(_Taken(given, prospect, reason, wanted.required))
    return taken


# what becomes of a result


def upstream_changed(moment: Moment, job: Job) -> None:
    """The job's result is there, will never be, or was judged: what waits for it starts, waits on, or ends.

    Jobs that were unfit for want of it, or ran without it, run with it when it is there after all.
    """
    if job.pipeline not in _built_on(moment.manifests):
        return
    for dependant in _dependants(moment.unit, job):
        now_is = _as_it_is(moment.unit, dependant)
        if _is_pending(moment.unit, now_is):
            start_or_wait(moment, now_is)
    if _seen(moment.unit, job).has_result and _ran_without(moment.unit, job):
        moment.unit.studies.look_again(job.study_uid, moment.now)


def result_reviewed(moment: Moment, job: Job, verdict: Verdict) -> None:
    """Keep what a person said of the job's result, and do what follows for those that build on it.

    What a correction or rejection comes too late for is stale and planned again in the next generation,
    unless a person has decided on it; each call is one more verdict.
    """
    reviewed = replace(_as_it_is(moment.unit, job), review=verdict)
    save_job(moment.unit, reviewed)
    begun = [d for d in _dependants(moment.unit, job) if not _is_pending(moment.unit, d)]
    upstream_changed(moment, reviewed)
    if verdict in ("corrected", "rejected"):
        for outdated in begun:
            save_job(moment.unit, replace(_as_it_is(moment.unit, outdated), is_stale=True))
        newest = _newest(moment.unit.jobs.of_study(job.study_uid))
        again = {dependant.id: dependant.inputs for dependant in begun if dependant.id in newest}
        _plan_again(moment, job.study_uid, again, _JUDGED_ANEW)


def settle_orphans(moment: Moment, study_uid: str) -> None:
    """After a routing: jobs that build on a superseded one and were given no successor go on without it, or end."""
    jobs = moment.unit.jobs.of_study(study_uid)
    superseded = {identity_of(job) for job in jobs if job.state == "superseded"}
    for job in jobs:
        lost = [given for given, identity in result_inputs(job.inputs) if identity in superseded]
        if not lost or job.state in _ENDED_BY_OTHERS:
            continue
        if _is_pending(moment.unit, job):
            start_or_wait(moment, job)
        elif job.state in ("waiting", "running") and not _seen(moment.unit, job).has_result:
            _end_orphan(moment, job, lost)
        elif not job.is_stale:
            save_job(moment.unit, replace(job, is_stale=True))


def _end_orphan(moment: Moment, job: Job, lost: Sequence[JobInput]) -> None:
    """A job that runs on a result that no longer stands."""
    manifest = _manifest(moment, job)
    required = [given for given in lost if manifest is None or manifest.input(given.name).required]
    if required:
        fault = Fault.UPSTREAM_MISSING
        reason = f"{next(iter(required[0].instances))} is superseded"
        moment.unit.jobs.give_up(job.id, moment.now, code=fault.code, reason=reason)
        _change(moment, job, "unfit", fault, reason)
    else:
        save_job(moment.unit, replace(job, is_stale=True))


# successors


def supersede(unit: Unit, job: Job, now: datetime, reason: str) -> None:
    """A newer job takes the job's place; what was not delivered stays here."""
    for delivery in unit.deliveries.of_job(job.id):
        if delivery.state in ("waiting", "held", "quarantined"):
            unit.deliveries.save(delivery.stopped("superseded", reason=SUPERSEDED_REASON))
    save_job(unit, job.changed("superseded", now, reason=reason))


def is_replaceable(job: Job) -> bool:
    """Whether a newer job may take its place at once: nothing was delivered whole, and no person has judged it (I9)."""
    is_idle = job.state == "unfit" and job.code == Fault.UPSTREAM_MISSING.code
    return job.review == "unreviewed" and (is_idle or job.state in _UNDELIVERED)


def _plan_again(moment: Moment, study_uid: str, changed: Mapping[str, Sequence[JobInput]], reason: str) -> None:
    """Successors of these jobs (id to inputs) and of all that build on them, upstream ones first.

    A job that a person has decided on stays as it is, marked as stale, and with it what builds on it; so does
    one that a newer job follows already.
    """
    newer: dict[str, str] = {}
    study = moment.unit.studies.get(study_uid)
    jobs = moment.unit.jobs.of_study(study_uid)
    newest = _newest(jobs)
    for job in jobs:
        is_named = job.id in changed
        if job.state in _ENDED_BY_OTHERS or not (is_named or newer.keys() & results_taken(job)):
            continue
        manifest = _manifest(moment, job)
        if manifest is None or job.review != "unreviewed" or not (is_named or job.id in newest):
            save_job(moment.unit, replace(job, is_stale=True))
            continue
        successor = _successor(moment, job, manifest, exchanged(changed.get(job.id, job.inputs), newer))
        newer[identity_of(job)] = identity_of(successor)
        if is_replaceable(job):
            supersede(moment.unit, job, moment.now, reason)
        elif not is_named:
            save_job(moment.unit, replace(job, is_stale=True))
        if moment.unit.jobs.get(successor.id) is None:
            add_job(moment, successor, study)


def _successor(moment: Moment, job: Job, manifest: Manifest, inputs: Sequence[JobInput]) -> Job:
    """The same job on these inputs, by the build installed now, without results that will never be there.

    Where that makes another input set on which a job stands already, it is that job.
    """
    dropped = [
        t.given for t in _taken(moment, manifest, job.study_uid, inputs) if t.prospect == "gone" and not t.required
    ]
    kept = tuple(given for given in inputs if given not in dropped)
    digest = input_set(manifest, kept)
    same = [j for j in moment.unit.jobs.of_study(job.study_uid) if (j.pipeline, j.input_set) == (job.pipeline, digest)]
    standing = [j for j in same if j.state != "superseded"]
    if digest != job.input_set and standing:
        return standing[-1]
    return replace(
        job,
        id=moment.identifiers.new(),
        version=manifest.version,
        package_digest=manifest.package_digest,
        inputs=kept,
        input_set=digest,
        generation=max((j.generation + 1 for j in same), default=0),
        created_at=moment.now,
        changed_at=moment.now,
        state="waiting",
        reason="",
        code="",
        is_stale=False,
    )


def _newest(jobs: Iterable[Job]) -> frozenset[str]:
    """Ids of the newest job of each pipeline on each primary series, of those that stand."""
    standing = (job for job in jobs if job.state not in _ENDED_BY_OTHERS)
    return frozenset({(job.pipeline, job.primary.series_uid): job.id for job in standing}.values())


# who builds on what


def jobs_as_upstream(moment: Moment, study_uid: str) -> list[Upstream]:
    """The study's jobs, oldest first, as those see them that build on them."""
    named = _built_on(moment.manifests)
    jobs = moment.unit.jobs.of_study(study_uid)
    return [_seen(moment.unit, job) if job.pipeline in named else Upstream(job, has_result=False) for job in jobs]


def _built_on(manifests: Mapping[str, Manifest]) -> frozenset[str]:
    """The pipelines on whose results others build."""
    return frozenset(name for manifest in manifests.values() for name in manifest.upstream)


def artefacts_taken(unit: Unit, job: Job) -> dict[str, Mapping[str, str]]:
    """For each input of kind result the artefacts (name to digest) of that result."""
    made = {identity_of(other): other for other in unit.jobs.of_study(job.study_uid)}
    return {given.name: _artefacts(unit, made[identity]) for given, identity in result_inputs(job.inputs)}


def source_of(unit: Unit, job: Job) -> JobInput:
    """The images that the job's results refer to: its own, or those of the result it is about."""
    made = {identity_of(other): other for other in unit.jobs.of_study(job.study_uid)}
    while job.primary.kind == "result":
        ((_, identity),) = result_inputs([job.primary])
        job = made[identity]
    return job.primary


def _as_it_is(unit: Unit, job: Job) -> Job:
    found = unit.jobs.get(job.id)
    assert found is not None, "jobs are never removed"
    return found


def _artefacts(unit: Unit, job: Job) -> Mapping[str, str]:
    return [s for s in unit.jobs.stages(job.id) if s.state == "done" and s.name != REPORT_STAGE][-1].artefacts


def _seen(unit: Unit, job: Job) -> Upstream:
    return Upstream(job, any(stage.name == REPORT_STAGE for stage in unit.jobs.stages(job.id)))


def _dependants(unit: Unit, job: Job) -> list[Job]:
    identity = identity_of(job)
    return [d for d in unit.jobs.of_study(job.study_uid) if d.state != "superseded" and identity in results_taken(d)]


def _is_pending(unit: Unit, job: Job) -> bool:
    """Whether it has not begun, for want of a result."""
    codes = {"waiting": "", "held": Fault.REVIEW_AWAITED.code, "unfit": Fault.UPSTREAM_MISSING.code}
    return codes.get(job.state) == job.code and not unit.jobs.stages(job.id)


def _ran_without(unit: Unit, job: Job) -> bool:
    """Whether a job without the job's result took the place of one with it, and none with it stands."""
    identity = identity_of(job)
    jobs = [other for other in unit.jobs.of_study(job.study_uid) if identity in results_taken(other)]
    dropped = {(j.pipeline, j.primary.series_uid) for j in jobs if (j.state, j.reason) == ("superseded", _DROPPED)}
    return bool(dropped - {(j.pipeline, j.primary.series_uid) for j in jobs if j.state != "superseded"})
