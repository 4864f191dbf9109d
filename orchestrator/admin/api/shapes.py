"""The shapes of the API's answers, as OpenAPI describes them. The values come from `service.telling`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from orchestrator.domain.access import Permission, Role

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """Part of a list. `next` is the address of what follows, null at the end."""

    items: list[Item]
    next: str | None


class PatientShape(BaseModel):
    id: str
    issuer: str
    name: str
    birth_date: str
    sex: str


class JobMark(BaseModel):
    id: str
    pipeline: str
    state: str


class StudyItem(BaseModel):
    study_uid: str
    patient: PatientShape
    accession_number: str
    study_date: str
    description: str
    modalities: list[str]
    body_parts: list[str]
    received_at: datetime
    routed: bool
    retired: bool
    jobs: list[JobMark]


class SeriesShape(BaseModel):
    series_uid: str
    modality: str
    instances: int
    settled: bool
    signal: str
    ready_at: datetime | None


class DecisionShape(BaseModel):
    rule: str
    pipeline: str
    series_uid: str
    yes: bool
    reason: str
    code: str


class MadeDecision(DecisionShape):
    revision: int
    rule_set_version: int
    at: datetime


class StageShape(BaseModel):
    name: str
    state: str
    attempt: int
    attempts_allowed: int
    reason: str
    lacks: str


class OutputShape(BaseModel):
    name: str
    kind: str


class DeliveryShape(BaseModel):
    id: str
    object: str
    kind: str
    destination: str
    state: str
    proof: str
    reason: str
    code: str


class JobStoryShape(BaseModel):
    id: str
    pipeline: str
    version: str
    series_uid: str
    state: str
    reason: str
    code: str
    rules: list[str]
    stages: list[StageShape]
    outputs: list[OutputShape]
    deliveries: list[DeliveryShape]


class VersionOfObject(BaseModel):
    sop_instance_uid: str
    received_at: datetime
    difference: str = Field(alias="class", serialization_alias="class")
    standing: str
    reason: str
    decided_by: str
    decided_at: datetime | None


class LeftOut(BaseModel):
    sop_instance_uid: str
    reason: str


class StudyShape(BaseModel):
    study_uid: str
    patient: PatientShape
    accession_number: str
    study_date: str
    description: str
    revision: int
    retired: dict[str, Any] | None
    series: list[SeriesShape]
    left_out: list[LeftOut]
    versions: list[VersionOfObject]
    facts: dict[str, Any] | None
    decisions: list[MadeDecision]
    jobs: list[JobStoryShape]


class JobItem(BaseModel):
    id: str
    study_uid: str
    pipeline: str
    version: str
    series_uid: str
    generation: int
    priority: str
    state: str
    reason: str
    code: str
    review: str
    rule_set_version: int
    created_at: datetime
    changed_at: datetime | None


class DeliveryItem(DeliveryShape):
    job_id: str
    study_uid: str
    pipeline: str
    tries: int
    created_at: datetime
    due_at: datetime


class Retried(BaseModel):
    id: str
    study_uid: str
    pipeline: str
    state: str
    reason: str
    stage: str
    resumed: int
    still_quarantined: int


class Cancelled(BaseModel):
    id: str
    study_uid: str
    pipeline: str
    state: str
    reason: str
    was_cancelled: bool
    withdrawn: int
    sent: dict[str, int]


class OrderShape(BaseModel):
    """An order as it is known."""

    accession_number: str
    at: datetime
    patient_id: str
    patient_id_issuer: str
    procedure_code: str
    procedure_description: str
    reason: str
    department: str
    priority: str
    scheduled_station: str


class RoutedJob(BaseModel):
    id: str
    pipeline: str
    series_uid: str
    generation: int
    state: str
    reason: str


class Rerouted(BaseModel):
    study_uid: str
    rule_set_version: int
    new: list[RoutedJob]
    kept: list[RoutedJob]
    unasked: list[RoutedJob]
    decisions: list[DecisionShape]


class RuleVersion(BaseModel):
    version: int
    author: str
    at: datetime
    reason: str
    is_draft: bool
    is_current: bool
    activated_by: str
    activated_at: datetime | None


class RuleSet(RuleVersion):
    rules: list[dict[str, Any]]
    procedures: list[dict[str, Any]]
    test_studies: list[dict[str, Any]]


class Compared(BaseModel):
    """What differs between two versions: rules by name, and the whole text as a unified diff."""

    version: int
    against: int
    added: list[str]
    removed: list[str]
    changed: list[str]
    diff: str


class Findings(BaseModel):
    """What is wrong with rules, or odd about them. They can be saved unless one is an error or a warning."""

    items: list[dict[str, str]]


class Replayed(BaseModel):
    items: list[dict[str, Any]]
    sum: dict[str, Any]


class NodeShape(BaseModel):
    """A node, as the site file writes it."""

    name: str
    ae_title: str
    host: str
    port: int
    may_send: bool
    site: str
    patient_id_issuer: str
    time_zone: str
    identity_authority: bool
    query: bool
    quota_gb_per_day: float | None


class DestinationShape(BaseModel):
    """A destination, as the site file writes it, and how sending to it goes."""

    name: str
    kind: str
    ae_title: str
    host: str
    port: int
    url: str
    path: str
    profile: str
    proof: str
    release: str
    production: bool
    patient_system: str
    patient_systems: dict[str, str]
    max_batch: int
    max_per_s: float | None
    circuit: dict[str, Any]
    quarantined: int


class NoticeShape(BaseModel):
    """A notice, as the site file writes it."""

    name: str
    kind: str
    events: list[str]
    url: str
    to: list[str]
    template: str


class TriedShape(BaseModel):
    is_well: bool
    detail: str
    code: str


class Me(BaseModel):
    name: str
    role: Role
    permissions: list[Permission]
    sites: list[str]


class AccountShape(BaseModel):
    name: str
    role: Role
    sites: list[str]
    disabled: bool
    by_provider: bool
    created_at: datetime


class FirstPassword(BaseModel):
    """Shown this once; whoever signs in with it chooses another."""

    name: str
    first_password: str


class TokenShape(BaseModel):
    id: str
    label: str
    account: str
    scopes: list[Permission]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


class NewToken(TokenShape):
    """`token` is shown this once."""

    token: str


class PipelineShape(BaseModel):
    name: str
    version: str
    title: str
    standing: str
    weights_digest: str
    package_digest: str


class Pipelines(BaseModel):
    items: list[PipelineShape]
    faults: dict[str, str]
    next: None = None


class AlarmShape(BaseModel):
    code: str
    subject: str
    detail: str
    raised_at: datetime
    last_at: datetime
    times: int


class EventShape(BaseModel):
    event: str
    outcome: str
    at: datetime
    last_at: datetime
    actor: str
    address: str
    called_ae: str
    node: str
    reason: str
    times: int
    subject: str


class FactShape(BaseModel):
    name: str
    type: str
    description: str
    example: str
    operators: list[str]


class Stats(BaseModel):
    """How much there is to do, and who is there to do it."""

    installation: str
    environment: str
    rule_set_version: int | None
    jobs: dict[str, int]
    deliveries: dict[str, int]
    alarms: int
    workers: list[str]


class EmergencyShape(BaseModel):
    until: datetime
