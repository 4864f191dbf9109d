"""What the ports `Objects` and `Shelves` promise, on the fake, on the directory and on a bucket."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import Broken, Fault
from orchestrator.keeping import StoredObject
from orchestrator.store.bucket import BucketObjects
from orchestrator.store.objects import DirectoryObjects
from tests.fakes.objects import MemoryObjects
from tests.servers.s3 import KEY_ID, REGION, SECRET, s3_server


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3):
    return s3.new_bucket()


@pytest.fixture(params=["fake", "directory", "bucket"])
def objects(request, tmp_path):
    if request.param == "fake":
        return MemoryObjects(tmp_path)
    if request.param == "directory":
        return DirectoryObjects(tmp_path / "objects")
    bucket = request.getfixturevalue("bucket")
    return BucketObjects(
        bucket.url,
        tmp_path,
        cache_bytes=1 << 20,
        endpoint=bucket.endpoint,
        region=REGION,
        key_id=KEY_ID,
        secret=SECRET,
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def keep(objects, *parts: bytes) -> StoredObject:
    writer = objects.begin()
    for part in parts:
        writer.write(part)
    return writer.commit()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_what_is_committed_is_named_by_its_content_and_read_back_whole(objects, parts):
    data = b"".join(parts)
    assert keep(objects, *parts) == StoredObject(sha256(data), len(data))
    assert objects.read(sha256(data)) == data
    assert Path(objects.path(sha256(data))).read_bytes() == data


def test_more_than_a_buffer_is_kept_whole(objects):
    part = bytes(range(256)) * 1024
    stored = keep(objects, *[part] * 20)
    assert stored.size == 20 * len(part)
    assert objects.read(stored.digest) == part * 20


def test_an_object_is_there_for_others_only_once_it_is_committed(objects):
    writer = objects.begin()
    writer.write(b"half")
    with pytest.raises(Broken) as refusal:
        objects.read(sha256(b"half"))
    assert refusal.value.fault is Fault.NOT_FOUND
    assert objects.read(writer.commit().digest) == b"half"


def test_a_discarded_object_leaves_nothing(objects):
    writer = objects.begin()
    writer.write(b"unwanted")
    writer.discard()
    writer.discard()
    with pytest.raises(Broken):
        objects.path(sha256(b"unwanted"))


def test_discarding_after_the_commit_is_harmless(objects):
    writer = objects.begin()
    writer.write(b"kept")
    digest = writer.commit().digest
    writer.discard()
    assert objects.read(digest) == b"kept"


def test_the_same_bytes_twice_are_one_object(objects):
    assert keep(objects, b"twice") == keep(objects, b"tw", b"ice")
    assert objects.read(sha256(b"twice")) == b"twice"


def test_two_writers_at_once_do_not_mix(objects):
    first, second = objects.begin(), objects.begin()
    first.write(b"a")
    second.write(b"b")
    first.write(b"a")
    assert objects.read(second.commit().digest) == b"b"
    assert objects.read(first.commit().digest) == b"aa"


@pytest.mark.parametrize("ask", ["read", "path"])
@pytest.mark.parametrize(
    "digest",
    ["", "../x", "../../etc/passwd", "0" * 64, "/" + "0" * 63, "..", "0" * 63, "0" * 65, "a\0" + "0" * 62, "incoming"],
)
def test_what_is_no_digest_of_a_stored_object_is_not_found(objects, ask, digest):
    with pytest.raises(Broken) as refusal:
        getattr(objects, ask)(digest)
    assert refusal.value.fault is Fault.NOT_FOUND


def damage(objects, digest: str, request) -> None:
    if isinstance(objects, MemoryObjects):
        objects.damage(digest)
    elif isinstance(objects, DirectoryObjects):
        Path(objects.path(digest)).write_bytes(b"true bytez")
    else:
        request.getfixturevalue("bucket").overwrite(digest, b"true bytez")
        Path(objects.path(digest)).unlink()


@pytest.mark.parametrize("ask", ["read", "path"])
def test_bytes_that_changed_are_noticed(objects, ask, request):
    digest = keep(objects, b"true bytes").digest
    damage(objects, digest, request)
    with pytest.raises(Broken) as refusal:
        getattr(objects, ask)(digest)
    assert refusal.value.fault is Fault.OBJECT_DAMAGED


def test_writing_the_bytes_again_mends_what_was_damaged(objects, request):
    digest = keep(objects, b"true bytes").digest
    damage(objects, digest, request)
    keep(objects, b"true bytes")
    assert objects.read(digest) == b"true bytes"


def test_the_room_left_is_told_in_bytes(objects):
    assert objects.free_bytes() > 1 << 20


def test_an_object_is_held_from_its_commit_on(objects):
    writer = objects.begin()
    writer.write(b"half")
    assert not objects.holds(sha256(b"half"))
    writer.commit()
    assert objects.holds(sha256(b"half"))


@pytest.mark.parametrize("digest", ["", "../x", "incoming", "0" * 64, "A" * 64])
def test_what_is_no_digest_of_a_stored_object_is_not_held(objects, digest):
    assert not objects.holds(digest)


# what a sweeper sees and does


def stamp_of(objects, digest: str) -> str:
    return objects.old(digest[:2], 0)[digest]


def test_an_object_is_on_the_shelf_of_its_first_two_digits(objects):
    digests = [keep(objects, bytes([n])).digest for n in range(20)]
    shelves = {f"{n:02x}": objects.old(f"{n:02x}", 0) for n in range(256)}
    assert sorted(d for found in shelves.values() for d in found) == sorted(digests)
    assert all(digest.startswith(shelf) for shelf, found in shelves.items() for digest in found)


def test_what_was_written_lately_is_not_old(objects):
    digest = keep(objects, b"young").digest
    assert objects.old(digest[:2], 3600) == {}


def test_an_unfinished_object_is_on_no_shelf(objects):
    writer = objects.begin()
    writer.write(b"half")
    assert objects.old(sha256(b"half")[:2], 0) == {}
    writer.discard()


def test_what_is_removed_is_gone_and_the_rest_stays(objects):
    kept, removed = keep(objects, b"kept").digest, keep(objects, b"removed").digest
    stamp = stamp_of(objects, removed)
    assert objects.remove(removed, stamp)
    assert not objects.holds(removed)
    with pytest.raises(Broken) as refusal:
        objects.read(removed)
    assert refusal.value.fault is Fault.NOT_FOUND
    assert objects.read(kept) == b"kept"
    assert not objects.remove(removed, stamp)


def test_what_was_written_again_since_it_was_looked_at_is_not_removed(objects):
    digest = keep(objects, b"bytes").digest
    stamp = stamp_of(objects, digest)
    while stamp_of(objects, digest) == stamp:
        keep(objects, b"bytes")
    assert not objects.remove(digest, stamp)
    assert objects.holds(digest)
    assert objects.read(digest) == b"bytes"
    assert objects.remove(digest, stamp_of(objects, digest))


def test_what_was_removed_can_be_stored_again(objects):
    digest = keep(objects, b"bytes").digest
    objects.remove(digest, stamp_of(objects, digest))
    assert keep(objects, b"bytes").digest == digest
    assert objects.read(digest) == b"bytes"


def test_a_sweep_leaves_those_who_still_write_alone(objects):
    writer = objects.begin()
    writer.write(b"slow")
    assert objects.sweep(0) == 0
    assert objects.read(writer.commit().digest) == b"slow"
