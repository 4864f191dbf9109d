"""Time, names, messages, pipelines and headers as a test sets them: the small ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.study import Header
from tests.strategies import START

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.queue import Queue


@dataclass
class SettableClock:
    """The port `Clock`; time stands still until `pass_s`."""

    moment: datetime = START
    steady_s: float = 0.0

    def now(self) -> datetime:
        return self.moment

    def pass_s(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.steady_s += seconds

    def jump_s(self, seconds: float) -> None:
        """Somebody sets it: no time passes."""
        self.moment += timedelta(seconds=seconds)

    def elapsed_s(self) -> float:
        """A clock beside it that nobody can set."""
        return self.steady_s


class SystemClock:
    """The port `Clock`: this machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class CountingIdentifiers:
    """The port `Identifiers`: n1, n2, …"""

    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new(self) -> str:
        return f"n{next(self.numbers)}"


@dataclass
class RememberingAnnouncer:
    """The port `Announcer`."""

    announced: list[tuple[str, str]] = field(default_factory=list)
    is_down: bool = False

    def announce(self, queue: Queue, stage_id: str) -> None:
        if self.is_down:
            raise Transient(Fault.BROKER_UNREACHABLE)
        self.announced.append((str(queue), stage_id))


class GivenCatalog:
    """The port `Catalog` with the manifests given."""

    def __init__(self, *manifests: Manifest) -> None:
        self._manifests = {m.name: m for m in manifests}

    def manifests(self) -> Mapping[str, Manifest]:
        return self._manifests

    def faults(self) -> Mapping[str, str]:
        return {}


@dataclass
class GivenHeaders:
    """The port `HeaderReader`: headers by SOP Instance UID; of other objects nothing can be read."""

    headers: dict[str, Header] = field(default_factory=dict)

    def __call__(
        self, data_set: bytes, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Header:
        return self.headers.get(
            sop_instance_uid,
            Header(sop_class_uid, sop_instance_uid, transfer_syntax_uid, unreadable="not DICOM"),
        )
