"""The port `Clock` as one time for all processes of an installation, whatever is done to the clocks of machines."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select
from sqlalchemy.exc import InterfaceError, OperationalError

if TYPE_CHECKING:
    from sqlalchemy import Engine

_ASK_EVERY_S: Final = 60.0
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SteadyClock:
    """Of one machine: counts on from its anchor when somebody sets the machine's clock, to whatever time.

    The anchor is a file that all processes of an installation share. It holds until the machine starts again, or until
    it is set, which takes over the time that the machine's clock shows.
    """

    def __init__(self, anchor: Path) -> None:
        self._anchor = anchor
        self._started_us = self._read()
        if self._started_us is None:
            self.set()

    def now(self) -> datetime:
        """This moment in UTC."""
        assert self._started_us is not None, "it is set"
        return _EPOCH + timedelta(microseconds=self._started_us + _since_boot_us())

    def set(self) -> None:
        """Take over what the machine's clock shows. Where that cannot be kept it is so for this process alone."""
        self._started_us = (_machine_time() - _EPOCH) // timedelta(microseconds=1) - _since_boot_us()
        temporary = self._anchor.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            temporary.write_text(f"{_BOOT.read_text().strip()} {self._started_us}\n")
            temporary.rename(self._anchor)

    def skew_s(self) -> float:
        """By how many seconds the machine's clock is ahead of this one."""
        return (_machine_time() - self.now()).total_seconds()

    def _read(self) -> int | None:
        with suppress(OSError, ValueError):
            boot, started_us = self._anchor.read_text().split()
            if boot == _BOOT.read_text().strip():
                return int(started_us)
        return None


def _since_boot_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def _machine_time() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - this machine's clock is the question


class DatabaseClock:
    """The port `Clock`: asks PostgreSQL now and then and counts on by the monotonic clock.

    A jump of this machine's clock changes nothing; while the database does not answer, or hangs, it counts on.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._asked_at_s = 0.0
        self._told: datetime | None = None
        self._tried_at_s = 0.0
        self._asking: Thread | None = None

    def now(self) -> datetime:
        """This moment in UTC. Raises as the engine before the database has told it once."""
        with self._lock:
            if self._told is None:
                self._told, self._asked_at_s = self._ask()
                self._tried_at_s = time.monotonic()
            if time.monotonic() - self._tried_at_s > _ASK_EVERY_S and not (self._asking and self._asking.is_alive()):
                self._tried_at_s = time.monotonic()
                self._asking = Thread(target=self._ask_again, name="clock", daemon=True)
                self._asking.start()
            return self._told + timedelta(seconds=time.monotonic() - self._asked_at_s)

    def _ask(self) -> tuple[datetime, float]:
        with self._engine.connect() as connection:
            before_s = time.monotonic()
            told: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return told.astimezone(UTC), before_s

    def _ask_again(self) -> None:
        """Nobody waits for this: it may hang."""
        try:
            told = self._ask()
        except (OperationalError, InterfaceError):
            return
        with self._lock:
            self._told, self._asked_at_s = told

    def skew_s(self) -> float:
        """By how many seconds this machine's clock is ahead of the database's."""
        return (_machine_time() - self.now()).total_seconds()
