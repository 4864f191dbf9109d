"""Answer staff and monitors over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.commands.role import announce, monitored, opened, readiness_url, stop_signal, tell_denied
from orchestrator.service.checking import exposure_health

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "TENDON_DATABASE_URL=postgresql://… tendon admin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Answer until SIGTERM or SIGINT."""
    stopping = stop_signal()
    with opened() as system:
        pages = system.pages()
        tell_denied(pages)
        checks = {"database": system.database_health, "exposure": lambda: exposure_health([pages])}
        with monitored(system, system.settings.admin_port, checks, pages=pages) as port:
            announce(f"Tendon answers on {readiness_url(system, pages, port)}")
            stopping.wait()
    return 0
