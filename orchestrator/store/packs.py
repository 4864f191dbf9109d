"""Packs: files of a journal's folder that hold whole objects one after the other, each behind a block of its facts.

An entry counts when its block is whole: it names the pack's present use, its own size and the digest of its bytes,
and is written after them. Packs are written over again and again, since writing where bytes stand already needs no
commit of the file system's own journal; the random mark of each use tells its entries from those of earlier ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import struct
import zlib
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestrator.domain.errors import Broken, Fault
from orchestrator.keeping import Journalled, Received, StoredObject
from orchestrator.store.objects import confirm, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PACK_BYTES: Final = 32 << 20
LARGEST_BYTES: Final = 8 << 20
"""Of an object in a pack."""

BLOCK_BYTES: Final = 4096
SUFFIX: Final = ".pack"

_MAGIC: Final = b"TENDON-1"
_USE_BYTES: Final = 16
_START: Final = struct.Struct("<8s16s")
_HEAD: Final = struct.Struct("<8s16sQL")
_CRC: Final = struct.Struct("<L")


class Pack:
    """One pack as its writer has it; only one entry is written at a time.

    `owed` of its entries are still needed. `is_closed`: no more are to be written.
    """

    def __init__(self, path: Path, *, is_new: bool = True) -> None:
        """Make a new one, or take up one that is there, closed. Raises OSError."""
        self.path = path
        self.handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o600)
        self.end = self.owed = 0
        self.is_writing = False
        self.is_closed = not is_new
        self._use = bytes(_USE_BYTES)
        if is_new:
            try:
                os.posix_fallocate(self.handle, 0, PACK_BYTES)
                os.fsync(self.handle)
                sync_folder(path.parent)
            except OSError:
                self.remove()
                raise

    @property
    def has_room(self) -> bool:
        """Whether another entry of any size may be written."""
        return not self.is_closed and self.end + BLOCK_BYTES + LARGEST_BYTES <= PACK_BYTES

    def begin_again(self) -> None:
        """Write from its beginning on: nothing in it is needed any more. Raises OSError."""
        self._use = secrets.token_bytes(_USE_BYTES)
        os.pwrite(self.handle, _MAGIC + self._use, 0)
        self.end = BLOCK_BYTES

    def forget(self) -> None:
        """Whoever finds it later finds nothing in it. Raises OSError."""
        os.pwrite(self.handle, bytes(_USE_BYTES), len(_MAGIC))
        self.end = 0

    def append(self, received: Received, stored: StoredObject, whole: memoryview, witness: int) -> int:
        """Make the entry durable whose bytes stand after the block at `end`, or are `whole`; returns where it begins.

        `witness` is a file to `confirm` by. Raises OSError: nobody knows then what is durable, so the pack is closed.
        """
        block = _block(self._use, _facts(received, stored), stored.size)
        at = self.end
        try:
            write(self.handle, [block, whole] if whole else [block], at)
            os.fdatasync(self.handle)
            confirm(witness)
        except OSError:
            self.is_closed = True
            with suppress(OSError):
                os.pwrite(self.handle, bytes(BLOCK_BYTES), at)
            raise
        self.end = _after(at, stored.size)
        return at

    def remove(self) -> None:
        """Close and remove it."""
        with suppress(OSError):
            os.close(self.handle)
            self.path.unlink(missing_ok=True)


def _facts(received: Received, stored: StoredObject) -> dict[str, Any]:
    values = {field.name: getattr(received, field.name) for field in fields(Received)}
    return {**values, "received_at": received.received_at.isoformat(), "digest": stored.digest}


def _block(use: bytes, facts: dict[str, Any], size: int) -> bytes:
    text = json.dumps(facts, separators=(",", ":")).encode()
    block = _HEAD.pack(_MAGIC, use, size, len(text)) + text
    if len(block) + _CRC.size > BLOCK_BYTES:
        raise Broken(Fault.STORE_FAILED, "the names of the object are too long")
    return (block + _CRC.pack(zlib.crc32(block))).ljust(BLOCK_BYTES, b"\0")


def write(handle: int, parts: Sequence[bytes | memoryview], at: int) -> None:
    """Write all of it there. Raises OSError."""
    written = os.pwritev(handle, parts, at)
    if written < sum(map(len, parts)):
        rest = memoryview(b"".join(parts))
        while written < len(rest):
            written += os.pwrite(handle, rest[written:], at + written)


def _after(at: int, size: int) -> int:
    """Where the entry after the one at this place begins."""
    return at + BLOCK_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES


class Place(NamedTuple):
    """Where an entry begins, how many bytes its object has, when it came."""

    at: int
    size: int
    received_at: datetime


class OpenPack:
    """One pack as a reader has it. What it reads stands in the room, until it reads again."""

    def __init__(self, handle: int, room: memoryview | None = None) -> None:
        self._handle = handle
        self._room = reading_room() if room is None else room
        magic, self._use = _START.unpack(os.pread(handle, _START.size, 0).ljust(_START.size, b"\0"))
        if magic not in (_MAGIC, bytes(len(_MAGIC))):
            raise Broken(Fault.JOURNAL_UNREADABLE)

    def entry(self, at: int) -> Journalled | None:
        """The entry at this place; None where there is no whole block of the pack's present use. Raises OSError."""
        block = os.pread(self._handle, BLOCK_BYTES, at)
        if not any(self._use) or len(block) < BLOCK_BYTES:
            return None
        magic, use, size, length = _HEAD.unpack_from(block)
        end = _HEAD.size + length
        if (magic, use) != (_MAGIC, self._use) or end + _CRC.size > BLOCK_BYTES:
            return None
        if _CRC.unpack_from(block, end)[0] != zlib.crc32(block[:end]):
            return None
        facts = json.loads(block[_HEAD.size : end])
        stored = StoredObject(facts.pop("digest"), size)
        received = Received(**{**facts, "received_at": datetime.fromisoformat(facts["received_at"])})
        data = self._room[:size]
        return Journalled(received, stored, data) if os.preadv(self._handle, [data], at + BLOCK_BYTES) == size else None

    def places(self) -> Iterator[Place]:
        """Each entry, as far as they are whole. Raises OSError."""
        at = BLOCK_BYTES
        while (found := self.entry(at)) is not None:
            if hashlib.sha256(found.data).hexdigest() != found.stored.digest:
                return
            yield Place(at, found.stored.size, found.received.received_at)
            at = _after(at, found.stored.size)


def reading_room() -> memoryview:
    """Memory for the largest object, to be used again and again."""
    return memoryview(bytearray(LARGEST_BYTES))


@contextmanager
def opened(path: Path, room: memoryview | None = None) -> Iterator[OpenPack]:
    """A pack to read. Raises OSError, Broken JOURNAL_UNREADABLE."""
    with path.open("rb") as file:
        yield OpenPack(file.fileno(), room)
