"""A worker's own folder for the stages in hand, which nobody is left to remove when the worker is killed."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK: Final = "lock"


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
