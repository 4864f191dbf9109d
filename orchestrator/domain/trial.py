"""What other rules would change: study by study, and how much more work that is."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.domain.route import FORWARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.domain.route import Outcome, WouldRun


@dataclass(frozen=True, slots=True)
class Change:
    """What the rules in force do with a study, and what others would do."""

    study_uid: str
    before: Outcome
    after: Outcome

    @property
    def is_none(self) -> bool:
        """Whether the same jobs run, as urgent, released and sent alike."""
        return self.before.jobs == self.after.jobs

    @property
    def begun(self) -> tuple[WouldRun, ...]:
        """Jobs that only the others ask for."""
        return _only(self.after, self.before)

    @property
    def dropped(self) -> tuple[WouldRun, ...]:
        """Jobs that only the rules in force ask for."""
        return _only(self.before, self.after)

    @property
    def altered(self) -> tuple[tuple[WouldRun, WouldRun], ...]:
        """Jobs that both ask for, with another priority, release or destinations."""
        known = {(job.pipeline, job.series_uid): job for job in self.before.jobs}
        pairs = ((known.get((job.pipeline, job.series_uid)), job) for job in self.after.jobs)
        return tuple((before, after) for before, after in pairs if before is not None and before != after)


@dataclass(frozen=True, slots=True)
class Tally:
    """All changes together. The seconds are more, or less where below zero, by what stages took lately.

    `unknown` are pipelines of which no stage was done lately: what they take is not in it.
    """

    studies: int
    changed: int
    begun: Mapping[str, int]
    dropped: Mapping[str, int]
    cpu_s: float
    gpu_s: float
    unknown: tuple[str, ...]


def tally(changes: Iterable[Change], seconds: Mapping[str, tuple[float, float]]) -> Tally:
    """The sum of the changes; `seconds` on CPU and GPU lanes by pipeline."""
    studies = changed = 0
    begun: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for change in changes:
        studies += 1
        changed += not change.is_none
        begun.update(job.pipeline for job in change.begun)
        dropped.update(job.pipeline for job in change.dropped)
    more = {name: begun[name] - dropped[name] for name in begun | dropped}
    return Tally(
        studies,
        changed,
        dict(sorted(begun.items())),
        dict(sorted(dropped.items())),
        cpu_s=sum(number * seconds[name][0] for name, number in more.items() if name in seconds),
        gpu_s=sum(number * seconds[name][1] for name, number in more.items() if name in seconds),
        unknown=tuple(sorted(more.keys() - seconds.keys() - {FORWARD})),
    )


def mean_seconds(stages: Iterable[tuple[str, str, str, float]]) -> dict[str, tuple[float, float]]:
    """Seconds of one job on CPU and on GPU lanes, by pipeline: of (pipeline, stage, lane, seconds) the means added."""
    took: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for pipeline, name, lane, seconds in stages:
        took[pipeline, name, lane].append(seconds)
    sums: dict[str, tuple[float, float]] = {}
    for (pipeline, _, lane), seconds_of in took.items():
        cpu_s, gpu_s = sums.get(pipeline, (0.0, 0.0))
        mean_s = fmean(seconds_of)
        sums[pipeline] = (cpu_s, gpu_s + mean_s) if lane == "gpu" else (cpu_s + mean_s, gpu_s)
    return sums


def _only(one: Outcome, other: Outcome) -> tuple[WouldRun, ...]:
    known = {(job.pipeline, job.series_uid) for job in other.jobs}
    return tuple(job for job in one.jobs if (job.pipeline, job.series_uid) not in known)
