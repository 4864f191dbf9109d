"""Processes that are started again whenever they end, as Kubernetes does, and what runs below them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOOK_S = 0.1
GONE_S = 10.0
SHORTEST_LIFE_S, LONGEST_PAUSE_S = 5.0, 3.0


@dataclass
class Role:
    """One process, again and again. Each life that was short makes the pause before the next one longer."""

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    born: float = 0.0
    pause_s: float = LOOK_S
    lives: int = 0

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.born = time.monotonic()
        self.lives += 1

    @property
    def pids(self) -> list[int]:
        """Its process where it lives, else none."""
        process = self.process
        return [process.pid] if process is not None and process.poll() is None else []

    def below(self, word: str = "") -> list[int]:
        """Its living descendants whose command line holds the word."""
        return [found for pid in self.pids for found in below(pid, word)]

    def tend(self) -> None:
        """Start it again where it has ended and its pause is over."""
        if self.pids:
            return
        if self.process is not None:
            was_short = time.monotonic() - self.born < SHORTEST_LIFE_S
            self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S) if was_short else LOOK_S
            self.process = None
            self.born = time.monotonic()
        if time.monotonic() - self.born >= self.pause_s:
            self.start()


@dataclass
class Roles:
    """All processes of an installation, tended by a thread."""

    named: dict[str, Role]
    _tending: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        for role in self.named.values():
            role.start()
        self._thread = threading.Thread(target=self._tend, daemon=True)
        self._thread.start()

    def _tend(self) -> None:
        while not self._stopping.wait(LOOK_S):
            with self._tending:
                for role in self.named.values():
                    role.tend()

    @contextmanager
    def without_power(self, name: str) -> Iterator[None]:
        """The role and all below it are killed as the block begins, and nothing is started before it ends."""
        with self._tending:
            role = self.named[name]
            killed = [*role.below(), *role.pids]
            kill(killed)
            if role.process is not None:
                role.process.wait()
            wait_until_gone(killed)
            yield

    def stop(self) -> None:
        """In order; what does not go within half a minute is killed."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for role in self.named.values():
            if role.process is not None:
                role.process.terminate()
        for role in self.named.values():
            if role.process is not None:
                try:
                    role.process.wait(30)
                except subprocess.TimeoutExpired:
                    role.process.kill()
                    role.process.wait()

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Whether there was a process to signal."""
        process = self.named[name].process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        return True


def below(pid: int, word: str) -> list[int]:
    """Living descendants of a process whose command line holds the word."""
    children: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
                children.setdefault(parent, []).append(int(entry.name))
    found, to_see = [], [pid]
    while to_see:
        of_it = children.get(to_see.pop(), [])
        to_see += of_it
        found += [child for child in of_it if word in commands[child]]
    return found


def wait_until_gone(pids: Sequence[int]) -> None:
    """What a stage's process can see of a disk is in use until it has ended: it has mounts of its own."""
    deadline = time.monotonic() + GONE_S
    while any(_is_there(pid) for pid in pids):
        assert time.monotonic() < deadline, "a killed process does not end"
        time.sleep(LOOK_S / 10)


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pids: Sequence[int]) -> int:
    """Take processes down as a crash does; returns how many were still there."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed
