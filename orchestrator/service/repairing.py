"""What an operator does about a job or a study: try again, call off, have it decided again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.route import FORWARD
from orchestrator.service.depending import Moment, start_or_wait, upstream_changed
from orchestrator.service.noticing import save_job
from orchestrator.service.operating import why_no_study
from orchestrator.service.resuming import resume
from orchestrator.service.routing import ready_series, route_ready

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.domain.delivery import Delivery
    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.route import Decision, Routing
    from orchestrator.domain.site import SiteFile
    from orchestrator.ports import Unit
    from orchestrator.service.routing import Router

_SHORTEST_PREFIX: Final = 6
_UNDER_WAY: Final = ("sent", "accepted", "proven")
_STOPPABLE: Final = ("waiting", "held", "quarantined")
_STANDING: Final = ("waiting", "running", "held", "delivering", "failed", "done")


@dataclass(frozen=True, slots=True)
class Retried:
    """A job at work again: the stage that is tried anew, if one, and how many deliveries are resumed or cannot be."""

    job: Job
    stage: str
    resumed: int
    still_quarantined: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job called off; `sent` counts by destination the objects that had left before."""

    job: Job
    was_cancelled: bool
    withdrawn: int
    sent: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rerouted:
    """What the rules in force decided anew: jobs made, jobs kept, and jobs left alone that no rule asks for now."""

    study_uid: str
    rule_set_version: int
    decisions: tuple[Decision, ...]
    made: tuple[Job, ...]
    kept: tuple[Job, ...]
    unasked: tuple[Job, ...]


def retry_job(router: Router, job_id: str) -> Retried:
    """Try again what failed of a job: its stage with attempts anew, or its quarantined deliveries.

    The result keeps its generation and its UIDs. Raises Refused NOT_FOUND, WRONG_STATE, UNKNOWN_PIPELINE or
    UNKNOWN_DESTINATION.
    """
    with router.records.transaction() as unit:
        job = _held(unit, job_id)
        moment = Moment(unit, router.catalog.manifests(), router.identifiers, router.clock.now())
        stages = unit.jobs.stages(job.id)
        failed = next((stage for stage in stages if stage.state == "failed"), None)
        quarantined = [delivery for delivery in unit.deliveries.of_job(job.id) if delivery.state == "quarantined"]
        if job.state == "failed" and failed is not None:
            return _work_again(moment, job, failed)
        if job.state in ("failed", "delivering", "held") and quarantined:
            return _deliver_again(moment, job, quarantined)
        if job.state == "failed" and not stages:
            return _begin_again(moment, job)
        raise Refused(Fault.WRONG_STATE, _why_not_retried(job))


def _held(unit: Unit, job_id: str) -> Job:
    """The job of this id, or of the only id that starts like this; nobody else decides on its study meanwhile."""
    found = _named(unit, job_id)
    unit.studies.hold(found.study_uid)
    return _as_it_is(unit, found)


def _named(unit: Unit, job_id: str) -> Job:
    exact = unit.jobs.get(job_id)
    if exact is not None:
        return exact
    if len(job_id) < _SHORTEST_PREFIX:
        raise Refused(
            Fault.NOT_FOUND, f"there is no job {job_id!r}; give its id or at least {_SHORTEST_PREFIX} characters of it"
        )
    found = unit.jobs.starting(job_id, 2)
    if not found:
        raise Refused(Fault.NOT_FOUND, f"there is no job {job_id[:80]!r}")
    if len(found) > 1:
        raise Refused(Fault.NOT_FOUND, f"more than one job's id starts with {job_id[:80]}: give more of it")
    return found[0]


def _work_again(moment: Moment, job: Job, failed: Stage) -> Retried:
    is_reopened = moment.unit.jobs.reopen(failed.reopened(moment.now))
    assert is_reopened, "who holds the study alone reopens its failed stages"
    waiting = job.changed("waiting", moment.now)
    save_job(moment.unit, waiting)
    upstream_changed(moment, waiting)
    return Retried(waiting, failed.name, 0, 0)


def _begin_again(moment: Moment, job: Job) -> Retried:
    """A job whose pipeline was not there when it was to begin."""
    start_or_wait(moment, job)
    begun = _as_it_is(moment.unit, job)
    if begun.state == "failed":
        raise Refused(Fault.UNKNOWN_PIPELINE, f"pipeline {job.pipeline} is still not installed")
    return Retried(begun, next((stage.name for stage in moment.unit.jobs.stages(job.id)), ""), 0, 0)


