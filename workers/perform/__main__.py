"""The warm parent: single-threaded, everything imported, forks one confined child per stage.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.perform.confine import ban_network, die_with_parent, limit_memory
from workers.perform.stage import run_stage

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> int:
    """Serve until the other side, whose process id is the one argument, closes."""
    die_with_parent(int(sys.argv[1]))
    _say({"ready": True})
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "work" in order:
            _say({"ended": _run(order)})
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _run(order: dict[str, Any]) -> str:
    reading, writing = os.pipe()
    parent_pid = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(order, writing, parent_pid)
    os.close(writing)
    ended = _watch(child, reading, time.monotonic() + order["timeout_s"])
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return ended or ("done" if status == 0 else "died")


def _child(order: dict[str, Any], writing: int, parent_pid: int) -> NoReturn:
    die_with_parent(parent_pid)
    ban_network()
    limit_memory(order["memory_mb"])
    _silence()

    def report(fraction: float, text: str) -> None:
        os.write(writing, (json.dumps({"progress": min(max(fraction, 0.0), 1.0), "text": text[:80]}) + "\n").encode())

    status = 1
    try:
        run_stage(Path(order["work"]), report)
        status = 0
    finally:
        os._exit(status)


def _silence() -> None:
    """What a pipeline prints may quote the images: it goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def _watch(child: int, reading: int, deadline: float) -> str:
    """Pass progress on until the child's pipe closes; end it at the deadline or when told to."""
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            os.kill(child, signal.SIGKILL)
            return "timeout"
        readable, _, _ = select.select([reading, 0], [], [], remaining)
        if 0 in readable:
            os.kill(child, signal.SIGKILL)
            sys.stdin.readline()
            return "stopped"
        if reading in readable:
            data = os.read(reading, 1 << 16)
            if not data:
                return ""
            sys.stdout.write(data.decode())
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
