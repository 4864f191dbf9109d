"""The port `Journal` in packs of a folder: what is acknowledged before it is an object with a record (I1).

Whoever receives an object writes it to a pack that nobody else writes to meanwhile, and is done when that is durable.
The recorder is told of each entry, makes objects and records of them in the order they came, and says which are done;
a pack of which nothing is needed any more is written over. What a process leaves behind when it dies, the next one
hands on before anything else.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import time
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from threading import Condition
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.keeping import Errand, Owed, StoredObject
from orchestrator.store.objects import sync_folder
from orchestrator.store.packs import BLOCK_BYTES, LARGEST_BYTES, SUFFIX, Pack, opened, reading_room, write
from orchestrator.store.spool import not_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from orchestrator.keeping import JournalEntry, Journalled, Received

MOST_OWED_BYTES: Final = 1 << 30
MOST_OWED: Final = 20_000
PATIENCE_S: Final = 20.0
"""How long a peer waits for the recorder before it is told to come again later."""

_LOCK_PATIENCE_S: Final = 60.0
_LOCK: Final = "lock"
_CHUNK_BYTES: Final = 640 << 10
"""So much is written at once: each call costs other threads their turn."""

_KEPT: Final = 8
"""So many packs of which nothing is needed are kept for the next objects, and so many chunks."""


class _Entered(NamedTuple):
    """An entry of which no record is kept yet."""

    pack: Pack
    size: int
    at_s: float


class PackJournal:
    """The journal in a folder, which only one process has at a time; `tell(number, errand)` tells the recorder."""

    def __init__(self, folder: Path, tell: Callable[[int, Errand], None], patience_s: float = PATIENCE_S) -> None:
        """Raises Broken JOURNAL_IN_USE where another process keeps the folder."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
        self._folder = folder
        self._tell = tell
        self._patience_s = patience_s
        self._numbers = count(1)
        self._change = Condition()
        self._free: list[Pack] = []
        self._chunks: list[memoryview] = []
        self._owed: dict[int, _Entered] = {}
        self._owed_bytes = 0
        self.lock = _locked(folder / _LOCK)
        """A descriptor that keeps the folder for as long as any process has it."""

    @property
    def owed_bytes(self) -> int:
        return self._owed_bytes

    @property
    def owed(self) -> Owed:
        """What is owed; never waits, not even while the disk hangs."""
        at_s = self._oldest_at_s()
        return Owed(len(self._owed), self._owed_bytes, 0.0 if at_s is None else time.monotonic() - at_s)

    def _oldest_at_s(self) -> float | None:
        while True:
            with suppress(RuntimeError):  # another thread has just changed them
                return next((entered.at_s for entered in self._owed.values()), None)

    @property
    def has_room(self) -> bool:
        return self._owed_bytes < MOST_OWED_BYTES and len(self._owed) < MOST_OWED

    @property
    def largest_bytes(self) -> int:
        return LARGEST_BYTES

    def recover(self) -> int:
        """Hand on what dead processes left, in the order it was received; returns how many objects.

        Raises Broken JOURNAL_UNREADABLE where another version of Tendon wrote it.
        """
        left = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with opened(path) as written:
                places = list(written.places())
            left.append((Pack(path, is_new=False), places))
        entries = [(place, pack) for pack, places in left for place in places]
        for place, pack in sorted(entries, key=lambda entry: entry[0].received_at):
            self._owe(pack, place.at, place.size)
        for pack, _ in left:
            self._settle(pack)
        return len(entries)

    def begin(self) -> JournalEntry:
        with self._change:
            if not self._change.wait_for(lambda: self.has_room, self._patience_s):
                raise Transient(Fault.JOURNAL_FULL)
            pack = self._free.pop() if self._free else None
            if pack is not None:
                pack.is_writing = True
        try:
            pack = pack or Pack(self._folder / (secrets.token_hex(16) + SUFFIX))
            pack.is_writing = True
            if not pack.owed:
                pack.begin_again()
        except OSError as error:
            if pack is not None:
                pack.is_closed = True
                self.give_back(pack)
            raise not_stored(error) from error
        return _Entry(self, pack)

    def end(self, association_id: str, now: datetime, outcome: str) -> None:
        self._tell(next(self._numbers), Errand("end", association_id=association_id, at=now, outcome=outcome))

    def keep(self, pack: Pack, received: Received, stored: StoredObject, whole: memoryview) -> None:
        """Make the entry durable that stands at the end of the pack, and have it recorded. Raises OSError.

        `whole` is the object where nothing of it is written yet.
        """
        self._owe(pack, pack.append(received, stored, whole, self.lock), stored.size)

    def _owe(self, pack: Pack, at: int, size: int) -> None:
        number = next(self._numbers)
        with self._change:
            self._owed[number] = _Entered(pack, size, time.monotonic())
            self._owed_bytes += size
            pack.owed += 1
        self._tell(number, Errand("entry", pack=pack.path.name, place=at))

    def chunk(self) -> memoryview:
        """Memory in which an entry is gathered."""
        with suppress(IndexError):
            return self._chunks.pop()
        return memoryview(bytearray(_CHUNK_BYTES))

    def give_back(self, pack: Pack, chunk: memoryview | None = None) -> None:
        """Nobody writes to the pack any more."""
        if chunk is not None and len(self._chunks) < _KEPT:
            self._chunks.append(chunk)
        pack.is_writing = False
        self._settle(pack)

    def done(self, numbers: Iterable[int]) -> None:
        """The recorder has done these."""
        with self._change:
            for number in numbers:
                owed = self._owed.pop(number, None)
                if owed is not None:
                    self._owed_bytes -= owed.size
                    owed.pack.owed -= 1
                    self._settle(owed.pack)
            self._change.notify_all()

    def _settle(self, pack: Pack) -> None:
        """Have a pack that nobody writes to written again, as soon and as long as it may be."""
        with self._change:
            if pack.is_writing:
                return
            if not pack.owed:
                with suppress(OSError):
                    pack.forget()
            is_free = pack in self._free
            is_spare = not pack.owed and (pack.is_closed or len(self._free) - is_free >= _KEPT)
            if is_spare:
                pack.remove()
            if is_free and is_spare:
                self._free.remove(pack)
            elif not is_free and not is_spare and pack.has_room:
                self._free.append(pack)

    def close(self) -> None:
        """Leave the folder to others, with what is still owed in it."""
        with self._change:
            for pack in self._free:
                if not pack.owed:
                    pack.remove()
            self._free.clear()
        os.close(self.lock)


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() > deadline:
                os.close(handle)
                raise Broken(Fault.JOURNAL_IN_USE) from error
            time.sleep(0.05)
        else:
            return handle


