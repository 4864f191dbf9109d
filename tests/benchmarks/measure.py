"""What benchmarks measure with, and how they tell it."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_LOOK_EVERY_S: Final = 0.05
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, what it is held against in the same run, and the ratio of both that is wanted."""

    what: str
    value: float
    unit: str
    against: str
    reference: float
    wanted: str

    @property
    def ratio(self) -> float:
        """The figure in units of its reference."""
        return self.value / self.reference


def show(name: str, rows: Iterable[Row]) -> None:
    """A table for the eye and a line of JSON for whatever keeps the figures."""
    found = list(rows)
    table = Table(title=name, title_justify="left")
    for heading in ("what", "measured", "held against", "ratio", "wanted"):
        table.add_column(heading, justify="left" if heading in {"what", "wanted"} else "right")
    for row in found:
        against = f"{row.against} {row.reference:.3g} {row.unit}"
        table.add_row(row.what, f"{row.value:.3g} {row.unit}", against, f"{row.ratio:.2f}", row.wanted)
    Console().print(table)
    print(json.dumps({"benchmark": name, "rows": [{**asdict(row), "ratio": round(row.ratio, 3)} for row in found]}))


def durations_s(do: Callable[[], object], rounds: int) -> list[float]:
    """How long each of several rounds took, after one that does not count."""
    do()
    gc.collect()
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        do()
        took.append(time.perf_counter() - start)
    return took


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many of a hundred lie."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class PeakMemory:
    """The largest resident memory of a process and all its descendants, and its own, seen by looking often."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = Event()
        self._thread = Thread(target=self._look)
        self.peak_bytes = self.own_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            family = [_resident_bytes(pid) for pid in _family(self._pid)]
            self.peak_bytes = max(self.peak_bytes, sum(family))
            self.own_bytes = max(self.own_bytes, family[0])


def _family(pid: int) -> list[int]:
    """The process and its descendants; those that end meanwhile are left out."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        for children in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                waiting.extend(int(child) for child in children.read_text().split())
            except OSError:
                continue
    return found


def _resident_bytes(pid: int) -> int:
    """Pages shared with a parent count for each, so that the sum is never too small."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
