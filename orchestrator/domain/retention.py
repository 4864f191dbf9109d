"""When the bytes of a study may be let go: all work on it has ended for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.delivery import Delivery, DeliveryState
    from orchestrator.domain.job import JobState

ENDED_JOBS: Final[tuple[JobState, ...]] = ("done", "unfit", "cancelled", "superseded", "withdrawn")
"""States of a job that nobody will act on again; a failed or held one waits for a person."""

ENDED_DELIVERIES: Final[tuple[DeliveryState, ...]] = ("proven", "superseded", "withdrawn")
"""States of a delivery that nobody will act on again; what is accepted has ended once it has its proof."""


def is_ended(delivery: Delivery) -> bool:
    """Whether the delivery will not need its bytes again."""
    return delivery.state in ENDED_DELIVERIES or (delivery.state == "accepted" and delivery.proof != "")


def is_over(states: Iterable[JobState], deliveries: Iterable[Delivery]) -> bool:
    """Whether the work on a study has ended, by the states of its jobs and by its deliveries."""
    return all(state in ENDED_JOBS for state in states) and all(is_ended(delivery) for delivery in deliveries)


@dataclass(frozen=True, slots=True)
class RetiredSeries:
    """What was once received of a series."""

    uid: str
    modality: str
    instances: int


@dataclass(frozen=True, slots=True)
class Retirement:
    """When and why a study's objects were given up, what they were and how they had come."""

    at: datetime
    reason: str
    series: tuple[RetiredSeries, ...]
    association_ids: tuple[str, ...]
