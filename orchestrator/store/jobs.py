"""Rows of decisions, jobs and stages: the port `Jobs`. The claim is the one place where dialects may differ."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, bindparam, exists, func, insert, or_, select, union_all, update

from orchestrator.domain.job import Job, JobInput, Stage
from orchestrator.domain.queue import PRIORITY_ORDER, Queue
from orchestrator.domain.route import Decision
from orchestrator.domain.trial import mean_seconds
from orchestrator.domain.worker import Waiting
from orchestrator.ports import ClaimedStage
from orchestrator.store.columns import Instant
from orchestrator.store.dialect import FORGETTABLE, is_postgresql, ring
from orchestrator.store.keeping import need
from orchestrator.store.tables import CLAIMABLE, decisions, jobs, stages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Row, Select
    from sqlalchemy.sql.dml import ReturningUpdate

    from orchestrator.domain.worker import Worker

_WORKABLE = ("waiting", "running")
_STAGE_FIELDS = tuple(field.name for field in fields(Stage))

# The statements of every claim and finish are made once: making them costs more than the database does.

_NOW = bindparam("now", type_=Instant)
_UNTIL = bindparam("until", type_=Instant)
_IS_WORKABLE = exists().where(jobs.c.id == stages.c.job_id, jobs.c.state.in_(_WORKABLE))
_IS_RUNNABLE = exists().where(
    jobs.c.id == stages.c.job_id,
    jobs.c.state.in_(_WORKABLE),
    or_(jobs.c.package_digest.in_(bindparam("builds", expanding=True)), jobs.c.package_digest == ""),
)
_IS_OWNED = and_(
    stages.c.id == bindparam("of_stage"),
    stages.c.attempt == bindparam("of_attempt"),
    stages.c.owner == bindparam("of_owner"),
    stages.c.state == "leased",
    _IS_WORKABLE,
)
_OPEN = select(stages.c.number).where(CLAIMABLE).limit(1)
_GET = select(jobs).where(jobs.c.id == bindparam("of_job"))
_ADD_STAGE = insert(stages)
_BEGIN = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.state == "waiting")
    .values(state="running", changed_at=_NOW)
    .returning(jobs)
)
_RENEW = (
    update(stages)
    .where(_IS_OWNED)
    .values(lease_until=_UNTIL, progress=bindparam("new_progress"), progress_text=bindparam("new_text"))
)
_AT_FINISH = (
    "state",
    "not_before",
    "finished_at",
    "progress",
    "progress_text",
    "code",
    "reason",
    "artefacts",
    "announced_at",
    "attempts_allowed",
)
_FINISH = (
    update(stages)
    .where(_IS_OWNED)
    .values(lease_until=None, **{name: bindparam(f"new_{name}", type_=stages.c[name].type) for name in _AT_FINISH})
)


_Walk = tuple[str, tuple[int, ...]]
"""A lane and some of its ranks: one walk along the index `stages_to_claim` finds their first stage."""


@cache
def _lease(walks: tuple[_Walk, ...], *, has_gpu: bool, oldest_first: bool, postgresql: bool) -> ReturningUpdate[Any]:
    """Lease the first of what the walks find. On PostgreSQL what others have locked is passed by."""
    found = [_walk(lane, ranks, has_gpu=has_gpu) for lane, ranks in walks]
    if len(found) == 1:
        first = found[0].with_only_columns(stages.c.number)
    else:
        each = union_all(*(select(walk.subquery()) for walk in found)).subquery()
        first = select(each.c.number).order_by(*(() if oldest_first else (each.c.rank.desc(),)), each.c.number).limit(1)
    leased = (
        update(stages)
        .where(stages.c.number == first.scalar_subquery())
        .values(
            state="leased",
            attempt=stages.c.attempt + 1,
            owner=bindparam("new_owner"),
            lease_until=_UNTIL,
            started_at=_NOW,
            progress=0.0,
            progress_text="",
        )
    )
    return leased.returning(stages, FORGETTABLE) if postgresql else leased.returning(stages)


def _walk(lane: str, ranks: tuple[int, ...], *, has_gpu: bool) -> Select[Any]:
    is_free = or_(
        and_(stages.c.state == "ready", stages.c.not_before <= _NOW),
        and_(stages.c.state == "leased", stages.c.lease_until <= _NOW),
    )
    walk = select(stages.c.rank, stages.c.number).where(
        CLAIMABLE, stages.c.lane == lane, is_free, stages.c.attempt < stages.c.attempts_allowed, _IS_RUNNABLE
    )
    if not has_gpu:
        walk = walk.where(stages.c.gpu != "required")
    if len(ranks) < len(PRIORITY_ORDER):
        walk = walk.where(stages.c.rank.in_(ranks))
    return walk.order_by(stages.c.rank.desc(), stages.c.number).limit(1).with_for_update(skip_locked=True, of=stages)


class JobRows:
    """The port `Jobs` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_decisions(
        self, study_uid: str, revision: int, rule_set_version: int, at: datetime, made: Sequence[Decision]
    ) -> None:
        for decision in made:
            self._connection.execute(
                insert(decisions).values(
                    study_uid=study_uid,
                    revision=revision,
                    rule_set_version=rule_set_version,
                    at=at,
                    **asdict(decision),
                )
            )

    def decisions(self, study_uid: str) -> list[tuple[int, int, datetime, Decision]]:
        rows = self._connection.execute(
            select(decisions).where(decisions.c.study_uid == study_uid).order_by(decisions.c.id)
        )
        return [
            (
                row.revision,
                row.rule_set_version,
                row.at,
                Decision(row.rule, row.pipeline, row.series_uid, row.is_yes, row.reason, row.code),
            )
            for row in rows
        ]

    def add(self, job: Job) -> None:
        self._connection.execute(insert(jobs).values(**asdict(job)))

    def save(self, job: Job) -> None:
        self._connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(
                state=job.state,
                reason=job.reason,
                code=job.code,
                changed_at=job.changed_at,
                review=job.review,
                is_stale=job.is_stale,
            )
        )

    def get(self, job_id: str) -> Job | None:
        row = self._connection.execute(_GET, {"of_job": job_id}).one_or_none()
        return None if row is None else job_in(row)

    def starting(self, prefix: str, limit: int) -> list[Job]:
        is_named = func.substr(jobs.c.id, 1, len(prefix)) == prefix
        rows = self._connection.execute(select(jobs).where(is_named).order_by(jobs.c.number).limit(limit))
        return [job_in(row) for row in rows]

    def of_study(self, study_uid: str) -> list[Job]:
        rows = self._connection.execute(select(jobs).where(jobs.c.study_uid == study_uid).order_by(jobs.c.number))
        return [job_in(row) for row in rows]

    def page(self, limit: int) -> list[Job]:
        rows = self._connection.execute(select(jobs).order_by(jobs.c.number.desc()).limit(limit))
        return [job_in(row) for row in rows]

    def in_state(self, *states: str) -> list[Job]:
        rows = self._connection.execute(select(jobs).where(jobs.c.state.in_(states)).order_by(jobs.c.number))
        return [job_in(row) for row in rows]

    def counts(self) -> dict[str, int]:
        rows = self._connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
        return {row[0]: row[1] for row in rows}

    def seconds_of_stages(self, limit: int) -> dict[str, tuple[float, float]]:
        rows = self._connection.execute(
            select(jobs.c.pipeline, stages.c.name, stages.c.lane, stages.c.started_at, stages.c.finished_at)
            .join(jobs, jobs.c.id == stages.c.job_id)
            .where(stages.c.state == "done", stages.c.started_at.is_not(None), stages.c.finished_at.is_not(None))
            .order_by(stages.c.number.desc())
            .limit(limit)
        )
        return mean_seconds((r.pipeline, r.name, r.lane, (r.finished_at - r.started_at).total_seconds()) for r in rows)

    def add_stage(self, stage: Stage) -> None:
        values = asdict(stage)
        self._connection.execute(_ADD_STAGE, {"rank": PRIORITY_ORDER.index(stage.priority), **values})
        ring(self._connection)

    def stages(self, job_id: str) -> list[Stage]:
        rows = self._connection.execute(select(stages).where(stages.c.job_id == job_id).order_by(stages.c.number))
        return [_stage(row) for row in rows]

    def claim(
        self, worker: Worker, now: datetime, lease_until: datetime, *, oldest_first: bool = False
    ) -> ClaimedStage | None:
        lease = _lease(
            _walks(worker.queues, each_rank=oldest_first),
            has_gpu=worker.has_gpu,
            oldest_first=oldest_first,
            postgresql=is_postgresql(self._connection),
        )
        given = {"new_owner": worker.name, "until": lease_until, "now": now, "builds": sorted(worker.builds)}
        row = self._connection.execute(lease, given).one_or_none()
        return None if row is None else self._begin(_stage(row), now)

    def _begin(self, stage: Stage, now: datetime) -> ClaimedStage | None:
        """The leased stage with its job, which is running; None when the job was ended in this very moment."""
        row = self._connection.execute(_BEGIN, {"of_job": stage.job_id, "now": now}).one_or_none()
        claimed = self._with_job(stage) if row is None else ClaimedStage(stage, job_in(row))
        return claimed if claimed.job.state in _WORKABLE else None

    def _with_job(self, stage: Stage) -> ClaimedStage:
        job = self.get(stage.job_id)
        assert job is not None, "a stage's job is kept by a foreign key"
        return ClaimedStage(stage, job)

    def renew(self, stage: Stage, lease_until: datetime, progress: float, text: str) -> bool:
        given = {**_fence(stage), "until": lease_until, "new_progress": progress, "new_text": text}
        return self._connection.execute(_RENEW, given).rowcount == 1

    def finish(self, stage: Stage) -> bool:
        given = {f"new_{name}": getattr(stage, name) for name in _AT_FINISH}
        finished = self._connection.execute(_FINISH, {**_fence(stage), **given, "new_artefacts": dict(stage.artefacts)})
        ring(self._connection)
        if finished.rowcount and stage.artefacts:
            need(self._connection, stage.job_id, stage.artefacts.values())
        return finished.rowcount == 1

    def give_up(self, job_id: str, now: datetime, *, code: str, reason: str) -> None:
        self._connection.execute(
            update(stages)
            .where(stages.c.job_id == job_id, stages.c.state.in_(("ready", "leased")))
            .values(state="failed", lease_until=None, finished_at=now, code=code, reason=reason)
        )

    def reopen(self, stage: Stage) -> bool:
        reopened = self._connection.execute(
            update(stages)
            .where(stages.c.id == stage.id, stages.c.state == "failed")
            .values(
                state="ready",
                not_before=stage.not_before,
                attempts_allowed=stage.attempts_allowed,
                finished_at=None,
                announced_at=None,
                code="",
                reason="",
            )
        )
        ring(self._connection)
        return reopened.rowcount == 1

    def unannounced(self, now: datetime, told_before: datetime, limit: int) -> list[Stage]:
        is_due = or_(
            and_(stages.c.state == "ready", stages.c.not_before <= now),
            and_(stages.c.state == "leased", stages.c.lease_until <= now),
        )
        is_untold = or_(stages.c.announced_at.is_(None), stages.c.announced_at <= told_before)
        rows = self._connection.execute(
            select(stages)
            .where(CLAIMABLE, is_due, is_untold, stages.c.attempt < stages.c.attempts_allowed, _IS_WORKABLE)
            .order_by(stages.c.rank.desc(), stages.c.number)
            .limit(limit)
        )
        return [_stage(row) for row in rows]

    def ready_since(self, before: datetime) -> list[Waiting]:
        kind = (stages.c.lane, stages.c.priority, stages.c.gpu, jobs.c.pipeline, jobs.c.package_digest)
        rows = self._connection.execute(
            select(*kind, func.count(), func.min(stages.c.not_before, type_=Instant))
            .join(jobs, jobs.c.id == stages.c.job_id)
            .where(
                CLAIMABLE,
                stages.c.state == "ready",
                stages.c.not_before <= before,
                stages.c.attempt < stages.c.attempts_allowed,
                jobs.c.state.in_(_WORKABLE),
            )
            .group_by(*kind)
            .order_by(*kind)
        )
        return [Waiting(Queue(lane, priority), *needs) for lane, priority, *needs in rows]

    def mark_announced(self, stage_ids: Iterable[str], now: datetime) -> None:
        self._connection.execute(update(stages).where(stages.c.id.in_(list(stage_ids))).values(announced_at=now))

    def is_under_way(self) -> bool:
        return self._connection.execute(_OPEN).first() is not None

    def exhausted(self, now: datetime) -> list[ClaimedStage]:
        rows = self._connection.execute(
            select(stages)
            .join(jobs, jobs.c.id == stages.c.job_id)
            .where(
                stages.c.state == "leased",
                stages.c.lease_until <= now,
                stages.c.attempt >= stages.c.attempts_allowed,
                jobs.c.state.in_(_WORKABLE),
            )
        ).all()
        return [self._with_job(_stage(row)) for row in rows]


