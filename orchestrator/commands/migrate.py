"""Bring the database's schema and the broker's queues up to date."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from orchestrator import settings
from orchestrator.assembly import migrate_site

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "TENDON_DATABASE_URL=postgresql://… TENDON_BROKER_URL=amqp://… tendon migrate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Migrate; harmless when nothing is missing."""
    site = settings.load()
    migrate_site(site)
    sys.stdout.write(f"schema{' and queues' if site.broker_url else ''} up to date\n")
    return 0
