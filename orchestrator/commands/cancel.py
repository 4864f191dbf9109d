"""Call a job off: nothing of it runs or is sent from now on."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.commands.operator import operator
from orchestrator.service.repairing import cancel_job
from orchestrator.service.telling import cancelled_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from orchestrator.service.repairing import Cancelled

EXAMPLE: Final = "tendon cancel 3f9c2ab01d --reason 'sent to the wrong pipeline'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, why, and in what form."""
    parser.add_argument("id", help="the job's id, or its first characters (`tendon jobs` lists them)")
    parser.add_argument("--reason", default="", help="why, for those who ask later; name no patient")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Cancel, and say what had left already; a job cancelled before stays so."""
    router = open_system(settings.load_of_installation()).router()
    cancelled = cancel_job(router, arguments.id, by=operator(), reason=arguments.reason)
    if arguments.json:
        sys.stdout.write(json.dumps(cancelled_told(cancelled), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(cancelled)) + "\n")
    return 0


def _lines(cancelled: Cancelled) -> Iterator[str]:
    was = "was cancelled before" if cancelled.was_cancelled else "is cancelled"
    yield f"Job {cancelled.job.id} of {cancelled.job.pipeline} {was}: {cancelled.job.reason}"
    if cancelled.withdrawn:
        yield f"  deliveries withdrawn: {cancelled.withdrawn}"
    for destination, count in sorted(cancelled.sent.items()):
        yield f"  objects sent to {destination} before: {count}; they stay there"
    yield f"To have the study decided again: tendon reroute {cancelled.job.study_uid}"
