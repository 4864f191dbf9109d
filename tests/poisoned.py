"""Stands in for `workers.perform.comparing`: a patient named Poison ends the process that looks at it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from orchestrator.dicom.versions import is_same
from workers.perform import comparing
from workers.perform.warm import serve


def _die_of_poison(first: str, second: str) -> bool:
    if b"Poison" in Path(second).read_bytes():
        os.kill(os.getpid(), signal.SIGKILL)
    return is_same(first, second)


if __name__ == "__main__":
    comparing.is_same = _die_of_poison
    sys.exit(serve(comparing.compare))
