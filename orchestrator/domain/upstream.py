"""Results that jobs build on: how a result is named, and whether those who build on it may start."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.domain.result import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.domain.job import Job, JobInput
    from orchestrator.domain.pipeline import Input
    from orchestrator.domain.route import PlannedJob

Prospect = Literal["there", "coming", "in_review", "gone"]

_NEVER_MORE: Final = ("unfit", "cancelled", "superseded", "withdrawn")


def result_identity(pipeline: str, version: str, input_set: str, generation: int) -> str:
    """SHA-256, as hex, that names a result before it exists: equal inputs give equal results (I3)."""
    return hashlib.sha256(canonical_json([pipeline, version, input_set, generation])).hexdigest()


def identity_of(job: Job) -> str:
    """The identity of the job's result."""
    return result_identity(job.pipeline, job.version, job.input_set, job.generation)


def result_inputs(inputs: Iterable[JobInput]) -> list[tuple[JobInput, str]]:
    """The inputs of kind result, each with the identity of the result it takes."""
    return [(given, next(iter(given.instances.values()))) for given in inputs if given.kind == "result"]


def results_taken(job: Job | PlannedJob) -> frozenset[str]:
    """The identities of the results that a job builds on."""
    return frozenset(identity for _, identity in result_inputs(job.inputs))


def exchanged(inputs: Iterable[JobInput], newer: Mapping[str, str]) -> tuple[JobInput, ...]:
    """The inputs with other results in the place of older ones; `newer` maps identity to identity."""
    return tuple(
        replace(given, instances={name: newer.get(digest, digest) for name, digest in given.instances.items()})
        if given.kind == "result"
        else given
        for given in inputs
    )


@dataclass(frozen=True, slots=True)
class Upstream:
    """A job as others see it that build on its result.

    It has its result once its last pipeline stage is done, whether its report is built or not.
    """

    job: Job
    has_result: bool

    def prospect(self, wanted: Input) -> tuple[Prospect, str]:
        """Whether its result can be taken for an input, and why not."""
        job = self.job
        if job.state in _NEVER_MORE or (job.state == "failed" and not self.has_result):
            return "gone", f"{job.pipeline} is {job.state}{f': {job.reason}' if job.reason else ''}"
        if not self.has_result:
            return "coming", f"waits for the result of {job.pipeline}"
        if wanted.allows(job.review):
            return "there", ""
        if job.review == "unreviewed":
            return "in_review", f"waits for a person's review of {job.pipeline}"
        return "gone", f"the result of {job.pipeline} was {job.review} by a person"
