"""The port of the audit trail, beside those of `orchestrator.ports`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.audit import AuditEvent


class AuditTrail(Protocol):
    """What was done and refused. The database itself refuses to change or remove an event."""

    def add(self, event: AuditEvent) -> None:
        """Append it."""

    def newest(self, limit: int, since: datetime | None = None) -> list[AuditEvent]:
        """Events that ended at that moment or later, newest first."""
