"""Run the benchmarks named, or all of them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

from tests.benchmarks.measure import show

NAMES: Final = ("rules", "claim", "ingest", "receiving", "way", "orchestration", "recovery", "pages")


def main(wanted: list[str]) -> int:
    """0 when all ran, 2 for a name that is none: figures are reported, never judged here."""
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in wanted or NAMES:
        show(name, import_module(f"tests.benchmarks.{name}").run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
