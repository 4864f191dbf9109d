"""Try again what failed of a job: its stage, or its deliveries."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.repairing import retry_job
from orchestrator.service.telling import retried_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from orchestrator.service.repairing import Retried

EXAMPLE: Final = "tendon retry 3f9c2ab01d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, and in what form."""
    parser.add_argument("id", help="the job's id, or its first characters (`tendon jobs` lists them)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Try again, and say what."""
    retried = retry_job(open_system(settings.load_of_installation()).router(), arguments.id)
    if arguments.json:
        sys.stdout.write(json.dumps(retried_told(retried), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(retried)) + "\n")
    return 0


def _lines(retried: Retried) -> Iterator[str]:
    because = f": {retried.job.reason}" if retried.job.reason else ""
    yield f"Job {retried.job.id} of {retried.job.pipeline} is {retried.job.state}{because}"
    if retried.stage:
        yield f"  stage {retried.stage} is ready for the next worker"
    if retried.resumed:
        yield f"  deliveries taken up again: {retried.resumed}"
    if retried.still_quarantined:
        yield f"  deliveries that stay in quarantine: {retried.still_quarantined}; their destination is not there"
    yield f"See how it goes with: tendon study {retried.job.study_uid}"
