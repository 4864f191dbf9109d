"""Whose a study is, once objects of it came again with another identity: sending stops until that is decided (I5)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.identity import contradiction
from orchestrator.domain.version import asking, newest, why_ask
from orchestrator.service.classing import TENDON, alarm_subject, sound
from orchestrator.service.depending import Moment, is_replaceable, source_of, start_or_wait, supersede
from orchestrator.service.resuming import release
from orchestrator.service.settling import settle_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from orchestrator.domain.job import Job
    from orchestrator.domain.study import Instance
    from orchestrator.domain.version import Version
    from orchestrator.ports import Records, Unit
    from orchestrator.service.routing import Router

_CORRECTED = "the identity or content of its images was corrected"


@dataclass(frozen=True, slots=True)
class Asked:
    """An undecided version, the one in use, and the AE title that sent it."""

    version: Version
    current: Instance | None
    calling_ae: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a question: how many versions were taken or kept out, and what followed."""

    study_uid: str
    taken: int
    kept: int
    superseded: tuple[Job, ...]
    resumed: int


# by itself


def studies_in_question(router: Router) -> list[str]:
    """UIDs of the studies that `settle_question` would do something for, now or later."""
    with router.records.reading() as unit:
        return unit.versions.in_question()


def settle_question(router: Router, study_uid: str) -> None:
    """Stop what may not be sent; then, once all that came again is there and classed, take it or ask a person."""
    now = router.clock.now()
    with router.records.transaction() as unit:
        unit.studies.hold(study_uid)
        _hold_back(unit, study_uid, now)
        versions = unit.versions.of_study(study_uid)
        coming = [version for version in versions if version.standing == "open"]
        if not all(version.difference for version in coming) or _are_coming(unit, coming, now, router.quiet_s):
            return
        asked = asking(unit.studies.get(study_uid), versions)
        reason = why_ask(unit.studies.get(study_uid), asked, _authorities(unit, versions))
        if reason:
            for version in coming:
                unit.versions.save(replace(version, standing="asked", reason=reason))
            sound(unit, Fault.IDENTITY_CHANGED, study_uid, reason, now)
        else:
            moment = Moment(unit, router.catalog.manifests(), router.identifiers, now)
            _decide(moment, study_uid, asked, coming, TENDON)


def _hold_back(unit: Unit, study_uid: str, now: datetime) -> None:
    """What waits to be sent waits for the answer, and says so."""
    study, versions = unit.studies.get(study_uid), unit.versions.of_study(study_uid)
    for job in unit.jobs.of_study(study_uid):
        before = unit.deliveries.of_job(job.id)
        waiting = [delivery for delivery in before if delivery.state == "waiting"]
        doubt = contradiction(job, source_of(unit, job), study, versions) if waiting else None
        if doubt is not None:
            for delivery in waiting:
                unit.deliveries.save(delivery.stopped("held", code=doubt.fault.code, reason=doubt.reason))
            settle_job(unit, job.id, before, now)


def _are_coming(unit: Unit, versions: Iterable[Version], now: datetime, quiet_s: float) -> bool:
    """Whether more of the kind may follow: an association is open that brought one, or the last is not long ago."""
    return any(
        now < version.received_at + timedelta(seconds=quiet_s) or _is_open(unit, version.association_id)
        for version in versions
    )


def _is_open(unit: Unit, association_id: str) -> bool:
    visit = unit.studies.association(association_id)
    return visit is not None and visit.closed_at is None


def _authorities(unit: Unit, versions: Iterable[Version]) -> set[str]:
    """Those of the associations by which versions came that an identity authority's node had opened."""
    site = unit.site.current()
    names = {node.name for node in site.nodes if node.identity_authority} if site else set()
    visits = (unit.studies.association(name) for name in {version.association_id for version in versions})
    return {visit.id for visit in visits if visit is not None and visit.node in names}


# by a person


def open_questions(records: Records, study_uid: str) -> list[Asked]:
    """What a person is asked of a study. Raises Refused NOT_FOUND where nothing is."""
    with records.reading() as unit:
        return [_asked(unit, version) for version in _undecided(unit, study_uid)]


def _asked(unit: Unit, version: Version) -> Asked:
    visit = unit.studies.association(version.association_id)
    return Asked(version, unit.versions.current(version.uid), visit.calling_ae if visit else "")