class JournalPacks:
    """The port `Packs`: entries as the recorder reads them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._room = reading_room()

    def entries(self, errands: Sequence[Errand]) -> Iterator[Journalled]:
        names = {errand.pack for errand in errands}
        with ExitStack() as stack:
            packs = {name: stack.enter_context(opened(self._folder / name, self._room)) for name in names}
            for errand in errands:
                found = packs[errand.pack].entry(errand.place)
                if found is None:
                    raise Broken(Fault.JOURNAL_UNREADABLE)
                yield found


class _Entry:
    """The port `JournalEntry` behind the last entry of a pack; its bytes are gathered into chunks."""

    def __init__(self, journal: PackJournal, pack: Pack) -> None:
        self._journal = journal
        self._pack: Pack | None = pack
        self._chunk = journal.chunk()
        self._start = pack.end + BLOCK_BYTES
        self._written = self._filled = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        assert self._pack is not None, "the object is already committed"
        chunk, rest = self._chunk, memoryview(data)
        while rest:
            part = rest[: len(chunk) - self._filled]
            chunk[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == len(chunk):
                self._flush(self._pack)

    def _flush(self, pack: Pack) -> None:
        rest = self._take_chunk()
        try:
            write(pack.handle, [rest], self._start + self._written)
        except OSError as error:
            raise not_stored(error) from error
        self._written += len(rest)

    def _take_chunk(self) -> memoryview:
        rest, self._filled = self._chunk[: self._filled], 0
        self._hash.update(rest)
        return rest

    @contextmanager
    def view(self) -> Iterator[memoryview]:
        assert self._pack is not None, "the object is already committed"
        self._flush(self._pack)
        with (
            mmap.mmap(self._pack.handle, 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as whole,
            whole[self._start : self._start + self._written] as written,
        ):
            yield written

    def commit(self, received: Received) -> None:
        assert self._pack is not None, "the object is already committed"
        try:
            if self._written:
                self._flush(self._pack)
            rest = self._take_chunk()
            stored = StoredObject(self._hash.hexdigest(), self._written + len(rest))
            self._journal.keep(self._pack, received, stored, rest)
        except OSError as error:
            raise not_stored(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        pack, self._pack = self._pack, None
        if pack is not None:
            self._journal.give_back(pack, self._chunk)
