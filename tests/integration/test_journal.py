"""What is acknowledged from the journal survives whatever becomes of its process, and nothing else shows (I1)."""

from __future__ import annotations

import errno
import os
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.keeping import Errand, Owed, Received
from orchestrator.service.retiring import SHELVES, Keeper, retire_due, sweep
from orchestrator.store import journal as journals
from orchestrator.store import packs
from orchestrator.store.journal import JournalPacks, PackJournal
from orchestrator.store.objects import DirectoryObjects
from orchestrator.store.packs import BLOCK_BYTES
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import SettableClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def received(uid: str = "1.2.3") -> Received:
    return Received("a1", "MAIN", "1.2.840.10008.5.1.4.1.1.2", uid, "1.2.840.10008.1.2.1", 4, NOW)


@dataclass
class Life:
    """A process that has the journal: what it was told of, by number."""

    folder: Path
    told: dict[int, Errand] = field(default_factory=dict)
    patience_s: float = 0.0

    def __post_init__(self) -> None:
        self.journal = PackJournal(self.folder, self.told.__setitem__, self.patience_s)

    def keep(self, data: bytes, uid: str = "1.2.3") -> int:
        entry = self.journal.begin()
        entry.write(data)
        entry.commit(received(uid))
        return next(reversed(self.told))

    def read(self) -> dict[str, bytes]:
        """What the recorder finds, by instance."""
        errands = [errand for errand in self.told.values() if errand.kind == "entry"]
        found = JournalPacks(self.folder).entries(errands)
        return {entry.received.sop_instance_uid: bytes(entry.data) for entry in found}

    def die(self) -> None:
        """What the kernel does for a process that is killed: its locks go, its files stay."""
        os.close(self.journal.lock)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


def pack_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pack"))


def recovered(folder: Path) -> dict[str, bytes]:
    life = Life(folder)
    life.journal.recover()
    found = life.read()
    life.die()
    return found


def test_an_entry_is_told_with_its_bytes_and_facts(folder):
    life = Life(folder)
    life.keep(b"DICM" + bytes(10_000), "1.2.3.4")
    (errand,) = life.told.values()
    (entry,) = JournalPacks(folder).entries([errand])
    assert entry.received == received("1.2.3.4")
    assert bytes(entry.data) == b"DICM" + bytes(10_000)
    assert entry.stored.digest == sha256(entry.data).hexdigest()
    assert entry.stored.size == 10_004


def test_what_is_being_written_can_be_looked_at_and_dropped_without_a_trace(folder):
    life = Life(folder)
    entry = life.journal.begin()
    entry.write(b"half ")
    entry.write(memoryview(b"an object"))
    with entry.view() as written:
        assert bytes(written) == b"half an object"
    entry.discard()
    entry.discard()
    assert life.told == {}
    life.die()
    assert recovered(folder) == {}
    assert pack_files(folder) == []


def test_what_a_dead_process_acknowledged_is_handed_on(folder):
    life = Life(folder)
    for uid in ("1", "2", "3"):
        life.keep(uid.encode() * 5000, uid)
    entry = life.journal.begin()
    entry.write(b"not acknowledged")
    life.die()
    heir = Life(folder)
    assert heir.journal.recover() == 3
    assert heir.read() == {uid: uid.encode() * 5000 for uid in ("1", "2", "3")}
    assert [errand.kind for errand in heir.told.values()] == ["entry"] * 3


def test_what_several_associations_left_is_handed_on_in_the_order_it_came_whatever_files_say(folder):
    life = Life(folder)
    entries = {uid: life.journal.begin() for uid in ("1", "2", "3")}
    for number, uid in enumerate(("2", "3", "1")):
        entries[uid].write(uid.encode())
        entries[uid].commit(replace(received(uid), received_at=NOW + timedelta(seconds=number)))
    life.die()
    for number, path in enumerate(pack_files(folder)):
        os.utime(path, (number, number))
    assert list(recovered(folder)) == ["2", "3", "1"]


def test_what_is_done_is_not_handed_on_again(folder):
    life = Life(folder)
    life.journal.done([life.keep(b"one")])
    life.die()
    assert recovered(folder) == {}


def test_packs_that_owe_nothing_are_written_over_and_go_at_the_end(folder):
    life = Life(folder)
    for _ in range(50):
        life.journal.done([life.keep(bytes(1 << 20))])
    assert len(pack_files(folder)) == 1
    life.journal.close()
    assert pack_files(folder) == []


def test_each_writer_has_a_pack_of_its_own(folder):
    life = Life(folder)
    entries = {uid: life.journal.begin() for uid in ("1", "2", "3")}
    for uid, entry in entries.items():
        entry.write(uid.encode() * 100_000)
    for uid, entry in entries.items():
        entry.commit(received(uid))
    assert life.read() == {uid: uid.encode() * 100_000 for uid in entries}
    assert len(pack_files(folder)) == 3


