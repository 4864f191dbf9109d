"""Objects while they are written: files under a temporary name, locked for as long as their writer lives."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestrator.domain.errors import Broken, Fault, TendonError, Transient, is_full
from orchestrator.keeping import StoredObject
from orchestrator.store.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.keeping import ObjectWriter

ABANDONED_S: Final = 60.0
"""A temporary file untouched for so long is removed when its writer is dead."""

DIGEST_LENGTH: Final = 64

_CHUNK_BYTES: Final = 1 << 20
_AHEAD_BYTES: Final = 8 << 20
"""After so much more the disk is told that nobody needs it in memory: it begins to write."""

_BEHIND_BYTES: Final = 32 << 20
"""Before these all is on the disk by now, so that its memory serves for what comes: taking other memory costs more."""

_FEWEST_FILES: Final = 1 << 14


class Written(NamedTuple):
    """A whole object under its temporary name."""

    path: Path
    handle: int
    digest: str

    def drop(self) -> None:
        """Let go of it, and of the name if it still has that."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(self.handle)


class Spool:
    """Temporary files of one folder; `place` keeps a whole one, or raises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, place: Callable[[Written], None]) -> ObjectWriter:
        """Start an object."""
        return _Writer(self._folder / secrets.token_hex(16), place)

    def keep(self, whole: memoryview) -> Written:
        """Write a whole object; the disk begins to take it. Raises as `ObjectWriter.commit`."""
        path = self._folder / secrets.token_hex(16)
        try:
            written = Written(path, _created(path), hashlib.sha256(whole).hexdigest())
            try:
                _write(written.handle, whole)
                os.posix_fadvise(written.handle, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError:
                written.drop()
                raise
        except OSError as error:
            raise not_stored(error) from error
        return written

    def sweep(self, age_s: float) -> int:
        """Remove files untouched for so long whose writer is dead; returns how many."""
        before_ns = moment_ns(self._folder) - int(age_s * 1e9)
        return sum(_is_removed(path, before_ns) for path in self._folder.iterdir())


class _Writer:
    """The port `ObjectWriter` on one temporary file. The lock goes with the process, however that ends.

    Bytes are gathered into chunks; of a large object the disk begins to take them while more come.
    """

    def __init__(self, temporary: Path, place: Callable[[Written], None]) -> None:
        self._temporary = temporary
        self._place = place
        self._digest = Digest()
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._filled = self._written = self._begun = 0
        try:
            self._handle = _created(temporary)
        except OSError as error:
            raise not_stored(error) from error
        self._is_open = True

    def write(self, data: bytes | memoryview) -> None:
        assert self._is_open, "the object is already committed"
        rest = memoryview(data)
        while rest:
            part = rest[: _CHUNK_BYTES - self._filled]
            self._chunk[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == _CHUNK_BYTES:
                self._flush()

    def _flush(self) -> None:
        if not self._filled:
            return
        rest = self._chunk[: self._filled]
        self._digest.update(rest)
        self._written += self._filled
        self._chunk, self._filled = memoryview(bytearray(_CHUNK_BYTES)), 0
        try:
            _write(self._handle, rest)
        except OSError as error:
            raise not_stored(error) from error
        if self._written - self._begun >= _AHEAD_BYTES:
            first = max(self._begun - _BEHIND_BYTES, 0)
            os.posix_fadvise(self._handle, first, self._written - first, os.POSIX_FADV_DONTNEED)
            self._begun = self._written

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        assert self._is_open, "the object is already committed"
        self._flush()
        if not self._written:
            yield memoryview(b"")
            return
        try:
            mapped = mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise not_stored(error) from error
        with mapped, memoryview(mapped) as whole:
            yield whole

    def commit(self) -> StoredObject:
        assert self._is_open, "the object is already committed"
        try:
            self._flush()
            digest = self._digest.close()
            self._place(Written(self._temporary, self._handle, digest))
        except OSError as error:
            self.discard()
            raise not_stored(error) from error
        except TendonError:
            self.discard()
            raise
        self._close()
        return StoredObject(digest, self._written)

    def discard(self) -> None:
        if self._is_open:
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            self._digest.close()
            self._close()

    def _close(self) -> None:
        self._is_open = False
        with suppress(OSError):
            os.close(self._handle)


def _created(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def _write(handle: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(handle, rest) :]


def _is_removed(path: Path, before_ns: int) -> bool:
    try:
        if path.stat().st_mtime_ns > before_ns:
            return False
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError:
        return False
    return True


def not_stored(error: OSError) -> TendonError:
    """What a writer is told when its object cannot be kept: where there is no room there may be some later."""
    if is_full(error):
        return Transient(Fault.STORAGE_LOW)
    return Broken(Fault.STORE_FAILED, f"the object could not be made durable: {error.strerror}")


def is_digest(name: str) -> bool:
    """Whether this is a SHA-256 in lower-case hex, and so safe as a file name."""
    return len(name) == DIGEST_LENGTH and all(sign in "0123456789abcdef" for sign in name)


def moment_ns(folder: Path) -> int:
    """This moment in ns as the folder's file system counts it, whosever clock that is."""
    os.utime(folder)
    return folder.stat().st_mtime_ns


def free_bytes(folder: Path) -> int:
    """How much may still be written to the folder's disk; none where it can hold no more files.

    A folder that is not there yet counts as the one it will be made in.
    """
    try:
        state = os.statvfs(folder)
    except FileNotFoundError:
        return free_bytes(folder.parent)
    if state.f_files > 0 and state.f_favail < _FEWEST_FILES:
        return 0
    return state.f_bavail * state.f_frsize
