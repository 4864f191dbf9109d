"""Who looked at what, noted once in a while: a page that renews itself is one look, not thirty a minute."""

from __future__ import annotations

from collections import OrderedDict
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.audit import AuditEvent

_AGAIN_AFTER: Final = timedelta(minutes=5)
_MOST: Final = 10_000


class Notes:
    """Remembers of each process what was noted last; to be shared by its threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._noted: OrderedDict[tuple[str, ...], datetime] = OrderedDict()

    def is_due(self, event: AuditEvent) -> bool:
        """Whether the same was not noted within five minutes."""
        with self._lock:
            last = self._noted.get(_key(event))
        return last is None or event.at - last >= _AGAIN_AFTER

    def note(self, event: AuditEvent) -> None:
        """It is in the trail."""
        with self._lock:
            self._noted[_key(event)] = event.at
            self._noted.move_to_end(_key(event))
            while len(self._noted) > _MOST:
                self._noted.popitem(last=False)


def _key(event: AuditEvent) -> tuple[str, ...]:
    return event.event, event.outcome, event.actor, event.address, event.subject, event.reason
