"""A PACS in a process of its own, which can be killed: `python -m tests.faults.campaign.pacs FOLDER PORT`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from orchestrator.dicom.archive import Archive

if __name__ == "__main__":
    Archive("PACS", Path(sys.argv[1]), port=int(sys.argv[2])).start()
    signal.pause()
