"""Do the rounds: route, tell workers, deliver. Several may run; one leads, the others stand by."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING, Final

from orchestrator.commands.role import announce, monitored, opened, stop_signal
from orchestrator.domain.health import works

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "TENDON_DATABASE_URL=postgresql://… tendon rounds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Do the rounds until SIGTERM or SIGINT."""
    stopping = stop_signal()
    with opened() as system:
        rounds = system.rounds(f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")
        rounds.start()
        try:
            with monitored(system, system.settings.health_port, {"rounds": lambda: works(rounds.is_alive)}):
                announce("Tendon does its rounds")
                stopping.wait()
        finally:
            rounds.stop()
    return 0
