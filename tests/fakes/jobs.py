"""Decisions, jobs and stages in memory: the port `Jobs`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.queue import PRIORITY_ORDER, Queue
from orchestrator.domain.trial import mean_seconds
from orchestrator.domain.worker import Waiting
from orchestrator.ports import ClaimedStage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.domain.job import Job, Stage
    from orchestrator.domain.route import Decision
    from orchestrator.domain.worker import Worker
    from tests.fakes.state import State


class MemoryJobs:
    """The port `Jobs` on one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def add_decisions(
        self, study_uid: str, revision: int, rule_set_version: int, at: datetime, decisions: Iterable[Decision]
    ) -> None:
        for decision in decisions:
            number = len(self._state.decisions)
            self._state.decisions[number] = (study_uid, revision, rule_set_version, at, decision)

    def decisions(self, study_uid: str) -> list[tuple[int, int, datetime, Decision]]:
        return [row[1:] for row in self._state.decisions.values() if row[0] == study_uid]

    def add(self, job: Job) -> None:
        key = (job.study_uid, job.pipeline, job.input_set, job.generation)
        known = {(j.study_uid, j.pipeline, j.input_set, j.generation) for j in self._state.jobs.values()}
        assert job.id not in self._state.jobs
        assert key not in known
        self._state.jobs[job.id] = job

    def save(self, job: Job) -> None:
        if job.id in self._state.jobs:
            kept = self._state.jobs[job.id]
            self._state.jobs[job.id] = replace(
                kept,
                state=job.state,
                reason=job.reason,
                code=job.code,
                changed_at=job.changed_at,
                review=job.review,
                is_stale=job.is_stale,
            )

    def get(self, job_id: str) -> Job | None:
        return self._state.jobs.get(job_id)

    def starting(self, prefix: str, limit: int) -> list[Job]:
        return [job for job in self._state.jobs.values() if job.id.startswith(prefix)][:limit]

    def of_study(self, study_uid: str) -> list[Job]:
        return [job for job in self._state.jobs.values() if job.study_uid == study_uid]

    def page(self, limit: int) -> list[Job]:
        return list(reversed(self._state.jobs.values()))[:limit]

    def in_state(self, *states: str) -> list[Job]:
        return [job for job in self._state.jobs.values() if job.state in states]

    def counts(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for job in self._state.jobs.values():
            counted[job.state] = counted.get(job.state, 0) + 1
        return counted

    def seconds_of_stages(self, limit: int) -> dict[str, tuple[float, float]]:
        done = [s for s in self._state.stages.values() if s.state == "done" and s.started_at and s.finished_at]
        return mean_seconds(
            (self._state.jobs[s.job_id].pipeline, s.name, s.lane, (s.finished_at - s.started_at).total_seconds())
            for s in done[::-1][:limit]
            if s.started_at and s.finished_at
        )

    def add_stage(self, stage: Stage) -> None:
        assert stage.job_id in self._state.jobs
        assert (stage.job_id, stage.name) not in {(s.job_id, s.name) for s in self._state.stages.values()}
        self._state.stages[stage.id] = stage

    def stages(self, job_id: str) -> list[Stage]:
        return [stage for stage in self._state.stages.values() if stage.job_id == job_id]

    def claim(
        self, worker: Worker, now: datetime, lease_until: datetime, *, oldest_first: bool = False
    ) -> ClaimedStage | None:
        free = [
            stage
            for stage in self._state.stages.values()
            if worker.can_run(stage, self._state.jobs[stage.job_id])
            and self._is_workable(stage)
            and stage.attempt < stage.attempts_allowed
            and ((stage.state == "ready" and stage.not_before <= now) or self._has_run_out(stage, now))
        ]
        if not free:
            return None
        first = free[0] if oldest_first else max(free, key=lambda stage: PRIORITY_ORDER.index(stage.priority))
        claimed = replace(
            first,
            state="leased",
            attempt=first.attempt + 1,
            owner=worker.name,
            lease_until=lease_until,
            started_at=now,
            progress=0.0,
            progress_text="",
        )
        self._state.stages[claimed.id] = claimed
        job = self._state.jobs[claimed.job_id]
        if job.state == "waiting":
            job = self._state.jobs[job.id] = job.changed("running", now)
        return ClaimedStage(claimed, job)

    def _is_workable(self, stage: Stage) -> bool:
        return self._state.jobs[stage.job_id].state in ("waiting", "running")

    @staticmethod
    def _has_run_out(stage: Stage, now: datetime) -> bool:
        return stage.state == "leased" and stage.lease_until is not None and stage.lease_until <= now

    def _owned(self, stage: Stage) -> Stage | None:
        kept = self._state.stages.get(stage.id)
        is_owned = (
            kept is not None and (kept.attempt, kept.owner) == (stage.attempt, stage.owner) and kept.state == "leased"
        )
        return kept if is_owned and self._is_workable(stage) else None

    def renew(self, stage: Stage, lease_until: datetime, progress: float, text: str) -> bool:
        kept = self._owned(stage)
        if kept is None:
            return False
        self._state.stages[kept.id] = replace(kept, lease_until=lease_until, progress=progress, progress_text=text)
        return True

    def finish(self, stage: Stage) -> bool:
        kept = self._owned(stage)
        if kept is None:
            return False
        self._state.stages[kept.id] = replace(
            kept,
            state=stage.state,
            not_before=stage.not_before,
            lease_until=None,
            finished_at=stage.finished_at,
            progress=stage.progress,
            progress_text=stage.progress_text,
            code=stage.code,
            reason=stage.reason,
            artefacts=dict(stage.artefacts),
            announced_at=stage.announced_at,
            attempts_allowed=stage.attempts_allowed,
        )
        self._state.job_objects.update(dict.fromkeys((digest, stage.job_id) for digest in stage.artefacts.values()))
        return True

    def give_up(self, job_id: str, now: datetime, *, code: str, reason: str) -> None:
        for stage in self.stages(job_id):
            if stage.state in ("ready", "leased"):
                self._state.stages[stage.id] = replace(
                    stage, state="failed", lease_until=None, finished_at=now, code=code, reason=reason
                )

    def reopen(self, stage: Stage) -> bool:
        kept = self._state.stages.get(stage.id)
        if kept is None or kept.state != "failed":
            return False
        self._state.stages[stage.id] = replace(
            kept,
            state="ready",
            not_before=stage.not_before,
            attempts_allowed=stage.attempts_allowed,
            finished_at=None,
            announced_at=None,
            code="",
            reason="",
        )
        return True

    def unannounced(self, now: datetime, told_before: datetime, limit: int) -> list[Stage]:
        due = [
            stage
            for stage in self._state.stages.values()
            if ((stage.state == "ready" and stage.not_before <= now) or self._has_run_out(stage, now))
            and (stage.announced_at is None or stage.announced_at <= told_before)
            and stage.attempt < stage.attempts_allowed
            and self._is_workable(stage)
        ]
        return sorted(due, key=lambda stage: -PRIORITY_ORDER.index(stage.priority))[:limit]

    def ready_since(self, before: datetime) -> list[Waiting]:
        found: dict[tuple[str, ...], list[Stage]] = {}
        for stage in self._state.stages.values():
            if stage.state == "ready" and stage.not_before <= before and self._is_workable(stage):
                job = self._state.jobs[stage.job_id]
                kind = (stage.lane, stage.priority, stage.gpu, job.pipeline, job.package_digest)
                if stage.attempt < stage.attempts_allowed:
                    found.setdefault(kind, []).append(stage)
        return [
            Waiting(Queue(lane, priority), *needs, len(stages), min(s.not_before for s in stages))
            for (lane, priority, *needs), stages in sorted(found.items())
        ]

    def mark_announced(self, stage_ids: Iterable[str], now: datetime) -> None:
        for stage_id in set(stage_ids) & set(self._state.stages):
            self._state.stages[stage_id] = replace(self._state.stages[stage_id], announced_at=now)

    def is_under_way(self) -> bool:
        return any(stage.state in ("ready", "leased") for stage in self._state.stages.values())

    def exhausted(self, now: datetime) -> list[ClaimedStage]:
        return [
            ClaimedStage(stage, self._state.jobs[stage.job_id])
            for stage in self._state.stages.values()
            if self._has_run_out(stage, now) and stage.attempt >= stage.attempts_allowed and self._is_workable(stage)
        ]
