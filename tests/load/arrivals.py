"""When studies come and what becomes of them: pure functions of a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Pattern = Literal["steady", "ramp", "burst"]
Failure = Literal["", "transient", "broken", "unfit", "killed"]
PATTERNS: Final[tuple[Pattern, ...]] = get_args(Pattern)
FAILURES: Final[tuple[Failure, ...]] = get_args(Failure)
SIZES: Final = ((0.60, 1.0), (0.25, 0.5), (0.10, 2.0), (0.05, 5.0))
"""Shares of studies, and their size in units of the usual one."""
BURST: Final = 3.0
_BURST_AT: Final = (0.6, 0.8)
"""Of the whole time; outside it the rate is lower, so that the mean stays."""
_RAMP: Final = (0.2, 1.4, 1.2)
"""Rates in units of the mean at 07:00, 08:30 and 10:00, with straight lines between."""
_GAP_SIGMA: Final = 0.8
_LEAST_IMAGES: Final = 4
_STEPS: Final = 200


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: a rate, how long, and the shares of what is out of the ordinary."""

    studies_per_s: float = 2.0
    duration_s: float = 60.0
    pattern: Pattern = "steady"
    images: int = 20
    mixed_sizes: bool = False
    stat_share: float = 0.05
    compute_ms: float = 50.0
    compute_sigma: float = 0.5
    failures: float = 0.01
    duplicates: float = 0.02
    late: float = 0.01
    broken_objects: float = 0.005
    seed: int = 1


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """One study: when its association opens, what is in it, and what is to go amiss."""

    number: int
    at_s: float
    images: int
    is_stat: bool
    compute_ms: int
    failure: Failure
    is_sent_twice: bool
    has_late_image: bool
    has_broken_object: bool

    @property
    def is_ordinary(self) -> bool:
        """Whether nothing is to go amiss: only these tell what orchestration costs."""
        return not (self.failure or self.is_sent_twice or self.has_late_image or self.has_broken_object)

    @property
    def jobs(self) -> int:
        """How many it starts: another for the revision that a late image makes."""
        return 2 if self.has_late_image else 1


WARM_UP: Final = PlannedStudy(
    number=90_000_000,
    at_s=0.0,
    images=_LEAST_IMAGES,
    is_stat=False,
    compute_ms=1,
    failure="",
    is_sent_twice=False,
    has_late_image=False,
    has_broken_object=False,
)


def studies(load: Load) -> list[PlannedStudy]:
    """All studies of a load, in the order in which they come."""
    return [_study(load, number, at_s) for number, at_s in enumerate(arrivals(load))]


def arrivals(load: Load) -> list[float]:
    """Seconds at which studies come: log-normal gaps, narrower where the pattern's rate is higher."""
    chance = random.Random(f"{load.seed} arrivals")
    count = round(load.studies_per_s * load.duration_s)
    gaps = [chance.lognormvariate(0.0, _GAP_SIGMA) for _ in range(count)]
    before, whole = accumulate(gaps, initial=0.0), sum(gaps)
    points = list(_cumulated(load.pattern))
    return [load.duration_s * _when(points, passed / whole) for passed, _ in zip(before, gaps, strict=False)]


def _when(points: Sequence[tuple[float, float]], share: float) -> float:
    """The part of the whole time at which this share of all studies has come."""
    for (came, at), (came_next, at_next) in pairwise(points):
        if share <= came_next:
            return at + (at_next - at) * (share - came) / (came_next - came)
    return 1.0


def _cumulated(pattern: Pattern) -> Iterator[tuple[float, float]]:
    rates = [rate(pattern, (step + 0.5) / _STEPS) for step in range(_STEPS)]
    for step, came in enumerate(accumulate(rates, initial=0.0)):
        yield came / sum(rates), step / _STEPS


def rate(pattern: Pattern, at: float) -> float:
    """The rate at a part of the whole time, in any unit."""
    if pattern == "burst":
        begin, end = _BURST_AT
        return BURST if begin <= at < end else 1.0
    if pattern == "ramp":
        first, middle, last = _RAMP
        return first + (middle - first) * at * 2 if at < 0.5 else middle + (last - middle) * (at * 2 - 1)
    return 1.0


def _study(load: Load, number: int, at_s: float) -> PlannedStudy:
    chance = random.Random(f"{load.seed} study {number}")
    size = chance.choices([size for _, size in SIZES], [share for share, _ in SIZES])[0]
    failure = chance.choice(FAILURES[1:])
    return PlannedStudy(
        number=number,
        at_s=at_s,
        images=max(round(load.images * (size if load.mixed_sizes else 1.0)), _LEAST_IMAGES),
        is_stat=chance.random() < load.stat_share,
        compute_ms=min(round(chance.lognormvariate(math.log(load.compute_ms), load.compute_sigma)), 30_000),
        failure=failure if chance.random() < load.failures else "",
        is_sent_twice=chance.random() < load.duplicates,
        has_late_image=chance.random() < load.late,
        has_broken_object=chance.random() < load.broken_objects,
    )
