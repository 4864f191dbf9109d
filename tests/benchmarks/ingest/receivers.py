"""The receivers that are compared, each started for the run on a folder and a port of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.dicom_peers import free_port, program
from tests.faults.campaign.roles import below
from tests.orthanc import orthanc
from tests.receiver import Scp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TENDON, ORTHANC, STORESCP, LIMIT = "Tendon", "Orthanc", "storescp", "the limit"


@dataclass(frozen=True, slots=True)
class Receiver:
    """One that listens, and the process that its CPU and memory are told of, children included.

    `settle` returns when it has nothing left to do.
    """

    name: str
    port: int
    ae_title: str
    pid: int
    settle: Callable[[], None] = os.sync


@contextmanager
def started(name: str, folder: Path) -> Iterator[Receiver]:
    """A receiver at work, its objects in a folder of its own below this one."""
    own = folder / name.replace(" ", "-")
    if name == ORTHANC:
        with orthanc(own) as pacs:
            (pid,) = below(os.getpid(), str(own / "orthanc.json"))
            yield Receiver(name, pacs.port, pacs.ae_title, pid)
    elif name == STORESCP:
        with _storescp(own) as receiver:
            yield receiver
    elif name == TENDON:
        own.mkdir(exist_ok=True)
        scp = Scp(own)
        scp.migrate()
        scp.start()
        assert scp.process is not None
        yield Receiver(TENDON, scp.port, "TENDON", scp.process.pid, scp.settle)
        scp.stop()
    else:
        command = [sys.executable, "-m", "tests.benchmarks.ingest.limit", str(own)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield Receiver(name, int(process.stdout.readline()), "TENDON", process.pid)
            process.stdin.close()


@contextmanager
def _storescp(folder: Path) -> Iterator[Receiver]:
    folder.mkdir()
    port = free_port()
    command = [program("storescp"), "--fork", "--max-pdu", "131072", "-od", str(folder), str(port)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Receiver(STORESCP, port, "STORESCP", process.pid)
    finally:
        process.terminate()
        process.wait(30)
