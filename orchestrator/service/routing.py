"""Ready series become decisions, jobs and stages, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import SUPERSEDED_REASON
from orchestrator.domain.errors import Fault
from orchestrator.domain.job import Job, Stage
from orchestrator.domain.route import Decision, decide
from orchestrator.domain.study import readiness

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.route import PlannedJob, Routing
    from orchestrator.domain.study import Study
    from orchestrator.ports import Catalog, Clock, Identifiers, Records, Rulebook, SiteFile, Unit

_PUT_OFF: Final = timedelta(seconds=60)
_REPLACEABLE: Final = ("waiting", "running", "held", "failed", "delivering")


@dataclass(frozen=True, slots=True)
class Router:
    """What routing needs."""

    records: Records
    rulebook: Rulebook
    catalog: Catalog
    clock: Clock
    identifiers: Identifiers
    quiet_s: float


def due_studies(router: Router) -> list[str]:
    """UIDs of the studies with a series whose time has come."""
    with router.records.reading() as unit:
        return unit.studies.due(router.clock.now())


def put_off(router: Router, study_uid: str, reason: str) -> None:
    """Note why a study could not be routed and look at it again later, so that it holds up no other."""
    now = router.clock.now()
    failed = Decision("", "", "", is_yes=False, reason=reason, code=Fault.ROUTING_FAILED.code)
    with router.records.transaction() as unit:
        study, site = unit.studies.get(study_uid), unit.site.current()
        if study is None or site is None:
            return
        for series in study.series:
            unit.studies.postpone(series.uid, now + _PUT_OFF)
        if failed not in [decision for _, _, _, decision in unit.jobs.decisions(study_uid)]:
            unit.jobs.add_decisions(study_uid, study.revision, site.version, now, [failed])


def route_study(router: Router, study_uid: str) -> None:
    """Route the ready series of one study.

    While other series are still coming only jobs that nothing later can change are started; when
    all are ready the revision is closed and every yes and no is kept (I6).
    """
    now = router.clock.now()
    with router.records.transaction() as unit:
        unit.studies.hold(study_uid)
        site = unit.site.current()
        study = unit.studies.get(study_uid) if site else None
        if study is None or site is None:
            return
        ready = _ready_series(router, unit, study, now)
        if all(study_series.is_settled for study_series in study.series if study_series.uid in ready):
            return
        is_whole = len(ready) == len(study.series)
        manifests = router.catalog.manifests()
        routing = decide(
            replace(study, series=tuple(s for s in study.series if s.uid in ready)),
            router.rulebook.rules(site.rules),
            manifests,
            node=_node_facts(unit, study),
        )
        planned = routing.jobs if is_whole else _early(routing, manifests)
        for job in planned:
            _add_job(router, unit, study, site, job, manifests)
        if is_whole:
            unit.jobs.add_decisions(study_uid, study.revision, site.version, now, routing.decisions)
        unit.studies.settle(study_uid, ready, close=is_whole)


def _ready_series(router: Router, unit: Unit, study: Study, now: datetime) -> frozenset[str]:
    ready = set()
    for series in study.series:
        state = readiness(series, now=now, quiet_s=router.quiet_s)
        if series.is_settled or state.is_ready:
            ready.add(series.uid)
        elif state.ready_at is not None:
            unit.studies.postpone(series.uid, state.ready_at)
    return frozenset(ready)


def _node_facts(unit: Unit, study: Study) -> Mapping[str, str]:
    visit = unit.studies.association(study.series[0].instances[0].association_id)
    return {"ae_title": visit.calling_ae} if visit else {}


def _early(routing: Routing, manifests: Mapping[str, Manifest]) -> tuple[PlannedJob, ...]:
    """Jobs that no later series of the study can change: one per series, and no input left open."""
    return tuple(
        job
        for job in routing.jobs
        if manifests[job.pipeline].primary.count == "each" and len(job.inputs) == len(manifests[job.pipeline].inputs)
    )


def _add_job(  # noqa: PLR0917
    router: Router,
    unit: Unit,
    study: Study,
    site: SiteFile,
    planned: PlannedJob,
    manifests: Mapping[str, Manifest],
) -> None:
    earlier = [job for job in unit.jobs.of_study(study.uid) if job.pipeline == planned.pipeline]
    if any(job.input_set == planned.input_set for job in earlier):
        return
    now = router.clock.now()
    for job in earlier:
        if job.primary.series_uid == planned.inputs[0].series_uid and job.state in _REPLACEABLE:
            supersede(unit, job, now)
    job = _new_job(router, study, site, planned, now)
    if len(study.patients) > 1:
        unit.jobs.add(
            replace(
                job,
                state="held",
                reason=Fault.IDENTITY_CONFLICT.value.meaning,
                code=Fault.IDENTITY_CONFLICT.code,
            )
        )
        return
    unit.jobs.add(job)
    unit.jobs.add_stage(first_stage(router.identifiers.new(), job, manifests[job.pipeline], now))


def _new_job(router: Router, study: Study, site: SiteFile, planned: PlannedJob, now: datetime) -> Job:
    return Job(
        id=router.identifiers.new(),
        study_uid=study.uid,
        study_revision=study.revision,
        pipeline=planned.pipeline,
        version=planned.version,
        inputs=planned.inputs,
        input_set=planned.input_set,
        generation=0,
        priority=planned.priority,
        send=planned.send,
        release=planned.release,
        rule_set_version=site.version,
        rules=planned.rules,
        created_at=now,
        changed_at=now,
    )


def first_stage(identifier: str, job: Job, manifest: Manifest, now: datetime) -> Stage:
    """The stage a new job begins with."""
    plan = manifest.stages[0]
    return Stage(
        id=identifier,
        job_id=job.id,
        name=plan.name,
        lane=plan.lane,
        gpu=plan.gpu,
        priority=job.priority,
        created_at=now,
        not_before=now,
    )


def supersede(unit: Unit, job: Job, now: datetime) -> None:
    """A newer input set takes the job's place; what was not delivered stays here."""
    for delivery in unit.deliveries.of_job(job.id):
        if delivery.state in ("waiting", "held", "quarantined"):
            unit.deliveries.save(replace(delivery, state="superseded", reason=SUPERSEDED_REASON))
    unit.jobs.save(job.changed("superseded", now, reason="the study changed and was routed again"))
