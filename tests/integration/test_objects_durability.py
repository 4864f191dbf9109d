"""Bytes that were acknowledged survive: the order of system calls, failing ones, and a kill at each of them (I1)."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.store.objects import DirectoryObjects

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = b"bytes of an object " * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
STEPS = ("write", "fsync", "rename", "fsync")
STORE = f"""
import os, pathlib, sys
from orchestrator.store.objects import DirectoryObjects
from orchestrator.domain.errors import Broken
objects = DirectoryObjects(pathlib.Path(sys.argv[1]))
os.write(1, b"ready ")
writer = objects.begin()
try:
    writer.write({DATA!r})
    answer = writer.commit().digest
except Broken as error:
    writer.discard()
    answer = error.code
os.write(1, answer.encode())
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "objects"


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def lies_in(folder: Path) -> Path:
    return folder / DIGEST[:2] / DIGEST


def store(folder: Path, data: bytes = DATA) -> str:
    writer = DirectoryObjects(folder).begin()
    try:
        writer.write(data)
        return writer.commit().digest
    finally:
        writer.discard()


# as the kernel sees it


@pytest.fixture
def strace():
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    if subprocess.run([path, "-qq", "-e", "trace=fsync", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    return path


def traced(strace: str, folder: Path, *options: str) -> tuple[list[str], list[str], list[str]]:
    """What a process says that stores one object, and its calls before and after it said that it was ready."""
    log = folder.parent / "calls"
    watched = ("-f", "-y", "-qq", "-o", str(log), "-e", "trace=write,fsync,fdatasync,/rename,/mkdir")
    run = subprocess.run(
        [strace, *watched, *options, sys.executable, "-c", STORE, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = [line.split(maxsplit=1)[1] for line in log.read_text().splitlines()]
    ready = next(n for n, line in enumerate(lines) if '"ready "' in line)
    return run.stdout.split(), lines[: ready + 1], lines[ready + 1 :]


def fault_at(strace: str, folder: Path, position: int, fault: str) -> str:
    """The option that makes one of the four calls fail, counted on a run without a fault."""
    _, before, after = traced(strace, folder)
    lies_in(folder).unlink()
    name = STEPS[position]
    count = sum(line.startswith(f"{name}(") for line in before + after[: position + 1])
    return f"inject={name}:{fault}:when={count}"


def test_the_order_is_write_then_fsync_then_rename_then_fsync_of_the_folder(strace, folder):
    said, _, calls = traced(strace, folder)
    assert said == ["ready", DIGEST]
    *calls, _answer = calls
    assert [call.partition("(")[0] for call in calls] == list(STEPS)
    written, synced, renamed, folder_synced = calls
    incoming = re.search(r"<([^>]*/incoming/\w+)>", written)[1]
    assert f"<{incoming}>" in synced
    assert f'rename("{incoming}", "{lies_in(folder)}")' in renamed
    assert f"<{lies_in(folder).parent}>" in folder_synced


def test_every_folder_an_object_may_lie_in_is_durable_before_the_first_object_comes(strace, folder):
    _, before, _ = traced(strace, folder)
    made = [n for n, call in enumerate(before) if "mkdir" in call and str(folder) in call]
    synced = [n for n, call in enumerate(before) if call.startswith("fsync(") and f"<{folder}>" in call]
    assert len(made) >= 256
    assert max(made) < min(synced)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_call_that_fails_before_the_object_has_its_name_leaves_nothing(strace, folder, position):
    fault = fault_at(strace, folder, position, "error=EIO")
    said, _, _ = traced(strace, folder, "-e", fault)
    assert said == ["ready", Fault.STORE_FAILED.code]
    assert files(folder) == []


def test_a_folder_that_cannot_be_synced_is_no_success(strace, folder):
    said, _, _ = traced(strace, folder, "-e", fault_at(strace, folder, 3, "error=EIO"))
    assert said == ["ready", Fault.STORE_FAILED.code]
    assert not list((folder / "incoming").iterdir())


@pytest.mark.parametrize("position", range(len(STEPS)))
def test_a_kill_at_any_call_leaves_the_object_whole_or_not_there(strace, folder, position):
    said, _, _ = traced(strace, folder, "-e", fault_at(strace, folder, position, "signal=KILL"))
    assert said == ["ready"]
    assert lies_in(folder).exists() == (position == len(STEPS) - 1)
    DirectoryObjects(folder).sweep(0)
    assert set(files(folder)) <= {lies_in(folder).relative_to(folder).as_posix()}
    if lies_in(folder).exists():
        assert DirectoryObjects(folder).read(DIGEST) == DATA
    assert store(folder) == DIGEST


# without a tracer


class Calls:
    """Notes every fsync and rename, and lets the fsync of a given number fail as a dying disk does."""

    def __init__(self, monkeypatch) -> None:
        self.made: list[tuple[str, str]] = []
        self.failing = 0
        self._fsync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self._note_fsync)
        monkeypatch.setattr(os, "rename", self._note_rename)

    def _note_fsync(self, handle: int) -> None:
        self.made.append(("fsync", Path(f"/proc/self/fd/{handle}").readlink().name))
        if self.failing == len([name for name, _ in self.made if name == "fsync"]):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(handle)

    def _note_rename(self, source: Path, target: Path) -> None:
        self.made.append(("rename", Path(target).name))
        self._rename(source, target)


def test_the_file_is_synced_before_it_gets_its_name_and_its_folder_after(folder, monkeypatch):
    objects = DirectoryObjects(folder)
    calls = Calls(monkeypatch)
    writer = objects.begin()
    (incoming,) = (folder / "incoming").iterdir()
    writer.write(DATA)
    writer.commit()
    assert calls.made == [("fsync", incoming.name), ("rename", DIGEST), ("fsync", DIGEST[:2])]


@pytest.mark.parametrize(
    ("failing", "left"), [(1, []), (2, [f"{DIGEST[:2]}/{DIGEST}"])], ids=["the file", "the folder"]
)
def test_a_failing_fsync_is_no_success_and_is_not_tried_again(folder, monkeypatch, failing, left):
    objects = DirectoryObjects(folder)
    calls = Calls(monkeypatch)
    calls.failing = failing
    writer = objects.begin()
    writer.write(DATA)
    with pytest.raises(Broken) as refusal:
        writer.commit()
    assert refusal.value.fault is Fault.STORE_FAILED
    assert [name for name, _ in calls.made].count("fsync") == failing
    assert files(folder) == left


OTHERS = [f"object {n}".encode() for n in range(5)]


def names_of(objects: list[bytes]) -> list[str]:
    return [hashlib.sha256(data).hexdigest() for data in objects]


def test_many_at_once_are_all_synced_before_the_first_gets_its_name_and_their_folders_after(folder, monkeypatch):
    objects = DirectoryObjects(folder)
    calls = Calls(monkeypatch)
    stored = objects.keep_all(memoryview(data) for data in OTHERS)
    names = names_of(OTHERS)
    assert [(one.digest, one.size) for one in stored] == [(n, len(d)) for n, d in zip(names, OTHERS, strict=True)]
    kinds = [kind for kind, _ in calls.made]
    assert kinds == ["fsync"] * 5 + ["rename"] * 5 + ["fsync"] * 5
    assert [name for kind, name in calls.made if kind == "rename"] == names
    assert {name for _, name in calls.made[10:]} == {name[:2] for name in names}
    assert files(folder) == sorted(f"{name[:2]}/{name}" for name in names)


@pytest.mark.parametrize("failing", range(1, 11))
def test_of_many_at_once_none_is_a_success_when_one_sync_fails_and_nothing_half_done_is_left(
    folder, monkeypatch, failing
):
    objects = DirectoryObjects(folder)
    calls = Calls(monkeypatch)
    calls.failing = failing
    with pytest.raises(Broken) as refusal:
        objects.keep_all(memoryview(data) for data in OTHERS)
    assert refusal.value.fault is Fault.STORE_FAILED
    assert len(files(folder)) == (0 if failing <= 5 else 5)
    assert not list((folder / "incoming").iterdir())
    calls.failing = 0
    assert [one.digest for one in objects.keep_all(map(memoryview, OTHERS))] == names_of(OTHERS)


def test_many_at_once_may_be_none_or_the_same_bytes(folder):
    objects = DirectoryObjects(folder)
    assert objects.keep_all([]) == []
    first, second = objects.keep_all([memoryview(DATA), memoryview(DATA)])
    assert first == second
    assert objects.read(first.digest) == DATA
    (empty,) = objects.keep_all([memoryview(b"")])
    assert objects.read(empty.digest) == b""


def test_whoever_has_the_bytes_of_many_may_fail_to_give_them(folder):
    objects = DirectoryObjects(folder)

    def given() -> Iterator[memoryview]:
        yield memoryview(DATA)
        raise OSError(errno.EIO, "the reader's own fault")

    with pytest.raises(OSError, match="the reader's own"):
        objects.keep_all(given())
    assert files(folder) == []


def test_a_disk_that_breaks_down_while_it_says_yes_to_a_sync_is_no_success(folder, monkeypatch):
    """As ext4 does; see `confirm`."""

    def broken(*_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "posix_fallocate", broken)
    objects = DirectoryObjects(folder)
    for attempt in (lambda: store(folder), lambda: objects.keep_all([memoryview(b""), memoryview(DATA)])):
        with pytest.raises(Broken) as refusal:
            attempt()
        assert refusal.value.fault is Fault.STORE_FAILED


def test_an_object_without_a_byte_stays_so(folder):
    assert DirectoryObjects(folder).read(store(folder, b"")) == b""


def test_bytes_acknowledged_before_stay_when_the_same_bytes_fail_to_be_stored_again(folder, monkeypatch):
    store(folder)
    objects = DirectoryObjects(folder)
    calls = Calls(monkeypatch)
    calls.failing = 2
    writer = objects.begin()
    writer.write(DATA)
    with pytest.raises(Broken):
        writer.commit()
    assert objects.read(DIGEST) == DATA


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Writes beyond this size of a file fail, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100_000, 5_000_000], ids=["found at the commit", "found while writing"])
def test_a_full_disk_is_told_as_a_refusal_and_forgotten_once_there_is_room(folder, size):
    data = bytes(size)
    with files_up_to(50_000), pytest.raises(Transient) as refusal:
        store(folder, data)
    assert refusal.value.fault is Fault.STORAGE_LOW
    assert files(folder) == []
    assert DirectoryObjects(folder).read(store(folder, data)) == data


def test_too_few_descriptors_are_told_as_a_refusal(folder):
    objects = DirectoryObjects(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(Broken) as refusal:
            objects.begin()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refusal.value.fault is Fault.STORE_FAILED


@pytest.mark.parametrize("ask", ["read", "path"])
def test_bytes_the_disk_does_not_give_back_are_told_as_damaged(folder, ask):
    objects = DirectoryObjects(folder)
    lies_in(folder).symlink_to("/proc/self/mem")
    with pytest.raises(Broken) as refusal:
        getattr(objects, ask)(DIGEST)
    assert refusal.value.fault is Fault.OBJECT_DAMAGED


# what is left behind, and what is removed


def age(path: Path, seconds: float) -> None:
    """As if it had been written so long ago."""
    written = path.stat().st_mtime - seconds
    os.utime(path, (written, written))


def test_what_dead_writers_left_is_swept_after_a_minute_and_objects_stay(folder):
    store(folder)
    for name in ("left", "begun", "lately"):
        (folder / "incoming" / name).write_bytes(b"half")
    age(folder / "incoming" / "left", 61)
    age(folder / "incoming" / "begun", 3600)
    age(lies_in(folder), 3600)
    assert DirectoryObjects(folder).sweep() == 2
    assert files(folder) == [f"{DIGEST[:2]}/{DIGEST}", "incoming/lately"]


def test_a_writer_that_is_slow_is_not_swept_and_one_that_was_killed_is(folder):
    objects = DirectoryObjects(folder)
    slow = objects.begin()
    killed = f"{STORE.partition('try:')[0]}\nwriter.write(b'half'); os.write(1, b'begun'); os.kill(os.getpid(), 9)"
    ran = subprocess.run([sys.executable, "-c", killed, str(folder)], capture_output=True, check=False)
    assert ran.stdout == b"ready begun"
    left = list((folder / "incoming").iterdir())
    for path in left:
        age(path, 3600)
    assert len(left) == 2
    assert DirectoryObjects(folder).sweep() == 1
    slow.write(b"whole")
    assert objects.read(slow.commit().digest) == b"whole"


def test_only_what_is_older_than_asked_for_is_listed(folder):
    objects = DirectoryObjects(folder)
    store(folder)
    age(lies_in(folder), 3599)
    assert objects.old(DIGEST[:2], 3600) == {}
    age(lies_in(folder), 2)
    assert list(objects.old(DIGEST[:2], 3600)) == [DIGEST]


def test_bytes_stored_again_are_young_again(folder):
    objects = DirectoryObjects(folder)
    store(folder)
    age(lies_in(folder), 9999)
    store(folder)
    assert objects.old(DIGEST[:2], 3600) == {}


@pytest.mark.parametrize("ask", ["holds", "read", "path", "old"])
def test_what_a_sweeper_that_died_had_in_hand_is_there_again_for_whoever_asks(folder, ask):
    store(folder)
    lies_in(folder).rename(folder / "leaving" / DIGEST)
    objects = DirectoryObjects(folder)
    assert objects.old(DIGEST[:2], 0) if ask == "old" else getattr(objects, ask)(DIGEST)
    assert files(folder) == [f"{DIGEST[:2]}/{DIGEST}"]


def test_what_a_sweeper_that_died_had_in_hand_takes_no_newer_ones_place(folder):
    store(folder)
    lies_in(folder).rename(folder / "leaving" / DIGEST)
    age(folder / "leaving" / DIGEST, 9999)
    store(folder)
    assert DirectoryObjects(folder).old(DIGEST[:2], 3600) == {}
    assert files(folder) == [f"{DIGEST[:2]}/{DIGEST}"]


@pytest.mark.parametrize("call", ["rename", "unlink"])
def test_a_sweeper_killed_at_any_call_leaves_the_object_whole_or_not_there(strace, folder, call):
    store(folder)
    remove = (
        "import pathlib, sys; from orchestrator.store.objects import DirectoryObjects as Objects;"
        f"objects = Objects(pathlib.Path(sys.argv[1])); found = objects.old({DIGEST[:2]!r}, 0);"
        f"print('ready', flush=True); print(objects.remove({DIGEST!r}, found[{DIGEST!r}]))"
    )
    killing = ("-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when=1")
    ran = subprocess.run(
        [strace, *killing, sys.executable, "-c", remove, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.stdout.split() == ["ready"]
    objects = DirectoryObjects(folder)
    stamp = objects.old(DIGEST[:2], 0).get(DIGEST)
    assert stamp is None or objects.read(DIGEST) == DATA
    assert stamp is None or objects.remove(DIGEST, stamp)
    assert files(folder) == []


def test_what_is_written_while_its_elder_is_removed_stays(folder, monkeypatch):
    objects = DirectoryObjects(folder)
    store(folder)
    stamp = objects.old(DIGEST[:2], 0)[DIGEST]
    unlink = os.unlink

    def store_first(path, *arguments, **given):
        monkeypatch.setattr(os, "unlink", unlink)
        store(folder)
        unlink(path, *arguments, **given)

    monkeypatch.setattr(os, "unlink", store_first)
    assert objects.remove(DIGEST, stamp)
    assert objects.read(DIGEST) == DATA
    assert objects.old(DIGEST[:2], 0)[DIGEST] != stamp


def test_a_disk_that_can_hold_no_more_files_has_no_room(folder, monkeypatch):
    objects = DirectoryObjects(folder)
    assert objects.free_bytes() > 0
    state = list(os.statvfs(folder))
    state[5:8] = [1_000_000, 100, 100]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(state))
    assert objects.free_bytes() == 0
