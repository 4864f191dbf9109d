"""The recorder as a process of its own, so that making records takes no time from receiving.

It is told its errands in lines on its standard input and says in lines on its standard output which are done. A
recorder that ends is started again and told once more what is not done: everything it does may be done twice.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from threading import Condition, Thread
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestrator.domain.errors import TendonError, where
from orchestrator.keeping import Errand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_PIPE_BYTES: Final = 1 << 20
_USABLE: Final = 0.75
"""Of a pipe: the rest of a page is lost where a line does not fit into it."""

_AT_ONCE: Final = 128
_LINGER_S: Final = 0.05
_LONGEST_LINGER_S: Final = 1.0
_AGAIN_S: Final = 1.0
_ASIDE_S: Final = 60.0
_LATE_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 16

_log = logging.getLogger("tendon.recorder")


class _Told(NamedTuple):
    errand: Errand
    at_s: float


class RecorderProcess:
    """The recorder's owner: starts it, tells it, hears what is done."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._change = Condition()
        self._told: dict[int, _Told] = {}
        self._unsent: deque[int] = deque()
        self._on_way: dict[int, int] = {}
        """How many bytes each takes."""
        self._room_bytes = 0
        self._is_full = False
        self._aside: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False
        self._threads: tuple[Thread, ...] = ()

    def start(self, done: Callable[[Iterable[int]], None], lock: int) -> None:
        """Begin; `done` hears the numbers of errands that are done, `lock` is a descriptor the recorder keeps too."""
        self._threads = (
            Thread(target=self._keep_alive, args=(done, lock), name="recorder", daemon=True),
            Thread(target=self._pass_on, name="recorder-errands", daemon=True),
        )
        for thread in self._threads:
            thread.start()

    def tell(self, number: int, errand: Errand) -> None:
        """One more errand; all are done in the order they are told."""
        with self._change:
            self._told[number] = _Told(errand, time.monotonic())
            self._unsent.append(number)
            if len(self._unsent) == 1:
                self._change.notify_all()

    @property
    def pid(self) -> int | None:
        """The process in charge now."""
        process = self._process
        return process.pid if process else None

    def wait(self, timeout_s: float) -> bool:
        """Wait until all that can be done is done; says whether it is."""
        with self._change:
            return self._change.wait_for(lambda: len(self._told) == len(self._aside), timeout_s)

    @property
    def is_keeping_up(self) -> bool:
        """Whether it runs and nothing that can be recorded waits for long."""
        with self._change:
            if self._process is None or self._process.poll() is not None:
                return False
            since_s = (told.at_s for number, told in self._told.items() if number not in self._aside)
            return time.monotonic() - next(since_s, time.monotonic()) < _LATE_S

    def stop(self, grace_s: float) -> None:
        """End it when all is done, or after the grace."""
        if not self._threads:
            return
        self.wait(grace_s)
        with self._change:
            self._is_stopping = True
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _pass_on(self) -> None:
        """Send errands when for a moment no more of them come, or the first has waited long enough.

        Many at once cost less, and receiving comes first.
        """
        while not self._is_stopping:
            with self._change:
                self._change.wait_for(lambda: self._is_stopping or (self._unsent and not self._is_full))
            known, until_s = 0, time.monotonic() + _LONGEST_LINGER_S
            while len(self._unsent) > known and time.monotonic() < until_s and not self._is_stopping:
                known = len(self._unsent)
                time.sleep(_LINGER_S)
            with self._change:
                self._send()

    def _send(self) -> None:
        """Send what fits into the pipe, so that nobody waits for the recorder."""
        if self._process is None or self._process.stdin is None or self._is_stopping:
            return
        lines = []
        while self._unsent and not self._is_full:
            number = self._unsent[0]
            line = _line(number, self._told[number].errand)
            self._is_full = len(line) > self._room_bytes
            if not self._is_full:
                self._unsent.popleft()
                self._on_way[number] = len(line)
                self._room_bytes -= len(line)
                lines.append(line)
        try:
            os.write(self._process.stdin.fileno(), b"".join(lines))
        except BrokenPipeError:
            """It has ended; the next one is told again."""

    def _keep_alive(self, done: Callable[[Iterable[int]], None], lock: int) -> None:
        while not self._is_stopping:
            try:
                process = self._begin(lock)
            except OSError as error:
                _log.error("the recorder cannot be started: %s", error.strerror)
            else:
                if process is None:
                    return
                self._hear(process, done)
                with self._change, process:
                    self._process = None
                if not self._is_stopping:
                    _log.error("the recorder ended; it is started again")
            if not self._is_stopping:
                time.sleep(_AGAIN_S)

    def _begin(self, lock: int) -> subprocess.Popen[bytes] | None:
        """Start it and tell it all that is not done; None where it is to stop, which is decided under the same lock.

        Raises OSError where the machine has no process to give.
        """
        with self._change:
            if self._is_stopping:
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "recorder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                pass_fds=(lock,),
            )
            assert self._process.stdin is not None, "piped"
            self._room_bytes = _room_bytes(self._process.stdin.fileno())
            self._unsent = deque(self._told)
            self._on_way.clear()
            self._is_full = False
            self._aside.clear()
            self._send()
            return self._process

    def _hear(self, process: subprocess.Popen[bytes], done: Callable[[Iterable[int]], None]) -> None:
        assert process.stdout is not None, "piped"
        for answer in process.stdout:
            what, *words = answer.split()
            numbers = [int(word) for word in words]
            with self._change:
                self._room_bytes += sum(self._on_way.pop(number, 0) for number in numbers)
                self._is_full = False
                if what == b"aside":
                    self._aside.update(numbers)
                else:
                    self._aside.difference_update(numbers)
                    for number in numbers:
                        self._told.pop(number, None)
                self._send()
                self._change.notify_all()
            if what == b"done":
                done(numbers)


