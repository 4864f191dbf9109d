"""Rows of what an operator must act on: the port `Alarms`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, insert, select, update

from orchestrator.domain.alarm import Alarm
from orchestrator.store.dialect import hold
from orchestrator.store.tables import alarms

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement


class AlarmRows:
    """The port `Alarms` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def sound(self, alarm: Alarm) -> bool:
        hold(self._connection, [f"alarm {alarm.code} {alarm.subject}"])
        counted = self._connection.execute(
            update(alarms)
            .where(_open_on(alarm.code, alarm.subject))
            .values(detail=alarm.detail, last_at=alarm.last_at, times=alarms.c.times + alarm.times)
        )
        if not counted.rowcount:
            self._connection.execute(
                insert(alarms).values(
                    code=alarm.code,
                    subject=alarm.subject,
                    detail=alarm.detail,
                    raised_at=alarm.raised_at,
                    last_at=alarm.last_at,
                    times=alarm.times,
                )
            )
        return not counted.rowcount

    def open(self) -> list[Alarm]:
        rows = self._connection.execute(select(alarms).where(alarms.c.cleared_at.is_(None)).order_by(alarms.c.number))
        return [Alarm(row.code, row.subject, row.detail, row.raised_at, row.last_at, row.times) for row in rows]

    def clear(self, code: str, subject: str, now: datetime) -> bool:
        cleared = self._connection.execute(update(alarms).where(_open_on(code, subject)).values(cleared_at=now))
        return cleared.rowcount > 0


def _open_on(code: str, subject: str) -> ColumnElement[bool]:
    return and_(alarms.c.code == code, alarms.c.subject == subject, alarms.c.cleared_at.is_(None))