def _deliver_again(moment: Moment, job: Job, quarantined: Sequence[Delivery]) -> Retried:
    """Resume what goes to a destination that is there."""
    site = moment.unit.site.current()
    known = {destination.name for destination in site.destinations} if site else set()
    chosen = [delivery.id for delivery in quarantined if delivery.destination in known]
    if not chosen:
        names = ", ".join(sorted({delivery.destination for delivery in quarantined}))
        raise Refused(Fault.UNKNOWN_DESTINATION, f"there is still no destination named {names}")
    resume(moment.unit, job.id, chosen, moment.now)
    return Retried(_as_it_is(moment.unit, job), "", len(chosen), len(quarantined) - len(chosen))


def _as_it_is(unit: Unit, job: Job) -> Job:
    found = unit.jobs.get(job.id)
    assert found is not None, "jobs are never removed"
    return found


def _why_not_retried(job: Job) -> str:
    if job.state == "unfit":
        return (
            f"job {job.id} is unfit: running it again cannot change what the study is; "
            "after a change of study, rule or pipeline have the study routed again"
        )
    return f"job {job.id} is {job.state}, and nothing of it has failed that could be tried again"


def cancel_job(router: Router, job_id: str, *, by: str, reason: str = "") -> Cancelled:
    """Call a job off: nothing of it runs or is sent from now on, what was sent stays where it is.

    A stage that runs is ended by its worker, whose lease is not renewed any more. Harmless when repeated.
    Raises Refused NOT_FOUND, or WRONG_STATE for a job that has ended otherwise.
    """
    now = router.clock.now()
    said = " ".join(reason.split())
    told = f"cancelled by {by}: {said}" if said else f"cancelled by {by}"
    with router.records.transaction() as unit:
        job = _held(unit, job_id)
        deliveries = unit.deliveries.of_job(job.id)
        sent = Counter(delivery.destination for delivery in deliveries if delivery.state in _UNDER_WAY)
        if job.state == "cancelled":
            return Cancelled(job, was_cancelled=True, withdrawn=0, sent=sent)
        job = job.changed("cancelled", now, reason=told)
        unit.jobs.give_up(job.id, now, code="", reason="the job was cancelled")
        stopped = [delivery for delivery in deliveries if delivery.state in _STOPPABLE]
        for delivery in stopped:
            unit.deliveries.save(delivery.stopped("withdrawn", reason="the job was cancelled"))
        save_job(unit, job)
        upstream_changed(Moment(unit, router.catalog.manifests(), router.identifiers, now), job)
        return Cancelled(job, was_cancelled=False, withdrawn=len(stopped), sent=sent)


def reroute_study(router: Router, study_uid: str) -> Rerouted:
    """Have the rules in force now decide on the study as it is.

    Jobs they ask for that are not there are made; an input set whose jobs were all cancelled, failed, unfit or
    superseded gets a job of the next generation. Jobs they no longer ask for are left alone.
    Raises Refused NOT_FOUND, or WRONG_STATE while the study is being received.
    """
    now = router.clock.now()
    with router.records.transaction() as unit:
        unit.studies.hold(study_uid)
        study, site = unit.studies.get(study_uid), unit.site.current()
        if study is None:
            raise Refused(Fault.NOT_FOUND, why_no_study(unit.studies.left_out(study_uid), study_uid))
        if site is None:
            raise Refused(Fault.NOT_FOUND, "no rules are in force: nothing was imported yet")
        ready = ready_series(router, unit, study, now)
        if len(ready) < len(study.series):
            arriving = len(study.series) - len(ready)
            raise Refused(
                Fault.WRONG_STATE,
                f"{arriving} series of the study are still being received; it is routed by itself when they are there",
            )
        before = frozenset(job.id for job in unit.jobs.of_study(study_uid))
        routing = route_ready(router, unit, study, site, ready, anew=True)
        return _compared(site, routing, before, unit.jobs.of_study(study_uid), study_uid)


def _compared(
    site: SiteFile, routing: Routing, before: frozenset[str], jobs: Sequence[Job], study_uid: str
) -> Rerouted:
    asked = {(planned.pipeline, planned.input_set) for planned in routing.jobs}
    made = tuple(job for job in jobs if job.id not in before)
    subjects = {(job.pipeline, job.primary.series_uid) for job in made}
    standing = [job for job in jobs if job.id in before and job.state in _STANDING and job.pipeline != FORWARD]
    return Rerouted(
        study_uid=study_uid,
        rule_set_version=site.version,
        decisions=routing.decisions,
        made=made,
        kept=tuple(job for job in standing if (job.pipeline, job.input_set) in asked),
        unasked=tuple(
            job
            for job in standing
            if (job.pipeline, job.input_set) not in asked and (job.pipeline, job.primary.series_uid) not in subjects
        ),
    )
