"""Whether the images still say what a result made from them says of patient, study and accession (I5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.domain.job import Job, JobInput
    from orchestrator.domain.study import Study
    from orchestrator.domain.version import Version


@dataclass(frozen=True, slots=True)
class Doubt:
    """What keeps a job's result from being sent, without patient data."""

    fault: Fault
    reason: str


def contradiction(job: Job, source: JobInput, study: Study | None, versions: Iterable[Version]) -> Doubt | None:
    """What keeps the job's result from being sent; None when nothing does.

    `source` are the images that the result refers to, `versions` the other versions of objects of its study.
    """
    if study is None:
        return _other_images("the images it was made from are not there any more")
    if len(study.patients) > 1:
        return _other_images(Fault.IDENTITY_CONFLICT.value.meaning)
    images = {i.header.sop_instance_uid: i for series in study.series for i in series.instances}
    if any(uid not in images for uid in source.instances):
        return _other_images("the images it was made from are not there any more")
    used = [pair for given in (source, *job.inputs) for pair in given.instances.items()]
    if any(uid in images and images[uid].digest != digest for uid, digest in used):
        return _other_images("the images it was made from are others now")
    if any(v.uid in images and v.questions(images[v.uid].header) for v in versions):
        return Doubt(Fault.IDENTITY_CHANGED, Fault.IDENTITY_CHANGED.value.meaning)
    return None


def _other_images(reason: str) -> Doubt:
    return Doubt(Fault.IDENTITY_CONFLICT, reason)
