"""Pipelines that build on each other, on the services over fakes, and the short ways to make them work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.domain.errors import Broken, Fault, Unfit
from orchestrator.domain.pipeline import Input, StagePlan
from orchestrator.service.depending import result_reviewed
from orchestrator.service.working import complete_report, complete_stage, fail_stage
from tests.fakes.system import SEG, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.domain.job import Job
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.review import Verdict
    from orchestrator.ports import ClaimedStage

SECOND = "1.2.3.2"
METAL = Unfit(Fault.OUT_OF_RANGE, "metal")
CRASH = Broken(Fault.PIPELINE_FAULT, "a fault")
BONE = manifest_of(
    "bone_ct",
    Input("ct", "volume", count="each"),
    stages=tuple(StagePlan(n, "cpu", 60.0, 1000) for n in ("find", "fit")),
)


def on(pipeline: str, **given: Any) -> Input:
    return Input(pipeline, "result", pipeline=pipeline, **given)


def each(name: str, *inputs: Input, **given: Any) -> Manifest:
    return manifest_of(name, Input("ct", "volume", count="each"), *inputs, **given)


DENSITY = each("density", on("bone_ct"))
RISK = each("risk", on("density"), on("bone_ct"))
OPTIONAL = each("density", on("bone_ct", required=False))
REVIEWED = each("density", on("bone_ct", review=("accepted", "corrected")))


def system_of(tmp_path: Path, *manifests: Manifest, **given: Any) -> FakeSystem:
    """A study of one series, routed; the rule names the pipelines last to first."""
    run = [m.name for m in reversed(manifests)]
    system = FakeSystem(tmp_path, manifests=manifests, rules=(rule(run=run, **given),))
    system.receive_and_route(*slices())
    return system


def newest(system: FakeSystem, pipeline: str) -> Job:
    return [job for job in system.jobs() if job.pipeline == pipeline][-1]


def states(system: FakeSystem) -> list[tuple[str, int, str]]:
    return [(job.pipeline, job.generation, job.state) for job in system.jobs()]


def opened(system: FakeSystem, pipeline: str) -> list[str]:
    return [stage.name for stage in system.stages(newest(system, pipeline).id)]


def complete(system: FakeSystem, claimed: ClaimedStage) -> None:
    if claimed.stage.name == "report":
        assert complete_report(system.workshop, claimed, [(SEG, system.objects.keep(SEG.data))])
    else:
        manifest = next(m for m in system.manifests if m.name == claimed.job.pipeline)
        artefacts = {"made by": f"{claimed.job.pipeline} {claimed.stage.name}"}
        assert complete_stage(system.workshop, claimed, manifest, artefacts)


def work(system: FakeSystem, *stages: str) -> None:
    """Do these stages, each named `pipeline stage`, which must come in this order."""
    for expected in stages:
        claimed = system.claim()
        assert f"{claimed.job.pipeline} {claimed.stage.name}" == expected
        complete(system, claimed)


def fail(system: FakeSystem, error: Unfit | Broken) -> None:
    assert fail_stage(system.workshop, system.claim(), error)


def review(system: FakeSystem, job: Job, verdict: Verdict) -> None:
    with system.records.transaction() as unit:
        unit.studies.hold(job.study_uid)
        kept = unit.jobs.get(job.id)
        assert kept is not None
        result_reviewed(system.workshop.moment(unit, system.clock.now()), kept, verdict)


def route_again(system: FakeSystem) -> None:
    with system.records.transaction() as unit:
        unit.studies.look_again(STUDY_UID, system.clock.now())
    system.route()


def judged(system: FakeSystem, job: Job, verdict: Verdict = "accepted") -> None:
    """A person's verdict on a job that nothing builds on."""
    with system.records.transaction() as unit:
        unit.jobs.save(replace(job, review=verdict))
