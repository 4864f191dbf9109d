"""Rows of what other nodes have of a series: the port `Counts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, delete, exists, or_, select

from orchestrator.domain.study import COUNTS_APART, Count
from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.tables import associations, instances, series, series_counts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class CountRows:
    """The port `Counts` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def to_ask(self, node: str, now: datetime, limit: int) -> dict[str, list[str]]:
        known = series_counts.c
        of_series = and_(known.study_uid == series.c.study_uid, known.series_uid == series.c.uid, known.node == node)
        open_on_series = exists().where(
            instances.c.series_uid == series.c.uid,
            instances.c.association_id == associations.c.id,
            associations.c.closed_at.is_(None),
        )
        is_time = or_(
            known.at.is_(None),
            known.ask_again_at <= now,
            and_(known.at < series.c.newest_at, known.at <= now - COUNTS_APART),
        )
        rows = self._connection.execute(
            select(series.c.study_uid, series.c.uid)
            .outerjoin(series_counts, of_series)
            .where(~series.c.is_settled, is_time, ~open_on_series)
            .order_by(series.c.look_at, series.c.study_uid, series.c.uid)
            .limit(limit)
        )
        asked: dict[str, list[str]] = {}
        for study_uid, series_uid in rows:
            asked.setdefault(study_uid, []).append(series_uid)
        return asked

    def note(self, study_uid: str, series_uid: str, count: Count, ask_again_at: datetime) -> None:
        answer = {
            "number": count.number,
            "at": count.at,
            "earlier": count.earlier,
            "earlier_at": count.earlier_at,
            "ask_again_at": ask_again_at,
        }
        key = {"study_uid": study_uid, "series_uid": series_uid, "node": count.node}
        self._connection.execute(
            insert_or_keep(self._connection, series_counts)
            .values(**key, **answer)
            .on_conflict_do_update(index_elements=list(key), set_=answer)
        )


def counts_of(connection: Connection, study_uid: str) -> dict[str, list[Count]]:
    """What nodes answered about the study's series, by Series Instance UID and in the order of their names."""
    found: dict[str, list[Count]] = {}
    of_study = select(series_counts).where(series_counts.c.study_uid == study_uid).order_by(series_counts.c.node)
    for row in connection.execute(of_study):
        count = Count(row.node, row.number, row.at, row.earlier, row.earlier_at)
        found.setdefault(row.series_uid, []).append(count)
    return found


def forget(connection: Connection, study_uid: str, series_uids: Sequence[str]) -> None:
    """Forget what nodes answered about these series."""
    connection.execute(
        delete(series_counts).where(series_counts.c.study_uid == study_uid, series_counts.c.series_uid.in_(series_uids))
    )
