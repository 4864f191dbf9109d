"""A network line that can be cut: bytes are held back in one or both directions, or connections are reset."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from tests.servers.folder import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator

Cut = Literal["whole", "silent", "no answers", "reset"]
_LOOK_S = 0.05
_AT_ONCE = struct.pack("ii", 1, 0)


class Line:
    """Forwards connections to a port of this machine.

    `silent` holds all bytes back and `no answers` those of the far side, as a lost network does: what was held
    goes on its way once the line is whole again. `reset` ends every connection, old or new, with a reset.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut: Cut = "whole"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            if not select.select([self._listener], [], [], _LOOK_S)[0]:
                continue
            near, _ = self._listener.accept()
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection((LOOPBACK, self._target), timeout=5)
            except OSError:
                _reset(near)
                return
            with far, suppress(OSError):
                far.settimeout(None)
                self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        while not self._closing.is_set():
            if self.cut == "reset":
                _reset(near)
                _reset(far)
                return
            heard = {"whole": [near, far], "no answers": [near], "silent": []}[self.cut]
            for source in select.select(heard, [], [], _LOOK_S)[0]:
                data = source.recv(1 << 16)
                if not data:
                    return
                (far if source is near else near).sendall(data)


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    end.close()


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    """A whole line, until somebody says otherwise."""
    line = Line(port)
    try:
        yield line
    finally:
        line.close()
