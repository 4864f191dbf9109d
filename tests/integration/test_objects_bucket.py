"""Objects in a bucket when the way to it fails, and what is kept nearby; an independent client sees the bucket."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.store.bucket import BucketObjects
from orchestrator.store.cache import IN_USE_S, LONGEST_UNUSED_S, FileCache
from tests.servers.s3 import KEY_ID, REGION, SECRET, s3_server
from tests.servers.wire import wire_to

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3):
    return s3.new_bucket()


@pytest.fixture
def wire(s3):
    with wire_to(s3.port) as wire:
        yield wire


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def opened(bucket, folder: Path, port: int | None = None, **given) -> BucketObjects:
    facts = {"endpoint": f"http://127.0.0.1:{port or bucket.port}", "cache_bytes": 100 * MIB}
    return BucketObjects(bucket.url, folder, region=REGION, key_id=KEY_ID, secret=SECRET, **facts | given)


def keep(objects: BucketObjects, data: bytes) -> str:
    writer = objects.begin()
    try:
        writer.write(data)
        return writer.commit().digest
    finally:
        writer.discard()


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def patterned(mib: int) -> bytes:
    return b"".join(n.to_bytes(4, "big") * (MIB // 4) for n in range(mib))


def without_cache(folder: Path) -> None:
    for path in (folder / "cache").rglob("*"):
        if path.is_file():
            path.unlink()


# what the bucket holds


def test_an_object_is_one_key_named_by_its_content_with_the_bytes_as_they_are(bucket, tmp_path):
    digest = keep(opened(bucket, tmp_path), b"as received")
    assert bucket.keys() == [bucket.key(digest)]
    assert bucket.bytes_of(digest) == b"as received"


def test_a_large_object_goes_in_parts_and_comes_back_whole(bucket, tmp_path):
    data = patterned(23)
    digest = keep(opened(bucket, tmp_path / "sender"), data)
    head = bucket.client.head_object(Bucket=bucket.name, Key=bucket.key(digest))
    assert head["ETag"].strip('"').endswith("-5")
    assert opened(bucket, tmp_path / "receiver").read(digest) == data


def test_memory_does_not_grow_with_the_object(bucket, tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from orchestrator.store.bucket import BucketObjects\n"
        f"objects = BucketObjects({bucket.url!r}, Path(sys.argv[1]), cache_bytes=0, endpoint={bucket.endpoint!r},"
        f" region={REGION!r}, key_id={KEY_ID!r}, secret={SECRET!r})\n"
        "def keep(mib):\n"
        "    writer = objects.begin()\n"
        "    for n in range(mib): writer.write(bytes([n]) * 1048576)\n"
        "    return objects.path(writer.commit().digest)\n"
        "keep(25); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "keep(90); print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 40, "MiB"


def test_what_dead_writers_left_nearby_is_swept_when_the_next_process_begins(bucket, tmp_path):
    objects = opened(bucket, tmp_path)
    writer = objects.begin()
    (tmp_path / "incoming" / "left").write_bytes(b"half")
    for path in (tmp_path / "incoming").iterdir():
        unused_for(path, 61)
    opened(bucket, tmp_path)
    assert not (tmp_path / "incoming" / "left").exists()
    writer.write(b"whole")
    assert bucket.bytes_of(writer.commit().digest) == b"whole"


# when the way to the bucket fails


def test_a_way_cut_in_mid_upload_is_no_success_and_leaves_nothing_to_be_seen(bucket, tmp_path, wire):
    objects = opened(bucket, tmp_path, wire.port, patience_s=1.0)
    wire.sent = 7 * MIB
    with pytest.raises(Transient) as refusal:
        keep(objects, patterned(20))
    assert refusal.value.fault is Fault.OBJECTS_UNREACHABLE
    assert bucket.keys() == []
    assert files(tmp_path) == []
    wire.mend()
    assert bucket.bytes_of(keep(opened(bucket, tmp_path, wire.port), patterned(20))) == patterned(20)


@pytest.mark.parametrize("size", [1, 9 * MIB], ids=["in one piece", "in parts"])
def test_a_bucket_that_falls_silent_is_given_up(bucket, tmp_path, wire, size):
    objects = opened(bucket, tmp_path, wire.port, patience_s=1.0)
    wire.is_silent, wire.answered = True, 0
    with pytest.raises(Transient) as refusal:
        keep(objects, bytes(size))
    assert refusal.value.fault is Fault.OBJECTS_UNREACHABLE
    assert files(tmp_path) == []


def test_an_answer_that_is_lost_is_no_success_and_the_same_bytes_may_come_again(bucket, tmp_path, wire):
    objects = opened(bucket, tmp_path, wire.port, patience_s=1.0)
    wire.answered = 0
    with pytest.raises(Transient):
        keep(objects, b"bytes")
    assert bucket.keys() == [bucket.key(sha256(b"bytes"))], "the bucket has them, and only the answer was lost"
    wire.mend()
    assert keep(objects, b"bytes") == sha256(b"bytes")
    assert objects.read(sha256(b"bytes")) == b"bytes"


@pytest.mark.parametrize("ask", ["read", "path", "holds", "old", "remove"])
def test_a_bucket_that_does_not_answer_may_be_asked_again(bucket, tmp_path, wire, ask):
    objects = opened(bucket, tmp_path, wire.port, patience_s=1.0)
    digest = keep(objects, b"bytes")
    without_cache(tmp_path)
    stamp = objects.old(digest[:2], 0)[digest]
    arguments = {"old": (digest[:2], 0), "remove": (digest, stamp)}.get(ask, (digest,))
    wire.sent = 0
    with pytest.raises(Transient) as failure:
        getattr(objects, ask)(*arguments)
    assert failure.value.fault is Fault.OBJECTS_UNREACHABLE
    wire.mend()
    assert getattr(objects, ask)(*arguments)


def test_a_way_cut_in_mid_download_leaves_nothing_half(bucket, tmp_path, wire):
    data = patterned(20)
    digest = keep(opened(bucket, tmp_path / "sender"), data)
    objects = opened(bucket, tmp_path / "receiver", wire.port, patience_s=1.0)
    wire.answered = 7 * MIB
    with pytest.raises(Transient) as failure:
        objects.path(digest)
    assert failure.value.fault is Fault.OBJECTS_UNREACHABLE
    assert files(tmp_path / "receiver") == []
    wire.mend()
    assert Path(objects.path(digest)).read_bytes() == data


def test_what_is_kept_nearby_is_there_while_the_bucket_is_not(bucket, tmp_path, wire):
    objects = opened(bucket, tmp_path, wire.port, patience_s=1.0)
    digest = keep(objects, b"bytes")
    wire.sent = 0
    assert objects.read(digest) == b"bytes"
    with pytest.raises(Transient):
        objects.holds(digest)


def test_a_bucket_that_is_not_there_is_told_by_its_own_code(bucket, tmp_path):
    bucket.client.delete_bucket(Bucket=bucket.name)
    objects = opened(bucket, tmp_path)
    with pytest.raises(Transient, match="NoSuchBucket") as refusal:
        keep(objects, b"bytes")
    assert refusal.value.fault is Fault.OBJECTS_UNREACHABLE
    with pytest.raises(Transient, match="NoSuchBucket") as failure:
        objects.read(sha256(b"bytes"))
    assert failure.value.fault is Fault.OBJECTS_UNREACHABLE


def test_an_error_tells_no_key_and_no_address(bucket, tmp_path, wire):
    wire.sent = 0
    with pytest.raises(Transient) as refusal:
        keep(opened(bucket, tmp_path, wire.port, patience_s=1.0), b"bytes")
    told = f"{refusal.value} {refusal.value.detail}"
    assert not any(word in told for word in (SECRET, bucket.name, "127.0.0.1", "Signature"))


def test_an_endpoint_of_https_is_never_asked_in_the_clear(bucket, tmp_path):
    objects = opened(bucket, tmp_path, endpoint=f"https://127.0.0.1:{bucket.port}", patience_s=1.0)
    with pytest.raises(Transient) as refusal:
        keep(objects, b"bytes")
    assert refusal.value.fault is Fault.OBJECTS_UNREACHABLE
    assert bucket.keys() == []


def test_a_full_disk_nearby_is_no_success_when_writing_and_may_pass_when_reading(bucket, tmp_path):
    digest = keep(opened(bucket, tmp_path / "sender"), bytes(MIB))
    objects = opened(bucket, tmp_path / "receiver")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(Transient) as refusal:
            keep(objects, bytes(MIB))
        with pytest.raises(Transient) as failure:
            objects.path(digest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (refusal.value.fault, failure.value.fault) == (Fault.STORAGE_LOW, Fault.STORAGE_LOW)
    assert files(tmp_path / "receiver") == []
    assert objects.read(digest) == bytes(MIB)


# bytes that changed


@pytest.mark.parametrize("wrong", [b"true bytez", b"true", b"", b"true bytes and more"])
def test_wrong_bytes_in_the_bucket_are_noticed_and_not_kept_nearby(bucket, tmp_path, wrong):
    digest = keep(opened(bucket, tmp_path / "sender"), b"true bytes")
    bucket.overwrite(digest, wrong)
    objects = opened(bucket, tmp_path / "receiver")
    for ask in (objects.read, objects.path):
        with pytest.raises(Broken) as refusal:
            ask(digest)
        assert refusal.value.fault is Fault.OBJECT_DAMAGED
    assert files(tmp_path / "receiver") == []


@pytest.mark.parametrize("ask", ["read", "path"])
def test_a_copy_that_was_damaged_is_fetched_again(bucket, tmp_path, ask):
    objects = opened(bucket, tmp_path)
    digest = keep(objects, b"true bytes")
    Path(objects.path(digest)).write_bytes(b"true bytez")
    found = getattr(objects, ask)(digest)
    assert (found if ask == "read" else Path(found).read_bytes()) == b"true bytes"


def test_what_is_removed_is_not_kept_nearby(bucket, tmp_path):
    objects = opened(bucket, tmp_path)
    digest = keep(objects, b"bytes")
    assert objects.remove(digest, objects.old(digest[:2], 0)[digest])
    assert files(tmp_path) == []
    assert not bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=bucket.key(digest))["KeyCount"]


# what is kept nearby


@pytest.fixture
def cache(tmp_path):
    return FileCache(tmp_path / "cache", capacity_bytes=3000)


def take_in(cache: FileCache, folder: Path, name: str, *, in_use: bool = True, size: int = 1000) -> Path:
    data = name.encode() * size
    temporary = folder / "temporary"
    temporary.write_bytes(data[:size])
    return cache.keep(temporary, sha256(data[:size]), in_use=in_use)


def unused_for(path: Path, seconds: float) -> None:
    used = path.stat().st_mtime - seconds
    os.utime(path, (used, used))


def test_the_longest_unused_leave_when_there_is_too_much(cache, tmp_path):
    paths = [take_in(cache, tmp_path, name) for name in "abc"]
    for path, hours in zip(paths, (3, 5, 2), strict=True):
        unused_for(path, hours * 3600)
    take_in(cache, tmp_path, "d")
    assert [path.exists() for path in paths] == [True, False, True]


def test_asking_for_a_file_makes_it_the_latest_used(cache, tmp_path):
    paths = [take_in(cache, tmp_path, name) for name in "abc"]
    for path, hours in zip(paths, (5, 4, 3), strict=True):
        unused_for(path, hours * 3600)
    assert cache.find(paths[0].name) == paths[0]
    take_in(cache, tmp_path, "d")
    assert [path.exists() for path in paths] == [True, False, True]


def test_what_was_asked_for_lately_stays_beyond_the_bound(cache, tmp_path):
    paths = [take_in(cache, tmp_path, name) for name in "abcdefgh"]
    assert all(path.exists() for path in paths)
    for path in paths:
        unused_for(path, IN_USE_S + 1)
    take_in(cache, tmp_path, "i")
    assert sum(path.exists() for path in paths) == 2


def test_what_is_only_passing_through_keeps_nothing_else_away(cache, tmp_path):
    used = take_in(cache, tmp_path, "a")
    passing = [take_in(cache, tmp_path, name, in_use=False) for name in "bcdefgh"]
    assert used.exists()
    assert sum(path.exists() for path in passing) <= 2


def test_what_passes_through_takes_no_place_from_a_file_in_use(cache, tmp_path):
    used = take_in(cache, tmp_path, "a")
    assert take_in(cache, tmp_path, "a", in_use=False) == used
    for name in "bcdefgh":
        take_in(cache, tmp_path, name)
    assert used.exists()


def test_nothing_is_kept_where_there_is_no_room_for_it(tmp_path):
    cache = FileCache(tmp_path / "cache", capacity_bytes=0)
    assert not take_in(cache, tmp_path, "a", in_use=False).exists()
    assert take_in(cache, tmp_path, "b").exists()
    assert files(tmp_path / "cache") == [f"{sha256(b'b' * 1000)[:2]}/{sha256(b'b' * 1000)}"]


def test_what_nobody_asked_for_in_a_day_leaves_though_there_is_room(cache, tmp_path):
    path = take_in(cache, tmp_path, "a")
    unused_for(path, LONGEST_UNUSED_S + 1)
    take_in(cache, tmp_path, "b")
    assert not path.exists()


def test_a_file_that_another_process_is_looking_at_stays(cache, tmp_path):
    path = take_in(cache, tmp_path, "a", size=3000)
    unused_for(path, 2 * IN_USE_S)
    with path.open("rb") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        take_in(cache, tmp_path, "b")
        assert path.exists()
    take_in(cache, tmp_path, "c")
    assert not path.exists()


def test_a_file_that_left_while_it_was_asked_for_is_not_found(cache, tmp_path):
    """Whoever lets go holds the lock until the file is gone; who waited for it must not take what it opened."""
    path = take_in(cache, tmp_path, "a")
    found: list[Path | None] = []
    with path.open("rb") as leaving:
        fcntl.flock(leaving, fcntl.LOCK_EX)
        asking = Thread(target=lambda: found.append(cache.find(path.name)))
        asking.start()
        while f":{path.stat().st_ino} " not in _waiting_for_locks():
            pass
        path.unlink()
    asking.join()
    assert found == [None]


def _waiting_for_locks() -> str:
    """Lines of /proc/locks of those who wait."""
    return "".join(line for line in Path("/proc/locks").read_text().splitlines(keepends=True) if "->" in line)


def test_processes_that_share_a_folder_fetch_at_the_same_time_and_leave_each_object_once(bucket, tmp_path):
    objects = opened(bucket, tmp_path / "sender")
    digests = [keep(objects, patterned(1)[:1000] + bytes([n])) for n in range(12)]
    folder = tmp_path / "shared"
    code = (
        "import random, sys; from pathlib import Path; from orchestrator.store.bucket import BucketObjects\n"
        f"objects = BucketObjects({bucket.url!r}, Path(sys.argv[1]), cache_bytes=2000, endpoint={bucket.endpoint!r},"
        f" region={REGION!r}, key_id={KEY_ID!r}, secret={SECRET!r})\n"
        "chosen = random.Random(int(sys.argv[2]))\n"
        "for _ in range(40):\n"
        "    assert len(Path(objects.path(chosen.choice(sys.argv[3:]))).read_bytes()) == 1001\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code, str(folder)]
    running = [
        subprocess.Popen([*command, str(n), *digests], env=environment, stderr=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    assert [process.communicate()[1] for process in running] == [""] * 3
    assert files(folder) == sorted(f"cache/{digest[:2]}/{digest}" for digest in digests)
