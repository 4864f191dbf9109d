"""A wire to a server that can be cut or fall silent while bytes are on it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.servers.folder import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


class Wire:
    """Forwards connections to a port. `sent` and `answered` are how many bytes may still pass each way, None all."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: int | None = None
        self.answered: int | None = None
        self.is_silent = False
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def mend(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self.sent = self.answered = None
            self.is_silent = False

    def close(self) -> None:
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for end in self._open:
                _cut(end)
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((LOOPBACK, self._target))
            with self._lock:
                self._open += [near, far]
            self._start(self._pump, near, far, "sent")
            self._start(self._pump, far, near, "answered")

    def _pump(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                passed = self._passes(way, len(data))
                sink.sendall(data[:passed])
                if passed < len(data):
                    if self.is_silent:
                        self.ended.wait()
                    break
        _cut(source)
        _cut(sink)

    def _passes(self, way: str, size: int) -> int:
        with self._lock:
            left = getattr(self, way)
            if left is None:
                return size
            passed = min(size, left)
            setattr(self, way, left - passed)
            return passed


def _cut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire that is whole, until the test says otherwise."""
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()
