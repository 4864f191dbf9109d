"""How many CT slices a second are stored, durable and with their record, against Orthanc in the same run.

Both answer at once (TCP_NODELAY). Orthanc syncs each file but not its index, we sync file, folder and record.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.benchmarks.measure import Row
from tests.benchmarks.sender import Sent, send, slices
from tests.orthanc import orthanc

if TYPE_CHECKING:
    from collections.abc import Iterator

ASSOCIATIONS: Final = (1, 4)
_ROUNDS: Final = 5
_SLICES: Final = 120


def run() -> list[Row]:
    """Rounds in which both receive the same objects, one after the other; the medians of each."""
    found: dict[tuple[str, int], list[Sent]] = {}
    with TemporaryDirectory() as folder, orthanc(Path(folder) / "orthanc") as pacs, _tendon(Path(folder)) as port:
        receivers = {"Tendon": (port, "TENDON"), "Orthanc": (pacs.port, pacs.ae_title)}
        for round_number in range(_ROUNDS + 1):
            for associations in ASSOCIATIONS:
                objects = slices(f"{round_number} {associations}", _SLICES)
                for name, (listens_at, called) in receivers.items():
                    sent = send(objects, port=listens_at, called=called, associations=associations)
                    found.setdefault((name, associations), []).append(sent)
    return [row for n in ASSOCIATIONS for row in _rows(n, found["Tendon", n][1:], found["Orthanc", n][1:])]


def _rows(associations: int, ours: list[Sent], theirs: list[Sent]) -> list[Row]:
    """The rates, and the share of one core that the senders take meanwhile: near 1 they are what bounds it."""
    rate, other = (statistics.median(s.per_second for s in sent) for sent in (ours, theirs))
    at = f"{associations} association{'s' if associations > 1 else ''}"
    senders_ms = statistics.median(s.cpu_ms for s in ours)
    return [
        Row(f"CT slices stored, {at}", rate, "/s", "Orthanc", other, "at least 2"),
        Row(f"CPU of the senders, {at}", senders_ms, "ms", "time for a slice", 1e3 / rate, "well below 1"),
    ]


@contextmanager
def _tendon(folder: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "tests.benchmarks.receiver", str(folder / "tendon")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()
