"""What every long-running role does the same way: log, answer monitors, run until told to stop."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

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


def stop_signal() -> Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
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
    server = None if port is None else system.admin(port, watch.states, journal, pages)
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
