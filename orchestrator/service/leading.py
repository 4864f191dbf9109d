"""One process at a time holds an office; the others stand by and take over when its lease runs out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.ports import Clock, Records, Unit

ROUNDS: Final = "rounds"


@dataclass(slots=True)
class Office:
    """One process's claim on an office. To be renewed well within `lease_s`.

    A process that was paused past its lease may still believe it leads: what must be done by one leader
    only asks `is_held` inside the transaction that does it.
    """

    records: Records
    clock: Clock
    name: str
    holder: str
    lease_s: float
    _term: int | None = field(default=None)
    _until: datetime | None = field(default=None)

    def take(self) -> bool:
        """Hold the office for another lease, if nobody else does."""
        now = self.clock.now()
        until = now + timedelta(seconds=self.lease_s)
        with self.records.transaction() as unit:
            self._term = unit.leases.take(self.name, self.holder, now, until)
        self._until = until
        return self._term is not None

    @property
    def leads(self) -> bool:
        """Whether the office was ours when last asked and the lease has not run out since."""
        return self._term is not None and self._until is not None and self.clock.now() < self._until

    def is_held(self, unit: Unit) -> bool:
        """Whether it is ours now; if so nobody takes it before this transaction ends."""
        return self._term is not None and unit.leases.is_held(self.name, self.holder, self._term, self.clock.now())

    def give_up(self) -> None:
        """Leave it to the others at once."""
        with self.records.transaction() as unit:
            unit.leases.give_up(self.name, self.holder)
        self._term = None
