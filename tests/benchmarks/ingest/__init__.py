"""How fast objects are received: Tendon, Orthanc, DCMTK's storescp and what sockets and disk allow, in one run.

All answer at once (TCP_NODELAY). We keep bytes and facts durable before each answer; Orthanc syncs each file,
but neither its folder nor its index; storescp syncs nothing; the limit keeps file and folder durable and does nothing
else. The receivers take turns with the same objects, round after round.
"""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Found:
    """What was measured of a receiver; `settled_s` is how long each round took until nothing was left to do."""

    sent: list[Sent] = field(default_factory=list)
    settled_s: list[float] = field(default_factory=list)
    memory_bytes: int = 0
    own_memory_bytes: int = 0


def run() -> list[Row]:
    """The medians of all rounds but the first, and a chart of the rates."""
    rows: list[Row] = []
    rates: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        for associations in kind.associations:
            found = _rounds(kind, associations)
            at = f"{kind.name}, {associations} association{'s' if associations > 1 else ''}"
            rates[at] = {name: _rate(one.sent) for name, one in found.items()}
            rows += _rows(at, kind, found)
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(draw(rates), encoding="utf-8")
    return rows


def _rounds(kind: Kind, associations: int) -> dict[str, Found]:
    """Whoever has had its turn settles before the next one's begins, and so does the disk."""
    found = {name: Found() for name in (TENDON, ORTHANC, STORESCP, LIMIT)}
    with TemporaryDirectory(prefix="tendon-ingest-") as folder, ExitStack() as stack:
        receivers = [stack.enter_context(started(name, Path(folder))) for name in found]
        for round_number in range(kind.rounds + 1):
            objects = kind.objects(f"{kind.name} {associations} {round_number}")
            for receiver in receivers:
                one, began = found[receiver.name], time.monotonic()
                with PeakMemory(receiver.pid) as peak:
                    sent = _send(receiver, objects, associations)
                    receiver.settle()
                if round_number:
                    one.sent.append(sent)
                    one.settled_s.append((time.monotonic() - began) / len(objects))
                    one.memory_bytes = max(one.memory_bytes, peak.peak_bytes)
                    one.own_memory_bytes = max(one.own_memory_bytes, peak.own_bytes)
                os.sync()
    return found


def _send(receiver: Receiver, objects: Mapping[str, bytes], associations: int) -> Sent:
    return send(objects, port=receiver.port, called=receiver.ae_title, associations=associations, pid=receiver.pid)


def _rate(sent: Sequence[Sent]) -> float:
    return statistics.median(one.per_second for one in sent)


def _rows(at: str, kind: Kind, found: Mapping[str, Found]) -> list[Row]:
    ours, theirs = found[TENDON], found[ORTHANC]
    rows = [
        Row(f"{at}: stored", _rate(ours.sent), "/s", name, _rate(found[name].sent), wanted)
        for name, wanted in ((ORTHANC, kind.wanted), (STORESCP, ""), (LIMIT, "at least 0.4"))
    ]
    settled = 1 / statistics.median(ours.settled_s)
    rows.append(Row(f"{at}: stored and made objects and rows", settled, "/s", ORTHANC, _rate(theirs.sent), ""))
    times_ms = {name: [ms for one in found[name].sent for ms in one.times_ms] for name in (TENDON, ORTHANC)}
    if all(len(values) > 1 for values in times_ms.values()):
        percentiles = {p: [percentile(times_ms[name], p) for name in (TENDON, ORTHANC)] for p in (50, 99)}
        rows += [Row(f"{at}: p{p} of one", mine, "ms", ORTHANC, other, "") for p, (mine, other) in percentiles.items()]
    cpu_ms = [statistics.median(one.receiver_cpu_ms for one in each.sent) for each in (ours, theirs)]
    rows.append(Row(f"{at}: CPU of the receiver meanwhile", cpu_ms[0], "ms", ORTHANC, max(cpu_ms[1], 1e-3), ""))
    sender_ms = statistics.median(one.sender_cpu_ms for one in ours.sent)
    time_ms = 1e3 / _rate(ours.sent)
    rows.append(Row(f"{at}: CPU of the senders", sender_ms, "ms", "time for one", time_ms, "well below 1"))
    for what, mine, other in (
        ("memory of the SCP", ours.own_memory_bytes, theirs.own_memory_bytes),
        ("memory with its recorder", ours.memory_bytes, theirs.memory_bytes),
    ):
        rows.append(Row(f"{at}: {what}", mine / _MIB, "MiB", ORTHANC, other / _MIB, "below 100 MiB"))
    return rows
