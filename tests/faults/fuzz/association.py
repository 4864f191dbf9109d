"""The upper layer of an association in one thread: what a peer sends from its request to its end, in any cut.

Whatever comes, the association ends, lets go of its descriptors, has kept what it answered with success and nothing
else, and every object it began was kept or dropped.
"""

from __future__ import annotations

import os
import struct
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pynetdicom import association as association_module
from pynetdicom import build_context, evt
from pynetdicom import dul as dul_module
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification
from pynetdicom.transport import AddressInformation

from orchestrator.dicom import bounded
from orchestrator.dicom.bounded import BoundedEntity, BoundedSocket, bound
from orchestrator.dicom.listener import Listener, _Visit
from orchestrator.dicom.scp import CANNOT_UNDERSTAND, OUT_OF_RESOURCES
from orchestrator.dicom.stream import StreamDul
from tests.dicom_peers import (
    ABORT,
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    RELEASE,
    associate_rq,
    command,
    descriptors,
    p_data,
    store_rq,
)
from tests.faults.fuzz.target import Target

if TYPE_CHECKING:
    from random import Random

CONTEXTS = ((CT, EXPLICIT), (ECHO, IMPLICIT), ("1.2.3.9", IMPLICIT))
REQUEST = associate_rq("TENDON", contexts=CONTEXTS)
MOST_TURNS = 20_000
LOOK_AT_DESCRIPTORS_EVERY = 512
SUPPORTED = [build_context(Verification)]
ENTITY = BoundedEntity("TENDON")
ESTABLISHED, _, POLITE = range(3)
HERE = AddressInformation("127.0.0.1", 104)
LISTENER = Listener("TENDON", "127.0.0.1", 0, handlers=[(evt.EVT_C_STORE, lambda _: CANNOT_UNDERSTAND)])
ALWAYS_READABLE = os.eventfd(1)
COUNTED = {"runs": 0, "held": 0}
FAILED: list[BaseException | None] = []
threading.excepthook = lambda failed: FAILED.append(failed.exc_value)

for module in (association_module, dul_module):
    module.time = SimpleNamespace(sleep=lambda _: None)
REPLACED_AT_ONCE = SimpleNamespace(artim_timer=SimpleNamespace(), _idle_timer=SimpleNamespace())
association_module.DULServiceProvider = association_module.DIMSEServiceProvider = lambda _: REPLACED_AT_ONCE


class Wire:
    """A socket that gives what a peer sent, piece by piece, then its end; of a polite peer the request first."""

    def __init__(self, pieces: list[bytes], *, is_polite: bool, is_reset: bool) -> None:
        self._pieces = [*pieces[::-1], *[REQUEST] * is_polite]
        self._waits_at = len(pieces) if is_polite else -1
        self._is_reset = is_reset
        self.sent = bytearray()
        self.is_closed = False

    @property
    def is_waiting(self) -> bool:
        """Whether the peer waits for the answer to its request."""
        return bool(self._pieces) and len(self._pieces) == self._waits_at and not self.sent

    def recv_into(self, room: memoryview) -> int:
        if self.is_closed:
            raise OSError
        if self.is_waiting:
            raise BlockingIOError
        if not self._pieces:
            if self._is_reset:
                raise ConnectionResetError
            return 0
        piece = self._pieces.pop()
        count = min(len(piece), len(room))
        room[:count] = piece[:count]
        if count < len(piece):
            self._pieces.append(piece[count:])
        return count

    def sendall(self, data: bytes | memoryview) -> None:
        if self.is_closed:
            raise OSError
        self.sent += data

    def send(self, data: memoryview) -> int:
        self.sendall(data)
        return len(data)

    def fileno(self) -> int:
        return -1 if self.is_closed else ALWAYS_READABLE

    def close(self) -> None:
        self.is_closed = True

    def settimeout(self, _: float) -> None:
        """It never waits."""

    def setsockopt(self, *_: int) -> None:
        """It has none."""

    def shutdown(self, _: int) -> None:
        self._pieces = []


