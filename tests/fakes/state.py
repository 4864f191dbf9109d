"""The rows that records in memory are made of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from orchestrator.accounts import Answer
    from orchestrator.domain.access import Account, Session, Token
    from orchestrator.domain.alarm import Alarm
    from orchestrator.domain.audit import AuditEvent
    from orchestrator.domain.circuit import Circuit
    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.notice import Posting
    from orchestrator.domain.order import Order
    from orchestrator.domain.provider import SignIn
    from orchestrator.domain.retention import Retirement
    from orchestrator.domain.route import Decision
    from orchestrator.domain.site import SiteFile
    from orchestrator.domain.study import Count, Instance
    from orchestrator.domain.summary import Summary
    from orchestrator.domain.version import Version
    from orchestrator.domain.worker import Worker
    from orchestrator.ports import Association


@dataclass(frozen=True)
class StudyRow:
    revision: int
    is_closed: bool
    newest_at: datetime
    retirement: Retirement | None = None


@dataclass(frozen=True)
class SeriesRow:
    is_settled: bool
    look_at: datetime
    newest_at: datetime
    signal: str = ""
    ready_at: datetime | None = None


@dataclass(frozen=True)
class State:
    """All rows, keyed as the database keys them; dictionaries keep the order of entry."""

    associations: dict[str, Association] = field(default_factory=dict)
    instances: dict[tuple[str, str], tuple[Instance, bool]] = field(default_factory=dict)
    studies: dict[str, StudyRow] = field(default_factory=dict)
    series: dict[tuple[str, str], SeriesRow] = field(default_factory=dict)
    counts: dict[tuple[str, str, str], tuple[Count, datetime]] = field(default_factory=dict)
    versions: dict[tuple[str, str], Version] = field(default_factory=dict)
    own_uids: dict[str, None] = field(default_factory=dict)
    decisions: dict[int, tuple[str, int, int, datetime, Decision]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)
    job_objects: dict[tuple[str, str], None] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    circuits: dict[str, Circuit] = field(default_factory=dict)
    sites: dict[int, SiteFile] = field(default_factory=dict)
    activations: dict[int, int] = field(default_factory=dict)
    summaries: dict[str, Summary] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    installation: dict[int, str] = field(default_factory=dict)
    leases: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    workers: dict[str, tuple[Worker, datetime]] = field(default_factory=dict)
    alarms: dict[tuple[str, str], Alarm] = field(default_factory=dict)
    audit_events: dict[int, AuditEvent] = field(default_factory=dict)
    study_sites: dict[tuple[str, str], datetime] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    sign_in_failures: dict[int, tuple[str, datetime]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    sign_ins: dict[str, SignIn] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    notices: dict[int, Posting] = field(default_factory=dict)
    orders: dict[tuple[str, str], Order] = field(default_factory=dict)

    def copy(self) -> State:
        return replace(self, **{name: dict(getattr(self, name)) for name in self.__dataclass_fields__})
