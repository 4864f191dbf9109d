"""What is needed still, in memory: the port `Keeping`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.retention import RetiredSeries, Retirement, is_over
from orchestrator.domain.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.study import Instance
    from tests.fakes.state import State


class MemoryKeeping:
    """The port `Keeping` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def finished(self, before: datetime, limit: int, *, study_uid: str | None = None) -> list[str]:
        found = [
            (row.newest_at, uid)
            for uid, row in self._state.studies.items()
            if study_uid in (None, uid) and row.retirement is None and row.is_closed and self._is_over(uid, before)
        ]
        return [uid for _, uid in sorted(found)][:limit]

    def _is_over(self, study_uid: str, before: datetime) -> bool:
        jobs = {job.id: job.state for job in self._state.jobs.values() if job.study_uid == study_uid}
        return all(i.received_at <= before for i in self._of_study(study_uid)) and is_over(
            jobs.values(), (d for d in self._state.deliveries.values() if d.job_id in jobs)
        )

    def _of_study(self, study_uid: str) -> list[Instance]:
        return [i for i, _ in self._state.instances.values() if i.header.study_uid == study_uid]

    def retire(self, study_uid: str, now: datetime, reason: str) -> int:
        known = self._of_study(study_uid)
        by_series: dict[str, list[Instance]] = {}
        for instance in known:
            by_series.setdefault(instance.header.series_uid, []).append(instance)
            self._forget(instance)
        for key in [key for key, version in self._state.versions.items() if version.study_uid == study_uid]:
            del self._state.versions[key]
        series = tuple(
            RetiredSeries(uid, max(i.header.modality for i in instances), len(instances))
            for uid, instances in sorted(by_series.items())
        )
        retirement = Retirement(now, reason, series, tuple(dict.fromkeys(i.association_id for i in known)))
        if study_uid in self._state.studies:
            self._state.studies[study_uid] = replace(self._state.studies[study_uid], retirement=retirement)
            self._state.summaries[study_uid] = Summary(study_uid)
            self._state.facts.pop(study_uid, None)
        of_study = {job.id for job in self._state.jobs.values() if job.study_uid == study_uid}
        for key in [key for key in self._state.job_objects if key[1] in of_study]:
            del self._state.job_objects[key]
        return len(known)

    def retirement(self, study_uid: str) -> Retirement | None:
        row = self._state.studies.get(study_uid)
        return row.retirement if row else None

    def strays(self, before: datetime, limit: int) -> list[str]:
        found = sorted((i.received_at, i.header.study_uid) for i in self._strays(before))
        return list(dict.fromkeys(uid for _, uid in found[:limit]))

    def _strays(self, before: datetime) -> list[Instance]:
        live = {uid for uid, row in self._state.studies.items() if row.retirement is None}
        undecided = {key for key, version in self._state.versions.items() if version.is_undecided}
        return [
            i
            for key, (i, is_routable) in self._state.instances.items()
            if not (is_routable or key in undecided) and i.received_at <= before and i.header.study_uid not in live
        ]

    def forget_strays(self, study_uid: str, before: datetime) -> int:
        found = [i for i in self._strays(before) if i.header.study_uid == study_uid]
        for instance in found:
            self._forget(instance)
        return len(found)

    def _forget(self, instance: Instance) -> None:
        key = instance.header.sop_instance_uid, instance.digest
        del self._state.instances[key]
        self._state.versions.pop(key, None)

    def needed(self, digests: Iterable[str]) -> set[str]:
        needed = {digest for _, digest in self._state.instances} | {digest for digest, _ in self._state.job_objects}
        return needed & set(digests)
