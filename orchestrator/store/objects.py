"""Objects in a directory, named by their content: the port `Objects` with the fsync discipline of I1.

Write under a temporary name, fsync the file, rename, fsync the folder. A failed fsync is never
retried into a success (PostgreSQL's lesson): the temporary file is removed and the caller told.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from orchestrator.domain.errors import Broken, Fault
from orchestrator.ports import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.ports import ObjectWriter

_INCOMING: Final = "incoming"
_CHUNK: Final = 1 << 20
_DIGEST_LENGTH: Final = 64


class DirectoryObjects:
    """Objects under `folder/<first two digits>/<digest>`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / _INCOMING
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_INCOMING, *(f"{first:02x}" for first in range(256))):
            (folder / name).mkdir(exist_ok=True)
        sync_folder(folder)
        sync_folder(folder.parent)

    def begin(self) -> ObjectWriter:
        return _Writer(self._incoming / secrets.token_hex(16), self._place)

    def _place(self, temporary: Path, digest: str) -> None:
        folder = self._folder / digest[:2]
        temporary.rename(folder / digest)
        sync_folder(folder)

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
        path = self._folder / digest[:2] / digest
        if len(digest) != _DIGEST_LENGTH or not digest.isalnum() or not path.is_file():
            raise Broken(Fault.NOT_FOUND, f"object {digest[:_DIGEST_LENGTH]} is not stored")
        return path

    def free_bytes(self) -> int:
        state = os.statvfs(self._folder)
        return state.f_bavail * state.f_frsize

    def sweep(self) -> int:
        """Remove what writers left behind when their process died; returns how many files."""
        left = list(self._incoming.iterdir())
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)


class _Writer:
    """The port `ObjectWriter` on one temporary file."""

    def __init__(self, temporary: Path, place: Callable[[Path, str], None]) -> None:
        self._temporary = temporary
        self._place = place
        self._hash = hashlib.sha256()
        self._size = 0
        try:
            self._file: BinaryIO | None = temporary.open("xb", buffering=_CHUNK)
        except OSError as error:
            raise _not_stored(error) from error

    def write(self, data: bytes) -> None:
        assert self._file is not None, "the object is already committed"
        try:
            self._file.write(data)
        except OSError as error:
            raise _not_stored(error) from error
        self._hash.update(data)
        self._size += len(data)

    def commit(self) -> StoredObject:
        assert self._file is not None, "the object is already committed"
        digest = self._hash.hexdigest()
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._place(self._temporary, digest)
        except OSError as error:
            self.discard()
            raise _not_stored(error) from error
        return StoredObject(digest, self._size)

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def _not_stored(error: OSError) -> Broken:
    return Broken(Fault.STORE_FAILED, f"the object could not be made durable: {error.strerror}")


def _unreadable(digest: str, error: OSError) -> Broken:
    return Broken(Fault.OBJECT_DAMAGED, f"object {digest} cannot be read: {error.strerror}")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
