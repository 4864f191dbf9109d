"""DCMTK's small archive for tests, which answers C-FIND but tells no numbers of instances."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.dicom_peers import free_port
from tests.servers.pacs import serving

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
    configuration = str(folder / "dcmqrscp.cfg")
    with serving("dcmqrscp", "-c", configuration, log=folder / "log", port=port, ae_title=AE_TITLE):
        yield port
