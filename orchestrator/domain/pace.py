"""How many objects a destination is sent a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """Room for so many objects at a moment. It grows by `per_s` a second, to one second's worth and at least one."""

    room: float
    at: datetime

    def later(self, now: datetime, per_s: float) -> Pace:
        """The room at another moment; a clock that went back takes none away."""
        elapsed_s = max((now - self.at).total_seconds(), 0.0)
        return Pace(min(self.room + elapsed_s * per_s, full(now, per_s).room), now)

    @property
    def objects(self) -> int:
        """How many whole objects there is room for."""
        return int(self.room)

    def less(self, objects: int) -> Pace:
        """The room left once so many objects went."""
        return Pace(self.room - objects, self.at)


def full(now: datetime, per_s: float) -> Pace:
    """The room of a destination that was sent nothing for a while."""
    return Pace(max(per_s, 1.0), now)
