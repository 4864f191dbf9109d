"""One node that sends without end does not fill the disk of all: what each may send within 24 hours is bounded.

It is counted in memory, and from the records when a node with a quota first calls, so it costs an object no query.
What is sent twice counts twice as long as the process lives.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.audit import over_quota, within_quota
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.health import PASS, Health, of_fault
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.delivery import Node
    from orchestrator.ports import Clock, Records

WINDOW_S: Final = 86_400.0
SLOT_S: Final = 900.0
"""What came in one slot is forgotten at once."""
GB: Final = 1_000_000_000

_log = logging.getLogger("tendon.quotas")


@dataclass(slots=True)
class Allowance:
    """What one node may send still. `elapsed_s` is a clock that never jumps."""

    node: Node
    elapsed_s: Callable[[], float]
    used_bytes: int = 0
    _slots: deque[tuple[int, int]] = field(default_factory=deque)
    _lock: Lock = field(default_factory=Lock)
    _refused_bytes: int = 0

    @property
    def limit_bytes(self) -> int:
        """How much it may send within 24 hours."""
        return int((self.node.quota_gb_per_day or 0) * GB)

    def take(self, size_bytes: int, after_bytes: int = 0) -> None:
        """Let so much in, after so much of the same object. Raises Refused OVER_QUOTA."""
        with self._lock:
            if self._would_exceed(size_bytes):
                self._refused_bytes = min(after_bytes + size_bytes, self.limit_bytes)
                raise Refused(Fault.OVER_QUOTA)
            self._note(size_bytes, 0.0)

    def note(self, size_bytes: int, age_s: float = 0.0) -> None:
        """So much came, or less than was let in where below zero; what came long ago is told first, oldest first."""
        with self._lock:
            self._note(size_bytes, age_s)

    @property
    def is_used_up(self) -> bool:
        """Whether what it sends is refused: from the first refusal until there is room again for what was refused."""
        with self._lock:
            if self._refused_bytes and not self._would_exceed(self._refused_bytes):
                self._refused_bytes = 0
            return self._refused_bytes > 0

    def _would_exceed(self, size_bytes: int) -> bool:
        first = int((self.elapsed_s() - WINDOW_S) // SLOT_S)
        while self._slots and self._slots[0][0] < first:
            self.used_bytes -= self._slots.popleft()[1]
        return self.used_bytes + size_bytes > self.limit_bytes

    def _note(self, size_bytes: int, age_s: float) -> None:
        slot = int((self.elapsed_s() - age_s) // SLOT_S)
        if self._slots and self._slots[-1][0] >= slot:
            slot, before_bytes = self._slots.pop()
        else:
            before_bytes = 0
        self._slots.append((slot, before_bytes + size_bytes))
        self.used_bytes += size_bytes


@dataclass(slots=True)
class Quotas:
    """The allowances of all nodes that have a quota."""

    records: Records
    clock: Clock
    elapsed_s: Callable[[], float]
    _allowances: dict[str, Allowance] = field(default_factory=dict)
    _told: frozenset[str] | None = None

    def allowance(self, node: Node) -> Allowance | None:
        """What a node that has just called may send; None where it has no quota. Raises Transient."""
        if node.quota_gb_per_day is None:
            self._allowances.pop(node.name, None)
            return None
        known = self._allowances.get(node.name)
        if known is None:
            known = self._allowances.setdefault(node.name, self._counted(node))
        known.node = node
        return known

    def _counted(self, node: Node) -> Allowance:
        now = self.clock.now()
        with self.records.reading() as unit:
            sent = unit.studies.sent_by(node.name, now - timedelta(seconds=WINDOW_S))
        allowance = Allowance(node, self.elapsed_s)
        for at, size_bytes in sorted(sent):
            allowance.note(size_bytes, max((now - at).total_seconds(), 0.0))
        return allowance

    def look(self) -> Health:
        """Which nodes are over their quota; audit trail, log and alarms are told of each once, and when it ends.

        While the database does not answer that is put off.
        """
        over = {name: held.node for name, held in list(self._allowances.items()) if held.is_used_up}
        try:
            self._tell(over)
        except Transient:
            """It is tried again at the next look."""
        return of_fault("warn", Fault.OVER_QUOTA, f"over quota: {', '.join(sorted(over))}") if over else PASS

    def _tell(self, over: dict[str, Node]) -> None:
        """What a process that died has left as an alarm is over, until it is refused again."""
        now, code = self.clock.now(), Fault.OVER_QUOTA.code
        if self._told is None:
            with self.records.reading() as unit:
                self._told = frozenset(alarm.subject for alarm in unit.alarms.open() if alarm.code == code)
        began, ended = over.keys() - self._told, self._told - over.keys()
        if not began and not ended:
            return
        with self.records.transaction() as unit:
            for name in sorted(began):
                detail = f"{over[name].quota_gb_per_day:g} GB came within 24 hours; more is refused for now"
                sound_alarm(unit, Alarm(code, name, detail, now, now))
                unit.audit.add(over_quota(over[name], now))
            for name in sorted(ended):
                unit.alarms.clear(code, name, now)
                unit.audit.add(within_quota(name, now))
        self._told = frozenset(over)
        for name in sorted(began):
            _log.warning("node %s is over its quota: %s", name, code)
        for name in sorted(ended):
            _log.info("node %s is within its quota again", name)
