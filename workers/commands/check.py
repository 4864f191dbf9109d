"""Say with which settings Tendon would run here, and whether everything it needs is there."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.errors import TendonError
from workers.perform.confine import probe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from orchestrator.assembly import System
    from orchestrator.settings import Settings

EXAMPLE: Final = "tendon check --json"
_PASSWORD: Final = re.compile(r"(?<=://)([^/@]*):[^/@]*@")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """In what form."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print settings and findings; exit code 1 when something is missing."""
    site = settings.load()
    shown = {name: [value, site.origins[name]] for name, value in _values(site).items()}
    findings = dict(_findings(open_system(site)))
    if arguments.json:
        sys.stdout.write(json.dumps({"settings": shown, "findings": findings}, indent=2) + "\n")
    else:
        _print(shown, findings)
    return int(not all(finding.startswith("ok") for finding in findings.values()))


def _values(site: Settings) -> dict[str, str]:
    return {
        "TENDON_DATA_DIR": str(site.data_dir),
        "TENDON_DATABASE_URL": _PASSWORD.sub(r"\1:***@", site.database_url),
        "TENDON_PIPELINES_DIR": ":".join(str(folder) for folder in site.pipelines_dirs),
        "TENDON_AE_TITLE": site.ae_title,
        "TENDON_DICOM_HOST": site.dicom_host,
        "TENDON_DICOM_PORT": str(site.dicom_port),
        "TENDON_ADMIN_HOST": site.admin_host,
        "TENDON_ADMIN_PORT": str(site.admin_port),
        "TENDON_QUIET_SECONDS": f"{site.quiet_seconds:g}",
        "TENDON_LEASE_SECONDS": f"{site.lease_seconds:g}",
        "TENDON_INSTALLATION": site.installation,
        "TENDON_ENVIRONMENT": site.environment,
    }


def _findings(system: System) -> Iterator[tuple[str, str]]:
    yield "database schema", "ok"
    for name in system.settings.unknown:
        yield name, "no setting of this version: it changes nothing"
    means = probe()
    yield "network ban of pipelines", "none: this kernel allows neither" if means == "none" else f"ok, by {means}"
    for folder, fault in system.catalog.faults().items():
        yield f"pipeline folder {folder}", fault
    with system.records.reading() as unit:
        site = unit.site.current()
    if site is None:
        yield "rules, nodes and destinations", "none yet: write a file and `tendon import` it"
        return
    findings = system.rulebook.check(site.rules, list(system.catalog.manifests()), [d.name for d in site.destinations])
    yield "rules", "; ".join(f"{f.path}: {f.message}" for f in findings) or "ok"
    sender = DicomSender(system.settings.ae_title)
    for destination in site.destinations:
        if destination.kind == "dicom":
            try:
                sender.echo(destination.host, destination.port, destination.ae_title)
            except (TendonError, OSError) as error:
                yield f"destination {destination.name}", str(error)
            else:
                yield f"destination {destination.name}", "ok"


def _print(shown: dict[str, list[str]], findings: dict[str, str]) -> None:
    console = Console()
    table = Table("setting", "value", "from", box=None)
    for name, (value, origin) in shown.items():
        table.add_row(Text(name), Text(value), Text(origin))
    console.print(table)
    for what, finding in findings.items():
        console.print(Text(f"{what}: {finding}", style="" if finding.startswith("ok") else "bold red"))
