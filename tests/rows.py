"""Rows for tests: instances, jobs, stages, outputs, deliveries and sites with sound defaults."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.domain.delivery import Delivery, Destination, Node, Output
from orchestrator.domain.job import Job, JobInput, Stage
from orchestrator.domain.queue import LANES, queues_of
from orchestrator.domain.site import SiteFile
from orchestrator.domain.version import Version
from orchestrator.domain.worker import Worker
from tests.strategies import START, STUDY_UID, ct_header, instance_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.queue import Lane
    from orchestrator.domain.study import Instance

SERIES, OTHER_SERIES = "1.2.3.1", "1.2.3.2"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def ct(uid: str = "1.2.3.1.0", *, series_uid: str = SERIES, association_id: str = "a1", **given: Any) -> Instance:
    facts = {name: given.pop(name) for name in ("received_at", "digest", "is_own") if name in given}
    made = instance_of(ct_header(uid, series_uid=series_uid, **given), **facts)
    return replace(made, association_id=association_id)


def version_of(instance: Instance, study_uid: str = STUDY_UID, **given: Any) -> Version:
    """Another version of an object of the study, as it came."""
    at = instance.received_at
    facts: dict[str, Any] = {"received_at": at, "association_id": instance.association_id, "due_at": at}
    return Version(instance, study_uid, **facts | given)


def job_of(identifier: str = "j1", **given: Any) -> Job:
    facts: dict[str, Any] = {
        "id": identifier,
        "study_uid": STUDY_UID,
        "study_revision": 1,
        "pipeline": "bone_ct",
        "version": "1.0.0",
        "inputs": (JobInput("ct", "volume", SERIES, {"1.2.9": "ab", "1.2.10": "cd"}), JobInput("t", "region", "9", {})),
        "input_set": identifier,
        "generation": 0,
        "priority": "routine",
        "send": ("pacs", "ehr"),
        "release": "at_once",
        "rule_set_version": 3,
        "rules": ({"name": "CT", "when": {"all": [{"field": "series.modality", "eq": "CT"}]}},),
        "created_at": START,
        "changed_at": START,
    }
    return Job(**facts | given)


def stage_of(job: Job, **given: Any) -> Stage:
    facts: dict[str, Any] = {
        "id": f"{job.id} {given.get('name', 'segment')}",
        "job_id": job.id,
        "name": "segment",
        "lane": "cpu",
        "gpu": "no",
        "priority": job.priority,
        "created_at": START,
        "not_before": START,
    }
    return Stage(**facts | given)


def worker_of(
    lanes: Iterable[Lane] = LANES, *manifests: Manifest, name: str = "worker", has_gpu: bool = True
) -> Worker:
    """A worker of these lanes with these pipelines; any has what jobs need that name no build."""
    return Worker(name, queues_of(lanes), has_gpu, frozenset(manifest.package_digest for manifest in manifests))


def output_of(identifier: str, job_id: str = "j1", **given: Any) -> Output:
    return Output(
        identifier, job_id, "seg", f"{identifier}.dcm", "ab" * 32, STUDY_UID, "1.2.840", "1.9", "1.8", **given
    )


def delivery_of(identifier: str, output_id: str = "o1", destination: str = "pacs", **given: Any) -> Delivery:
    facts: dict[str, Any] = {"job_id": "j1", "state": "waiting", "created_at": START, "due_at": START}
    return Delivery(id=identifier, output_id=output_id, destination=destination, **facts | given)


def site_of(version: int, **given: Any) -> SiteFile:
    facts: dict[str, Any] = {
        "nodes": (Node("ct1", "CT1", "10.1.2.3", 104, patient_id_issuer="MAIN"),),
        "destinations": (
            Destination("ehr", "fhir", url="https://ehr.example/fhir", patient_systems=(("MAIN", "urn:oid:2.999"),)),
        ),
        "rules": ({"name": "CT", "send": ["ehr"]},),
        "author": "import",
        "at": after(version),
        "activated_by": "import",
        "activated_at": after(version),
    }
    return SiteFile(version=version, **facts | given)
