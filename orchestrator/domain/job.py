"""Jobs and stages: their states, which change may follow which, and what a failure leads to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.route import Priority, Release

JobState = Literal[
    "waiting",
    "running",
    "delivering",
    "done",
    "held",
    "unfit",
    "failed",
    "cancelled",
    "superseded",
    "withdrawn",
]
StageState = Literal["ready", "leased", "done", "failed"]

MAX_ATTEMPTS: Final = 3

_JOB_CHANGES: dict[JobState, frozenset[JobState]] = {
    "waiting": frozenset({"running", "held", "unfit", "cancelled", "superseded", "failed"}),
    "running": frozenset({"waiting", "delivering", "done", "unfit", "failed", "held", "cancelled", "superseded"}),
    "delivering": frozenset({"done", "held", "failed", "superseded", "cancelled", "withdrawn"}),
    "held": frozenset({"waiting", "running", "delivering", "done", "failed", "cancelled", "superseded", "withdrawn"}),
    "failed": frozenset({"waiting", "running", "delivering", "done", "held", "cancelled", "superseded"}),
    "done": frozenset({"delivering", "held", "failed", "superseded", "withdrawn"}),
    "unfit": frozenset({"superseded"}),
    "cancelled": frozenset(),
    "superseded": frozenset(),
    "withdrawn": frozenset(),
}


@dataclass(frozen=True, slots=True)
class JobInput:
    """What one input of the pipeline got: instances of one series, and why this series.

    `instances` maps SOP Instance UID to object digest; `region` names the region in them.
    """

    name: str
    kind: str
    series_uid: str
    instances: Mapping[str, str]
    region: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One pipeline on one input set of one study, with a copy of the rules that asked for it."""

    id: str
    study_uid: str
    study_revision: int
    pipeline: str
    version: str
    inputs: tuple[JobInput, ...]
    input_set: str
    generation: int
    priority: Priority
    send: tuple[str, ...]
    release: Release
    rule_set_version: int
    rules: tuple[Mapping[str, Any], ...]
    created_at: datetime
    state: JobState = "waiting"
    reason: str = ""
    code: str = ""
    changed_at: datetime | None = None

    @property
    def primary(self) -> JobInput:
        """The input whose series the results refer to."""
        return self.inputs[0]

    def changed(self, state: JobState, now: datetime, *, reason: str = "", code: str = "") -> Job:
        """The job in a new state; raises Refused when that change does not exist."""
        if state != self.state and state not in _JOB_CHANGES[self.state]:
            raise Refused(Fault.WRONG_STATE, f"a job that is {self.state} cannot become {state}")
        return replace(self, state=state, reason=reason, code=code, changed_at=now)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a job. `attempt` rises with every lease and fences late finishers (I2)."""

    id: str
    job_id: str
    name: str
    lane: str
    gpu: str
    priority: Priority
    created_at: datetime
    not_before: datetime
    state: StageState = "ready"
    attempt: int = 0
    attempts_allowed: int = MAX_ATTEMPTS
    owner: str = ""
    lease_until: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: float = 0.0
    progress_text: str = ""
    code: str = ""
    reason: str = ""
    artefacts: Mapping[str, str] = field(default_factory=dict)


def retry_delay_s(attempt: int) -> float:
    """Seconds before attempt + 1 after a transient failure: 1, 2, 4 … at most 60."""
    return float(min(2 ** max(attempt - 1, 0), 60))
