"""`python -m tests.faults.fuzz TARGET`: runs a target, or all, and adds a line for each to the results."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.faults.fuzz.engine import campaign
from tests.faults.fuzz.target import NAMES, target_of


def main() -> int:
    """Exit code 1 where an input did harm; it is left beside the results."""
    given = _parser().parse_args()
    if given.input is not None:
        target_of(given.target).run(given.input.read_bytes())
        return 0
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    is_good = True
    for name in NAMES if given.target == "all" else (given.target,):
        is_guided = False if given.by_chance else None
        ran = campaign(name, executions=given.executions, seed=seed, folder=given.results.parent, is_guided=is_guided)
        is_good &= not ran.finding
        with given.results.open("a", encoding="utf-8") as results:
            results.write(ran.line() + "\n")
        print(ran.line(), flush=True)
    return int(not is_good)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("target", choices=("all", *NAMES))
    parser.add_argument("--executions", type=int, default=1_000_000, help="of each target (1000000)")
    parser.add_argument(
        "--seed", type=int, help="of the first input; the same inputs where chance alone chooses (random)"
    )
    parser.add_argument("--by-chance", action="store_true", help="without atheris, also where it is installed")
    parser.add_argument("--results", type=Path, default=Path("build/fuzz.jsonl"), help="where the lines are added")
    parser.add_argument("--input", type=Path, help="run this one input, and let what it raises be seen")
    return parser


if __name__ == "__main__":
    sys.exit(main())
