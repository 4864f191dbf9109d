"""Lanes and priorities: the queues in which stages wait for workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

Lane = Literal["cpu", "gpu"]
Priority = Literal["stat", "routine", "batch"]

LANES: Final[tuple[Lane, ...]] = get_args(Lane)
PRIORITY_ORDER: Final[tuple[Priority, ...]] = ("batch", "routine", "stat")
FAIR_TURN: Final = 8
"""Every eighth claim of a worker takes the stage that has waited longest, so that no priority starves another."""

_PREFIX: Final = "tendon"


@dataclass(frozen=True, slots=True, order=True)
class Queue:
    """One lane and one priority; `str` gives the name brokers know it by."""

    lane: Lane
    priority: Priority

    def __str__(self) -> str:
        return f"{_PREFIX}.{self.lane}.{self.priority}"

    @classmethod
    def named(cls, name: str) -> Queue:
        """The queue of a broker's name. Raises Refused UNKNOWN_QUEUE."""
        for queue in queues_of(LANES):
            if str(queue) == name:
                return queue
        raise Refused(Fault.UNKNOWN_QUEUE, f"there is no queue {name[:80]!r}")


def queues_of(lanes: Iterable[Lane]) -> tuple[Queue, ...]:
    """Every queue of these lanes, the most urgent first. Raises Refused UNKNOWN_QUEUE."""
    found = []
    for lane in lanes:
        if lane not in LANES:
            raise Refused(Fault.UNKNOWN_QUEUE, f"there is no lane {lane[:80]!r}: lanes are {', '.join(LANES)}")
        found += [Queue(lane, priority) for priority in reversed(PRIORITY_ORDER)]
    return tuple(found)


def is_fair_turn(claims: int) -> bool:
    """Whether a worker that has claimed so many stages now takes the one that has waited longest."""
    return claims % FAIR_TURN == FAIR_TURN - 1
