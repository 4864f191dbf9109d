"""A bell that rings when records have changed: the port `Bell` on SQLite."""

from __future__ import annotations

import sqlite3
import time
from threading import Event, Lock
from typing import Final

_LOOK_EVERY_S: Final = 0.05


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
