"""Receive studies: the Storage SCP alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.commands.role import announce, monitored, opened, stop_signal, tell_denied
from orchestrator.commands.sparing import spare

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "TENDON_DATABASE_URL=postgresql://… tendon scp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Receive until SIGTERM or SIGINT."""
    spare()
    stopping = stop_signal()
    with opened() as system:
        scp = system.scp()
        tell_denied(scp.binding)
        port = scp.start()
        try:
            with monitored(system, system.settings.health_port, scp.checks, scp.owed):
                announce(f"Tendon receives as {system.settings.ae_title} on {scp.binding.host}:{port}")
                stopping.wait()
        finally:
            scp.stop()
    return 0
