"""Objects in a directory, named by their content: the port `Shelves` with the fsync discipline of I1.

Write under a temporary name, fsync the file, rename, fsync the folder. A failed fsync is never
retried into a success (PostgreSQL's lesson): the temporary file is removed and the caller told.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Broken, Fault
from orchestrator.keeping import StoredObject
from orchestrator.store.spool import (
    ABANDONED_S,
    DIGEST_LENGTH,
    Spool,
    Written,
    free_bytes,
    is_digest,
    moment_ns,
    not_stored,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from orchestrator.keeping import ObjectWriter

_INCOMING: Final = "incoming"
_LEAVING: Final = "leaving"


class DirectoryObjects:
    """Objects under `folder/<first two digits>/<digest>`; what is about to be removed passes through `leaving`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._leaving = folder / _LEAVING
        self._spool = Spool(folder / _INCOMING)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_INCOMING, _LEAVING, *(f"{first:02x}" for first in range(256))):
            (folder / name).mkdir(exist_ok=True)
        sync_folder(folder)
        sync_folder(folder.parent)

    def begin(self) -> ObjectWriter:
        return self._spool.begin(lambda written: _place(self._at, [written]))

    def keep_all(self, objects: Iterable[memoryview]) -> list[StoredObject]:
        """Keep many whole objects at once, which costs less of each: the disk is waited for once.

        Raises Broken STORE_FAILED, Transient STORAGE_LOW; then none of them is kept for certain.
        """
        waiting: list[Written] = []
        stored: list[StoredObject] = []
        try:
            for data in objects:
                waiting.append(self._spool.keep(data))
                stored.append(StoredObject(waiting[-1].digest, len(data)))
            try:
                _place(self._at, waiting)
            except OSError as error:
                raise not_stored(error) from error
        finally:
            for written in waiting:
                written.drop()
        return stored

    def _at(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def read(self, digest: str) -> bytes:
        path = self._existing(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(digest, error) from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise Broken(Fault.OBJECT_DAMAGED, f"object {digest} has changed on disk")
        return data

    def path(self, digest: str) -> str:
        path = self._existing(digest)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(digest, error) from error
        if found != digest:
            raise Broken(Fault.OBJECT_DAMAGED, f"object {digest} has changed on disk")
        return str(path)

    def _existing(self, digest: str) -> Path:
        if not self.holds(digest):
            raise Broken(Fault.NOT_FOUND, f"object {digest[:DIGEST_LENGTH]} is not stored")
        return self._at(digest)

    def holds(self, digest: str) -> bool:
        if not is_digest(digest):
            return False
        path = self._at(digest)
        if not path.is_file():
            with suppress(OSError):
                (self._leaving / digest).rename(path)
        return path.is_file()

    def free_bytes(self) -> int:
        return free_bytes(self._folder)

    def old(self, shelf: str, age_s: float) -> dict[str, str]:
        """What a sweeper that died had in hand goes back first."""
        for aside in self._leaving.glob(f"{shelf}*"):
            if self.holds(aside.name):
                aside.unlink(missing_ok=True)
        before_ns = moment_ns(self._folder) - int(age_s * 1e9)
        found = {}
        with os.scandir(self._folder / shelf) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    state = entry.stat(follow_symlinks=False)
                    if is_digest(entry.name) and state.st_mtime_ns <= before_ns:
                        found[entry.name] = _stamp(state)
        return found

    def remove(self, digest: str, stamp: str) -> bool:
        """Taken aside before it is looked at, so that no writer can put another in its place meanwhile."""
        aside = self._leaving / digest
        try:
            self._at(digest).rename(aside)
            if _stamp(aside.stat()) == stamp:
                aside.unlink()
                return True
            aside.rename(self._at(digest))
        except FileNotFoundError:
            return False
        return False

    def sweep(self, age_s: float = ABANDONED_S) -> int:
        return self._spool.sweep(age_s)


def _place(at: Callable[[str], Path], objects: Sequence[Written]) -> None:
    """Make objects durable, then their names. Raises OSError."""
    for written in objects:
        os.fsync(written.handle)
    paths = [at(written.digest) for written in objects]
    for written, path in zip(objects, paths, strict=True):
        written.path.rename(path)
    for folder in {path.parent for path in paths}:
        sync_folder(folder)
    witness = next((written.handle for written in objects if os.fstat(written.handle).st_size), None)
    if witness is not None:
        confirm(witness)


def _stamp(state: os.stat_result) -> str:
    return f"{state.st_mtime_ns} {state.st_ino}"


def _unreadable(digest: str, error: OSError) -> Broken:
    return Broken(Fault.OBJECT_DAMAGED, f"object {digest} cannot be read: {error.strerror}")


def confirm(handle: int) -> None:
    """What a sync has just promised is true. Raises OSError where the file system has broken down.

    ext4 says yes to a sync during which it breaks down, though it has lost what was to be made durable; after that it
    refuses every change, even this one, which reserves the first byte of a file that has one. It makes the next sync
    of that file dearer, so a file that is synced again and again is confirmed by another on the same disk.
    """
    os.posix_fallocate(handle, 0, 1)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
