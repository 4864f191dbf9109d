"""The timers of an association, by a clock that nobody can set: pynetdicom's own end associations when time jumps."""

from __future__ import annotations

import time

from pynetdicom.timer import Timer


class SteadyTimer(Timer):  # type: ignore[misc]
    """As pynetdicom's, whose private names hold for 3.0.x only."""

    def start(self) -> None:
        """Begin, from the start."""
        self._start_time: float | None = time.monotonic()
        self._end_time: float | None = None

    def stop(self) -> None:
        """Let no more time pass."""
        self._end_time = time.monotonic()

    @property
    def remaining(self) -> float:
        """Seconds until it expires; 1 where it never does."""
        if self.timeout is None:
            return 1.0
        if self._start_time is None:
            return float(self.timeout)
        now_s = time.monotonic() if self._end_time is None else self._end_time
        return float(self.timeout - (now_s - self._start_time))
