"""A sender that costs little: messages laid out beforehand, plain sockets, one process for each association."""

from __future__ import annotations

import multiprocessing
import socket
import struct
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from tests.dicom_peers import LOOPBACK, RELEASE, associate_rq, data_set_of, p_data, read_pdu, store_rq
from tests.synthetic import uid, write_series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORK: Final = multiprocessing.get_context("fork")
_WAIT_S: Final = 120
_FRAGMENT_HEADER: Final = 6
_MAXIMUM_LENGTH: Final = bytes.fromhex("51000004")
_SUCCESS: Final = struct.pack("<HHLH", 0, 0x0900, 2, 0)


@dataclass(frozen=True, slots=True)
class Sent:
    """How fast objects were taken, and what sending them cost: CPU time of all senders for each object."""

    per_second: float
    cpu_ms: float


def slices(name: str, count: int) -> dict[str, bytes]:
    """Data sets of CT images of 512 x 512 x 16 bit by SOP Instance UID: one series of a new study."""
    first = _slice()
    made = {}
    for number in range(count):
        data_set = first
        for what in ("study", "series", "frame"):
            data_set = data_set.replace(uid(what).encode(), _as_long(uid(what), what, name))
        own = _as_long(uid("instance", "0"), "instance", name, str(number))
        made[own.decode()] = data_set.replace(uid("instance", "0").encode(), own)
    return made


@cache
def _slice() -> bytes:
    with TemporaryDirectory() as folder:
        (path,) = write_series(Path(folder), shape=(1, 512, 512))
        return data_set_of(Path(path))


def _as_long(old: str, *parts: str) -> bytes:
    """Another UID with the length of the old one, so that no length in the data set changes."""
    return uid(*parts).ljust(len(old), "0")[: len(old)].encode()


def send(objects: Mapping[str, bytes], *, port: int, called: str, associations: int) -> Sent:
    """Store all objects, spread over so many associations at once; fails where one is not stored."""
    uids = list(objects)
    start = _FORK.Barrier(associations)
    results = _FORK.SimpleQueue()
    senders = [
        _FORK.Process(
            target=_send_share, args=([(u, objects[u]) for u in uids[k::associations]], port, called, start, results)
        )
        for k in range(associations)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(_WAIT_S)
    assert all(sender.exitcode == 0 for sender in senders), "an object was not stored"
    began, ended, cpu_s = zip(*(results.get() for _ in senders), strict=True)
    return Sent(len(objects) / (max(ended) - min(began)), sum(cpu_s) * 1e3 / len(objects))


def _send_share(share: Sequence[tuple[str, bytes]], port: int, called: str, start: Any, results: Any) -> None:
    with socket.create_connection((LOOPBACK, port), timeout=_WAIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_rq(called, calling="TENDON"))
        kind, body = read_pdu(connection)
        assert kind == 2, "the association was not accepted"
        at = body.index(_MAXIMUM_LENGTH) + len(_MAXIMUM_LENGTH)
        longest = int.from_bytes(body[at : at + 4], "big") - _FRAGMENT_HEADER
        messages = [_message(uid, data_set, longest) for uid, data_set in share]
        start.wait()
        began, cpu_s = time.monotonic(), time.process_time()
        for message in messages:
            connection.sendall(message)
            _, answer = read_pdu(connection)
            assert _SUCCESS in answer
        results.put((began, time.monotonic(), time.process_time() - cpu_s))
        connection.sendall(RELEASE)
        read_pdu(connection)


def _message(uid: str, data_set: bytes, longest: int) -> bytes:
    """A C-STORE request as it goes over the wire, in fragments as long as the peer takes."""
    fragments = [
        p_data(2 if at + longest >= len(data_set) else 0, data_set[at : at + longest])
        for at in range(0, len(data_set), longest)
    ]
    return b"".join((p_data(3, store_rq(uid, data_set_type=0)), *fragments))
