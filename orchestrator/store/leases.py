"""Rows of offices that one process at a time holds: the port `Leases`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, Integer, cast, or_, select, update

from orchestrator.store.dialect import insert_or_keep
from orchestrator.store.tables import leases

_LONG_PAST: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LeaseRows:
    """The port `Leases` within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, office: str, holder: str, now: datetime, until: datetime) -> int | None:
        proposed = insert_or_keep(self._connection, leases).values(office=office, holder=holder, term=1, until=until)
        is_another = proposed.excluded.holder != leases.c.holder
        taken = proposed.on_conflict_do_update(
            index_elements=[leases.c.office],
            set_={"holder": holder, "until": until, "term": leases.c.term + cast(is_another, Integer)},
            where=or_(leases.c.holder == holder, leases.c.until <= now),
        ).returning(leases.c.term)
        return self._connection.execute(taken).scalar_one_or_none()

    def is_held(self, office: str, holder: str, term: int, now: datetime) -> bool:
        mine = (
            select(leases.c.term)
            .where(leases.c.office == office, leases.c.holder == holder, leases.c.term == term, leases.c.until > now)
            .with_for_update()
        )
        return self._connection.execute(mine).first() is not None

    def give_up(self, office: str, holder: str) -> None:
        mine = update(leases).where(leases.c.office == office, leases.c.holder == holder)
        self._connection.execute(mine.values(holder="", until=_LONG_PAST))
