"""A real PACS of another maker for tests: Debian's Orthanc, on its own folder and ports."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.delivery import Destination
from tests.dicom_peers import LOOPBACK, free_port
from tests.servers.pacs import serving

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
    with serving("Orthanc", str(folder / "orthanc.json"), log=folder / "log", port=port, ae_title="ORTHANC"):
        yield Destination(name="pacs", kind="dicom", ae_title="ORTHANC", host=LOOPBACK, port=port)
