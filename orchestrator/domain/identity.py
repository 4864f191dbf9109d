"""Whether the images still say what a result made from them says of patient, study and accession (I5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.domain.job import Job, JobInput
    from orchestrator.domain.study import Header, Instance, Study


def contradiction(job: Job, source: JobInput, study: Study | None, left_out: Iterable[Instance]) -> str:
    """What keeps the job's result from being sent, without patient data; empty when nothing does.

    `source` are the images that the result refers to, `left_out` the study's instances that are not routed: other
    versions of its images are among them.
    """
    if study is None:
        return "the images it was made from are not there any more"
    if len(study.patients) > 1:
        return Fault.IDENTITY_CONFLICT.value.meaning
    images = {i.header.sop_instance_uid: i for series in study.series for i in series.instances}
    if any(uid not in images for uid in source.instances):
        return "the images it was made from are not there any more"
    used = [pair for given in (source, *job.inputs) for pair in given.instances.items()]
    if any(uid in images and images[uid].digest != digest for uid, digest in used):
        return "the images it was made from are others now"
    for version in left_out:
        image = images.get(version.header.sop_instance_uid)
        is_readable = not (version.is_own or version.header.unreadable)
        if image is not None and is_readable and _whose(version.header) != _whose(image.header):
            return "an image of this study came again with another patient, study or accession number"
    return ""


def _whose(header: Header) -> tuple[str, str, str, str]:
    return header.patient.issuer, header.patient.id, header.study_uid, header.accession_number
