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
        self._incoming.mkdir(parents=True, exist_ok=True)
        _sync_folder(folder)

    def begin(self) -> ObjectWriter:
        return _Writer(self._incoming / secrets.token_hex(16), self._place)

    def _place(self, temporary: Path, digest: str) -> None:
        folder = self._folder / digest[:2]
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            _sync_folder(self._folder)
        temporary.rename(folder / digest)
        _sync_folder(folder)

    def read(self, digest: str) -> bytes:
        data = self._existing(digest).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise Broken(Fault.OBJECT_DAMAGED, f"object {digest} has changed on disk")
        return data

    def path(self, digest: str) -> str:
        path = self._existing(digest)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
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
        self._file: BinaryIO | None = temporary.open("xb", buffering=_CHUNK)

    def write(self, data: bytes) -> None:
        assert self._file is not None, "the object is already committed"
        self._hash.update(data)
        self._size += len(data)
        self._file.write(data)

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
            raise Broken(Fault.STORE_FAILED, f"the object could not be made durable: {error.strerror}") from error
        return StoredObject(digest, self._size)

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
