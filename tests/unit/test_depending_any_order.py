"""Whatever happens to a study and in whatever order, its graph of jobs stays sound."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import Broken, Fault, Refused, Transient, Unfit
from orchestrator.domain.pipeline import Input
from orchestrator.domain.upstream import identity_of, results_taken
from orchestrator.service.depending import result_reviewed
from orchestrator.service.repairing import cancel_job, reroute_study, retry_job
from orchestrator.service.working import claim_stage, complete_report, complete_stage, fail_stage
from tests.fakes.system import QUIET_S, SEG, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of

if TYPE_CHECKING:
    from orchestrator.domain.job import Job
    from orchestrator.domain.pipeline import Manifest
    from orchestrator.ports import Unit

SECOND = "1.2.3.2"
ERRORS = (Unfit(Fault.OUT_OF_RANGE, "metal"), Broken(Fault.PIPELINE_FAULT, "a fault"), Transient(Fault.STAGE_DIED))


def each(name: str, *inputs: Input) -> Manifest:
    return manifest_of(name, Input("ct", "volume", count="each"), *inputs)


def on(pipeline: str, **given: Any) -> Input:
    return Input(pipeline, "result", pipeline=pipeline, **given)


PIPELINES = (
    each("bone"),
    each("density", on("bone")),
    each("strength", on("bone", required=False), on("density", review=("accepted", "corrected"))),
    manifest_of("summary", on("density"), on("strength", required=False)),
)
RUNS = (["summary", "strength", "density", "bone"], ["density", "bone"], ["strength", "density"])


class Play:
    """One study through which anything may happen."""

    def __init__(self, system: FakeSystem, data: st.DataObject) -> None:
        self.system = system
        self.data = data
        self.sent = Counter({"1.2.3.1": 0, SECOND: 0})

    def image(self) -> None:
        uid = self.data.draw(st.sampled_from(sorted(self.sent)))
        self.system.receive(*slices(uid, first=self.sent[uid], count=3))
        self.sent[uid] += 3

    def route(self) -> None:
        self.system.clock.pass_s(QUIET_S)
        self.system.route()

    def rules(self) -> None:
        self.system.decide(rule(run=self.data.draw(st.sampled_from(RUNS))))
        with self.system.records.transaction() as unit:
            unit.studies.look_again(STUDY_UID, self.system.clock.now())

    def work(self) -> None:
        claimed = claim_stage(self.system.workshop, self.system.worker)
        if claimed is None:
            return
        if self.data.draw(st.integers(0, 4)) == 0:
            fail_stage(self.system.workshop, claimed, self.data.draw(st.sampled_from(ERRORS)))
        elif claimed.stage.name == "report":
            complete_report(self.system.workshop, claimed, [(SEG, self.system.objects.keep(SEG.data))])
        else:
            manifest = next(m for m in PIPELINES if m.name == claimed.job.pipeline)
            complete_stage(self.system.workshop, claimed, manifest, {"results.json": "ab"})

    def deliver(self) -> None:
        self.system.deliver()

    def review(self) -> None:
        done = [j for j in self.system.jobs() if any(s.name == "report" for s in self.system.stages(j.id))]
        if done:
            job = self.data.draw(st.sampled_from(done))
            verdict = self.data.draw(st.sampled_from(["accepted", "corrected", "rejected"]))
            with self.system.records.transaction() as unit:
                result_reviewed(self.system.workshop.moment(unit, self.system.clock.now()), job, verdict)

    def operate(self) -> None:
        jobs = self.system.jobs()
        act = self.data.draw(st.sampled_from(["retry", "cancel", "reroute"]))
        try:
            if act == "reroute":
                reroute_study(self.system.router, STUDY_UID)
            elif jobs and act == "retry":
                retry_job(self.system.router, self.data.draw(st.sampled_from(jobs)).id)
            elif jobs:
                cancel_job(self.system.router, self.data.draw(st.sampled_from(jobs)).id, by="operator")
        except Refused:
            pass

    def finish(self) -> None:
        """Until nothing moves any more."""
        self.system.clock.pass_s(100 * QUIET_S)
        self.system.route()
        while (claimed := claim_stage(self.system.workshop, self.system.worker)) is not None:
            if claimed.stage.name == "report":
                complete_report(self.system.workshop, claimed, [(SEG, self.system.objects.keep(SEG.data))])
            else:
                manifest = next(m for m in PIPELINES if m.name == claimed.job.pipeline)
                complete_stage(self.system.workshop, claimed, manifest, {"results.json": "ab"})
            self.system.route()


def has_result(unit: Unit, job: Job) -> bool:
    return any(stage.name == "report" for stage in unit.jobs.stages(job.id))


def check(system: FakeSystem) -> None:
    with system.records.reading() as unit:
        jobs = unit.jobs.of_study(STUDY_UID)
        made = {identity_of(job): job for job in jobs}
        assert len(made) == len(jobs), "one job for each study, pipeline, input set and generation"
        standing = Counter((j.pipeline, j.input_set) for j in jobs if j.state in ("waiting", "running"))
        assert max(standing.values(), default=1) == 1, "never two at work on one input set"
        for job in jobs:
            upstream = [made[identity] for identity in results_taken(job)]
            if unit.jobs.stages(job.id):
                assert all(has_result(unit, other) for other in upstream), "none begins before what it builds on"


def check_end(system: FakeSystem) -> None:
    """Whatever has not ended waits, in the end, for a person's review and nothing else."""
    with system.records.reading() as unit:
        jobs = unit.jobs.of_study(STUDY_UID)
        made = {identity_of(job): job for job in jobs}
        for job in jobs:
            if job.state == "held" and not unit.jobs.stages(job.id):
                assert job.code == Fault.REVIEW_AWAITED.code
            elif job.state in ("waiting", "running"):
                assert not unit.jobs.stages(job.id)
                awaited = [made[identity] for identity in results_taken(job)]
                assert any(o.state in ("waiting", "held") and not has_result(unit, o) for o in awaited), job


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None)
@given(st.data())
def test_whatever_happens_no_job_begins_before_its_upstream_and_none_waits_for_ever(tmp_path, data):
    system = FakeSystem(tmp_path, manifests=PIPELINES, rules=(rule(run=RUNS[0]),))
    play = Play(system, data)
    play.image()
    play.route()
    acts = (
        play.work,
        play.work,
        play.work,
        play.image,
        play.route,
        play.rules,
        play.deliver,
        play.review,
        play.operate,
    )
    for act in data.draw(st.lists(st.sampled_from(acts), max_size=25)):
        act()
        check(system)
    play.finish()
    check(system)
    check_end(system)
