"""What orchestration costs beside computing, in both modes: two small studies a second, and a system without work.

The stage sleeps; once the real report objects are built, once files prepared beforehand stand in for them, so
that what is left is the orchestrator's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.measure import Row
from tests.load.arrivals import Load
from tests.load.simulation import simulate

if TYPE_CHECKING:
    from tests.load.simulation import Mode

BOUND_S: Final[dict[Mode, float]] = {"embedded": 1.0, "distributed": 2.0}
IDLE_PERCENT: Final = 3.0
_LOAD: Final = Load(studies_per_s=2.0, duration_s=30.0)
_IDLE_S: Final = 20.0


def run() -> list[Row]:
    """Overhead of studies with which nothing goes amiss, and the CPU of all roles while there is no work."""
    return [row for mode in BOUND_S for prepared in (True, False) for row in _rows(mode, prepared=prepared)]


def _rows(mode: Mode, *, prepared: bool) -> list[Row]:
    measured = simulate(mode, _LOAD, prepared=prepared, idle_s=0.0 if prepared else _IDLE_S)
    record: dict[str, Any] = measured.record()
    bound_s, performed = BOUND_S[mode], measured.performed
    rows = [
        Row(f"overhead, {mode}, {performed}, {which}", record["overhead_s"][which], "s", "bound", bound_s, "at most 1")
        for which in ("p50", "p95", "p100")
    ]
    rows.append(
        Row(
            f"load average, {mode}, {performed}", max(measured.load_average), "", "cores of the bound", 2.0, "at most 1"
        )
    )
    if measured.idle_percent:
        idle = {**measured.idle_percent, "all roles": sum(measured.idle_percent.values())}
        rows += [
            Row(f"idle, {mode}, {role}", percent, "% of a core", "bound of all", IDLE_PERCENT, "at most 1 in all")
            for role, percent in idle.items()
        ]
    return rows
