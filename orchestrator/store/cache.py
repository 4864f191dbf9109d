"""Files kept nearby of objects that live elsewhere: bounded, shared by processes, the longest unused leave first."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orchestrator.store.spool import is_digest, moment_ns

if TYPE_CHECKING:
    from pathlib import Path

IN_USE_S: Final = 3600.0
"""A file that was asked for stays at least so long, even beyond the bound."""

LONGEST_UNUSED_S: Final = 24 * 3600.0
"""A file that nobody asked for leaves at last, so that what was retired elsewhere does not linger."""

_STEPS: Final = 16
"""The folder is measured anew when this part of the bound was added."""


class FileCache:
    """Files under `folder/<first two digits>/<digest>`; the time of a file says when it was last asked for."""

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self._folder = folder
        self._capacity_bytes = capacity_bytes
        self._added_bytes = capacity_bytes
        for first in range(256):
            (folder / f"{first:02x}").mkdir(parents=True, exist_ok=True)

    def find(self, digest: str) -> Path | None:
        """The file, checked against its digest and in use from now on; a damaged one is dropped."""
        path = self._at(digest)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if os.fstat(file.fileno()).st_nlink == 0:
                return None
            os.utime(file.fileno())
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return path
            path.unlink(missing_ok=True)
        return None

    def keep(self, temporary: Path, digest: str, *, in_use: bool) -> Path:
        """Take a whole file in, and let go of what is too much by then. One that is here already stays in its place."""
        size = temporary.stat().st_size
        path = self._at(digest)
        if in_use:
            temporary.rename(path)
        else:
            unused_ns = moment_ns(self._folder) - int(IN_USE_S * 1e9)
            os.utime(temporary, ns=(unused_ns, unused_ns))
            with suppress(FileExistsError):
                path.hardlink_to(temporary)
            temporary.unlink()
        self._added_bytes += size
        if self._added_bytes > self._capacity_bytes // _STEPS:
            self._added_bytes = 0
            self._let_go()
        return path

    def drop(self, digest: str) -> None:
        """Keep it no longer."""
        self._at(digest).unlink(missing_ok=True)

    def _at(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _let_go(self) -> None:
        now_ns = moment_ns(self._folder)
        in_use_ns, unused_ns = now_ns - int(IN_USE_S * 1e9), now_ns - int(LONGEST_UNUSED_S * 1e9)
        files = sorted(self._files(), key=lambda found: found[1])
        excess = sum(size for _, _, size in files) - self._capacity_bytes
        for path, used_ns, size in files:
            if used_ns > (in_use_ns if excess > 0 else unused_ns):
                return
            if _is_let_go(path, in_use_ns):
                excess -= size

    def _files(self) -> list[tuple[Path, int, int]]:
        found = []
        for shelf in self._folder.iterdir():
            for path in shelf.iterdir():
                with suppress(FileNotFoundError):
                    state = path.stat()
                    if is_digest(path.name):
                        found.append((path, state.st_mtime_ns, state.st_size))
        return found


def _is_let_go(path: Path, used_before_ns: int) -> bool:
    """Whether the file is gone: whoever asks for it in this moment either holds it or finds it gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_mtime_ns > used_before_ns:
                return False
            path.unlink()
    except OSError:
        return False
    return True
