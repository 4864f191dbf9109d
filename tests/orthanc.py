"""A real PACS of another maker for tests: Debian's Orthanc, on its own folder and ports."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.delivery import Destination
from orchestrator.domain.errors import Transient
from tests.dicom_peers import LOOPBACK, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SENDER = DicomSender("TENDON")


@contextmanager
def orthanc(folder: Path) -> Iterator[Destination]:
    """Orthanc at work; a destination that names it."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "HttpServerEnabled": False,
                "RemoteAccessAllowed": False,
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "DicomCheckCalledAet": True,
                "DicomModalities": {"tendon": ["TENDON", LOOPBACK, free_port()]},
            }
        )
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program("Orthanc"), str(folder / "orthanc.json")],
            env={**os.environ, "TCP_NODELAY": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(port)
            yield Destination(name="pacs", kind="dicom", ae_title="ORTHANC", host=LOOPBACK, port=port)
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            SENDER.echo(LOOPBACK, port, "ORTHANC")
        except Transient:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
