"""Run everything on this machine: receiving, routing, workers, delivering, HTTP for monitors."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.commands.role import announce, monitored, opened, readiness_url, stop_signal, tell_denied
from orchestrator.domain.health import works
from orchestrator.service.checking import exposure_health

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from orchestrator.assembly import Receiver, System
    from orchestrator.domain.exposure import Binding

EXAMPLE: Final = "TENDON_DATA_DIR=/srv/tendon tendon serve"
_RESTART_PAUSE_S: Final = 0.5
_TERM_GRACE_S: Final = 5.0
_HOLDER: Final = "serve"
"""The same at each start: what a killed system held, the next one takes up at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    stopping = stop_signal()
    with opened() as system, embedded(system) as running:
        announce(
            f"Tendon receives as {system.settings.ae_title} on {running.receiver.binding.host}:{running.dicom_port}"
            f" and answers monitors on {readiness_url(system, running.pages, running.admin_port)}"
        )
        stopping.wait()
    return 0


@dataclass(frozen=True, slots=True)
class Running:
    """The embedded system at work."""

    receiver: Receiver
    dicom_port: int
    pages: Binding
    admin_port: int | None
    worker: WorkerProcess


class WorkerProcess:
    """The worker as a child process, so that its crash never takes down the SCP; started again when it is gone."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._stopping = Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = Thread(target=self._keep_alive, name="worker-process")

    def start(self) -> None:
        """Begin; the child ends when the thread that started it ends."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process in charge now."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether a worker runs at this moment."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the child; what it had in hand is leased again later."""
        self._stopping.set()
        self._thread.join()

    def _keep_alive(self) -> None:
        while not self._stopping.is_set():
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and a number
                [sys.executable, "-m", "workers", "--lanes", "cpu,gpu", "--parent", str(os.getpid())],
                env=self._environment,
            )
            while self._process.poll() is None and not self._stopping.wait(0.1):
                pass
            if not self._stopping.is_set():
                self._stopping.wait(_RESTART_PAUSE_S)
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_TERM_GRACE_S)
            self._process.kill()
            self._process.wait()


@contextmanager
def embedded(system: System) -> Iterator[Running]:
    """The whole system in this process and one child; everything is stopped at the end."""
    scp, rounds, pages = system.scp(), system.rounds(_HOLDER), system.pages()
    tell_denied(scp.binding, pages)
    worker = WorkerProcess(settings.as_environment(system.settings))
    checks = {
        **scp.checks,
        "exposure": lambda: exposure_health([scp.binding, pages]),
        "rounds": lambda: works(rounds.is_alive),
        "worker": lambda: works(worker.is_alive),
    }
    dicom_port = scp.start()
    rounds.start()
    worker.start()
    try:
        with monitored(system, system.settings.admin_port, checks, scp.owed, pages) as admin_port:
            yield Running(scp, dicom_port, pages, admin_port, worker)
    finally:
        scp.stop()
        worker.stop()
        rounds.stop()
