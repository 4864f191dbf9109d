"""Run the stages of some lanes, until told to stop."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from threading import Event
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.domain.queue import queues_of
from orchestrator.telemetry import log_to_stderr
from workers.consume import Bench, work_until

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "tendon worker --lanes cpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which lanes."""
    parser.add_argument("--lanes", default="cpu,gpu", help="lanes to serve, by commas (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or SIGINT."""
    log_to_stderr()
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    system = open_system(settings.load())
    bench = Bench(
        workshop=system.workshop(),
        objects=system.objects,
        catalog=system.catalog,
        installation=system.installation,
        environment=system.settings.environment,
        work_dir=system.settings.work_dir / f"{os.getpid()}-{secrets.token_hex(4)}",
        queues=queues_of(arguments.lanes.split(",")),
        owner=f"{socket.gethostname()}:{os.getpid()}",
    )
    work_until(bench, stopping)
    system.records.close()
    return 0
