"""A sender that costs little: messages laid out beforehand, plain sockets, one process for each association."""

from __future__ import annotations

import multiprocessing
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.dicom_peers import LOOPBACK, RELEASE, associate_rq, p_data, read_pdu, store_rq
from tests.load.processes import family_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FORK: Final = multiprocessing.get_context("fork")
_WAIT_S: Final = 120
_FRAGMENT_HEADER: Final = 6
_MAXIMUM_LENGTH: Final = bytes.fromhex("51000004")
_SUCCESS: Final = struct.pack("<HHLH", 0, 0x0900, 2, 0)


@dataclass(frozen=True, slots=True)
class Sent:
    """How fast objects were taken, how long each took, and the CPU time of both sides for each object."""

    per_second: float
    times_ms: tuple[float, ...]
    sender_cpu_ms: float
    receiver_cpu_ms: float


def send(objects: Mapping[str, bytes], *, port: int, called: str, associations: int, pid: int) -> Sent:
    """Store all objects, spread over so many associations at once; fails where one is not stored.

    `pid` is the receiver's process.
    """
    uids = list(objects)
    start = _FORK.Barrier(associations)
    results = _FORK.SimpleQueue()
    senders = [
        _FORK.Process(
            target=_send_share, args=([(u, objects[u]) for u in uids[k::associations]], port, called, start, results)
        )
        for k in range(associations)
    ]
    before_s = family_s(pid)
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(_WAIT_S)
    assert all(sender.exitcode == 0 for sender in senders), "an object was not stored"
    began, ended, cpu_s, times_ms = zip(*(results.get() for _ in senders), strict=True)
    return Sent(
        len(objects) / (max(ended) - min(began)),
        tuple(ms for times in times_ms for ms in times),
        sum(cpu_s) * 1e3 / len(objects),
        (family_s(pid) - before_s) * 1e3 / len(objects),
    )


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
        began, cpu_s, times_ms = time.monotonic(), time.process_time(), []
        for message in messages:
            sent = time.monotonic()
            connection.sendall(message)
            _, answer = read_pdu(connection)
            times_ms.append((time.monotonic() - sent) * 1e3)
            assert _SUCCESS in answer
        results.put((began, time.monotonic(), time.process_time() - cpu_s, times_ms))
        connection.sendall(RELEASE)
        read_pdu(connection)


def _message(uid: str, data_set: bytes, longest: int) -> bytes:
    """A C-STORE request as it goes over the wire, in fragments as long as the peer takes."""
    fragments = [
        p_data(2 if at + longest >= len(data_set) else 0, data_set[at : at + longest])
        for at in range(0, len(data_set), longest)
    ]
    return b"".join((p_data(3, store_rq(uid, data_set_type=0)), *fragments))
