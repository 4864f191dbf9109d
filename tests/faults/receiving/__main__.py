"""`python -m tests.faults.receiving`: kill the SCP at each system call of a store, and at random moments of a storm."""

from __future__ import annotations

import argparse
import json
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.receiving.calls import points, violations_at
from tests.faults.receiving.storm import storm


def main() -> int:
    """Exit code 1 where anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.receiving", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at random moments (200)")
    parser.add_argument("--seed", type=int, help="of these moments (random)")
    parser.add_argument("--results", type=Path, default=Path("build/receiving.jsonl"), help="where a line is added")
    given = parser.parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    found = {str(point): violations_at(point) for point in points()}
    for point, violations in found.items():
        print(point, *(violations or ["clean"]), flush=True)
    with TemporaryDirectory(prefix="tendon-storm-") as folder:
        outcome = storm(Path(folder), kills=given.kills, seed=seed)
    print(outcome, flush=True)
    wrong = [violation for violations in found.values() for violation in violations] + list(outcome.violations)
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "calls": len(found),
        "kills": outcome.kills,
        "seed": seed,
        "acknowledged": outcome.acknowledged,
        "violations": wrong,
    }
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
