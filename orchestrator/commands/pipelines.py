"""List the pipelines installed: version, standing, digest, and what keeps a folder from being one."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import settings
from orchestrator.assembly import open_catalog
from orchestrator.service.telling import pipeline_told

if TYPE_CHECKING:
    import argparse

    from orchestrator.domain.pipeline import Manifest

EXAMPLE: Final = "tendon pipelines --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """In what form."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print them; exit code 1 when a folder is faulty."""
    catalog = open_catalog(settings.load())
    items = [{**pipeline_told(manifest), "fit": _fitness(manifest)} for manifest in catalog.manifests().values()]
    faults = catalog.faults()
    if arguments.json:
        sys.stdout.write(json.dumps({"items": items, "faults": dict(faults)}, indent=2) + "\n")
        return int(bool(faults))
    table = Table("pipeline", "version", "standing", "weights", "package", "fit for this machine", "title", box=None)
    for item in items:
        names = ("name", "version", "standing", "weights_digest", "package_digest", "fit", "title")
        table.add_row(*(Text(str(item[name])[:40]) for name in names))
    console = Console()
    console.print(table)
    for folder, fault in faults.items():
        console.print(Text(f"not usable: {folder}: {fault}"))
    return int(bool(faults))


def _fitness(manifest: Manifest) -> str:
    """Whether this machine has the memory and, where required, the GPU its stages ask for."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)
    for stage in manifest.stages:
        if stage.memory_mb > memory_mb:
            return f"no: stage {stage.name} needs {stage.memory_mb} MB"
        if stage.gpu == "required":
            return f"no: stage {stage.name} needs a GPU"
    return "yes"
