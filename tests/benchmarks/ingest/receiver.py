"""Our Storage SCP alone, in a process of its own: prints its port, ends with its standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.site import open_site


def main(folder: Path) -> None:
    system = open_site(folder)
    scp = system.scp()
    print(scp.start(), flush=True)
    sys.stdin.read()
    scp.stop()
    system.records.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
