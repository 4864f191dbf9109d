"""Jobs and stages: their states, which change may follow which, and what a failure leads to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from orchestrator.domain.errors import OF_THE_SURROUNDINGS, Fault, Refused, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from orchestrator.domain.errors import TendonError
    from orchestrator.domain.pipeline import StagePlan
    from orchestrator.domain.queue import Lane, Priority
    from orchestrator.domain.review import Verdict
    from orchestrator.domain.route import Release

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
PATIENCE: Final = timedelta(hours=72)
"""How long after it was opened a stage may be handed back by workers whose surroundings do not let it run."""

_JOB_CHANGES: dict[JobState, frozenset[JobState]] = {
    "waiting": frozenset({"running", "held", "unfit", "cancelled", "superseded", "failed"}),
    "running": frozenset({"waiting", "delivering", "done", "unfit", "failed", "held", "cancelled", "superseded"}),
    "delivering": frozenset({"done", "held", "failed", "superseded", "cancelled", "withdrawn"}),
    "held": frozenset(
        {"waiting", "running", "delivering", "done", "unfit", "failed", "cancelled", "superseded", "withdrawn"}
    ),
    "failed": frozenset({"waiting", "running", "delivering", "done", "held", "cancelled", "superseded"}),
    "done": frozenset({"delivering", "held", "failed", "superseded", "withdrawn"}),
    "unfit": frozenset({"waiting", "held", "superseded"}),
    "cancelled": frozenset(),
    "superseded": frozenset(),
    "withdrawn": frozenset(),
}


@dataclass(frozen=True, slots=True)
class JobInput:
    """What one input of the pipeline got: instances of one series, or the result of another pipeline on it.

    `instances` maps SOP Instance UID to object digest; of kind result, the pipeline to the identity of its
    result. `region` names the region in them.
    """

    name: str
    kind: str
    series_uid: str
    instances: Mapping[str, str]
    region: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One pipeline on one input set of one study, with a copy of the rules that asked for it.

    `package_digest` pins the pipeline's build; `is_stale` says that a result it built on was corrected,
    rejected or superseded after it.
    """

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
    package_digest: str = ""
    review: Verdict = "unreviewed"
    is_stale: bool = False

    @property
    def primary(self) -> JobInput:
        """The input whose series the results refer to."""
        return self.inputs[0]

    def changed(self, state: JobState, now: datetime, *, reason: str = "", code: str = "") -> Job:
        """The job in a new state; raises Refused when that change does not exist."""
        if state != self.state and state not in _JOB_CHANGES[self.state]:
            raise Refused(Fault.WRONG_STATE, f"a job that is {self.state} cannot become {state}")
        return replace(self, state=state, reason=reason, code=code, changed_at=now)

    def opened(self, plan: StagePlan, identifier: str, now: datetime) -> Stage:
        """A stage of this job, ready as of now."""
        return Stage(
            id=identifier,
            job_id=self.id,
            name=plan.name,
            lane=plan.lane,
            gpu=plan.gpu,
            priority=self.priority,
            created_at=now,
            not_before=now,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a job. `attempt` rises with every lease; it and `owner` fence late finishers (I2).

    `announced_at` is the outbox: a ready stage whose workers were not told yet has none.
    """

    id: str
    job_id: str
    name: str
    lane: Lane
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
    announced_at: datetime | None = None

    def ended_without_result(self, error: TendonError, now: datetime) -> Stage:
        """Ready again when its back-off is over, or failed for good.

        A transient failure costs an attempt, unless the place where it was to run is at fault: that is waited for.
        """
        ended = replace(self, finished_at=now, code=error.code, reason=error.detail)
        allowed = self.attempts_allowed
        if error.fault in OF_THE_SURROUNDINGS and now - self.created_at < PATIENCE:
            allowed += 1
        if not isinstance(error, Transient) or self.attempt >= allowed:
            return replace(ended, state="failed")
        not_before = now + timedelta(seconds=retry_delay_s(self.attempt, self.id))
        return replace(ended, state="ready", not_before=not_before, announced_at=None, attempts_allowed=allowed)

    def reopened(self, now: datetime) -> Stage:
        """After a person asked to try a failed stage again: as many attempts as a new one has."""
        return replace(
            self,
            state="ready",
            not_before=now,
            attempts_allowed=self.attempt + MAX_ATTEMPTS,
            finished_at=None,
            announced_at=None,
            code="",
            reason="",
        )


def retry_delay_s(attempt: int, key: str) -> float:
    """Seconds before attempt + 1 after a transient failure: 1, 2, 4 … at most 60, spread by up to half of it more.

    The spread comes from `key` and the attempt, so that what failed together is not tried again together.
    """
    return min(2.0 ** max(attempt - 1, 0), 60.0) * (1 + spread(f"{key} {attempt}") / 2)


def spread(key: str) -> float:
    """A number from 0 up to 1 that looks random and is always the same for a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
