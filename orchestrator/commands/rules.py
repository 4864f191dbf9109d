"""Check a rule file: every fault with its path, and the examples inside the rules."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator import settings
from orchestrator.assembly import open_catalog, open_rulebook
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook import parse_yaml

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "tendon rules check site.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which file."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="say what is wrong with the rules of a file; change nothing")
    check.add_argument("file", type=Path, metavar="FILE", help="YAML with `rules:`, and `destinations:` they send to")
    check.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; exit code 1 when an error is among it."""
    site = _site(arguments.file)
    content = SiteContent(**{name: _listed(site, name) for name in ("rules", "procedures", "test_studies")})
    manifests = open_catalog(settings.load()).manifests()
    findings = open_rulebook().check(content, manifests, _names(site.get("destinations")))
    has_errors = any(finding.severity == "error" for finding in findings)
    if arguments.json:
        sys.stdout.write(json.dumps({"items": [asdict(finding) for finding in findings]}, indent=2) + "\n")
        return int(has_errors)
    for finding in findings:
        sys.stdout.write(f"{finding.severity}: {finding.path}: {finding.message} [{finding.code}]\n")
    sys.stdout.write("The rules have faults.\n" if has_errors else f"{len(content.rules)} rules, no errors.\n")
    return int(has_errors)


def _site(file: Path) -> Mapping[str, Any]:
    """The file as a mapping. Raises Refused where it is none."""
    try:
        site = parse_yaml(file.read_bytes())
    except OSError as fault:
        raise Refused(Fault.NOT_FOUND, f"{file.name} cannot be read: {fault.strerror}") from fault
    if not isinstance(site, Mapping) or "rules" not in site:
        raise Refused(Fault.RULE_INVALID, f"{file.name} has no `rules:`")
    return site


def _listed(site: Mapping[str, Any], name: str) -> Any:
    """The list of that name; something else is left to the check."""
    given = site.get(name) or []
    return tuple(given) if isinstance(given, list) else given


def _names(destinations: Any) -> list[str]:
    given = destinations if isinstance(destinations, list) else []
    return [str(one["name"]) for one in given if isinstance(one, Mapping) and "name" in one]
