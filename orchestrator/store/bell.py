"""Bells that ring when records have changed: the port `Bell` on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from threading import Event, Lock
from typing import TYPE_CHECKING, Final

import psycopg

from orchestrator.store.dialect import CHANNEL

if TYPE_CHECKING:
    from sqlalchemy import URL

_LOOK_EVERY_S: Final = 0.05
_RECONNECT_AFTER_S: Final = 1.0


class FileBell:
    """Asks SQLite's `data_version`, which changes with every commit of another connection and costs microseconds.

    To be used by one thread, but for `close`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._closed = Event()
        self._waiting = Lock()
        self._connection: sqlite3.Connection | None = None
        self._heard = -1

    def wait(self, timeout_s: float) -> None:
        """Until another connection commits."""
        deadline = time.monotonic() + timeout_s
        with self._waiting:
            while not self._closed.is_set() and self._version() == self._heard:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                self._closed.wait(min(_LOOK_EVERY_S, remaining))
            if not self._closed.is_set():
                self._heard = self._version()

    def _version(self) -> int:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, check_same_thread=False)
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def close(self) -> None:
        """End the waiting."""
        self._closed.set()
        with self._waiting:
            if self._connection is not None:
                self._connection.close()


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
