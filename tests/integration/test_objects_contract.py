"""What the port `Objects` promises, on the fake and on the directory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import Broken, Fault
from orchestrator.ports import StoredObject
from orchestrator.store.objects import DirectoryObjects
from tests.fakes.objects import MemoryObjects


@pytest.fixture(params=["fake", "directory"])
def objects(request, tmp_path):
    return MemoryObjects(tmp_path) if request.param == "fake" else DirectoryObjects(tmp_path / "objects")


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


@pytest.mark.parametrize("ask", ["read", "path"])
def test_bytes_that_changed_are_noticed(objects, ask):
    digest = keep(objects, b"true bytes").digest
    if isinstance(objects, MemoryObjects):
        objects.damage(digest)
    else:
        Path(objects.path(digest)).write_bytes(b"true bytez")
    with pytest.raises(Broken) as refusal:
        getattr(objects, ask)(digest)
    assert refusal.value.fault is Fault.OBJECT_DAMAGED


def test_the_room_left_is_told_in_bytes(objects):
    assert objects.free_bytes() > 1 << 20
