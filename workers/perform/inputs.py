"""Inputs of a stage, read from files into what pipelines work on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.dicom.regions import read_regions
from orchestrator.dicom.volume import SourceVolume, read_volume
from orchestrator.domain.errors import Broken, Fault, Unfit
from orchestrator.domain.geometry import Volume
from orchestrator.domain.result import Results
from workers.perform.task import Task, TaskInput, load_results

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_inputs(task: Task) -> dict[str, Any]:
    """The stage's inputs by name, and what the stage before it left as `results`.

    A volume is a `Volume`, a region a `Region` or a tuple of them, a result the `Results` of the other pipeline;
    what is not required and absent is None. Raises Unfit as `read_volume` and `read_regions`, UPSTREAM_MISSING
    for a result that lacks the segment wanted or lies on another grid.
    """
    sources: dict[str, SourceVolume] = {}
    inputs: dict[str, Any] = {}
    for given in task.inputs:
        if not (given.files or given.artefacts):
            inputs[given.name] = None
        elif given.kind == "volume":
            sources[given.name] = read_volume(given.files)
            inputs[given.name] = sources[given.name].volume
        elif given.kind == "region":
            regions = read_regions(given.files, sources[given.on])
            inputs[given.name] = regions if given.many else regions[0]
        elif given.kind == "result":
            inputs[given.name] = _read_result(given, inputs)
        else:
            raise Broken(Fault.PIPELINE_FAULT, f"inputs of kind {given.kind} cannot be read yet")
    if task.previous:
        inputs["results"] = load_results(task.previous)
    return inputs


def _read_result(given: TaskInput, inputs: Mapping[str, Any]) -> Results | None:
    """What another pipeline found, on the grid of the first input, narrowed to the type of segment wanted."""
    results = _narrowed(load_results(given.artefacts), given)
    if given.segment and not results.segments:
        if given.required:
            raise Unfit(Fault.UPSTREAM_MISSING, f"input {given.name}: the result holds no segment {given.segment}")
        return None
    primary = next(iter(inputs.values()), None)
    if isinstance(primary, Volume) and any(s.mask.shape != primary.grid.shape for s in results.segments):
        raise Unfit(Fault.UPSTREAM_MISSING, f"input {given.name}: the result lies on another grid than the images")
    return results


def _narrowed(results: Results, given: TaskInput) -> Results:
    """The segments of the type wanted, and the measurements on them or on none."""
    if not given.segment:
        return results
    segments = tuple(s for s in results.segments if str(s.type) == given.segment)
    labels = {segment.label for segment in segments}
    measurements = tuple(m for m in results.measurements if m.segment is None or m.segment in labels)
    return replace(results, segments=segments, measurements=measurements)


def shape_of(task: Task, inputs: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape (z, y, x) of the grid that results refer to; None where no input shows it."""
    primary = inputs[task.inputs[0].name]
    if isinstance(primary, Volume):
        return primary.grid.shape
    if isinstance(primary, Results) and primary.segments:
        return tuple(primary.segments[0].mask.shape)
    return None
