"""Our Storage SCP with its recorder: prints its port, answers each line once all is recorded, ends with its input."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.site import open_site


def main(folder: Path) -> None:
    system = open_site(folder)
    scp = system.scp()
    print(scp.start(), flush=True)
    for _ in sys.stdin:
        print(scp.wait_for_records(120), flush=True)
    scp.stop()
    system.records.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
