"""The report stage: every output of a result is built once, in one order, and stored before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from orchestrator.ports import BuiltObject, ReportBuilder, ReportRequest

UNDATED = "20000101000000"
"""Content time of a test result whose images name no day: anything, so long as it is always the same."""


def build_outputs(request: ReportRequest, builders: Sequence[ReportBuilder]) -> tuple[BuiltObject, ...]:
    """All outputs in the order of the builders; each builder finds in `built` what those before it made."""
    built = request.built
    for build in builders:
        built += tuple(build(replace(request, built=built)))
    return built[len(request.built) :]


def content_time(environment: str, content_times: Iterable[str], created_at: datetime) -> str:
    """`YYYYMMDDHHMMSS` a result's content bears.

    In environment `test` the earliest content time of its images, so that runs of one study are equal;
    else when its job was created, in UTC. `content_times` may hold empty ones.
    """
    if environment == "test":
        return min((t for t in content_times if t), default=UNDATED)
    return created_at.astimezone(UTC).strftime("%Y%m%d%H%M%S")
