"""List what an operator must act on, or note that one of it was seen to."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.operating import clear_alarm, open_alarms

if TYPE_CHECKING:
    import argparse

    from orchestrator.domain.alarm import Alarm

EXAMPLE: Final = "tendon alarms --clear TND-9006 tendon.cpu.stat"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which alarm is over, and in what form the others are told."""
    parser.add_argument(
        "--clear", nargs=2, metavar=("CODE", "SUBJECT"), help="it was seen to; it comes back if it happens again"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the open alarms, oldest first."""
    system = open_system(settings.load_of_installation())
    if arguments.clear:
        clear_alarm(system.records, system.clock, *arguments.clear)
    alarms = open_alarms(system.records)
    if arguments.json:
        sys.stdout.write(json.dumps({"items": [_as_json(alarm) for alarm in alarms]}, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_line(alarm) for alarm in alarms) + "\n" if alarms else "No alarm is open.\n")
    return 0


def _as_json(alarm: Alarm) -> dict[str, str | int]:
    return {
        "code": alarm.code,
        "subject": alarm.subject,
        "detail": alarm.detail,
        "raised_at": alarm.raised_at.isoformat(),
        "last_at": alarm.last_at.isoformat(),
        "times": alarm.times,
    }


def _line(alarm: Alarm) -> str:
    often = f", {alarm.times} times" if alarm.times > 1 else ""
    return f"{alarm.code} on {alarm.subject}: {alarm.detail} (since {alarm.raised_at:%Y-%m-%d %H:%M} UTC{often})"
