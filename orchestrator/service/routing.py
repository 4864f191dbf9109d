"""Ready series become decisions, jobs and stages, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Fault
from orchestrator.domain.job import Job
from orchestrator.domain.notice import Happening
from orchestrator.domain.route import Decision, decide, early
from orchestrator.domain.snapshot import record_of
from orchestrator.domain.sooner import certain
from orchestrator.domain.study import readiness
from orchestrator.domain.subject import subject_of
from orchestrator.domain.summary import summary_of
from orchestrator.domain.upstream import identity_of
from orchestrator.service.circumstances import circumstances, sites_of
from orchestrator.service.depending import (
    Moment,
    add_job,
    is_replaceable,
    jobs_as_upstream,
    settle_orphans,
    supersede,
)
from orchestrator.service.forwarding import forward
from orchestrator.service.noticing import tell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.route import PlannedJob, Routing
    from orchestrator.domain.site import SiteFile
    from orchestrator.domain.study import Study
    from orchestrator.ports import Clock, Identifiers, Records, Unit
    from orchestrator.site import Catalog, Rulebook

_PUT_OFF: Final = timedelta(seconds=60)
_STUDY_CHANGED: Final = "the study changed and was routed again"
_ROUTED_ANEW: Final = "an operator had the study routed again"


@dataclass(frozen=True, slots=True)
class Router:
    """What routing needs."""

    records: Records
    rulebook: Rulebook
    catalog: Catalog
    clock: Clock
    identifiers: Identifiers
    quiet_s: float
    time_zone: str = "UTC"


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
        ready = ready_series(router, unit, study, now)
        if all(study_series.is_settled for study_series in study.series if study_series.uid in ready):
            return
        route_ready(router, unit, study, site, ready)


def route_ready(
    router: Router, unit: Unit, study: Study, site: SiteFile, ready: Mapping[str, str], *, anew: bool = False
) -> Routing:
    """Decide on these series of a study that is held; `ready` names each with the signal that it has arrived.

    Inputs on which a job stands get no other, whatever build of its pipeline it is by. A superseded job does not
    stand; `anew`, neither does one that was given up: then the next generation is made, and no order is waited for.
    """
    moment = Moment(unit, router.catalog.manifests(), router.identifiers, router.clock.now())
    is_whole = len(ready) == len(study.series)
    known = jobs_as_upstream(moment, study.uid)
    around = circumstances(unit, study, site, router.rulebook.procedures(site.procedures), router.time_zone)
    subject = subject_of(replace(study, series=tuple(s for s in study.series if s.uid in ready)), around.facts)
    rules = router.rulebook.rules(site.rules)
    no_order = around.no_order_at(moment.now, is_awaited=not anew)
    routing = decide(subject, rules, moment.manifests, earlier=known, anew=anew, no_order=no_order)
    if routing.waits_s:
        _wait(moment, study, site, ready, routing, until=around.began_at + timedelta(seconds=routing.waits_s))
        return routing
    jobs = {identity_of(earlier.job): earlier.job for earlier in known}
    for planned in routing.jobs if is_whole else early(routing.jobs, moment.manifests, list(jobs)):
        _add_job(moment, study, site, planned, jobs, reason=_ROUTED_ANEW if anew else _STUDY_CHANGED)
    forward(moment, study, site, routing.forwards if is_whole else certain(routing.forwards, rules, subject))
    if is_whole:
        settle_orphans(moment, study.uid)
        unit.jobs.add_decisions(study.uid, study.revision, site.version, moment.now, routing.decisions)
        unit.studies.describe(summary_of(study), record_of(subject), sites_of(unit, study, site))
        reason = f"jobs asked for: {len(routing.jobs)}"
        tell(unit, Happening(event="study.routed", at=moment.now, study_uid=study.uid, state="routed", reason=reason))
    found = {series.uid: ready[series.uid] for series in study.series if series.uid in ready and not series.is_settled}
    unit.studies.find_ready(study.uid, found, moment.now)
    unit.studies.settle(study.uid, ready, close=is_whole)
    return routing


def _wait(  # noqa: PLR0917
    moment: Moment, study: Study, site: SiteFile, ready: Mapping[str, str], routing: Routing, until: datetime
) -> None:
    """Nothing is settled: the study is looked at again then, or when its order comes. Each rule says so once."""
    unit = moment.unit
    said = {(revision, decision) for revision, _, _, decision in unit.jobs.decisions(study.uid)}
    new = [decision for decision in routing.decisions if (study.revision, decision) not in said]
    unit.jobs.add_decisions(study.uid, study.revision, site.version, moment.now, new)
    unit.studies.find_ready(study.uid, ready, moment.now)
    for series_uid in ready:
        unit.studies.postpone(series_uid, until)


def ready_series(router: Router, unit: Unit, study: Study, now: datetime) -> dict[str, str]:
    """UIDs of the series that have arrived, each with its signal; the others are looked at when their time comes."""
    ready = {}
    for series in study.series:
        state = readiness(series, now=now, quiet_s=router.quiet_s)
        if series.is_settled:
            ready[series.uid] = series.signal
        elif state.is_ready:
            ready[series.uid] = state.signal
        elif state.ready_at is not None:
            unit.studies.postpone(series.uid, state.ready_at)
    return ready


def _add_job(
    moment: Moment, study: Study, site: SiteFile, planned: PlannedJob, jobs: dict[str, Job], *, reason: str
) -> None:
    """Add a planned job unless it exists; `jobs` are those that the study had before this routing, by identity."""
    if planned.identity in jobs:
        return
    for identity, job in list(jobs.items()):
        subject = (job.pipeline, job.primary.series_uid)
        if subject == (planned.pipeline, planned.inputs[0].series_uid) and is_replaceable(job):
            supersede(moment.unit, job, moment.now, reason)
            del jobs[identity]
    add_job(moment, _new_job(moment, study, site, planned), study)


def _new_job(moment: Moment, study: Study, site: SiteFile, planned: PlannedJob) -> Job:
    return Job(
        id=moment.identifiers.new(),
        study_uid=study.uid,
        study_revision=study.revision,
        pipeline=planned.pipeline,
        version=planned.version,
        package_digest=planned.package_digest,
        inputs=planned.inputs,
        input_set=planned.input_set,
        generation=planned.generation,
        priority=planned.priority,
        send=planned.send,
        release=planned.release,
        rule_set_version=site.version,
        rules=planned.rules,
        created_at=moment.now,
        changed_at=moment.now,
    )
