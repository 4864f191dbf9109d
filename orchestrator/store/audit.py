"""Rows of the audit trail: the port `AuditTrail`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select

from orchestrator.domain.audit import AuditEvent
from orchestrator.store.tables import audit_events

if TYPE_CHECKING:
    from datetime import datetime

_COLUMNS = [column for column in audit_events.c if column.name != "number"]


class AuditRows:
    """The port `AuditTrail` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, event: AuditEvent) -> None:
        self._connection.execute(insert(audit_events).values(**asdict(event)))

    def newest(self, limit: int, since: datetime | None = None) -> list[AuditEvent]:
        found = select(*_COLUMNS).order_by(audit_events.c.last_at.desc(), audit_events.c.number.desc()).limit(limit)
        rows = self._connection.execute(found if since is None else found.where(audit_events.c.last_at >= since))
        return [AuditEvent(**row._mapping) for row in rows]  # noqa: SLF001
