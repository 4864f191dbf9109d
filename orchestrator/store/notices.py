"""Rows of what is to be told: the port `Notices`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, insert, select, text, update

from orchestrator.domain.notice import Happening, Posting
from orchestrator.store.dialect import ring
from orchestrator.store.tables import TO_TELL, notices

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row

_WAITS = text(TO_TELL)


class NoticeRows:
    """The port `Notices` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, notice: str, happening: Happening) -> None:
        told = {name: value for name, value in asdict(happening).items() if name != "at"}
        first = {"state": "waiting", "attempt": 0, "tries": 0, "reason": ""}
        values = {"notice": notice, "happening": told, "at": happening.at, "due_at": happening.at, **first}
        self._connection.execute(insert(notices).values(values))
        ring(self._connection)

    def due(self, now: datetime) -> list[str]:
        found = select(notices.c.notice).distinct().where(_WAITS, notices.c.due_at <= now)
        return sorted(self._connection.execute(found).scalars())

    def claim(self, notice: str, now: datetime, until: datetime) -> Posting | None:
        following = (
            select(notices)
            .where(_WAITS, notices.c.notice == notice, notices.c.due_at <= now)
            .order_by(notices.c.tries, notices.c.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        row = self._connection.execute(following).one_or_none()
        if row is None:
            return None
        claimed = {"attempt": row.attempt + 1, "due_at": until}
        self._connection.execute(update(notices).where(notices.c.number == row.number).values(**claimed))
        return _posting(row, **claimed)

    def keep(self, posting: Posting) -> bool:
        as_claimed = (notices.c.number == posting.number, notices.c.attempt == posting.attempt)
        values = {name: getattr(posting, name) for name in ("state", "due_at", "tries", "reason", "ended_at")}
        return self._connection.execute(update(notices).where(_WAITS, *as_claimed).values(**values)).rowcount == 1

    def failures(self, notice: str) -> int:
        most = select(func.coalesce(func.max(notices.c.tries), 0)).where(_WAITS, notices.c.notice == notice)
        return int(self._connection.execute(most).scalar_one())

    def put_off(self, notice: str, until: datetime) -> None:
        early = (_WAITS, notices.c.notice == notice, notices.c.due_at < until)
        self._connection.execute(update(notices).where(*early).values(due_at=until))

    def give_up(self, notice: str, before: datetime, now: datetime, reason: str) -> int:
        old = (_WAITS, notices.c.notice == notice, notices.c.at < before)
        ended = {"state": "given up", "reason": reason, "ended_at": now}
        return self._connection.execute(update(notices).where(*old).values(**ended)).rowcount

    def forget(self, before: datetime) -> None:
        self._connection.execute(delete(notices).where(notices.c.ended_at < before))

    def is_under_way(self) -> bool:
        return self._connection.execute(select(notices.c.number).where(_WAITS).limit(1)).first() is not None


def _posting(row: Row[Any], **claimed: Any) -> Posting:
    values = dict(row._mapping)  # noqa: SLF001
    values["happening"] = Happening(**values["happening"], at=values.pop("at"))
    return Posting(**{**values, **claimed})
