"""Run the stages of some lanes, until told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.commands.role import monitored, opened, stop_signal
from orchestrator.domain.queue import queues_of
from workers.bench import bench_for
from workers.consume import work_until

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from orchestrator.domain.queue import Queue

EXAMPLE: Final = "tendon worker --lanes cpu"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which lanes."""
    parser.add_argument("--lanes", default="cpu,gpu", help="lanes to serve, by commas (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM or SIGINT: told by the broker where there is one, else by the records themselves."""
    queues = queues_of(arguments.lanes.split(","))
    if settings.load().broker_url:
        return _run_celery(queues)
    stopping = stop_signal()
    with opened() as system, monitored(system, system.settings.health_port, {}):
        bell = system.records.bell()
        work_until(bench_for(system, queues), stopping, bell)
        bell.close()
    return 0


def _run_celery(queues: Sequence[Queue]) -> int:
    from workers.celery import app  # noqa: PLC0415 - Celery is loaded only where a broker is

    app.worker_main(["worker", "--queues", ",".join(map(str, queues)), "--loglevel", "WARNING"])
    return 0
