"""What only PostgreSQL needs: engines that find dead connections, and the port `Bell` on a channel."""

from __future__ import annotations

import math
import time
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DisconnectionError

from orchestrator.store.dialect import CHANNEL

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

_TRUSTED_FOR_S: Final = 0.1
"""No database is killed and answers again in so short a time."""
_SILENCE_MS: Final = 11_000
"""How long what was sent may stay unacknowledged: keepalives find out only about connections at rest."""
_RESTING_SINCE: Final = "resting since"
_RECONNECT_AFTER_S: Final = 1.0


def open_server(url: URL) -> Engine:
    """An engine by psycopg 3."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=16,
        max_overflow=128,
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": _SILENCE_MS,
        },
    )
    event.listen(engine, "checkin", _note_rest)
    event.listen(engine, "checkout", _ping_if_rested)
    return engine


def _note_rest(_: Any, record: Any) -> None:
    record.info[_RESTING_SINCE] = time.monotonic()


def _ping_if_rested(connection: Any, record: Any, _: Any) -> None:
    """A connection that was not used for a while may be dead: then the pool gives another. A busy one costs nothing."""
    if time.monotonic() - record.info.get(_RESTING_SINCE, math.inf) > _TRUSTED_FOR_S:
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except psycopg.Error as error:
            raise DisconnectionError from error


class ChannelBell:
    """Listens on the PostgreSQL channel by a connection of its own, in autocommit, for otherwise nothing arrives.

    While the database does not answer it rings every second at most. To be used by one thread, but for `close`.
    """

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._closed = Event()
        self._waiting = Lock()
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout_s: float) -> None:
        """Until a change is told; the first wait of a connection returns at once, for what was missed till then."""
        with self._waiting:
            try:
                self._listen(timeout_s)
            except psycopg.Error:
                self._hang_up()
                self._closed.wait(min(_RECONNECT_AFTER_S, timeout_s))

    def _listen(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            self._connection.execute(f"LISTEN {CHANNEL}")
            return
        while not self._closed.is_set():
            remaining = deadline - time.monotonic()
            if remaining <= 0 or list(self._connection.notifies(timeout=min(remaining, 0.5), stop_after=1)):
                return

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """End the waiting within half a second."""
        self._closed.set()
        with self._waiting:
            self._hang_up()
