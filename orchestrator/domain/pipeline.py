"""What a pipeline says of itself: the manifest, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.domain.queue import Lane
    from orchestrator.domain.review import Verdict
    from orchestrator.domain.route import Condition

GpuUse = Literal["no", "optional", "required"]
InputKind = Literal["volume", "image", "objects", "region", "result", "prior", "context"]
Count = Literal["best", "each", "all"]
Standing = Literal["demonstration", "research", "investigational", "cleared"]

REPORT_STAGE = "report"
REVIEWS_UNLESS_SAID: Final[tuple[Verdict, ...]] = ("unreviewed", "accepted", "corrected")
"""What a result may have been said of to be built on, where the manifest does not say: all but rejected."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of several suiting series is taken first: the smaller or larger value of a field."""

    smaller: bool
    field: str


@dataclass(frozen=True, slots=True)
class Input:
    """One named input of a pipeline.

    `pipeline`, `version`, `segment` and `review` say which result an input of kind result takes.
    """

    name: str
    kind: InputKind
    where: Condition | None = None
    prefer: tuple[Preference, ...] = ()
    count: Count = "best"
    required: bool = True
    on: str = ""
    pipeline: str = ""
    version: str = ""
    segment: str = ""
    review: tuple[Verdict, ...] = ()

    def allows(self, verdict: Verdict) -> bool:
        """Whether a result of which this was said may be built on."""
        return verdict in (self.review or REVIEWS_UNLESS_SAID)

    def takes(self, version: str) -> bool:
        """Whether a result of this version will do: `>=1` is 1.0.0 or later, `==1.2` and `1.2` any 1.2.x.

        A pre-release comes before its release (Semantic Versioning 2.0.0, 11).
        """
        numbers = self.version.lstrip(">=")
        if not numbers:
            return True
        wanted = tuple(int(n) for n in numbers.split("."))
        release, _, before = version.partition("+")[0].partition("-")
        given = tuple(int(n) for n in release.split("."))
        if self.version.startswith(">="):
            least = (*wanted, 0, 0)[:3]
            return given > least or (given == least and not before)
        return given[: len(wanted)] == wanted


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage a pipeline runs, with the bounds it runs in."""

    name: str
    lane: Lane
    timeout_s: float
    memory_mb: int
    gpu: GpuUse = "no"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A pipeline folder's manifest.toml; `folder` is where its code lies."""

    name: str
    version: str
    title: str
    intended_use: str
    contraindications: str
    standing: Standing
    licence_code: str
    licence_weights: str
    runtime: str
    inputs: tuple[Input, ...]
    stages: tuple[StagePlan, ...]
    measurements: tuple[str, ...]
    segments: tuple[str, ...]
    scores: tuple[str, ...]
    notices: tuple[str, ...]
    weights_file: str
    weights_digest: str
    package_digest: str
    folder: str

    @property
    def primary(self) -> Input:
        """The input whose series the results refer to: the first one."""
        return self.inputs[0]

    @property
    def upstream(self) -> tuple[str, ...]:
        """The pipelines whose results it builds on."""
        return tuple(dict.fromkeys(given.pipeline for given in self.inputs if given.kind == "result"))

    def input(self, name: str) -> Input:
        """The input of that name."""
        return next(given for given in self.inputs if given.name == name)

    def stage(self, name: str) -> StagePlan:
        """The stage of that name; the report stage is every pipeline's last one."""
        if name == REPORT_STAGE:
            return StagePlan(REPORT_STAGE, "cpu", 120.0, 3000)
        return next(s for s in self.stages if s.name == name)

    def after(self, name: str) -> str | None:
        """The stage that follows `name`, None after the report."""
        names = [s.name for s in self.stages] + [REPORT_STAGE]
        position = names.index(name) + 1
        return names[position] if position < len(names) else None


def upstream_first(names: Iterable[str], manifests: Mapping[str, Manifest]) -> list[str]:
    """The names, each once, and none before one of them that it builds on; else in the order given."""
    wanted = dict.fromkeys(names)
    ordered: dict[str, None] = {}

    def visit(name: str, above: frozenset[str]) -> None:
        for other in manifests[name].upstream:
            if other in wanted and other not in ordered and other not in above:
                visit(other, above | {other})
        ordered[name] = None

    for name in wanted:
        if name not in ordered:
            visit(name, frozenset({name}))
    return list(ordered)


def circle(name: str, manifests: Mapping[str, Manifest]) -> tuple[str, ...]:
    """The shortest way on which a pipeline builds on itself, from its name back to it; empty when there is none."""
    ways: list[tuple[str, ...]] = [(name,)]
    seen: set[str] = set()
    for way in ways:
        for other in manifests[way[-1]].upstream:
            if other == name:
                return (*way, name)
            if other in manifests and other not in seen:
                seen.add(other)
                ways.append((*way, other))
    return ()