def _fence(stage: Stage) -> dict[str, Any]:
    """What only the worker that holds this attempt knows."""
    return {"of_stage": stage.id, "of_attempt": stage.attempt, "of_owner": stage.owner}


def _walks(queues: Sequence[Queue], *, each_rank: bool) -> tuple[_Walk, ...]:
    """The walks that find the first stage of these queues: one a lane, or one a lane and rank."""
    ranks: dict[str, list[int]] = {}
    for queue in queues:
        ranks.setdefault(queue.lane, []).append(PRIORITY_ORDER.index(queue.priority))
    if each_rank:
        return tuple((lane, (rank,)) for lane, of_lane in ranks.items() for rank in of_lane)
    return tuple((lane, tuple(of_lane)) for lane, of_lane in ranks.items())


def job_in(row: Row[Any]) -> Job:
    """The job of a row."""
    values = {name: value for name, value in row._mapping.items() if name != "number"}  # noqa: SLF001
    values["inputs"] = tuple(JobInput(**given) for given in values["inputs"])
    values["send"] = tuple(values["send"])
    values["rules"] = tuple(values["rules"])
    return Job(**values)


def _stage(row: Row[Any]) -> Stage:
    return Stage(**{name: row._mapping[name] for name in _STAGE_FIELDS})  # noqa: SLF001
