"""The audit trail in memory: the port `AuditTrail`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.audit import AuditEvent
    from tests.fakes.state import State


class MemoryAuditTrail:
    """The port `AuditTrail` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add(self, event: AuditEvent) -> None:
        self._state.audit_events[len(self._state.audit_events) + 1] = event

    def newest(self, limit: int, since: datetime | None = None) -> list[AuditEvent]:
        found = [
            (event.last_at, number, event)
            for number, event in self._state.audit_events.items()
            if since is None or event.last_at >= since
        ]
        return [event for _, _, event in sorted(found, key=lambda entry: entry[:2], reverse=True)[:limit]]
