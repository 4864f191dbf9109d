"""What a demo run leaves: summary.json, pictures and the report page, all from the records."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.domain.geometry import arrange
from orchestrator.domain.study import plane_of
from orchestrator.picture.page import whole_page

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from orchestrator.assembly import System
    from orchestrator.domain.job import Stage
    from orchestrator.service.operating import JobStory, StudyStory


@dataclass(frozen=True, slots=True)
class Moments:
    """When the data's way reached its steps, in seconds from the first association."""

    received: float
    complete: float
    routed: float
    computed: float
    delivered: float
    overhead: float
    """From the last success to the last proof, less quiet time and pipeline compute."""


def moments(story: StudyStory, quiet_s: float) -> Moments:
    """The moments of one study's story."""
    opened_at = min(association.opened_at for association in story.associations)
    received = max(s.last_received_at for s in story.study.series)
    complete = max((at for _, _, at, _ in story.decisions), default=received)
    stages = [stage for job in story.jobs for stage in job.stages]
    routed = max([complete, *(job.job.created_at for job in story.jobs)])
    computed = max((s.finished_at for s in stages if s.finished_at), default=routed)
    delivered = max((d.proven_at for j in story.jobs for d in j.deliveries if d.proven_at), default=computed)
    overhead = (delivered - received).total_seconds() - quiet_s - _busy_s(stages)

    def since(moment: datetime) -> float:
        return round((moment - opened_at).total_seconds(), 3)

    return Moments(
        since(received), since(complete), since(routed), since(computed), since(delivered), round(overhead, 3)
    )


def _busy_s(stages: Iterable[Stage]) -> float:
    """Seconds in which at least one stage was at work."""
    spans = sorted((s.started_at, s.finished_at) for s in stages if s.started_at and s.finished_at)
    busy, until = timedelta(), None
    for start, end in spans:
        begin = start if until is None or start > until else until
        if until is None or end > until:
            busy += max(end - begin, timedelta())
            until = end
    return busy.total_seconds()


def summary(system: System, story: StudyStory, at: Moments, output: Path) -> dict[str, Any]:
    """summary.json of the run (DESIGN section 4); paths are relative to the output folder."""
    ehr = output / "ehr"
    return {
        "study_uid": story.study.uid,
        "jobs": [job_summary(system, job) for job in story.jobs],
        "objects": [entry for job in story.jobs for entry in _objects(job, output)],
        "ehr": sorted(str(path.relative_to(output)) for path in ehr.glob("*.json")),
        "seconds": {
            "received": at.received,
            "complete": at.complete,
            "routed": at.routed,
            "computed": at.computed,
            "delivered": at.delivered,
        },
    }


def job_summary(system: System, job: JobStory) -> dict[str, Any]:
    """One job: its state, how long each stage took, and what it found."""
    record, masks = _record(system, job)
    voxel_ml = _voxel_ml(system, job)
    return {
        "pipeline": job.job.pipeline,
        "state": job.job.state,
        "reason": job.job.reason,
        "stages": [{"name": s.name, "seconds": _seconds(s)} for s in job.stages],
        "segments": [
            {
                "label": s["label"],
                "code": f"{s['type'][1]}:{s['type'][0]}",
                "volume_ml": round(int(np.count_nonzero(masks[s["mask"]])) * voxel_ml, 3),
            }
            for s in record["segments"]
        ],
        "measurements": [
            {
                "code": f"{m['name'][1]}:{m['name'][0]}",
                "name": m["name"][2],
                "value": m["value"],
                "unit": m["unit"][0],
                "segment": m["segment"],
            }
            for m in record["measurements"]
        ],
        "scores": [
            {
                **{name: s[name] for name in ("value", "probability", "interval", "model", "version", "citation")},
                "name": s["name"][2],
                "inputs": s["inputs"],
                "missing": s["missing"],
            }
            for s in record["scores"]
        ],
        "notices": [n["text"] for n in record["notices"]],
    }


def _seconds(stage: Stage) -> float | None:
    if stage.started_at is None or stage.finished_at is None:
        return None
    return round((stage.finished_at - stage.started_at).total_seconds(), 3)


def _record(system: System, job: JobStory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record of results that the last stage before the report left, and its masks."""
    done = [s for s in job.stages if "results.json" in s.artefacts]
    if not done:
        return {"segments": [], "measurements": [], "scores": [], "notices": []}, {}
    artefacts = done[-1].artefacts
    masks = {}
    for name, digest in artefacts.items():
        if name.endswith(".npz"):
            with np.load(BytesIO(system.objects.read(digest)), allow_pickle=False) as stored:
                masks[name] = stored["mask"]
    return json.loads(system.objects.read(artefacts["results.json"])), masks


def _voxel_ml(system: System, job: JobStory) -> float:
    wanted = job.job.primary.instances
    with system.records.reading() as unit:
        study = unit.studies.get(job.job.study_uid)
    assert study is not None, "a job's study is there"
    planes = [plane_of(i.header) for s in study.series for i in s.instances if i.header.sop_instance_uid in wanted]
    return arrange(planes).grid.voxel_ml


def _objects(job: JobStory, output: Path) -> list[dict[str, Any]]:
    proven = {d.output_id for d in job.deliveries if d.destination == "pacs" and d.state == "proven"}
    return [
        {
            "kind": made.kind,
            "sop_class_uid": made.sop_class_uid,
            "sop_instance_uid": made.sop_instance_uid,
            "path": str((output / "pacs" / f"{made.sop_instance_uid}.dcm").relative_to(output)),
            "proven": made.id in proven,
        }
        for made in job.outputs
        if made.sop_instance_uid
    ]


def copy_pictures(system: System, story: StudyStory, folder: Path) -> list[Path]:
    """Put the pictures of the results where a person finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = []
    for job in story.jobs:
        for made in job.outputs:
            if made.kind == "picture":
                copied.append(folder / made.name)
                shutil.copyfile(system.objects.path(made.digest), copied[-1])
    return copied


def write_report(
    system: System, stories: Iterable[StudyStory], facts: dict[str, Any], problems: Iterable[str], path: Path
) -> None:
    """The page a radiologist and an admin can both read, from the pages of the jobs."""
    told = list(stories)
    pages = [
        system.objects.read(made.digest).decode()
        for story in told
        for job in story.jobs
        for made in job.outputs
        if made.kind == "page"
    ]
    received = [
        {
            "modality": series.header.modality,
            "description": series.header.series_description,
            "instances": series.instances,
        }
        for story in told
        for series in story.study.series
    ]
    decisions = [asdict(decision) for story in told for _, _, _, decision in story.decisions]
    whole = {**facts, "received": received, "decisions": decisions, "problems": list(problems)}
    path.write_text(whole_page(pages, whole), encoding="utf-8")
