"""The warm parent: single-threaded, everything imported, forks one confined child per work folder.

Speaks JSON lines with `consume`: in `{"work", "memory_mb", "timeout_s"}` or `{"stop": true}`, out
`{"progress", "text"}` and at the end `{"ended": "done" | "died" | "timeout" | "stopped"}`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workers.perform.confine import begin_apart, end_descendants, guarding, has_ended, limit_memory, silence

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Run = Callable[[Path, Callable[[float, str], None]], None]

_LOOK_S: Final = 0.05
_LOOK_CLOSELY_S: Final = 0.002


def serve(run: Run) -> int:
    """Run what is ordered, by work folder and report, until the other side, whose process id is argument 1, closes."""
    with guarding(int(sys.argv[1])):
        _say({"ready": True})
        for line in iter(sys.stdin.readline, ""):
            order = json.loads(line)
            if "work" in order:
                _say({"ended": _see_through(run, order)})
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _see_through(run: Run, order: dict[str, Any]) -> str:
    reading, writing = os.pipe()
    parent_pid = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(run, order, writing, parent_pid)
    os.close(writing)
    ended = _watch(child, reading, time.monotonic() + order["timeout_s"])
    os.close(reading)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    end_descendants()
    return ended or ("done" if status == 0 else "died")


def _child(run: Run, order: dict[str, Any], writing: int, parent_pid: int) -> NoReturn:
    status = 1
    try:
        begin_apart(parent_pid)
        limit_memory(order["memory_mb"])
        silence()

        def report(fraction: float, text: str) -> None:
            message = {"progress": min(max(fraction, 0.0), 1.0), "text": text[:80]}
            os.write(writing, (json.dumps(message) + "\n").encode())

        run(Path(order["work"]), report)
        status = 0
    finally:
        os._exit(status)


def _watch(child: int, reading: int, deadline: float) -> str:
    """Pass progress on until the child ends; says so when it has to be ended: at the deadline, or when told to.

    Its end is looked for, since its pipe may close before and stay open after it.
    """
    listening, look_s = [reading, 0], _LOOK_S
    while not has_ended(child):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return "timeout"
        readable, _, _ = select.select(listening, [], [], min(remaining, look_s))
        if 0 in readable:
            sys.stdin.readline()
            return "stopped"
        if reading in readable:
            data = os.read(reading, 1 << 16)
            if not data:
                listening, look_s = [0], _LOOK_CLOSELY_S
            sys.stdout.write(data.decode())
            sys.stdout.flush()
    return ""
