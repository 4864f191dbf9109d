"""`python -m tests.faults.campaign`: campaigns until the hours are over, one JSON line each."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.faults.campaign.run import run_kept

MODES = ("embedded", "distributed", "power")
CONTROL_STUDIES = 20
CONTROL_TRIES = 5
"""Without a safety something is lost sooner or later, not at every cut."""


def main() -> int:
    """Exit code 1 where anything was violated, or where a run without a safety was not."""
    given = _parser().parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    began, is_good = time.monotonic(), True
    while True:
        for mode in given.mode or MODES:
            is_good &= _tried(mode, seed, given)
        seed += 1
        if time.monotonic() - began >= given.hours * 3600:
            return int(not is_good)


def _tried(mode: str, seed: int, given: argparse.Namespace) -> bool:
    """Whether all was well: with power cuts also, that the rig sees it when nothing is made durable."""
    try:
        verdict = run_kept(mode, studies=given.studies, seed=seed, results=given.results)
        print(verdict.line(), flush=True)
        return not verdict.violations and (mode != "power" or _is_loss_seen(seed, given))
    except PermissionError as error:
        print(f"NOT RUN: {mode}: {error}", file=sys.stderr, flush=True)
        return True


def _is_loss_seen(seed: int, given: argparse.Namespace) -> bool:
    for number in range(CONTROL_TRIES):
        control = run_kept("power", studies=CONTROL_STUDIES, seed=seed + number, results=given.results, control="fsync")
        print(control.line(), flush=True)
        if control.violations:
            return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--mode", choices=MODES, action="append", help="all unless named; power takes root")
    parser.add_argument("--studies", type=int, default=500, help="of each run (500)")
    parser.add_argument("--seed", type=int, help="of the first run; the next ones count on (random)")
    parser.add_argument("--hours", type=float, default=0.0, help="start new runs for so long (0: one of each mode)")
    parser.add_argument("--results", type=Path, default=Path("build/campaign.jsonl"), help="where the lines are added")
    return parser


if __name__ == "__main__":
    sys.exit(main())
