"""Whether a destination answers: the longer it does not, the less often it is tried, by one delivery at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from orchestrator.domain.job import spread

if TYPE_CHECKING:
    from datetime import datetime

CircuitState = Literal["closed", "open", "probing"]

FAILURES_TO_OPEN: Final = 5
CEILING_S: Final = 60.0
_PROBE: Final = timedelta(seconds=CEILING_S)


def back_off(tries: int, key: str, ceiling_s: float = CEILING_S) -> timedelta:
    """How long to wait after `tries` + 1 failures: 1 s doubling to the ceiling, less up to half of it.

    What is left off comes from `key` and the tries, so that what failed together is not tried again together.
    """
    longest_s = min(2.0 ** min(tries, 64), ceiling_s)
    return timedelta(seconds=longest_s * (1 - spread(f"{key} {tries}") / 2))


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of a destination's answering: `failures` in a row, and until when nobody tries.

    From the fifth failure in a row on the circuit is open. When its time has come one delivery probes; the first
    answer closes it.
    """

    destination: str
    failures: int = 0
    open_until: datetime | None = None
    reason: str = ""
    changed_at: datetime | None = None

    def state(self, now: datetime) -> CircuitState:
        """`open`: nothing is tried. `probing`: one delivery may be."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "probing"

    def failed(self, now: datetime, reason: str) -> Circuit:
        """After a call that got no answer."""
        failures = self.failures + 1
        wait = back_off(failures - FAILURES_TO_OPEN, self.destination) if failures >= FAILURES_TO_OPEN else None
        return replace(self, failures=failures, open_until=now + wait if wait else None, reason=reason, changed_at=now)

    def probed(self, now: datetime) -> Circuit:
        """While a delivery probes: open for all others, for as long as its sender may be taken to live."""
        return replace(self, open_until=now + _PROBE, changed_at=now)

    def retried(self, now: datetime) -> Circuit:
        """After a person asked to try again, or a probe that came to nothing: the next probe may go at once."""
        return self if self.open_until is None else replace(self, open_until=now, changed_at=now)

    def answered(self, now: datetime) -> Circuit:
        """After any answer, a refusal too: closed."""
        return Circuit(self.destination, changed_at=now)
