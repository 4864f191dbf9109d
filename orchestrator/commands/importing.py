"""Put nodes, destinations and rules of one YAML file in force, as a new version."""

from __future__ import annotations

import sys
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import DELIVERED_KINDS, open_system
from orchestrator.domain.errors import Fault, Refused
from orchestrator.rulebook.sitefile import parse_site
from orchestrator.service.deciding import require_sound
from orchestrator.service.operating import replace_site

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from orchestrator.domain.delivery import Destination

EXAMPLE: Final = "tendon import site.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which file."""
    parser.add_argument("file", type=Path, help="YAML with nodes:, destinations: and rules: (it replaces all of them)")


def run(arguments: argparse.Namespace) -> int:
    """Check everything first, then replace everything, or nothing."""
    try:
        text = arguments.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(Fault.NOT_FOUND, f"{arguments.file} cannot be read as text") from error
    system = open_system(settings.load())
    content = parse_site(text, https_only=system.settings.https_only)
    require_sound(system.office, content)
    here = arguments.file.absolute().parent
    rooted = replace(content, destinations=tuple(_rooted(destination, here) for destination in content.destinations))
    site = replace_site(system.records, system.clock, rooted, getuser(), f"import of {arguments.file.name}")
    sys.stdout.write(
        f"Version {site.version} is in force:"
        f" {len(site.nodes)} nodes, {len(site.destinations)} destinations, {len(site.rules)} rules\n"
    )
    for note in _notes(content.destinations):
        sys.stdout.write(f"Note: {note}\n")
    return 0


def _notes(destinations: Sequence[Destination]) -> list[str]:
    """What this version does not do yet with a destination."""
    notes = [f"{d.name}: kind {d.kind} is not delivered to yet" for d in destinations if d.kind not in DELIVERED_KINDS]
    return notes + [
        f"{d.name}: arrival is proven by query, not commitment" for d in destinations if d.proof == "commitment"
    ]


def _rooted(destination: Destination, here: Path) -> Destination:
    """A folder named relative to the file."""
    return replace(destination, path=str(here / destination.path)) if destination.kind == "folder" else destination
