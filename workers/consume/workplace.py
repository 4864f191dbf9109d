"""Where a worker works: its own folder for the stages in hand, and whether there is room enough to take another."""

from __future__ import annotations

import fcntl
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from orchestrator.service.receiving import RESERVE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

LEAST_ROOM_BYTES: Final = RESERVE_BYTES // 4
"""Receiving stops long before, so that what was accepted can be worked off."""

_LOCK: Final = "lock"
_COMPLAINS_EACH_S: Final = 60.0


class Room:
    """Whether there is room for another stage in each of the spaces, which tell their free bytes.

    Where there is not, a stage would use up its attempts: it is left to workers that have room, or to later.
    """

    def __init__(self, spaces: Mapping[str, Callable[[], int]], complain: Callable[[str], object]) -> None:
        self._spaces = spaces
        self._complain = complain
        self._next_complaint_s = 0.0

    def is_enough(self) -> bool:
        """Whether a stage may be taken now; complains now and then while it may not."""
        free = {name: space() for name, space in self._spaces.items()}
        low = [f"{name} {left >> 20} MiB" for name, left in free.items() if left < LEAST_ROOM_BYTES]
        if low and time.monotonic() >= self._next_complaint_s:
            self._next_complaint_s = time.monotonic() + _COMPLAINS_EACH_S
            self._complain(f"takes no stage below {LEAST_ROOM_BYTES >> 20} MiB: free are {', '.join(low)}")
        return not low


@contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """Make the folder, remove it at the end; those beside it whose workers are dead are removed at the beginning.

    A living worker holds the lock in its folder; it is taken before it is put there, so that nobody finds it free.
    """
    folder.mkdir(parents=True)
    coming = folder.parent / f".{folder.name}.{_LOCK}"
    with coming.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        coming.rename(folder / _LOCK)
        for other in folder.parent.iterdir():
            _remove_if_dead(other)
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_dead(folder: Path) -> None:
    with suppress(OSError), (folder / _LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
