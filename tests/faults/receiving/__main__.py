"""`python -m tests.faults.receiving`: kill the SCP at each system call of a store, at random moments, cut its power."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.faults.receiving.calls import points, violations_at
from tests.faults.receiving.storm import power_storm, storm

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.receiving.storm import Outcome

CONTROL_CUTS = 10


def main() -> int:
    """Exit code 1 where anything was violated, or where the control run without durable writing was not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.receiving", description=__doc__)
    parser.add_argument("--calls", action="store_true", help="kill at each system call of a store and of its record")
    parser.add_argument("--kills", type=int, default=0, help="at random moments of a storm, for instance 200")
    parser.add_argument("--cuts", type=int, default=0, help="of power, at random moments, for instance 200; takes root")
    parser.add_argument("--seed", type=int, help="of these moments (random)")
    parser.add_argument("--results", type=Path, default=Path("build/receiving.jsonl"), help="where lines are added")
    given = parser.parse_args()
    seed = random.randrange(1 << 30) if given.seed is None else given.seed
    is_good = True
    if given.calls:
        found = {str(point): violations_at(point) for point in points()}
        is_good &= _told(given.results, {"what": "calls", "points": len(found), "violations": _only_wrong(found)})
    if given.kills:
        is_good &= _storm(given.results, "kills", seed, lambda at: storm(at, kills=given.kills, seed=seed))
    if given.cuts:
        is_good &= _storm(given.results, "cuts", seed, lambda at: power_storm(at, cuts=given.cuts, seed=seed))
        is_good &= not _storm(
            given.results,
            "cuts without durable writing",
            seed,
            lambda at: power_storm(at, cuts=CONTROL_CUTS, seed=seed, is_durable=False),
        )
    return int(not is_good)


def _only_wrong(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {point: violations for point, violations in found.items() if violations}


def _storm(results: Path, what: str, seed: int, run: Callable[[Path], Outcome]) -> bool:
    began = time.monotonic()
    with TemporaryDirectory(prefix="tendon-storm-") as folder:
        outcome = run(Path(folder))
    took_s = round(time.monotonic() - began)
    return _told(results, {"what": what, "seed": seed, "took_s": took_s, **asdict(outcome)})


def _told(results: Path, line: dict[str, Any]) -> bool:
    """Add a line to the results; says whether nothing was violated."""
    text = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **line})
    print(text[:2000], flush=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    return not line["violations"]


if __name__ == "__main__":
    sys.exit(main())
