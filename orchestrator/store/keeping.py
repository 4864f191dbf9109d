"""Which rows need their objects still: the port `Keeping`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, and_, delete, exists, func, not_, or_, select, text, update

from orchestrator.domain.retention import ENDED_DELIVERIES, ENDED_JOBS, RetiredSeries, Retirement
from orchestrator.domain.summary import Summary
from orchestrator.store.arrivals import words
from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.tables import (
    NOT_RETIRED,
    NOT_ROUTABLE,
    deliveries,
    instances,
    job_objects,
    jobs,
    studies,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, TextClause

_IS_VERSION: Final = and_(
    versions.c.sop_instance_uid == instances.c.sop_instance_uid, versions.c.digest == instances.c.digest
)


class KeepingRows:
    """The port `Keeping` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def finished(self, before: datetime, limit: int, *, study_uid: str | None = None) -> list[str]:
        newer = exists().where(instances.c.study_uid == studies.c.uid, instances.c.received_at > before)
        at_work = exists().where(jobs.c.study_uid == studies.c.uid, jobs.c.state.not_in(ENDED_JOBS))
        is_ended = or_(
            deliveries.c.state.in_(ENDED_DELIVERIES), and_(deliveries.c.state == "accepted", deliveries.c.proof != "")
        )
        on_the_way = exists().where(jobs.c.study_uid == studies.c.uid, deliveries.c.job_id == jobs.c.id, not_(is_ended))
        found = select(studies.c.uid).where(
            text(NOT_RETIRED),
            studies.c.newest_at <= before,
            studies.c.is_closed,
            *((studies.c.uid == study_uid,) if study_uid is not None else ()),
            ~at_work,
            ~on_the_way,
            ~newer,
        )
        return list(self._connection.execute(found.order_by(studies.c.newest_at).limit(limit)).scalars())

    def retire(self, study_uid: str, now: datetime, reason: str) -> int:
        of_study = instances.c.study_uid == study_uid
        modality = instances.c.header["modality"].as_string()
        kept = self._connection.execute(
            select(instances.c.series_uid, func.max(modality), func.count())
            .where(of_study)
            .group_by(instances.c.series_uid)
            .order_by(instances.c.series_uid)
        ).all()
        visits = self._connection.execute(
            select(instances.c.association_id)
            .where(of_study)
            .group_by(instances.c.association_id)
            .order_by(func.min(instances.c.id))
        ).scalars()
        retirement = {
            "reason": reason,
            "series": [[uid, modality or "", count] for uid, modality, count in kept],
            "association_ids": list(visits),
        }
        self._connection.execute(
            update(studies)
            .where(studies.c.uid == study_uid)
            .values(retired_at=now, retirement=retirement, facts=None, **words(Summary(study_uid)))
        )
        of_jobs = job_objects.c.job_id.in_(select(jobs.c.id).where(jobs.c.study_uid == study_uid))
        self._connection.execute(delete(job_objects).where(of_jobs))
        self._forget_versions(of_study)
        self._connection.execute(delete(versions).where(versions.c.study_uid == study_uid))
        return self._connection.execute(delete(instances).where(of_study)).rowcount

    def retirement(self, study_uid: str) -> Retirement | None:
        row = self._connection.execute(
            select(studies.c.retired_at, studies.c.retirement).where(
                studies.c.uid == study_uid, studies.c.retired_at.is_not(None)
            )
        ).one_or_none()
        if row is None:
            return None
        series = tuple(RetiredSeries(*found) for found in row.retirement["series"])
        return Retirement(row.retired_at, row.retirement["reason"], series, tuple(row.retirement["association_ids"]))

    def strays(self, before: datetime, limit: int) -> list[str]:
        found = select(instances.c.study_uid).where(*_stray(before)).order_by(instances.c.received_at).limit(limit)
        return list(dict.fromkeys(self._connection.execute(found).scalars()))

    def forget_strays(self, study_uid: str, before: datetime) -> int:
        forgotten = (instances.c.study_uid == study_uid, *_stray(before))
        self._forget_versions(*forgotten)
        return self._connection.execute(delete(instances).where(*forgotten)).rowcount

    def _forget_versions(self, *of_instances: ColumnElement[bool] | TextClause) -> None:
        """Before these instances are forgotten."""
        theirs = exists().where(_IS_VERSION, *of_instances)
        self._connection.execute(delete(versions).where(theirs))

    def needed(self, digests: Iterable[str]) -> set[str]:
        asked = list(digests)
        return {
            digest
            for table in (instances, job_objects)
            for digest in self._connection.execute(select(table.c.digest).where(table.c.digest.in_(asked))).scalars()
        }


def need(connection: Connection, job_id: str, digests: Iterable[str]) -> None:
    """Have the sweep leave these objects for as long as the job's study is kept."""
    rows = [{"digest": digest, "job_id": job_id} for digest in sorted(set(digests))]
    connection.execute(insert_or_keep(connection, job_objects).on_conflict_do_nothing(), rows)


def _stray(before: datetime) -> tuple[ColumnElement[bool] | TextClause, ...]:
    """Instances that no rule will ever see, of no study that is still kept, nor versions of one that are undecided."""
    live = exists().where(studies.c.uid == instances.c.study_uid, studies.c.retired_at.is_(None))
    asked = exists().where(_IS_VERSION, versions.c.standing.in_(("open", "asked")))
    return text(NOT_ROUTABLE), instances.c.received_at <= before, ~live, ~asked
