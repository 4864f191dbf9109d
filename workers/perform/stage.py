"""Runs one stage: the pipeline's function on its inputs, its results checked and left as files, or the reason."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from orchestrator.dicom import seg, sr
from orchestrator.dicom.identity import read_identity
from orchestrator.dicom.volume import read_volume
from orchestrator.domain.errors import Broken, Fault, TendonError, Transient, is_full
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.result import Results, canonical_json
from orchestrator.fhir import report as fhir
from orchestrator.picture import draw, page
from orchestrator.ports import ReportRequest
from orchestrator.service.reporting import build_outputs
from workers.perform.computing import HostDevice, fault_of
from workers.perform.inputs import read_inputs, shape_of
from workers.perform.models import Models, Pipelines, parameters_of
from workers.perform.task import OUTPUTS_FILE, Task, load_results, save_error, save_results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Report = Callable[[float, str], None]

_BUILDERS = (seg.build, sr.build, fhir.build, draw.build, page.build)


def run_stage(work: Path, report: Report) -> None:
    """Run the stage of a work folder on the processor; whatever happens, a result or an error is left there."""
    with reasons_left_in(work):
        task = Task.load(work)
        if task.stage == REPORT_STAGE:
            _build_report(task, work)
        else:
            inputs = read_inputs(task)
            shape = shape_of(task, inputs)
            models = Models(HostDevice(), 0, Lock())
            leave(work, task, shape, compute(task, inputs, report, Pipelines(), models))


@dataclass
class Reason:
    """Why a stage has no result; None while there is no such reason."""

    error: TendonError | None = None


@contextmanager
def reasons_left_in(work: Path) -> Iterator[Reason]:
    """Turn whatever is raised inside into the stage's reason, left in its work folder while anybody wants it."""
    reason = Reason()
    try:
        yield reason
    except Exception as error:  # noqa: BLE001 - whatever a pipeline raises must end as a job's reason
        reason.error = _as_reason(error)
        if work.is_dir():
            save_error(work, reason.error)


def _as_reason(error: Exception) -> TendonError:
    if isinstance(error, TendonError):
        return error
    fault = fault_of(error)
    if fault is Fault.MEMORY_LIMIT:
        return Broken(fault)
    if fault is not None:
        return Transient(fault)
    if isinstance(error, OSError) and is_full(error):
        return Transient(Fault.STORAGE_LOW)
    if isinstance(error, OSError):
        return Transient(Fault.STAGE_DIED, f"the stage could not read or write: {error.strerror}")
    return Broken(Fault.PIPELINE_FAULT, _place(error))


def _place(error: Exception) -> str:
    """Kind and innermost place of a fault; its text may quote the images, so it stays out."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    line = traceback.tb_lineno if traceback else 0
    file = Path(traceback.tb_frame.f_code.co_filename).name if traceback else "?"
    return f"the stage failed with {type(error).__name__} in {file}, line {line}"


def compute(task: Task, inputs: Mapping[str, Any], report: Report, pipelines: Pipelines, models: Models) -> Results:
    """What the pipeline's function finds; all its work on the device is done."""
    module = pipelines.module(task)
    function = getattr(module, task.stage, None)
    if function is None:
        raise Broken(Fault.PIPELINE_FAULT, f"pipeline.py of {task.pipeline} has no stage {task.stage}")
    results: Results = function(inputs, parameters_of(task, module, models), report)
    models.device.synchronise()
    return results


def leave(work: Path, task: Task, shape: tuple[int, ...] | None, results: Results) -> None:
    """Leave results, once they are what the manifest declares, on the grid of the primary input.

    Raises Broken RESULT_INVALID.
    """
    labels = [segment.label for segment in results.segments]
    faults = [f"segment type {s.type} is not declared" for s in results.segments if str(s.type) not in task.segments]
    faults += [
        f"measurement {m.name} is not declared" for m in results.measurements if str(m.name) not in task.measurements
    ]
    faults += [
        f"mask of {s.label!r} is {s.mask.shape}, not {shape}"
        for s in results.segments
        if shape is not None and s.mask.shape != shape
    ]
    if len(set(labels)) < len(labels):
        faults.append("two segments have the same label")
    faults += [
        f"a measurement names no segment: {m.name}"
        for m in results.measurements
        if m.segment and m.segment not in labels
    ]
    if faults:
        raise Broken(Fault.RESULT_INVALID, f"{task.pipeline}: {faults[0]}")
    save_results(work, results)


def _build_report(task: Task, work: Path) -> None:
    """Build every output once and list it in outputs.json."""
    source = read_volume(task.source)
    request = ReportRequest(
        results=load_results(task.previous),
        provenance=task.provenance,
        volume=source.volume,
        source_files=source.files,
        identity=read_identity(source.files[0]),
    )
    listed = []
    for number, built in enumerate(build_outputs(request, _BUILDERS)):
        (work / f"output-{number}").write_bytes(built.data)
        entry = {name: value for name, value in asdict(built).items() if name != "data"}
        listed.append({**entry, "file": f"output-{number}"})
    (work / OUTPUTS_FILE).write_bytes(canonical_json(listed))