class Arrival:
    """An object that knows how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends: list[str] = []

    def write(self, part: memoryview) -> None:
        if self.ends:
            self.ends.append("written")
        self.data += part
        if self.data[:4] == b"full":
            raise OSError

    def finish(self) -> None:
        self.ends.append("kept" if self.data else "kept empty")

    def drop(self) -> None:
        self.ends.append("dropped")


class OneThread(StreamDul):
    """Gives the association its turn where a thread of its own would have it."""

    turns = 0
    failure: Exception | None = None

    def is_alive(self) -> bool:
        """As long as the association has not ended it."""
        return not self.assoc._kill

    def _is_transport_event(self) -> bool:
        self.turns += 1
        try:
            assert self.turns < MOST_TURNS, "it does not end"
            turn(self.assoc)
        except AssertionError as error:
            self.failure = error
            raise
        except Exception:
            self.socket.hang_up()  # as the listener does
            self.assoc._kill = True
        if self.socket.socket.is_waiting or not self.to_provider_queue.empty():
            return False
        return bool(super()._is_transport_event())


class _OnceEvent:
    """Lets the association's reactor go round once."""

    def __init__(self) -> None:
        self.rounds = 0

    def wait(self) -> None:
        self.rounds += 1
        if self.rounds > 1:
            raise StopIteration

    def set(self) -> None:
        """It never waits."""


def turn(assoc: Any) -> None:
    if assoc._kill:
        return
    if assoc.is_established:
        assoc._reactor_checkpoint = _OnceEvent()
        try:
            assoc._run_reactor()
        except StopIteration:
            return
    elif assoc.requestor.primitive is None and (primitive := assoc.dul.receive_pdu()) is not None:
        assoc.requestor.primitive = primitive
        evt.trigger(assoc, evt.EVT_REQUESTED, {})
        if not assoc.is_rejected:
            assoc.acse.negotiate_association()
        assert assoc.is_established <= LISTENER._visits[assoc].is_admitted, "nobody let it in"


def run(data: bytes) -> None:
    """The first three bytes say how it is cut, where it starts and how it ends."""
    if len(data) < 3:
        return
    start = data[2] % 3
    wire = Wire(cut(data[3:], data[:2]), is_polite=start == POLITE, is_reset=bool(data[2] & 128))
    arrivals = converse(wire, is_established=start == ESTABLISHED)
    kept = [arrival for arrival in arrivals if arrival.ends == ["kept"]]
    dropped = [arrival for arrival in arrivals if set(arrival.ends) == {"dropped"}]
    assert len(kept) + len(dropped) == len(arrivals), "an object that neither was kept nor dropped"
    assert len(kept) == statuses(bytes(wire.sent)).count(0), "what was kept is not what was answered with success"
    assert wire.is_closed
    _look_at_threads()
    _look_at_descriptors()


def cut(stream: bytes, lengths: bytes) -> list[bytes]:
    """The stream in pieces of these lengths in turn; 0 takes all."""
    pieces, at = [], 0
    while at < len(stream):
        length = lengths[len(pieces) % 2] or len(stream)
        pieces.append(stream[at : at + length])
        at += length
    return pieces


def converse(wire: Wire, *, is_established: bool) -> list[Arrival]:
    arrivals: list[Arrival] = []

    def begin(_: object, sop_class: str, instance: str, syntax: str) -> Arrival:
        assert sop_class
        assert syntax in (EXPLICIT, IMPLICIT)
        if instance == "1.2.refused":
            raise ValueError
        arrivals.append(Arrival())
        return arrivals[-1]

    assoc = associated(wire, begin)
    if is_established:
        assoc.requestor.primitive, assoc._accepted_cx = NEGOTIATED
        assoc.dul.event_queue.get()
        assoc.dul.state_machine.current_state, assoc.is_established = "Sta6", True
    assoc.dul.run_reactor()
    if assoc.dul.failure is not None:
        raise assoc.dul.failure
    assert assoc.dul._bell is None
    assert assoc.dul._object is None
    return arrivals


def associated(wire: Wire, begin: Any) -> Any:
    """An association as the listener makes it."""
    assoc = Association(ENTITY, "acceptor")
    assoc.acceptor.maximum_length = bounded.MAXIMUM_PDU_BYTES
    assoc.acceptor.ae_title, assoc.acceptor.address_info, assoc.requestor.address_info = "TENDON", HERE, HERE
    assoc.acceptor.supported_contexts = SUPPORTED
    for event, handler in LISTENER._handlers:
        assoc.bind(event, handler)
    LISTENER._visits = {assoc: _Visit()}
    bound(assoc, lambda it: OneThread(it, begin, lambda _: OUT_OF_RESOURCES))
    assoc.set_socket(BoundedSocket(assoc, client_socket=wire))
    return assoc


def negotiated() -> tuple[Any, Any]:
    """The request as it was understood, and the presentation contexts accepted."""
    assoc = associated(Wire([], is_polite=True, is_reset=False), None)
    assoc.dul.run_reactor()
    return assoc.requestor.primitive, assoc._accepted_cx