def _undecided(unit: Unit, study_uid: str) -> list[Version]:
    found = [version for version in unit.versions.of_study(study_uid) if version.is_undecided]
    if not found:
        raise Refused(Fault.NOT_FOUND, f"nothing of study {study_uid[:80]} came again that is to be decided on")
    return found


def decide_question(router: Router, study_uid: str, *, take: bool, by: str) -> Decided:
    """Take what came again in the place of what is in use, as from an identity authority, or keep it out.

    What cannot be read is kept out. Raises Refused NOT_FOUND, or WRONG_STATE while it is still coming.
    """
    named = {asked.version.instance.header.study_uid for asked in open_questions(router.records, study_uid)}
    now = router.clock.now()
    with router.records.transaction() as unit:
        unit.studies.hold(study_uid, *named)
        undecided = _undecided(unit, study_uid)
        if any(_is_open(unit, version.association_id) for version in undecided):
            raise Refused(
                Fault.WRONG_STATE, "objects of the study are still being received; ask again when they are there"
            )
        readable = [version for version in undecided if not version.instance.header.unreadable]
        moment = Moment(unit, router.catalog.manifests(), router.identifiers, now)
        return _decide(moment, study_uid, newest(readable) if take else [], undecided, by)


# what follows


def _decide(moment: Moment, study_uid: str, taken: Sequence[Version], others: Iterable[Version], by: str) -> Decided:
    """Take versions; keep out `others`. What else there is of the same objects gives way, unless it was kept out."""
    unit, now = moment.unit, moment.now
    uids = {version.uid for version in taken}
    out = [version for version in others if version.uid not in uids]
    for version in out:
        unit.versions.save(version.decided("kept", by=by, now=now))
    for version in unit.versions.of_study(study_uid):
        gives_way = version.is_undecided or version.difference == "variant"
        if version.uid in uids and gives_way and version not in taken:
            unit.versions.save(version.decided("displaced", by=by, now=now))
    superseded = _exchange(moment, study_uid, taken, by) if taken else ()
    return Decided(study_uid, len(taken), len(out), superseded, _go_on(moment, study_uid))


def _exchange(moment: Moment, study_uid: str, taken: Sequence[Version], by: str) -> tuple[Job, ...]:
    """Put versions in use. What was made of the others and not delivered is superseded; the study is routed again."""
    unit, now = moment.unit, moment.now
    replaced = [used for version in taken if (used := unit.versions.current(version.uid)) is not None]
    digests = {instance.digest for instance in replaced}
    for version in taken:
        unit.versions.take(version.decided("taken", by=by, now=now), now)
    outdated = tuple(
        job for job in unit.jobs.of_study(study_uid) if is_replaceable(job) and digests & _images_of(unit, job)
    )
    for job in outdated:
        supersede(unit, job, now, _CORRECTED)
    study = unit.studies.get(study_uid)
    left = {series.uid for series in study.series} if study else set()
    emptied = {instance.header.series_uid for instance in replaced} - left
    if emptied:
        unit.studies.settle(study_uid, emptied, close=not left)
    return outdated


def _images_of(unit: Unit, job: Job) -> set[str]:
    """Digests of what the job works on, and of the images its results refer to."""
    return {digest for given in (source_of(unit, job), *job.inputs) for digest in given.instances.values()}


def _go_on(moment: Moment, study_uid: str) -> int:
    """Unless a question is left, what waited for the answer goes on; gives how many deliveries."""
    unit, now = moment.unit, moment.now
    study, versions = unit.studies.get(study_uid), unit.versions.of_study(study_uid)
    if not any(version.is_undecided for version in versions):
        unit.alarms.clear(Fault.CONTENT_CHANGED.code, alarm_subject(study_uid), now)
    if asking(study, versions):
        return 0
    unit.alarms.clear(Fault.IDENTITY_CHANGED.code, alarm_subject(study_uid), now)
    resumed = 0
    for job in unit.jobs.of_study(study_uid):
        resumed += release(unit, job, Fault.IDENTITY_CHANGED.code, now)
        is_held = (job.state, job.code) == ("held", Fault.IDENTITY_CONFLICT.code) and not unit.jobs.stages(job.id)
        if is_held and study is not None and len(study.patients) == 1:
            start_or_wait(moment, job)
    return resumed
