"""A worker's bench, joined from the installation's parts."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

from workers.consume import Bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.assembly import System
    from orchestrator.domain.queue import Queue


def bench_for(system: System, queues: Sequence[Queue]) -> Bench:
    """The bench of this process for these queues; its name and work folder are its own."""
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    return Bench(
        workshop=system.workshop(),
        objects=system.objects,
        catalog=system.catalog,
        installation=system.installation,
        environment=system.settings.environment,
        work_dir=system.settings.work_dir / name.replace(":", "-"),
        queues=queues,
        owner=name,
    )
