"""A study as it is told: what came of each series, without the facts of each object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.study import Header


@dataclass(frozen=True, slots=True)
class SeriesOutline:
    """A series as `Series` has it. `instances` counts them, `header` is that of the first."""

    uid: str
    header: Header
    instances: int
    last_received_at: datetime
    is_settled: bool
    signal: str
    ready_at: datetime | None


@dataclass(frozen=True, slots=True)
class StudyOutline:
    """A study as `Study` has it, and the associations its instances came by, the earliest first."""

    uid: str
    revision: int
    series: tuple[SeriesOutline, ...]
    association_ids: tuple[str, ...]
