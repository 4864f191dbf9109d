"""Runs one stage: inputs from files, the pipeline's function, its results checked and left as files."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.dicom import seg, sr
from orchestrator.dicom.identity import read_identity
from orchestrator.dicom.regions import read_regions
from orchestrator.dicom.volume import SourceVolume, read_volume
from orchestrator.domain.errors import Broken, Fault, TendonError, Transient
from orchestrator.domain.pipeline import REPORT_STAGE
from orchestrator.domain.result import Results, canonical_json
from orchestrator.fhir import report as fhir
from orchestrator.picture import draw, page
from orchestrator.ports import ReportRequest
from orchestrator.service.reporting import build_outputs
from workers.perform.task import OUTPUTS_FILE, Task, TaskInput, load_results, save_error, save_results

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Report = Callable[[float, str], None]

_BUILDERS = (seg.build, sr.build, fhir.build, draw.build, page.build)


def run_stage(work: Path, report: Report) -> None:
    """Run the stage of a work folder; whatever happens, a result or an error is left there."""
    try:
        task = Task.load(work)
        if task.stage == REPORT_STAGE:
            _build_report(task, work)
        else:
            _run_pipeline(task, work, report)
    except TendonError as error:
        save_error(work, error)
    except MemoryError:
        save_error(work, Broken(Fault.MEMORY_LIMIT))
    except OSError as error:
        save_error(work, Transient(Fault.STAGE_DIED, f"the stage could not read or write: {error.strerror}"))
    except Exception as error:  # noqa: BLE001 - whatever a pipeline raises must end as a job's reason
        save_error(work, Broken(Fault.PIPELINE_FAULT, _place(error)))


def _place(error: Exception) -> str:
    """Kind and innermost place of a fault; its text may quote the images, so it stays out."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    line = traceback.tb_lineno if traceback else 0
    file = Path(traceback.tb_frame.f_code.co_filename).name if traceback else "?"
    return f"the stage failed with {type(error).__name__} in {file}, line {line}"


def _run_pipeline(task: Task, work: Path, report: Report) -> None:
    function = getattr(_load_pipeline(task), task.stage, None)
    if function is None:
        raise Broken(Fault.PIPELINE_FAULT, f"pipeline.py of {task.pipeline} has no stage {task.stage}")
    inputs = _read_inputs(task)
    if task.previous:
        inputs["results"] = load_results(task.previous)
    results = function(inputs, {}, report)
    _check(task, results, inputs)
    save_results(work, results)


def _load_pipeline(task: Task) -> ModuleType:
    """The pipeline's code, loaded by path as package `tendon_pipeline_<name>`."""
    name = f"tendon_pipeline_{task.pipeline}"
    spec = importlib.util.spec_from_file_location(
        name, Path(task.folder) / "pipeline.py", submodule_search_locations=[task.folder]
    )
    if spec is None or spec.loader is None:
        raise Broken(Fault.PIPELINE_FAULT, f"{task.pipeline} has no pipeline.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _read_inputs(task: Task) -> dict[str, Any]:
    sources: dict[str, SourceVolume] = {}
    inputs: dict[str, Any] = {}
    for given in task.inputs:
        if given.kind == "volume":
            sources[given.name] = read_volume(given.files)
            inputs[given.name] = sources[given.name].volume
        elif given.kind == "region":
            inputs[given.name] = _read_region(given, sources[given.on])
        else:
            raise Broken(Fault.PIPELINE_FAULT, f"inputs of kind {given.kind} cannot be read yet")
    return inputs


def _read_region(given: TaskInput, source: SourceVolume) -> Any:
    regions = read_regions(given.files, source)
    return regions if given.many else regions[0]


def _check(task: Task, results: Results, inputs: dict[str, Any]) -> None:
    """Results must be what the manifest declares, on the grid of the primary input."""
    shape = inputs[task.inputs[0].name].grid.shape
    labels = [segment.label for segment in results.segments]
    faults = [f"segment type {s.type} is not declared" for s in results.segments if str(s.type) not in task.segments]
    faults += [
        f"measurement {m.name} is not declared" for m in results.measurements if str(m.name) not in task.measurements
    ]
    faults += [f"mask of {s.label!r} is {s.mask.shape}, not {shape}" for s in results.segments if s.mask.shape != shape]
    if len(set(labels)) < len(labels):
        faults.append("two segments have the same label")
    faults += [
        f"a measurement names no segment: {m.name}"
        for m in results.measurements
        if m.segment and m.segment not in labels
    ]
    if faults:
        raise Broken(Fault.RESULT_INVALID, f"{task.pipeline}: {faults[0]}")


def _build_report(task: Task, work: Path) -> None:
    """Build every output once and list it in outputs.json."""
    source = read_volume(task.inputs[0].files)
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
