"""Store DICOM files or folders to a node over one association, with progress."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from orchestrator import settings
from orchestrator.dicom.scu import store_files

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLE: Final = "tendon send /exports/study1 --to TENDON@localhost:11112"
_NODE: Final = re.compile(r"^(?P<title>[^@\\]{1,16})@(?P<host>[^@]+):(?P<port>\d{1,5})$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What and where to."""
    parser.add_argument("paths", nargs="+", type=Path, help="files or folders")
    parser.add_argument("--to", required=True, type=_node, metavar="AET@HOST:PORT", help="the receiving node")


def _node(text: str) -> tuple[str, str, int]:
    match = _NODE.match(text)
    if match is None:
        raise argparse.ArgumentTypeError("must look like AET@HOST:PORT")
    return match["title"], match["host"], int(match["port"])


def run(arguments: argparse.Namespace) -> int:
    """Send; exit code 1 when anything was not stored."""
    return send(arguments.paths, arguments.to)


def files_below(paths: Iterable[Path]) -> list[Path]:
    """The files named and those in the folders named, in a fixed order; hidden ones and DICOMDIR are left out."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        found += [p for p in inside if not p.name.startswith(".") and p.name != "DICOMDIR"]
    return found


def send(paths: Iterable[Path], to: tuple[str, str, int]) -> int:
    """Send what is below the paths and say what was not stored."""
    files = files_below(paths)
    called, host, port = to
    console = Console(stderr=True)
    if not files:
        console.print("There are no files to send.")
        return 1
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("sending", total=len(files))
        results = store_files(
            files,
            host=host,
            port=port,
            called_ae=called,
            calling_ae=settings.load().ae_title,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    failed = [result for result in results if result.outcome != "accepted"]
    for result in failed:
        console.print(Text(f"not stored: {result.path}: {result.detail}"))
    console.print(f"{len(results) - len(failed)} of {len(results)} files were stored at {called}")
    return int(bool(failed))
