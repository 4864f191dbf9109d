"""Keep the records of what is received. `scp` and `serve` start it for themselves and tell it what to do."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from orchestrator.commands.role import opened
from orchestrator.commands.sparing import spare
from orchestrator.recorder import attend

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "tendon recorder < /dev/null"
_NICENESS: Final = 5
"""Receiving comes first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings come from the environment."""
    del parser


def run(_: argparse.Namespace) -> int:
    """Record until nobody asks any more."""
    spare()
    os.nice(_NICENESS)
    with opened() as system:
        attend(system.do_errands, sys.stdin.fileno(), sys.stdout.fileno())
    return 0
