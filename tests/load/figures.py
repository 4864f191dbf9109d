"""What became of a load, from the records alone: where each study ended, and what its way cost beside computing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.service.operating import study_story
from tests.benchmarks.measure import percentile
from tests.load.studies import core_of, study_uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.domain.job import Stage
    from orchestrator.ports import Records
    from orchestrator.service.operating import JobStory, StudyStory
    from tests.load.arrivals import Load, PlannedStudy

PERCENTILES = (50, 95, 100)


@dataclass(frozen=True, slots=True)
class Way:
    """Where a study's seconds went, from its last instance to its last proof: `overhead_s` is all but the computing.

    `routing_s` follows the quiet time, `queueing_s` is all waiting for a worker, `delivering_s` follows the report.
    """

    overhead_s: float
    routing_s: float
    queueing_s: float
    compute_s: float
    report_s: float
    delivering_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One study at the end."""

    planned: PlannedStudy
    jobs: tuple[str, ...]
    """States, oldest first."""
    is_proven: bool
    """Whether every delivery of every job that is done is proven."""
    proofs: int
    """How many objects the PACS must hold."""
    waits: tuple[tuple[str, float], ...]
    """Priority, and seconds a stage waited for its first worker."""
    way: Way | None
    """None for a study with which something went amiss."""

    @property
    def end(self) -> str:
        """The states of its jobs in words."""
        return " + ".join(self.jobs) or "no job"


def outcomes(records: Records, load: Load, planned: Iterable[PlannedStudy], quiet_s: float) -> list[Outcome]:
    """What became of each study planned."""
    return [_outcome(study_story(records, study_uid(core_of(load.seed, p.number))), p, quiet_s) for p in planned]


def _outcome(story: StudyStory, planned: PlannedStudy, quiet_s: float) -> Outcome:
    done = [job for job in story.jobs if job.job.state == "done"]
    stages = [stage for job in story.jobs for stage in job.stages]
    return Outcome(
        planned=planned,
        jobs=tuple(job.job.state for job in story.jobs),
        is_proven=all(d.state == "proven" for job in done for d in job.deliveries) and all(j.deliveries for j in done),
        proofs=sum(delivery.state == "proven" for job in story.jobs for delivery in job.deliveries),
        waits=tuple((s.priority, _wait_s(s)) for s in stages if s.started_at and s.attempt == 1),
        way=_way(story, done[0], quiet_s) if planned.is_ordinary and len(done) == len(story.jobs) == 1 else None,
    )


def _way(story: StudyStory, job: JobStory, quiet_s: float) -> Way:
    *computing, report = job.stages
    received_at = max(s.last_received_at for s in story.study.series)
    proven_at = max(d.proven_at for d in job.deliveries if d.proven_at)
    compute_s = sum(_took_s(stage) for stage in computing)
    assert report.finished_at is not None
    return Way(
        overhead_s=(proven_at - received_at).total_seconds() - quiet_s - compute_s - _took_s(report),
        routing_s=(job.job.created_at - received_at).total_seconds() - quiet_s,
        queueing_s=sum(_wait_s(stage) for stage in job.stages),
        compute_s=compute_s,
        report_s=_took_s(report),
        delivering_s=(proven_at - report.finished_at).total_seconds(),
    )


def _wait_s(stage: Stage) -> float:
    assert stage.started_at is not None
    return (stage.started_at - stage.created_at).total_seconds()


def _took_s(stage: Stage) -> float:
    assert stage.started_at is not None
    assert stage.finished_at is not None
    return (stage.finished_at - stage.started_at).total_seconds()


def summary(found: Sequence[Outcome]) -> dict[str, object]:
    """The figures of a load, for a table or a line of JSON; times in seconds."""
    ways = [outcome.way for outcome in found if outcome.way]
    waits: dict[str, list[float]] = {}
    for outcome in found:
        for priority, wait_s in outcome.waits:
            waits.setdefault(priority, []).append(wait_s)
    return {
        "studies": len(found),
        "ends": dict(Counter(outcome.end for outcome in found).most_common()),
        "studies not proven": sum(not outcome.is_proven for outcome in found),
        "ordinary studies": len(ways),
        **{name: spread([getattr(way, name) for way in ways]) for name in Way.__slots__},
        **{f"wait_s, {priority}": spread(values) for priority, values in sorted(waits.items())},
    }


def spread(values: Sequence[float]) -> Mapping[str, float]:
    """Median, 95th percentile and maximum; empty where there are too few values."""
    if len(values) < 2:
        return {}
    return {
        f"p{percent}": round(max(values) if percent == 100 else percentile(values, percent), 4)
        for percent in PERCENTILES
    }
