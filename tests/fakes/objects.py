"""Objects in memory: the port `Shelves`. Paths lead to files in a folder given, written when they are asked for."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Broken, Fault
from orchestrator.keeping import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orchestrator.keeping import ObjectWriter


class MemoryObjects:
    """Keeps what was committed; `free` is what it says of its room, `damage` changes an object's bytes.

    `now_s` is the store's own clock.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writings = count(1)
        self._written: dict[str, tuple[float, str]] = {}
        self.kept: dict[str, bytes] = {}
        self.free = 1 << 40
        self.writers = 0
        self.is_failing = False
        self.now_s = 0.0

    def begin(self) -> ObjectWriter:
        self.writers += 1
        return MemoryWriter(self)

    def read(self, digest: str) -> bytes:
        if digest not in self.kept:
            raise Broken(Fault.NOT_FOUND)
        data = self.kept[digest]
        if hashlib.sha256(data).hexdigest() != digest:
            raise Broken(Fault.OBJECT_DAMAGED)
        return data

    def path(self, digest: str) -> str:
        data = self.read(digest)
        path = self._folder / digest
        path.write_bytes(data)
        return str(path)

    def holds(self, digest: str) -> bool:
        return digest in self.kept

    def free_bytes(self) -> int:
        return self.free

    def old(self, shelf: str, age_s: float) -> dict[str, str]:
        return {
            digest: stamp
            for digest, (written_s, stamp) in self._written.items()
            if digest.startswith(shelf) and written_s <= self.now_s - age_s
        }

    def remove(self, digest: str, stamp: str) -> bool:
        if self._written.get(digest, (0.0, ""))[1] != stamp:
            return False
        del self._written[digest], self.kept[digest]
        return True

    def sweep(self, age_s: float) -> int:
        """Writers of a test never die."""
        return 0

    def place(self, data: bytes) -> StoredObject:
        """What a commit does."""
        digest = hashlib.sha256(data).hexdigest()
        self.kept[digest] = data
        self._written[digest] = (self.now_s, str(next(self._writings)))
        return StoredObject(digest, len(data))

    def keep(self, data: bytes) -> str:
        """Store bytes at once; gives their digest."""
        writer = self.begin()
        writer.write(data)
        return writer.commit().digest

    def keep_all(self, objects: Iterable[memoryview]) -> list[StoredObject]:
        """The port `ObjectMaker`."""
        whole = [bytes(data) for data in objects]
        if self.is_failing:
            raise Broken(Fault.STORE_FAILED)
        return [self.place(data) for data in whole]

    def damage(self, digest: str) -> None:
        self.kept[digest] = b"other bytes"


class MemoryWriter:
    """The port `ObjectWriter`."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        yield memoryview(bytes(self._data))

    def commit(self) -> StoredObject:
        if self._objects.is_failing:
            raise Broken(Fault.STORE_FAILED)
        return self._objects.place(bytes(self._data))

    def discard(self) -> None:
        self._data.clear()
