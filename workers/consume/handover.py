"""What a stage's process is given to work on, and how what it leaves is handed in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.result import Provenance
from orchestrator.ports import BuiltObject
from orchestrator.service.depending import artefacts_taken, source_of
from orchestrator.service.reporting import content_time
from orchestrator.service.working import complete_report, complete_stage
from workers.consume.lease import insist
from workers.perform.task import OUTPUTS_FILE, RESULTS_FILE, Task, TaskInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from threading import Event

    from orchestrator.domain.job import Job, JobInput
    from orchestrator.domain.pipeline import Manifest, StagePlan
    from orchestrator.ports import ClaimedStage, Objects, Unit
    from workers.consume import Bench


def task_of(bench: Bench, claimed: ClaimedStage, manifest: Manifest, plan: StagePlan) -> Task:
    """The stage's task; every file it names is checked against its digest.

    Raises Broken OBJECT_DAMAGED or NOT_FOUND, Transient DATABASE_UNREACHABLE.
    """
    job = claimed.job
    with bench.workshop.records.reading() as unit:
        done = [s for s in unit.jobs.stages(job.id) if s.state == "done"]
        artefacts = artefacts_taken(unit, job)
        source = source_of(unit, job)
        provenance = _provenance(bench, unit, job, source, manifest)
    return Task(
        pipeline=job.pipeline,
        folder=manifest.folder,
        stage=plan.name,
        inputs=(
            *(_input(bench.objects, manifest, given, artefacts.get(given.name, {})) for given in job.inputs),
            *_absent(job, manifest),
        ),
        segments=manifest.segments,
        measurements=manifest.measurements,
        provenance=provenance,
        memory_mb=plan.memory_mb,
        source=tuple(bench.objects.path(digest) for digest in source.instances.values()),
        weights=f"{manifest.folder}/{manifest.weights_file}" if manifest.weights_file else "",
        previous=_files(bench.objects, done[-1].artefacts) if done else {},
    )


def _input(objects: Objects, manifest: Manifest, given: JobInput, artefacts: Mapping[str, str]) -> TaskInput:
    declared = manifest.input(given.name)
    is_result = given.kind == "result"
    return TaskInput(
        name=given.name,
        kind=given.kind,
        files=() if is_result else tuple(objects.path(digest) for digest in given.instances.values()),
        on=declared.on,
        many=declared.count == "all",
        artefacts=_files(objects, artefacts),
        segment=declared.segment,
        required=declared.required,
    )


def _absent(job: Job, manifest: Manifest) -> Iterator[TaskInput]:
    """Inputs that are not required, and of which this job has none."""
    taken = {given.name for given in job.inputs}
    return (TaskInput(wanted.name, wanted.kind, ()) for wanted in manifest.inputs if wanted.name not in taken)


def _files(objects: Objects, artefacts: Mapping[str, str]) -> dict[str, str]:
    return {name: objects.path(digest) for name, digest in artefacts.items()}


def _provenance(bench: Bench, unit: Unit, job: Job, source: JobInput, manifest: Manifest) -> Provenance:
    study = unit.studies.get(job.study_uid)
    headers = {i.header.sop_instance_uid: i.header for s in study.series for i in s.instances} if study else {}
    images = [given for given in (source, *job.inputs) if given.kind != "result"]
    return Provenance(
        installation=bench.installation,
        environment=bench.environment,
        pipeline=manifest.name,
        version=manifest.version,
        title=manifest.title,
        intended_use=manifest.intended_use,
        standing=manifest.standing,
        package_digest=manifest.package_digest,
        weights_digest=manifest.weights_digest,
        rule_set_version=job.rule_set_version,
        study_uid=job.study_uid,
        source_series_uid=source.series_uid,
        input_uids=tuple(sorted({uid for given in images for uid in given.instances})),
        input_set=job.input_set,
        generation=job.generation,
        content_time=content_time(
            bench.environment, [headers[uid].content_time for uid in source.instances if uid in headers], job.created_at
        ),
    )


def hand_in(bench: Bench, claimed: ClaimedStage, manifest: Manifest, work: Path, stopping: Event) -> bool:
    """Store what the stage's process left, then have it accepted; False when another attempt owns the stage.

    Asks again while the records do not answer. Raises Broken STORE_FAILED, Transient STAGE_DIED where nothing was
    left, AbandonedError.
    """
    is_report = claimed.stage.name == REPORT_STAGE
    if not (work / (OUTPUTS_FILE if is_report else RESULTS_FILE)).is_file():
        raise Transient(Fault.STAGE_DIED)
    if is_report:
        built = _built(bench.objects, work)
        return insist(lambda: complete_report(bench.workshop, claimed, built), stopping)
    left = [work / RESULTS_FILE, *sorted(work.glob("mask-*.npz"))]
    artefacts = {path.name: _store(bench.objects, path.read_bytes()) for path in left}
    return insist(lambda: complete_stage(bench.workshop, claimed, manifest, artefacts), stopping)


def _built(objects: Objects, work: Path) -> Sequence[tuple[BuiltObject, str]]:
    built = []
    for entry in json.loads((work / OUTPUTS_FILE).read_bytes()):
        data = (work / entry.pop("file")).read_bytes()
        built.append((BuiltObject(**entry, data=data), _store(objects, data)))
    return built


def _store(objects: Objects, data: bytes) -> str:
    writer = objects.begin()
    try:
        writer.write(data)
        return writer.commit().digest
    finally:
        writer.discard()
