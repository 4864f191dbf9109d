"""What every long-running role does the same way: log, answer monitors, run until told to stop."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.telemetry import log_to_stderr
from orchestrator.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator.assembly import System
    from orchestrator.domain.exposure import Binding
    from orchestrator.domain.health import Health
    from orchestrator.keeping import Owed

_LOOK_EVERY_S: Final = 0.1


class _StopSignal(Event):
    """An event that a handler of signals may set at any moment.

    Also while `wait` holds the lock of the event, for which the handler would wait for ever, and just before `wait`
    falls asleep, from which nothing would wake it.
    """

    _has_come = False

    def note(self, *_: object) -> None:
        """Set it without its lock."""
        self._has_come = True

    def is_set(self) -> bool:
        return self._has_come or super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        until_s = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _LOOK_EVERY_S if until_s is None else min(_LOOK_EVERY_S, until_s - time.monotonic())
            if left_s <= 0:
                break
            super().wait(left_s)
        return self.is_set()


def stop_signal() -> Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = _StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopping.note)
    return stopping


@contextmanager
def opened() -> Iterator[System]:
    """The installation of the environment's settings, with logs going to standard error."""
    log_to_stderr()
    system = open_system(settings.load())
    try:
        yield system
    finally:
        system.records.close()


@contextmanager
def monitored(
    system: System,
    port: int | None,
    checks: Mapping[str, Callable[[], Health]],
    journal: Callable[[], Owed] | None = None,
    pages: Binding | None = None,
) -> Iterator[int | None]:
    """Watch the parts, and answer monitors on a port if one is given, while the block runs; gives the port bound.

    With `pages` the port is that of the pages.
    """
    watch = Watch(checks)
    server = None
    if port is not None:
        from orchestrator.assembly.web import admin_server  # noqa: PLC0415 - roles without a port need none of it

        server = admin_server(system, port, watch.states, journal, pages)
    watch.start()
    if server is not None:
        server.start()
    try:
        yield server.port if server else None
    finally:
        if server is not None:
            server.stop()
        watch.stop()


def tell_denied(*bindings: Binding) -> None:
    """Say where Tendon does not listen although it was told to, and why."""
    for binding in bindings:
        if binding.denied:
            sys.stderr.write(f"{binding.denied}\n")
    sys.stderr.flush()


def readiness_url(system: System, pages: Binding, port: int | None) -> str:
    """Where the pages' process says whether it is ready."""
    scheme = "https" if system.settings.tls_certificate else "http"
    return f"{scheme}://{pages.host}:{port}/readyz"


def announce(sentence: str) -> None:
    """Say that the role is up."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
