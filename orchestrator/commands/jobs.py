"""List the newest jobs, their state and the reason for it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.operating import job_summary, newest_jobs, open_alarms

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXAMPLE: Final = "tendon jobs --json"
_ID_SHOWN: Final = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, and in what form."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--limit", type=int, default=100, help="how many (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print the jobs."""
    system = open_system(settings.load_for_questions())
    items = [job_summary(story) for story in newest_jobs(system.records, arguments.limit)]
    if arguments.json:
        sys.stdout.write(json.dumps({"items": items}, indent=2) + "\n")
        return 0
    console = Console()
    console.print(_table(items) if items else "No jobs yet. Send a study, then look again.")
    for alarm in open_alarms(system.records):
        told = f"An operator must act on {alarm.subject}: {alarm.detail} [{alarm.code}], seen {alarm.times} times"
        console.print(Text(told, style="bold red"))
    return 0


def _table(items: Sequence[dict[str, Any]]) -> Table:
    """The jobs; the beginning of an id is as good as the id for `tendon retry` and `tendon cancel`."""
    table = Table(box=None)
    for name in ("job", "study", "pipeline", "state", "stage", "reason"):
        table.add_column(name, overflow="fold")
    for item in items:
        row = (item["id"][:_ID_SHOWN], item["study_uid"], item["pipeline"], item["state"], _stage(item), item["reason"])
        table.add_row(*(Text(value) for value in row))
    return table


def _stage(item: dict[str, Any]) -> str:
    """The newest stage and how often it was tried."""
    if not item["stages"]:
        return ""
    newest = item["stages"][-1]
    return f"{newest['name']} {newest['state']}, attempt {newest['attempt']}"
