"""Objects in memory: the port `Objects`. Paths lead to files in a folder given, written when they are asked for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Broken, Fault
from orchestrator.ports import StoredObject

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.ports import ObjectWriter


class MemoryObjects:
    """Keeps what was committed; `free` is what it says of its room, `damage` changes an object's bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.kept: dict[str, bytes] = {}
        self.free = 1 << 40
        self.writers = 0
        self.is_failing = False

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

    def free_bytes(self) -> int:
        return self.free

    def keep(self, data: bytes) -> str:
        """Store bytes at once; gives their digest."""
        writer = self.begin()
        writer.write(data)
        return writer.commit().digest

    def damage(self, digest: str) -> None:
        self.kept[digest] = b"other bytes"


class MemoryWriter:
    """The port `ObjectWriter`."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._data += data

    def commit(self) -> StoredObject:
        if self._objects.is_failing:
            raise Broken(Fault.STORE_FAILED)
        digest = hashlib.sha256(self._data).hexdigest()
        self._objects.kept[digest] = bytes(self._data)
        return StoredObject(digest, len(self._data))

    def discard(self) -> None:
        self._data.clear()
