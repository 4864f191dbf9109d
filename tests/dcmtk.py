"""DCMTK's small archive for tests, which answers C-FIND but tells no numbers of instances."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.errors import Transient
from tests.dicom_peers import LOOPBACK, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AE_TITLE = "DCMTK"


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[int]:
    """The archive at work; its port."""
    port = free_port()
    (folder / "store").mkdir(parents=True)
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{AE_TITLE} {folder / 'store'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program("dcmqrscp"), "-c", str(folder / "dcmqrscp.cfg")],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            DicomSender("TENDON").echo(LOOPBACK, port, AE_TITLE)
        except Transient:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
