"""Rejected associations reach the audit trail: off the way of everybody else, and as few rows however many they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

from orchestrator.domain.admission import Caller
from orchestrator.domain.audit import rejected

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.admission import NotAdmitted, Rejection
    from orchestrator.domain.audit import AuditEvent
    from orchestrator.ports import Clock, Records

WINDOW: Final = timedelta(seconds=60)
MOST_OF_ADDRESS: Final = 8
MOST_OF_ALL: Final = 256
"""How many different rejections are told apart at a time; what goes beyond is counted without its titles."""

_Key = tuple[Caller, "Rejection", str]


@dataclass(slots=True)
class _Count:
    """What came since it was last written."""

    event: AuditEvent | None = None
    written_at: datetime | None = None

    def add(self, event: AuditEvent) -> None:
        """Count it, before or after what was counted so far."""
        if self.event is None:
            self.event = event
            return
        at, last_at = min(self.event.at, event.at), max(self.event.last_at, event.last_at)
        self.event = replace(self.event, at=at, last_at=last_at, times=self.event.times + event.times)

    def rest_s(self, now: datetime) -> float:
        """How long it may go on counting; a clock that was set back is no reason to count on."""
        if self.written_at is None or not timedelta() <= now - self.written_at < WINDOW:
            return 0.0
        return (self.written_at + WINDOW - now).total_seconds()


class Rejections:
    """Counts rejections in memory, and writes the first at once and its repeats once a minute.

    What was counted and not written is lost with the process.
    """

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._counts: dict[_Key, _Count] = {}
        self._lock = Lock()

    def note(self, caller: Caller, refusal: NotAdmitted) -> None:
        """Count it; nothing is waited for."""
        now = self._clock.now()
        with self._lock:
            key = self._key(caller, refusal)
            self._counts.setdefault(key, _Count()).add(rejected(key[0], refusal.rejection, refusal.node, now))

    def write(self, *, everything: bool = False) -> float | None:
        """Write what is due, in one transaction; gives in how many seconds more will be, None when nothing waits.

        Raises as `Records.transaction`: then nothing is lost, and it is due still.
        """
        due = self._take(self._clock.now(), everything=everything)
        if due:
            try:
                with self._records.transaction() as unit:
                    for event in due.values():
                        unit.audit.add(event)
            except BaseException:
                self._put_back(due)
                raise
        now = self._clock.now()
        with self._lock:
            return min((count.rest_s(now) for count in self._counts.values()), default=None)

    def _key(self, caller: Caller, refusal: NotAdmitted) -> _Key:
        """What it is counted as. Whoever makes up a new title each time gets no row for each."""
        alike: tuple[Rejection, str] = refusal.rejection, refusal.node
        if (caller, *alike) in self._counts:
            return caller, *alike
        if sum(known.address == caller.address for known, _, _ in self._counts) >= MOST_OF_ADDRESS:
            caller = Caller("", "", caller.address)
        if len(self._counts) >= MOST_OF_ALL and (caller, *alike) not in self._counts:
            caller = Caller("", "", "")
        return caller, *alike

    def _take(self, now: datetime, *, everything: bool) -> dict[_Key, AuditEvent]:
        """What is due, no longer counted; what was quiet for a minute is forgotten."""
        taken = {}
        with self._lock:
            for key, count in list(self._counts.items()):
                if count.rest_s(now) > 0 and not everything:
                    continue
                if count.event is None:
                    del self._counts[key]
                else:
                    taken[key] = count.event
                    self._counts[key] = _Count(written_at=now)
        return taken

    def _put_back(self, taken: dict[_Key, AuditEvent]) -> None:
        with self._lock:
            for key, event in taken.items():
                count = self._counts.setdefault(key, _Count())
                count.add(event)
                count.written_at = None