def test_a_full_pack_is_left_to_the_recorder_and_another_begun(folder):
    life = Life(folder)
    for uid in range(6):
        life.keep(bytes([uid]) * packs.LARGEST_BYTES, str(uid))
    assert len(pack_files(folder)) == 2
    assert {uid: set(data) for uid, data in life.read().items()} == {str(uid): {uid} for uid in range(6)}


@pytest.mark.parametrize("place", ["block", "data"])
def test_an_entry_that_is_not_whole_is_none(folder, place):
    """The power went while it was being written, so nobody was told that it is kept."""
    life = Life(folder)
    life.keep(b"first", "1")
    life.keep(b"second", "2")
    at = list(life.told.values())[-1].place + (40 if place == "block" else BLOCK_BYTES)
    life.die()
    (path,) = pack_files(folder)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff")
    assert recovered(folder) == {"1": b"first"}


def test_entries_of_an_earlier_use_are_not_taken_for_those_of_the_present_one(folder):
    life = Life(folder)
    numbers = [life.keep(bytes(100), uid) for uid in ("1", "2", "3")]
    life.journal.done(numbers)
    life.keep(bytes(100), "4")
    life.die()
    assert recovered(folder) == {"4": bytes(100)}


def test_bytes_that_look_like_an_entry_are_none(folder):
    """A peer that knows the format, but not the mark of the pack's use, sends a pack as an object."""
    life = Life(folder)
    life.keep(b"bait", "6.6.6")
    bait = pack_files(folder)[0].read_bytes()[: 4 * BLOCK_BYTES]
    life.journal.done(list(life.told))
    life.journal.done([life.keep(bytes(BLOCK_BYTES) + bait, "1")])
    life.keep(b"short", "2")
    life.die()
    assert recovered(folder) == {"2": b"short"}


def test_a_journal_of_another_version_is_left_alone_and_told(folder):
    life = Life(folder)
    life.keep(b"one")
    life.die()
    (path,) = pack_files(folder)
    with path.open("r+b") as file:
        file.write(b"TENDON-9")
    with pytest.raises(Broken) as refusal:
        Life(folder).journal.recover()
    assert refusal.value.fault is Fault.JOURNAL_UNREADABLE
    assert path.exists()


def test_only_one_process_has_the_journal(folder, monkeypatch):
    monkeypatch.setattr(journals, "_LOCK_PATIENCE_S", 0.1)
    life = Life(folder)
    with pytest.raises(Broken) as refusal:
        Life(folder)
    assert refusal.value.fault is Fault.JOURNAL_IN_USE
    life.journal.close()
    Life(folder)


@pytest.mark.parametrize("limit", ["MOST_OWED", "MOST_OWED_BYTES"])
def test_where_too_much_is_owed_nothing_more_is_taken_until_some_is_done(folder, monkeypatch, limit):
    monkeypatch.setattr(journals, limit, {"MOST_OWED": 2, "MOST_OWED_BYTES": 15}[limit])
    life = Life(folder)
    first, _ = life.keep(bytes(10), "1"), life.keep(bytes(10), "2")
    assert life.journal.owed_bytes == 20
    with pytest.raises(Transient) as refusal:
        life.journal.begin()
    assert refusal.value.fault is Fault.JOURNAL_FULL
    life.journal.done([first])
    assert life.journal.owed_bytes == 10
    life.keep(bytes(10), "3")


def test_a_failing_sync_is_no_success_and_its_pack_is_never_written_again(folder, monkeypatch):
    life = Life(folder)
    life.keep(b"first", "1")
    sync = os.fdatasync

    def fail(handle: int) -> None:
        monkeypatch.setattr(os, "fdatasync", sync)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(Broken) as refusal:
        life.keep(b"second", "2")
    assert refusal.value.fault is Fault.STORE_FAILED
    life.keep(b"third", "3")
    assert {errand.pack for errand in life.told.values()} == {path.name for path in pack_files(folder)}
    assert len(pack_files(folder)) == 2
    life.die()
    assert recovered(folder) == {"1": b"first", "3": b"third"}


def test_a_disk_that_breaks_down_while_it_says_yes_to_a_sync_is_no_success(folder, monkeypatch):
    """As ext4 does; see `confirm`."""
    life = Life(folder)
    life.keep(b"first", "1")

    def broken(*_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", broken)
        with pytest.raises(Broken) as refusal:
            life.keep(b"second", "2")
    assert refusal.value.fault is Fault.STORE_FAILED
    life.die()
    assert recovered(folder) == {"1": b"first"}


def test_a_disk_without_room_for_a_pack_is_told_as_a_refusal(folder, monkeypatch):
    life = Life(folder)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(Transient) as refusal:
            life.journal.begin()
    assert refusal.value.fault is Fault.STORAGE_LOW
    assert pack_files(folder) == []
    life.keep(b"one")


def test_an_object_is_synced_after_its_block_and_a_new_pack_with_its_folder_before(folder, monkeypatch):
    calls: list[str] = []
    for name in ("pwrite", "pwritev", "fsync", "fdatasync"):
        call = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, _name=name, _call=call: (calls.append(_name), _call(*given))[1])
    life = Life(folder)
    assert calls == ["fsync"], "the journal's own folder"
    calls.clear()
    life.keep(b"one")
    assert calls == ["fsync", "fsync", "pwrite", "pwritev", "fdatasync"]
    calls.clear()
    life.keep(b"two")
    assert calls == ["pwritev", "fdatasync"]
    calls.clear()
    life.keep(bytes(600_000))
    assert calls == ["pwritev", "fdatasync"], "a CT slice is written at once"
    calls.clear()
    life.keep(bytes(1_500_000))
    assert calls == [*["pwritev"] * 4, "fdatasync"], "its block last"


