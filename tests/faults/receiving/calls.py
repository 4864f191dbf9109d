"""A kill at each system call by which an object is received and recorded, one after the other (R2)."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from tests.benchmarks.ingest.objects import small_objects
from tests.dicom_peers import eventually
from tests.faults.campaign.roles import below
from tests.faults.receiving import Ledger, judge, strace
from tests.receiver import Scp

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES: Final = ("scp", "recorder")
WATCHED: Final = (
    "openat",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "sendto",
    "recvfrom",
)
_CALL: Final = re.compile(r"^(\w+)\(")
_KILLED_WITHIN_S: Final = 5.0
_DETACHED_WITHIN_S: Final = 3.0
_MOST_OF_ONE: Final = 12
"""Of one thread's calls of one name, so many are tried: the later ones repeat the first."""

_SURE: Final = {"openat": 4, "recvfrom": 5}
"""How many there are at least, where that depends on how the bytes come and on what other threads do."""


@dataclass(frozen=True, order=True)
class Point:
    """The `number`-th call of this name by a thread of the SCP or of its recorder, once an object is on its way."""

    process: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.process}: {self.name} {self.number}"


def points() -> list[Point]:
    """All of them, as they are seen in a run without a fault."""
    found = set()
    for process in PROCESSES:
        with TemporaryDirectory(prefix="tendon-calls-") as place:
            scp, ledger = Scp(Path(place)), Ledger()
            scp.start()
            with _traced(scp, process, Path(place) / "calls"):
                ledger.send(scp.port, small_objects("traced", 2))
                wrong = judge(scp, ledger)
            assert not wrong, wrong
            for log in Path(place).glob("calls.*"):
                names = Counter(made[1] for line in log.read_text().splitlines() if (made := _CALL.match(line)))
                found |= {
                    Point(process, name, number)
                    for name, count in names.items()
                    for number in range(1, min(count, _SURE.get(name, _MOST_OF_ONE)) + 1)
                }
    return sorted(found)


def violations_at(point: Point) -> list[str]:
    """What is wrong after a kill at this point and a start afterwards."""
    with TemporaryDirectory(prefix="tendon-calls-") as place:
        scp, ledger = Scp(Path(place)), Ledger()
        scp.start()
        fault = f"inject={point.name}:signal=KILL:when={point.number}"
        with _traced(scp, point.process, Path(place) / "calls", "-e", fault) as pid:
            ledger.send(scp.port, small_objects("first", 2))
            is_killed = eventually(lambda: _is_dead(pid), _KILLED_WITHIN_S)
            scp.kill()
        scp.start()
        ledger.send(scp.port, small_objects("second", 2))
        wrong = judge(scp, ledger)
        if not is_killed:
            wrong.append("the call was never made: this kill proves nothing")
        if len(ledger.acknowledged.keys() & small_objects("second", 2).keys()) < 2:
            wrong.append("what came after the restart was not taken")
        return wrong


@contextmanager
def _traced(scp: Scp, process: str, log: Path, *options: str) -> Iterator[int]:
    """Trace all threads of one process while the block runs; calls are counted from here on, for each thread."""
    program = strace()
    assert program is not None, "there is no strace, or it may not trace"
    assert scp.process is not None
    pid = scp.process.pid if process == "scp" else _recorder_of(scp.process.pid)
    calls = ",".join(WATCHED)
    watched = ("-f" if options else "-ff", "-o", str(log), "-e", f"trace={calls}", "-e", "signal=none")
    tracer = subprocess.Popen([program, *watched, *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    assert "attached" in tracer.stderr.readline()
    try:
        yield pid
    finally:
        tracer.send_signal(signal.SIGINT)
        try:
            tracer.communicate(timeout=_DETACHED_WITHIN_S)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.communicate()


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _recorder_of(pid: int) -> int:
    while not (found := below(pid, "recorder")):
        continue
    return found[0]
