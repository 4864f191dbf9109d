"""Series go on as they were received: one job without stages for each, whose outputs are the objects themselves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from orchestrator.domain.delivery import Delivery, Output, job_state, wants
from orchestrator.domain.errors import Fault
from orchestrator.domain.job import Job, JobInput
from orchestrator.domain.result import canonical_json
from orchestrator.domain.route import FORWARD
from orchestrator.service.noticing import add_job, save_job, tell_of_quarantine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.domain.delivery import Destination
    from orchestrator.domain.route import Forward
    from orchestrator.domain.site import SiteFile
    from orchestrator.domain.study import Instance, Series, Study
    from orchestrator.ports import Unit
    from orchestrator.service.depending import Moment

_GIVEN_UP: Final = ("superseded", "withdrawn")
_INPUT: Final = "received"

Sent = set[tuple[str, str, str]]
"""SOP Instance UID, digest and destination of what goes, or went, to it."""


def forward(moment: Moment, study: Study, site: SiteFile, asked: Sequence[Forward]) -> None:
    """Have what was not sent on yet go to where rules want it; each object goes to a destination once.

    Another version of an object that takes its place goes again. The study is held.
    """
    if not asked:
        return
    by_uid = {series.uid: series for series in study.series}
    earlier = [job for job in moment.unit.jobs.of_study(study.uid) if job.pipeline == FORWARD]
    sent = _sent(moment.unit, earlier)
    for one in asked:
        _forward_series(moment, study, site, one, by_uid[one.series_uid], sent, earlier)


def _sent(unit: Unit, earlier: Sequence[Job]) -> Sent:
    found: Sent = set()
    for job in earlier:
        outputs = {output.id: output for output in unit.deliveries.outputs(job.id)}
        for delivery in unit.deliveries.of_job(job.id):
            if delivery.state not in _GIVEN_UP:
                output = outputs[delivery.output_id]
                found.add((output.sop_instance_uid, output.digest, delivery.destination))
    return found


def _forward_series(  # noqa: PLR0917
    moment: Moment, study: Study, site: SiteFile, asked: Forward, series: Series, sent: Sent, earlier: Sequence[Job]
) -> None:
    to_send = {
        instance.header.sop_instance_uid: (instance, names)
        for instance in series.instances
        if (names := [name for name in asked.to if (*_named(instance), name) not in sent])
    }
    if not to_send:
        return
    job = _job(moment, study, site, asked, series, [instance for instance, _ in to_send.values()], earlier)
    add_job(moment.unit, job)
    known = {destination.name: destination for destination in site.destinations}
    opened = []
    for instance, names in to_send.values():
        output = _output(moment, job, instance)
        moment.unit.deliveries.add_output(output)
        opened += [_delivery(moment, job, output, name, known) for name in names]
    for delivery in opened:
        moment.unit.deliveries.add(delivery)
    state, reason = job_state(opened)
    save_job(moment.unit, job.changed(state, moment.now, reason=reason))
    tell_of_quarantine(moment.unit, opened, moment.now)


def _named(instance: Instance) -> tuple[str, str]:
    return instance.header.sop_instance_uid, instance.digest


def _job(  # noqa: PLR0917
    moment: Moment,
    study: Study,
    site: SiteFile,
    asked: Forward,
    series: Series,
    instances: Sequence[Instance],
    earlier: Sequence[Job],
) -> Job:
    given = JobInput(_INPUT, "objects", series.uid, dict(map(_named, instances)))
    content = {"pipeline": FORWARD, "to": list(asked.to), "objects": sorted(given.instances.items())}
    input_set = hashlib.sha256(canonical_json(content)).hexdigest()
    return Job(
        id=moment.identifiers.new(),
        study_uid=study.uid,
        study_revision=study.revision,
        pipeline=FORWARD,
        version="",
        inputs=(given,),
        input_set=input_set,
        generation=sum(job.input_set == input_set for job in earlier),
        priority=asked.priority,
        send=asked.to,
        release="at_once",
        rule_set_version=site.version,
        rules=asked.rules,
        created_at=moment.now,
        state="delivering",
        changed_at=moment.now,
    )


def _output(moment: Moment, job: Job, instance: Instance) -> Output:
    header = instance.header
    return Output(
        id=moment.identifiers.new(),
        job_id=job.id,
        kind="received",
        name=f"{hashlib.sha256(header.sop_instance_uid.encode()).hexdigest()[:32]}.dcm",
        digest=instance.digest,
        study_uid=header.study_uid,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        series_uid=header.series_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
    )


def _delivery(moment: Moment, job: Job, output: Output, name: str, known: Mapping[str, Destination]) -> Delivery:
    new = Delivery(
        moment.identifiers.new(), job.id, output.id, name, "waiting", moment.now, moment.now, priority=job.priority
    )
    fault = Fault.UNKNOWN_DESTINATION
    if name not in known:
        return new.quarantined(code=fault.code, reason=f"there is no destination named {name}")
    if not wants(known[name], output.kind):
        return new.quarantined(code=fault.code, reason=f"{name} takes no images")
    return new
