"""A process that runs stages, from outside: told by JSON lines, heard by a thread of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.errors import Fault, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Message = Mapping[str, Any]

_START_S: Final = 60.0
_GRACE_S: Final = 3.0


class Guard:
    """One life of a process that watches over those that run pipelines, in a session of its own.

    The thread that hears it is the one that starts it, because the process ends with that thread.
    """

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", module, str(os.getpid()), *arguments]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._settled = Event()
        self.ready: Message = {}

    def start(self, hear: Callable[[Message], None], gone: Callable[[], None]) -> None:
        """Start it and wait until it is ready; `hear` is called with every later message, `gone` once at the end.

        Raises Transient STAGE_DIED.
        """
        Thread(target=self._live, args=(hear, gone), name=self._command[2], daemon=True).start()
        self._settled.wait(_START_S)
        if not self.ready:
            self.end()
            raise Transient(Fault.STAGE_DIED, "the process that runs stages does not start")

    def _live(self, hear: Callable[[Message], None], gone: Callable[[], None]) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, module and numbers
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
            )
            assert self._process.stdout is not None
            with self._process.stdout as lines:
                for line in lines:
                    message = json.loads(line)
                    if self.ready:
                        hear(message)
                    else:
                        self.ready = message
                        self._settled.set()
        finally:
            self._settled.set()
            gone()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def tell(self, message: Message) -> None:
        """Tell it something, should it still listen."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """End it and all it watches over: by closing its input, and by force when that does not help."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
            return
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
