"""`python -m tests.faults.campaign`: campaigns until the hours are over, one JSON line each."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from tests.faults.campaign.run import run_kept


def main() -> int:
    """Exit code 1 where anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--mode", choices=("embedded", "distributed"), action="append", help="both unless named")
    parser.add_argument("--studies", type=int, default=500, help="of each run (500)")
    parser.add_argument("--seed", type=int, help="of the first run; the next ones count on (random)")
    parser.add_argument("--hours", type=float, default=0.0, help="start new runs for so long (0: one of each mode)")
    parser.add_argument("--results", type=Path, default=Path("build/campaign.jsonl"), help="where the lines are added")
    given = parser.parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    began, violated = time.monotonic(), False
    while True:
        for mode in given.mode or ("embedded", "distributed"):
            verdict = run_kept(mode, studies=given.studies, seed=seed, results=given.results)
            violated |= bool(verdict.violations)
            print(verdict.line(), flush=True)
        seed += 1
        if time.monotonic() - began >= given.hours * 3600:
            return int(violated)


if __name__ == "__main__":
    sys.exit(main())
