"""The receivers that are compared, each started for the run on a folder and a port of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.dicom_peers import free_port, program
from tests.faults.campaign.roles import below
from tests.orthanc import orthanc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TENDON, ORTHANC, STORESCP, LIMIT = "Tendon", "Orthanc", "storescp", "the limit"
_OURS: Final = {TENDON: "tests.benchmarks.ingest.receiver", LIMIT: "tests.benchmarks.ingest.limit"}


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
    else:
        command = [sys.executable, "-m", _OURS[name], str(own)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            settle = partial(_settle, process) if name == TENDON else os.sync
            yield Receiver(name, int(process.stdout.readline()), "TENDON", process.pid, settle)
            process.stdin.close()


def _settle(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "True\n", "what was received was not recorded"


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
