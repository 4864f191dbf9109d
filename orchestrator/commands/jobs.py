"""List the newest jobs, their state and the reason for it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.operating import job_summary, newest_jobs

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "tendon jobs --json"


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
    table = Table("job", "study", "pipeline", "state", "reason", box=None)
    for item in items:
        table.add_row(*(Text(str(item[name])) for name in ("id", "study_uid", "pipeline", "state", "reason")))
    Console().print(table if items else "No jobs yet. Send a study, then look again.")
    return 0
