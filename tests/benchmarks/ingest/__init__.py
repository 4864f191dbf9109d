"""How fast objects are received: Tendon, Orthanc, DCMTK's storescp and what sockets and disk allow, in one run.

All answer at once (TCP_NODELAY). We keep file, folder and record durable before each answer; Orthanc syncs each file,
but neither its folder nor its index; storescp syncs nothing; the limit keeps file and folder durable and does nothing
else. The receivers take turns with the same objects, round after round.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.benchmarks.ingest.chart import draw
from tests.benchmarks.ingest.objects import ct_slices, one_large, small_objects
from tests.benchmarks.ingest.receivers import LIMIT, ORTHANC, STORESCP, TENDON, started
from tests.benchmarks.ingest.sender import send
from tests.benchmarks.measure import PeakMemory, Row, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.benchmarks.ingest.receivers import Receiver
    from tests.benchmarks.ingest.sender import Sent

CHART: Final = Path("build/ingest.svg")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of load: how its objects are made for a round, by how many associations it is sent, what is wanted."""

    name: str
    objects: Callable[[str], Mapping[str, bytes]]
    associations: tuple[int, ...]
    rounds: int
    wanted: str


KINDS: Final = (
    Kind("CT slices of 0.5 MB", lambda name: ct_slices(name, 120), (1, 4, 8), 4, "at least 2"),
    Kind("objects of 65 kB", lambda name: small_objects(name, 300), (1, 8), 3, "at least 1"),
    Kind("one object of 400 MB", one_large, (1,), 3, "at least 5"),
)


def run() -> list[Row]:
    """The medians of all rounds but the first, and a chart of the rates."""
    rows: list[Row] = []
    rates: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for associations in kind.associations:
            found, memory = _rounds(kind, associations)
            at = f"{kind.name}, {associations} association{'s' if associations > 1 else ''}"
            rates[at] = {name: _rate(sent) for name, sent in found.items()}
            rows += _rows(at, kind, found, memory)
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(draw(rates), encoding="utf-8")
    return rows


def _rounds(kind: Kind, associations: int) -> tuple[dict[str, list[Sent]], dict[str, int]]:
    """What was measured of each receiver, and the most memory it ever had."""
    found: dict[str, list[Sent]] = {}
    memory: dict[str, int] = {}
    with TemporaryDirectory(prefix="tendon-ingest-") as folder, ExitStack() as stack:
        receivers = [stack.enter_context(started(name, Path(folder))) for name in (TENDON, ORTHANC, STORESCP, LIMIT)]
        for round_number in range(kind.rounds + 1):
            objects = kind.objects(f"{kind.name} {associations} {round_number}")
            for receiver in receivers:
                with PeakMemory(receiver.pid) as peak:
                    sent = _send(receiver, objects, associations)
                if round_number:
                    found.setdefault(receiver.name, []).append(sent)
                    memory[receiver.name] = max(memory.get(receiver.name, 0), peak.peak_bytes)
    return found, memory


def _send(receiver: Receiver, objects: Mapping[str, bytes], associations: int) -> Sent:
    return send(objects, port=receiver.port, called=receiver.ae_title, associations=associations, pid=receiver.pid)


def _rate(sent: Sequence[Sent]) -> float:
    return statistics.median(one.per_second for one in sent)


def _rows(at: str, kind: Kind, found: Mapping[str, list[Sent]], memory: Mapping[str, int]) -> list[Row]:
    ours = found[TENDON]
    rows = [
        Row(f"{at}: stored", _rate(ours), "/s", name, _rate(found[name]), wanted)
        for name, wanted in ((ORTHANC, kind.wanted), (STORESCP, ""), (LIMIT, "at least 0.4"))
    ]
    times_ms = {name: [ms for one in sent for ms in one.times_ms] for name, sent in found.items()}
    if all(len(values) > 1 for values in times_ms.values()):
        rows += [
            Row(
                f"{at}: p{p} of one",
                percentile(times_ms[TENDON], p),
                "ms",
                ORTHANC,
                percentile(times_ms[ORTHANC], p),
                "",
            )
            for p in (50, 99)
        ]
    cpu_ms = {name: statistics.median(one.receiver_cpu_ms for one in sent) for name, sent in found.items()}
    rows.append(Row(f"{at}: CPU of the receiver", cpu_ms[TENDON], "ms", ORTHANC, max(cpu_ms[ORTHANC], 1e-3), ""))
    sender_ms = statistics.median(one.sender_cpu_ms for one in ours)
    rows.append(Row(f"{at}: CPU of the senders", sender_ms, "ms", "time for one", 1e3 / _rate(ours), "well below 1"))
    rows.append(Row(f"{at}: memory", memory[TENDON] / _MIB, "MiB", ORTHANC, memory[ORTHANC] / _MIB, "below 100 MiB"))
    return rows
