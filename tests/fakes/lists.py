"""What staff look through, in memory: the port `Lists`."""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING

from orchestrator.domain.outline import SeriesOutline, StudyOutline
from orchestrator.domain.search import Listed, ListedJob, name_key
from orchestrator.domain.summary import Summary
from tests.fakes.studies import MemoryStudies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from orchestrator.domain.delivery import Delivery, Output
    from orchestrator.domain.job import Job
    from orchestrator.domain.search import Mark, StudyQuery
    from tests.fakes.state import State


class MemoryLists:
    """The port `Lists` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def studies(self, query: StudyQuery, limit: int, after: Mark | None = None) -> list[Listed]:
        found = [self._listed(uid, query) for uid in self._state.studies if self._is_seen(uid, query.sites)]
        chosen = [
            listed
            for listed in found
            if (not query.text or is_meant(listed.summary, query.text))
            and (query.since is None or listed.newest_at >= query.since)
            and (query.until is None or listed.newest_at < query.until)
            and (after is None or listed.mark < after)
        ]
        return sorted(chosen, key=lambda listed: listed.mark, reverse=True)[:limit]

    def _listed(self, uid: str, query: StudyQuery) -> Listed:
        row = self._state.studies[uid]
        at = self._routed_at(uid, query.sites) if query.sites else row.newest_at
        summary = self._state.summaries.get(uid, Summary(uid))
        return Listed(summary, at, row.is_closed, row.retirement is not None)

    def _routed_at(self, uid: str, sites: Sequence[str]) -> datetime:
        return max(
            at for (study_uid, site), at in self._state.study_sites.items() if study_uid == uid and site in sites
        )

    def _is_seen(self, uid: str, sites: Sequence[str]) -> bool:
        return not sites or any((uid, site) in self._state.study_sites for site in sites)

    def outline(self, study_uid: str) -> StudyOutline | None:
        study = MemoryStudies(self._state).get(study_uid)
        if study is None:
            return None
        came = (i for i, is_routable in self._state.instances.values() if is_routable)
        return StudyOutline(
            study_uid,
            study.revision,
            tuple(
                SeriesOutline(s.uid, s.header, len(s.instances), s.last_received_at, s.is_settled, s.signal, s.ready_at)
                for s in study.series
            ),
            tuple(dict.fromkeys(i.association_id for i in came if i.header.study_uid == study_uid)),
        )

    def facts(self, study_uid: str) -> Mapping[str, Any] | None:
        return self._state.facts.get(study_uid)

    def sites(self, study_uid: str) -> list[str]:
        return sorted(site for uid, site in self._state.study_sites if uid == study_uid)

    def jobs_of(self, study_uids: Sequence[str]) -> dict[str, list[ListedJob]]:
        jobs = list(self._state.jobs.values())
        return {
            uid: [ListedJob(job.id, job.pipeline, job.state) for job in jobs if job.study_uid == uid]
            for uid in study_uids
        }

    def jobs(self, limit: int, before: str = "", *, states: Sequence[str] = (), sites: Sequence[str] = ()) -> list[Job]:
        older = takewhile(lambda job: job.id != before, self._state.jobs.values())
        found = [j for j in older if (not states or j.state in states) and self._is_seen(j.study_uid, sites)]
        return found[::-1][:limit]

    def open_jobs(self) -> dict[str, int]:
        states = Counter(job.state for job in self._state.jobs.values())
        return {s: n for s, n in states.items() if s in ("waiting", "running", "delivering", "held", "failed")}

    def open_deliveries(self) -> dict[str, int]:
        found = self._state.deliveries.values()
        return {
            "waiting": sum(d.state in ("waiting", "sent") for d in found),
            "unproven": sum(d.state == "accepted" and not d.proof for d in found),
            "quarantined": sum(d.state == "quarantined" for d in found),
        }

    def quarantined(self) -> dict[str, int]:
        return dict(Counter(d.destination for d in self._state.deliveries.values() if d.state == "quarantined"))

    def deliveries(
        self,
        limit: int,
        before: str = "",
        *,
        states: Sequence[str] = (),
        destination: str = "",
        sites: Sequence[str] = (),
    ) -> list[tuple[Delivery, Output, Job]]:
        older = takewhile(lambda delivery: delivery.id != before, self._state.deliveries.values())
        found = [
            (delivery, self._state.outputs[delivery.output_id], self._state.jobs[delivery.job_id])
            for delivery in older
            if (not states or delivery.state in states) and destination in ("", delivery.destination)
        ]
        return [row for row in found if self._is_seen(row[2].study_uid, sites)][::-1][:limit]


def is_meant(summary: Summary, text: str) -> bool:
    """Whether a text that somebody typed is one of the things the study is known by."""
    known = (summary.uid, summary.patient.id, summary.accession_number)
    key = name_key(text)
    return text.strip() in known or (bool(key) and name_key(summary.patient.name).startswith(key))
