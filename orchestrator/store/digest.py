"""SHA-256 of bytes as they are written: of much, by a thread of its own, while the disk is busy."""

from __future__ import annotations

import hashlib
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Final

_APART_FROM: Final = 8
"""Chunks before these are hashed where they are written: a thread costs more than they do."""

_AHEAD: Final = 4


class Digest:
    """Takes chunks that nobody changes afterwards."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._count = 0
        self._chunks: SimpleQueue[memoryview | None] = SimpleQueue()
        self._room = Semaphore(_AHEAD)
        self._thread: Thread | None = None

    def update(self, chunk: memoryview) -> None:
        """The next bytes; waits where hashing is far behind."""
        self._count += 1
        if self._count <= _APART_FROM:
            self._hash.update(chunk)
            return
        if self._thread is None:
            self._thread = Thread(target=self._run, name="digest", daemon=True)
            self._thread.start()
        self._room.acquire()
        self._chunks.put(chunk)

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._hash.update(chunk)
            self._room.release()

    def close(self) -> str:
        """No more comes; gives the digest in lower-case hex. Harmless when repeated."""
        if self._thread is not None:
            self._chunks.put(None)
            self._thread.join()
            self._thread = None
        return self._hash.hexdigest()
