"""Say who came and who was rejected, newest first."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.commands.span import span
from orchestrator.service.operating import audited
from orchestrator.service.telling import event_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from orchestrator.domain.audit import AuditEvent

EXAMPLE: Final = "tendon audit --since 7d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, how much of it, and in what form."""
    parser.add_argument("action", nargs="?", choices=["list"], default="list", help="list the newest events (default)")
    parser.add_argument("--since", type=span, metavar="SPAN", help="only the last 30m, 12h or 7d, for example")
    parser.add_argument("--limit", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the events."""
    system = open_system(settings.load_of_installation())
    since = None if arguments.since is None else system.clock.now() - arguments.since
    events = audited(system.records, arguments.limit, since)
    if arguments.json:
        sys.stdout.write(json.dumps({"items": [event_told(event) for event in events]}, indent=2) + "\n")
        return 0
    Console().print(_table(events) if events else "No event.")
    return 0


def _table(events: Sequence[AuditEvent]) -> Table:
    table = Table(box=None)
    for name in ("time (UTC)", "event", "reason", "times", "by", "to", "address", "called", "node"):
        table.add_column(name, overflow="fold")
    for event in events:
        what = (event.event, event.reason, str(event.times))
        who = (event.actor, event.subject, event.address, event.called_ae, event.node)
        table.add_row(f"{event.last_at:%Y-%m-%d %H:%M:%S}", *(Text(value) for value in (*what, *who)))
    return table
