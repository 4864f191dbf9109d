"""Run a load on a system started for it, and print what it took: `python -m tests.load --help`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tests.load.arrivals import PATTERNS, Load
from tests.load.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARES = ("stat_share", "failures", "duplicates", "late", "broken_objects")


def main() -> int:
    """Always 0: figures are reported, never judged here."""
    given = _parser().parse_args()
    values = {field.name: getattr(given, field.name) for field in fields(Load) if hasattr(given, field.name)}
    load = Load(**values, duration_s=given.minutes * 60)
    measured = simulate(
        given.mode, load, prepared=given.objects == "prepared", idle_s=given.idle_s, keep_log=given.keep_log
    )
    record = measured.record()
    if given.json:
        print(json.dumps(record))
    else:
        _print(record)
    return 0


def _parser() -> argparse.ArgumentParser:
    usual = Load()
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    show = "(default: %(default)s)"
    parser.add_argument("--mode", choices=("embedded", "distributed"), default="embedded", help=show)
    parser.add_argument(
        "--objects", choices=("real", "prepared"), default="real", help=f"who performs stages and reports {show}"
    )
    parser.add_argument("--studies-per-s", type=float, default=usual.studies_per_s, help=f"mean rate {show}")
    parser.add_argument("--minutes", type=float, default=usual.duration_s / 60, help=f"how long studies come {show}")
    parser.add_argument("--pattern", choices=PATTERNS, default=usual.pattern, help=f"how the rate changes {show}")
    parser.add_argument("--images", type=int, default=usual.images, help=f"in a study of usual size {show}")
    parser.add_argument("--mixed-sizes", action="store_true", help="half to five times that size")
    parser.add_argument("--compute-ms", type=float, default=usual.compute_ms, help=f"median of a stage {show}")
    parser.add_argument("--compute-sigma", type=float, default=usual.compute_sigma, help=f"of its logarithm {show}")
    for name in _SHARES:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=getattr(usual, name), help=f"share of studies {show}")
    parser.add_argument("--seed", type=int, default=usual.seed, help=show)
    parser.add_argument("--idle-s", type=float, default=0.0, help=f"first measure CPU without work for so long {show}")
    parser.add_argument("--keep-log", type=Path, help="where to put what the system logged")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    return parser


def _print(record: dict[str, Any]) -> None:
    table = Table(title=f"{record['mode']}, {record['performed']}", title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    for name, value in _lines({k: v for k, v in record.items() if k not in {"mode", "performed", "load"}}):
        table.add_row(name, value)
    Console().print(table)


def _lines(record: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, dict) and "p50" in value:
            yield f"{before}{name}", "  ".join(f"{which} {number:.3f}" for which, number in value.items())
        elif isinstance(value, dict):
            yield from _lines(value, f"{before}{name}: ")
        else:
            yield f"{before}{name}", str(value)


if __name__ == "__main__":
    sys.exit(main())