def statuses(sent: bytes) -> list[int]:
    """Of each C-STORE response we sent; fails where what we sent are no PDUs."""
    told, message, at = [], b"", 0
    while at < len(sent):
        kind, length = struct.unpack_from(">BxL", sent, at)
        body = sent[at + 6 : at + 6 + length]
        assert len(body) == length
        assert kind in range(2, 8)
        at += 6 + length
        if kind == 4:
            message += body[6:]
            if body[5] & 2:
                if b"\x00\x01\x02\x00\x00\x00\x01\x80" in message:
                    told.append(int.from_bytes(message[message.index(b"\0\0\0\x09\2\0\0\0") + 8 :][:2], "little"))
                message = b""
    return told


def _look_at_threads() -> None:
    """pynetdicom starts one for each N-EVENT-REPORT."""
    if threading.active_count() > 1:
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(1.0)
        assert threading.active_count() == 1, "a thread is left"
    assert not FAILED, FAILED


def _look_at_descriptors() -> None:
    """No more of them than after the first of many."""
    COUNTED["runs"] += 1
    if COUNTED["runs"] % LOOK_AT_DESCRIPTORS_EVERY == 1:
        now = descriptors()
        COUNTED["held"] = COUNTED["held"] or now
        assert now <= COUNTED["held"], "descriptors are left"


def compose(random: Random) -> bytes:
    """Messages of all kinds in fragments of any length."""
    stream = bytearray(random.choice((0, 0, 1, 7, 200)) for _ in range(2)) + bytes([random.choice((0, 0, 128, 1, 2))])
    for _ in range(random.randint(1, 4)):
        kind = random.random()
        if kind < 0.6:
            uid = random.choice(("1.2.3.4", "1.2.refused", "", "1" * 65))
            stream += _fragments(random, store_rq(uid, data_set_type=random.choice((1, 1, 1, 0x0101))), 1)
            stream += _fragments(random, random.choice((b"", b"full", bytes(500))), 0)
        elif kind < 0.8:
            field = random.choice((0x0030, 0x0001, 0x0020, 0x0FFF, 0x0100, 0x0100, 0x8001, 0x8030, 0x0140))
            named = ((0x0002, ECHO.encode() + b"\0"), (0x0110, b"\1\0"), (0x0120, b"\1\0"), (0x0800, b"\1\1"))
            named += ((0x1000, b"1.2\0"), (0x1002, b"\1\0"))
            stream += p_data(3, command(field, *named), context_id=random.choice((1, 3, 3, 3, 9)))
        else:
            stream += random.choice((RELEASE, ABORT, REQUEST, b"\x06\0\0\0\0\4\0\0\0\0", b"\x09\0\0\0\0\0"))
    return bytes(stream)


def _fragments(random: Random, data: bytes, is_command: int) -> bytes:
    longest = random.choice((1000, 1000, 1000, 30, 3))
    starts = range(0, max(len(data), 1), longest)
    made = b""
    for at in starts:
        context_id = random.choice((1,) * 40 + (3, 5, 7))
        made += p_data(is_command | 2 * (at == starts[-1]), data[at : at + longest], context_id)
    return made


def seeds() -> list[bytes]:
    store = p_data(3, store_rq()) + p_data(0, bytes(300)) + p_data(2, b"end")
    named = ((0x0002, ECHO.encode() + b"\0"), (0x0110, b"\1\0"), (0x0800, b"\1\1"))
    echo = p_data(3, command(0x0030, *named), context_id=3)
    talks = (store + echo + store + RELEASE, store[:300] + ABORT, echo + echo + RELEASE, store + store, store[:-10])
    fresh = (REQUEST, REQUEST[:60], RELEASE, ABORT, associate_rq("OTHER", contexts=CONTEXTS * 20))
    hows = (b"\0\0\0", b"\1\x10\0", b"\0\0\2")
    return [how + talk for talk in talks for how in hows] + [b"\0\0\1" + talk for talk in fresh]


TOKENS = (
    *(RELEASE, ABORT, b"\x06\0\0\0\0\4\0\0\0\0", p_data(2, b""), p_data(3, b""), p_data(3, store_rq())),
    *(struct.pack(">BxL", kind, length) for kind in range(9) for length in (0, 4, 68, 131072, 0xFFFFFFFF)),
    *(struct.pack(">BxH", kind, length) for kind in (0x10, 0x20, 0x30, 0x40, 0x50) for length in (0, 4, 0xFFFF)),
    *(struct.pack(">BxH", kind, 4) + b"\0\1\0\1" for kind in (0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59)),
    *(b"\1\x80", b"\0\1\2\0\0\0\1\0", b"\0\0\0\x08\2\0\0\0\1\1", CT.encode(), ECHO.encode(), b"1.2.refused"),
)
NEGOTIATED = negotiated()
TARGET = Target(run, seeds, compose, TOKENS, longest_bytes=2048)
