"""A worker: leases stages, has them run in a confined child, and hands in what the child leaves."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.errors import Broken, Fault, TendonError, Transient
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.result import Provenance
from orchestrator.ports import BuiltObject
from orchestrator.service.reporting import content_time
from orchestrator.service.working import claim_stage, complete_report, complete_stage, fail_stage, renew_lease
from workers.perform.task import OUTPUTS_FILE, RESULTS_FILE, Task, TaskInput, load_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from threading import Event

    from orchestrator.domain.job import Job
    from orchestrator.domain.pipeline import Manifest, StagePlan
    from orchestrator.domain.queue import Queue
    from orchestrator.ports import Catalog, ClaimedStage, Objects
    from orchestrator.service.working import Workshop

_IDLE_PAUSE_S: Final = 0.05
_PAUSE_AFTER_FAULT_S: Final = 2.0
_CHILD_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
_log = logging.getLogger("tendon.worker")


class LostLeaseError(Exception):
    """The stage belongs to another worker now, or its job was cancelled."""


class Forge:
    """The warm parent of the stage's children (`python -m workers.perform`), started again when it is gone."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def start(self) -> None:
        """Start it and wait until everything a stage needs is imported."""
        self.close()
        self._messages = SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and a number
            [sys.executable, "-m", "workers.perform", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_CHILD_ENVIRONMENT,
        )
        Thread(target=_listen, args=(self._process, self._messages), daemon=True, name="forge-messages").start()
        if "ready" not in self._messages.get():
            raise Broken(Fault.STAGE_DIED, "the process that runs stages does not start")

    @property
    def pid(self) -> int:
        """The process in charge now."""
        assert self._process is not None
        return self._process.pid

    def run(self, work: Path, plan: StagePlan, beat_s: float, renew: Callable[[float, str], bool]) -> str:
        """Run the stage of a work folder; says how it ended: done, died or timeout.

        `renew(progress, text)` is called every `beat_s`; when it says False the child is ended and
        LostLeaseError raised.
        """
        if self._process is None or self._process.poll() is not None:
            self.start()
        self._tell({"work": str(work), "memory_mb": plan.memory_mb, "timeout_s": plan.timeout_s})
        progress, text, next_beat = 0.0, "", time.monotonic() + beat_s
        while True:
            with suppress(Empty):
                message = self._messages.get(timeout=max(next_beat - time.monotonic(), 0.001))
                if "ended" in message:
                    return str(message["ended"])
                progress, text = message["progress"], message["text"]
            if time.monotonic() >= next_beat:
                next_beat += beat_s
                if not renew(progress, text):
                    self._tell({"stop": True})
                    while "ended" not in self._messages.get():
                        pass
                    raise LostLeaseError

    def _tell(self, order: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End it, and with it any child."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _listen(process: subprocess.Popen[bytes], messages: SimpleQueue[dict[str, Any]]) -> None:
    assert process.stdout is not None
    with suppress(ValueError):
        for line in process.stdout:
            messages.put(json.loads(line))
    messages.put({"ended": "died"})


@dataclass(frozen=True, slots=True)
class Bench:
    """What a worker needs. `work_dir` is its own and is removed at the end."""

    workshop: Workshop
    objects: Objects
    catalog: Catalog
    installation: str
    environment: str
    work_dir: Path
    queues: Sequence[Queue]
    owner: str


def work_until(bench: Bench, stopping: Event) -> None:
    """Lease and run stages of the bench's lanes until told to stop."""
    forge = Forge()
    forge.start()
    try:
        while not stopping.is_set():
            try:
                if not work_once(bench, forge):
                    stopping.wait(_IDLE_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - the worker must outlive any fault of one stage
                _log.error("worker: %s", type(error).__name__)
                stopping.wait(_PAUSE_AFTER_FAULT_S)
    finally:
        forge.close()
        shutil.rmtree(bench.work_dir, ignore_errors=True)


def work_once(bench: Bench, forge: Forge) -> bool:
    """Lease one stage and see it to its end; False when there is none."""
    claimed = claim_stage(bench.workshop, bench.queues, bench.owner)
    if claimed is None:
        return False
    work = bench.work_dir / f"{claimed.stage.id}-{claimed.stage.attempt}"
    work.mkdir(parents=True)
    try:
        _run(bench, forge, claimed, work)
    except LostLeaseError:
        _log.warning("stage %s was taken over or cancelled", claimed.stage.id)
    except TendonError as error:
        fail_stage(bench.workshop, claimed, error)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True


def _run(bench: Bench, forge: Forge, claimed: ClaimedStage, work: Path) -> None:
    manifest = _manifest(bench, claimed.job)
    plan = manifest.stage(claimed.stage.name)
    _task(bench, claimed, manifest, plan).save(work)
    ended = forge.run(
        work,
        plan,
        bench.workshop.lease_s / 3,
        lambda progress, text: renew_lease(bench.workshop, claimed.stage, progress, text),
    )
    if ended == "timeout":
        raise Transient(Fault.STAGE_TIMEOUT, f"stage {plan.name} ran longer than {plan.timeout_s:g} s")
    error = load_error(work)
    if error is not None:
        raise error
    if ended != "done":
        raise Transient(Fault.STAGE_DIED)
    _hand_in(bench, claimed, manifest, work)


def _manifest(bench: Bench, job: Job) -> Manifest:
    manifest = bench.catalog.manifests().get(job.pipeline)
    if manifest is None or manifest.version != job.version:
        raise Broken(Fault.UNKNOWN_PIPELINE, f"{job.pipeline} {job.version} is no longer installed")
    return manifest


def _task(bench: Bench, claimed: ClaimedStage, manifest: Manifest, plan: StagePlan) -> Task:
    job = claimed.job
    declared = {given.name: given for given in manifest.inputs}
    with bench.workshop.records.reading() as unit:
        done = [s for s in unit.jobs.stages(job.id) if s.state == "done"]
        study = unit.studies.get(job.study_uid)
    previous = done[-1].artefacts if done else {}
    primary = {i.header.sop_instance_uid: i.header for s in study.series for i in s.instances} if study else {}
    return Task(
        pipeline=job.pipeline,
        folder=manifest.folder,
        stage=plan.name,
        inputs=tuple(
            TaskInput(
                name=given.name,
                kind=given.kind,
                files=tuple(bench.objects.path(digest) for digest in given.instances.values()),
                on=declared[given.name].on,
                many=declared[given.name].count == "all",
            )
            for given in job.inputs
        ),
        segments=manifest.segments,
        measurements=manifest.measurements,
        provenance=_provenance(bench, job, manifest, [primary[uid].content_time for uid in job.primary.instances]),
        memory_mb=plan.memory_mb,
        previous={name: bench.objects.path(digest) for name, digest in previous.items()},
    )


def _provenance(bench: Bench, job: Job, manifest: Manifest, content_times: Sequence[str]) -> Provenance:
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
        source_series_uid=job.primary.series_uid,
        input_uids=tuple(sorted(uid for given in job.inputs for uid in given.instances)),
        input_set=job.input_set,
        generation=job.generation,
        content_time=content_time(bench.environment, content_times, job.created_at),
    )


def _hand_in(bench: Bench, claimed: ClaimedStage, manifest: Manifest, work: Path) -> None:
    if claimed.stage.name == REPORT_STAGE:
        built = []
        for entry in json.loads((work / OUTPUTS_FILE).read_bytes()):
            data = (work / entry.pop("file")).read_bytes()
            built.append((BuiltObject(**entry, data=data), _store(bench, data)))
        complete_report(bench.workshop, claimed, built)
    else:
        left = [work / RESULTS_FILE, *sorted(work.glob("mask-*.npz"))]
        artefacts = {path.name: _store(bench, path.read_bytes()) for path in left}
        complete_stage(bench.workshop, claimed, manifest, artefacts)


def _store(bench: Bench, data: bytes) -> str:
    writer = bench.objects.begin()
    try:
        writer.write(data)
        return writer.commit().digest
    finally:
        writer.discard()
