"""The port of what staff look through: long lists, page by page, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job
    from orchestrator.domain.outline import StudyOutline
    from orchestrator.domain.search import Listed, ListedJob, Mark, StudyQuery


class Lists(Protocol):
    """What was received and done, for people who look for it. `sites`: only of studies that these have sent."""

    def studies(self, query: StudyQuery, limit: int, after: Mark | None = None) -> list[Listed]:
        """Studies, the newest first, those after a mark; where sites limit them, by when they were routed."""

    def outline(self, study_uid: str) -> StudyOutline | None:
        """The study with its routable series, as soon read when it has thousands of instances."""

    def facts(self, study_uid: str) -> Mapping[str, Any] | None:
        """The facts that the study was routed by."""

    def sites(self, study_uid: str) -> list[str]:
        """Names of the sites that sent it, until it was last routed."""

    def jobs_of(self, study_uids: Sequence[str]) -> dict[str, list[ListedJob]]:
        """Jobs of each of these studies, oldest first."""

    def jobs(self, limit: int, before: str = "", *, states: Sequence[str] = (), sites: Sequence[str] = ()) -> list[Job]:
        """Jobs in one of the states, newest first, those older than the job `before`."""

    def open_jobs(self) -> dict[str, int]:
        """How many jobs there are in each state in which something is still to be done."""

    def open_deliveries(self) -> dict[str, int]:
        """How many deliveries are `waiting`, `unproven` and `quarantined`."""

    def quarantined(self) -> dict[str, int]:
        """How many deliveries are in quarantine, by destination."""

    def deliveries(
        self,
        limit: int,
        before: str = "",
        *,
        states: Sequence[str] = (),
        destination: str = "",
        sites: Sequence[str] = (),
    ) -> list[tuple[Delivery, Output, Job]]:
        """Deliveries with their output and job, newest first, those older than the delivery `before`."""
