"""Print nodes, destinations and rules in force as the YAML file that `tendon import` reads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.rulebook.sitefile import write_site
from orchestrator.service.operating import current_site

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "tendon export > site.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Print the version in force."""
    system = open_system(settings.load_of_installation())
    sys.stdout.write(write_site(current_site(system.records)))
    return 0
