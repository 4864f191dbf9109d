"""Ports for who is there and what is amiss: offices of one holder, workers, alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.alarm import Alarm
    from orchestrator.domain.worker import Worker


class Leases(Protocol):
    """Offices that one process at a time holds, such as the rounds'."""

    def take(self, office: str, holder: str, now: datetime, until: datetime) -> int | None:
        """Hold the office until then, anew or still; gives its term, None while another holds it.

        The term rises whenever the holder changes.
        """

    def is_held(self, office: str, holder: str, term: int, now: datetime) -> bool:
        """Whether the holder still has this term; True fences out everybody else until the transaction ends."""

    def give_up(self, office: str, holder: str) -> None:
        """Leave the office to others; harmless when it is not held."""


class Workers(Protocol):
    """The workers that are there, as they said themselves."""

    def report(self, worker: Worker, now: datetime) -> None:
        """Note that the worker is there, and what it can run."""

    def present(self, since: datetime) -> list[Worker]:
        """Workers that reported since then, by name."""

    def leave(self, name: str) -> None:
        """Forget a worker; harmless when it is not known."""

    def forget(self, before: datetime) -> None:
        """Forget the workers that last reported before then."""


class Alarms(Protocol):
    """What an operator must act on."""

    def sound(self, alarm: Alarm) -> bool:
        """Note it; one that is open on the same code and subject is counted up instead: False."""

    def open(self) -> list[Alarm]:
        """Alarms nobody has cleared, oldest first."""

    def clear(self, code: str, subject: str, now: datetime) -> bool:
        """Note that it was seen to; False when there is none open."""
