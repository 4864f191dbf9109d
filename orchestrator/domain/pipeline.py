"""What a pipeline says of itself: the manifest, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from orchestrator.domain.queue import Lane
    from orchestrator.domain.route import Condition

GpuUse = Literal["no", "optional", "required"]
InputKind = Literal["volume", "image", "objects", "region", "result", "prior", "context"]
Count = Literal["best", "each", "all"]
Standing = Literal["demonstration", "research", "investigational", "cleared"]

REPORT_STAGE = "report"


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of several suiting series is taken first: the smaller or larger value of a field."""

    smaller: bool
    field: str


@dataclass(frozen=True, slots=True)
class Input:
    """One named input of a pipeline."""

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
    review: tuple[str, ...] = ()


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
