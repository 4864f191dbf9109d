"""Answer staff and monitors over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.commands.role import announce, monitored, opened, stop_signal

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "TENDON_DATABASE_URL=postgresql://… tendon admin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Answer until SIGTERM or SIGINT."""
    stopping = stop_signal()
    with (
        opened() as system,
        monitored(system, system.settings.admin_port, {"database": system.database_health}) as port,
    ):
        announce(f"Tendon answers on http://{system.settings.admin_host}:{port}/readyz")
        stopping.wait()
    return 0