def test_a_disk_that_takes_only_a_part_of_each_write_gets_all_of_it(folder, monkeypatch):
    pwritev, pwrite = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda handle, parts, at: pwritev(handle, [parts[0][:1000]], at))
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: pwrite(handle, data[:100_000], at))
    life = Life(folder)
    objects = {"1": b"one", "2": random.Random(5).randbytes(700_000)}
    for name, data in objects.items():
        life.keep(data, name)
    assert life.read() == objects


def test_retention_and_sweep_never_touch_what_is_owed(tmp_path):
    """It lies in a folder of the object store, as old as it may be, and no row refers to it."""
    objects = DirectoryObjects(tmp_path / "objects")
    life = Life(tmp_path / "objects" / "journal")
    life.keep(bytes(5000), "1")
    swept = objects.begin()
    swept.write(b"an object that nobody needs")
    unneeded = swept.commit().digest
    for path in (tmp_path / "objects").rglob("*"):
        os.utime(path, (0, 0))
    before = pack_files(life.folder)
    keeper = Keeper(MemoryRecords(), objects, SettableClock(), retention_days=0.001)
    assert sum(retire_due(keeper) + sweep(keeper) for _ in range(SHELVES)) == 1
    assert not objects.holds(unneeded)
    assert pack_files(life.folder) == before
    assert life.read() == {"1": bytes(5000)}
    life.die()
    assert recovered(life.folder) == {"1": bytes(5000)}


def test_what_is_owed_is_told_and_for_how_long(folder):
    life = Life(folder)
    assert life.journal.owed == Owed(0, 0, 0.0)
    first, second = life.keep(bytes(10)), life.keep(bytes(20))
    owed = life.journal.owed
    assert (owed.objects, owed.bytes) == (2, 30)
    life.journal.done([first])
    assert 0 < life.journal.owed.oldest_s <= owed.oldest_s + 60
    life.journal.done([second])
    assert life.journal.owed == Owed(0, 0, 0.0)


class Lives(RuleBasedStateMachine):
    """Objects come, are given up, are recorded, and the process is killed, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory(prefix="tendon-journal-")
        self.begun: list[object] = []
        self.owed: dict[str, bytes] = {}
        self.numbers: dict[str, int] = {}
        self.count = 0

    @initialize()
    def first(self) -> None:
        self.life = Life(Path(self.place.name))

    @rule(size=st.integers(0, 20_000))
    def receive(self, size: int) -> None:
        self.count += 1
        uid, data = str(self.count), bytes([self.count % 251]) * size
        self.numbers[uid] = self.life.keep(data, uid)
        self.owed[uid] = data

    @rule(size=st.integers(0, 20_000))
    def begin(self, size: int) -> None:
        entry = self.life.journal.begin()
        entry.write(bytes(size))
        self.begun.append(entry)

    @precondition(lambda self: self.begun)
    @rule()
    def give_up(self) -> None:
        self.begun.pop(0).discard()

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def record(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(self.owed)))
        self.life.journal.done([self.numbers.pop(uid)])
        del self.owed[uid]

    @rule()
    def kill(self) -> None:
        self.life.die()
        self.begun.clear()
        self.life = Life(Path(self.place.name))
        assert self.life.journal.recover() == len(self._handed_on())
        entries = [number for number, errand in self.life.told.items() if errand.kind == "entry"]
        found = JournalPacks(self.life.folder).entries([self.life.told[n] for n in entries])
        uids = [entry.received.sop_instance_uid for entry in found]
        assert set(uids) == self._handed_on() >= set(self.owed)
        self.life.journal.done([n for n, uid in zip(entries, uids, strict=True) if uid not in self.owed])
        self.numbers = {uid: n for n, uid in zip(entries, uids, strict=True) if uid in self.owed}

    def _handed_on(self) -> set[str]:
        """At most what shares a pack with something still owed is handed on twice."""
        return set(self.life.read())

    @invariant()
    def all_that_is_owed_can_be_read(self) -> None:
        if hasattr(self, "life"):
            told = {uid: self.life.told[number] for uid, number in self.numbers.items()}
            found = JournalPacks(self.life.folder).entries(list(told.values()))
            assert {uid: bytes(e.data) for uid, e in zip(told, found, strict=True)} == self.owed

    def teardown(self) -> None:
        with suppress(AttributeError):
            self.life.die()
        self.place.cleanup()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