class _Inbox:
    """Errands as they come down a pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._rest = b""
        self.waiting: deque[tuple[int, Errand]] = deque()
        self.is_closed = False

    def fill(self, timeout_s: float | None) -> None:
        """Take in what has come; waits for the first of it."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while not self.is_closed and poll.poll(None if timeout_s is None else timeout_s * 1e3):
            data = os.read(self._pipe, _CHUNK_BYTES)
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.waiting.extend(map(_errand, lines))
            self.is_closed = not data
            timeout_s = 0.0

    def take(self) -> dict[int, Errand]:
        """The next few, by number."""
        return dict(self.waiting.popleft() for _ in range(min(len(self.waiting), _AT_ONCE)))

    def put_back(self, batch: Mapping[int, Errand]) -> None:
        """These are the next ones still."""
        self.waiting.extendleft(reversed(list(batch.items())))

    def rest(self, pause_s: float) -> None:
        """A pause that ends early when nobody asks any more."""
        poll = select.poll()
        poll.register(self._pipe, 0)
        self.is_closed = bool(poll.poll(pause_s * 1e3)) or self.is_closed


def attend(do: Callable[[Sequence[Errand]], Sequence[Errand]], asked: int, answers: int) -> None:
    """Do errands in their order as they come down one pipe, and say so in the other, until nobody asks any more.

    `do` returns those that it could not do: they are tried again later, and those after them are not kept waiting.
    """
    inbox = _Inbox(asked)
    aside: dict[int, Errand] = {}
    aside_until_s = 0.0
    while True:
        if not inbox.waiting:
            inbox.fill(max(aside_until_s - time.monotonic(), 0.0) if aside else None)
        inbox.fill(0.0)
        if inbox.is_closed:
            return
        batch = inbox.take()
        if not batch and time.monotonic() >= aside_until_s:
            batch, aside = aside, {}
        try:
            left = do(list(batch.values()))
        except Exception as error:  # noqa: BLE001 - whatever it is, all of it is still to be done
            _log.warning("nothing can be recorded now: %s", error if isinstance(error, TendonError) else where(error))
            inbox.put_back(batch)
            inbox.rest(_AGAIN_S)
            continue
        undone = {number: errand for number, errand in batch.items() if errand in left}
        _say(answers, "done", batch.keys() - undone.keys())
        _say(answers, "aside", undone)
        if undone:
            aside |= undone
            aside_until_s = time.monotonic() + _ASIDE_S


def _room_bytes(pipe: int) -> int:
    """Make the pipe as large as the machine lets us; says how many bytes of lines it holds."""
    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return int(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) * _USABLE)


def _say(answers: int, what: str, numbers: Iterable[int]) -> None:
    told = " ".join(map(str, numbers))
    if told:
        os.write(answers, f"{what} {told}\n".encode())


def _line(number: int, errand: Errand) -> bytes:
    said = {name: value for name, value in asdict(errand).items() if value}
    if errand.at is not None:
        said["at"] = errand.at.isoformat()
    return json.dumps([number, said], separators=(",", ":")).encode() + b"\n"


def _errand(line: bytes) -> tuple[int, Errand]:
    number, said = json.loads(line)
    if "at" in said:
        said["at"] = datetime.fromisoformat(said["at"])
    return number, Errand(**said)
