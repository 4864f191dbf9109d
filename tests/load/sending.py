"""Modalities: each study over an association of its own, several at a time, at the moments planned."""

from __future__ import annotations

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.dicom_peers import LOOPBACK, RELEASE, associate_rq, p_data, read_pdu, store_rq
from tests.house import MODALITY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.load.arrivals import Load, PlannedStudy
    from tests.load.studies import Template

SENDERS: Final = 4
_WAIT_S: Final = 60
_FRAGMENT: Final = 16_000
_SUCCESS: Final = struct.pack("<HHLH", 0, 0x0900, 2, 0)
_AGAIN_AFTER_S: Final = 2.0
"""A study sent twice and a late image follow so long after the end of the quiet time."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One association: when, and which objects."""

    at_s: float
    objects: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Sent:
    """How sending went: seconds it took in all, objects, and by how much the latest association was late."""

    took_s: float
    objects: int
    latest_s: float


def sendings(load: Load, planned: Sequence[PlannedStudy], template: Template, quiet_s: float) -> list[Sending]:
    """Every association of the load, in the order of time."""
    return sorted(
        (sending for study in planned for sending in _of_study(load, study, template, quiet_s)), key=lambda s: s.at_s
    )


def _of_study(load: Load, study: PlannedStudy, template: Template, quiet_s: float) -> Iterator[Sending]:
    objects = template.objects(study, load.seed)
    first, again_at_s = dict(objects), study.at_s + quiet_s + _AGAIN_AFTER_S
    if study.has_late_image:
        uid, data = first.popitem()
        yield Sending(again_at_s, {uid: data})
    if study.has_broken_object:
        uid, data = template.broken_object(study, load.seed)
        first[uid] = data
    yield Sending(study.at_s, first)
    if study.is_sent_twice:
        yield Sending(again_at_s, first)


def send_all(planned: Sequence[Sending], port: int, senders: int = SENDERS) -> Sent:
    """Send them, each not before its time; fails where an object is not stored."""
    begun = time.monotonic()

    def send(sending: Sending) -> float:
        time.sleep(max(begun + sending.at_s - time.monotonic(), 0.0))
        late_s = time.monotonic() - begun - sending.at_s
        store(sending.objects, port)
        return late_s

    with ThreadPoolExecutor(senders) as pool:
        late_s = list(pool.map(send, planned))
    return Sent(time.monotonic() - begun, sum(len(sending.objects) for sending in planned), max(late_s))


def store(objects: Mapping[str, bytes], port: int) -> None:
    """Store objects over one association."""
    with socket.create_connection((LOOPBACK, port), timeout=_WAIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_rq("TENDON", calling=MODALITY))
        kind, _ = read_pdu(connection)
        assert kind == 2, "the association was not accepted"
        for uid, data in objects.items():
            connection.sendall(_message(uid, data))
            _, answer = read_pdu(connection)
            assert _SUCCESS in answer, f"an object was not stored: {answer.hex()}"
        connection.sendall(RELEASE)
        read_pdu(connection)


def _message(uid: str, data_set: bytes) -> bytes:
    fragments = [
        p_data(2 if at + _FRAGMENT >= len(data_set) else 0, data_set[at : at + _FRAGMENT])
        for at in range(0, len(data_set), _FRAGMENT)
    ]
    return b"".join((p_data(3, store_rq(uid, data_set_type=0)), *fragments))
