"""Have the rules in force now decide on a study again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.service.repairing import reroute_study
from orchestrator.service.telling import rerouted_told

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from orchestrator.service.repairing import Rerouted

EXAMPLE: Final = "tendon reroute 1.2.840.113619.2.55.3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which study, and in what form."""
    parser.add_argument("uid", help="Study Instance UID")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Decide again, and say what came of it."""
    rerouted = reroute_study(open_system(settings.load_of_installation()).router(), arguments.uid)
    if arguments.json:
        sys.stdout.write(json.dumps(rerouted_told(rerouted), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(rerouted)) + "\n")
    return 0


def _lines(rerouted: Rerouted) -> Iterator[str]:
    yield f"Rule set {rerouted.rule_set_version} has decided on the study again."
    for name, jobs in (
        ("new", rerouted.made),
        ("kept as it is", rerouted.kept),
        ("asked for by no rule now, left as it is", rerouted.unasked),
    ):
        for job in jobs:
            yield f"  {name}: {job.pipeline}, {job.state} (job {job.id})"
    if not rerouted.made and not rerouted.kept:
        yield "  no job is asked for:"
        for made in rerouted.decisions:
            if not made.is_yes:
                yield f"    {made.pipeline or made.rule}: {made.reason}"
    yield f"See all of it with: tendon study {rerouted.study_uid}"
