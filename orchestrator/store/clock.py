"""The database's clock: one time for all processes of a cluster, whatever their own clocks say."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select
from sqlalchemy.exc import InterfaceError, OperationalError

if TYPE_CHECKING:
    from sqlalchemy import Engine

_ASK_EVERY_S: Final = 60.0


class DatabaseClock:
    """The port `Clock`: asks PostgreSQL now and then and counts on by the monotonic clock.

    A jump of this machine's clock changes nothing; while the database does not answer it counts on.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._asked_at_s = 0.0
        self._told: datetime | None = None

    def now(self) -> datetime:
        """This moment in UTC."""
        with self._lock:
            elapsed_s = time.monotonic() - self._asked_at_s
            if self._told is None or elapsed_s > _ASK_EVERY_S:
                self._ask()
                elapsed_s = time.monotonic() - self._asked_at_s
            assert self._told is not None
            return self._told + timedelta(seconds=elapsed_s)

    def _ask(self) -> None:
        try:
            with self._engine.connect() as connection:
                before_s = time.monotonic()
                told: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        except (OperationalError, InterfaceError):
            if self._told is None:
                raise
            self._told += timedelta(seconds=time.monotonic() - self._asked_at_s)
            self._asked_at_s = time.monotonic()
            return
        self._told, self._asked_at_s = told.astimezone(UTC), before_s

    def skew_s(self) -> float:
        """By how many seconds this machine's clock is ahead of the database's."""
        return (datetime.now(UTC) - self.now()).total_seconds()  # noqa: TID251 - this machine's clock is the question
