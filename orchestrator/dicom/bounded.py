"""Associations that cost a bounded amount of memory and time, whatever the peer sends.

pynetdicom believes the lengths and trusts the pace of its peer, as SCP and as SCU. Here every PDU is
checked before it is read and has a deadline, every message has a size, and a fault of the peer ends
its own association without a traceback. The names pynetdicom keeps private hold for 3.0.x only.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import struct
import time
import warnings
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn

from pynetdicom import AE, _config
from pynetdicom.dimse import _RQ_TO_MESSAGE, _RSP_TO_MESSAGE, DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import AssociationSocket

from orchestrator.dicom.negotiation import understood
from orchestrator.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from orchestrator.dicom.timer import SteadyTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA

MAXIMUM_PDU_BYTES = 131_072
MAXIMUM_NEGOTIATION_BYTES = 1 << 20
MAXIMUM_COMMAND_BYTES = 1 << 16
MAXIMUM_OBJECT_BYTES = 16 << 30
MAXIMUM_HELD_BYTES = 2 << 30
"""Of an object where it is not streamed but held in memory."""
MAXIMUM_ANSWER_BYTES = 1 << 20
MAXIMUM_ANSWERS = 64
"""Not yet looked at; the peer's others wait in the network."""
MAXIMUM_UNANSWERED = 16
"""Requests sent ahead: without asynchronous operations negotiated one is the rule (PS3.7 D.3.3.3)."""
FIRST_PDU_S = 10.0
PDU_S = 30.0
IDLE_S = 300.0
ANSWER_S = 60.0

_HEADER = struct.Struct(">BxL")
_NEGOTIATION = (1, 2)
_LONGEST_PDU = {
    1: MAXIMUM_NEGOTIATION_BYTES,
    2: MAXIMUM_NEGOTIATION_BYTES,
    3: 4,
    4: MAXIMUM_PDU_BYTES,
    5: 4,
    6: 4,
    7: 4,
}
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# A-ABORT by the service provider, "invalid PDU parameter value" (PS3.8 9.3.8)
_ABORT = bytes.fromhex("07 00 00000004 00 00 02 06")


def prepare() -> None:
    """Set what is kept per process: any storage class, files sent without decoding, and silence.

    pydicom would quote in a warning what a peer sends in place of a UID.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.STORE_SEND_CHUNKED_DATASET = True
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """Reads no PDU longer or slower than allowed, and sends without Nagle's delay.

    No call on the connection waits: what must wait does so apart, until its own deadline. Once connected it stays so in
    name: pynetdicom would take a rejection that comes and closes the connection at once for a failure to connect. That
    it is closed shows in `socket`, then None.
    """

    _was_connected = False

    @property
    def _is_connected(self) -> bool:
        return self._was_connected

    @_is_connected.setter
    def _is_connected(self, is_connected: bool) -> None:
        if is_connected:
            self.socket.settimeout(0.0)
        self._was_connected = self._was_connected or is_connected

    def __init__(self, assoc: Association, client_socket: socket.socket | None = None, address: Any = None) -> None:
        super().__init__(assoc, client_socket=client_socket, address=address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.broke_limit = False
        self.ahead = bytearray()
        """Bytes that were received already and are to be read first."""
        self._sending = Lock()
        self._deadline = time.monotonic() + FIRST_PDU_S
        self._is_first = assoc.is_acceptor
        self._is_in_body = False

    def recv(self, nr_bytes: int) -> bytearray:
        """The next bytes of a PDU: its header, then its body. Raises OSError past a limit."""
        if self._is_in_body:
            self._is_in_body = False
            return self._read(nr_bytes)
        if not self._is_first:
            self._deadline = time.monotonic() + PDU_S
        self._is_first = False
        header = self._read(_HEADER.size)
        if len(header) == _HEADER.size:
            kind, length = _HEADER.unpack(header)
            if length > _LONGEST_PDU.get(kind, -1):
                self._break_off("the PDU is of no known type or too long")
            self._is_in_body = True
        return header

    def send(self, bytestream: bytes) -> None:
        """Send all of it before the deadline, or close."""
        try:
            with self._sending:
                self._send_all(memoryview(bytestream), time.monotonic() + PDU_S)
        except (OSError, AttributeError):
            self._shutdown_socket()
            self.event_queue.put("Evt17")

    def _send_all(self, rest: memoryview, deadline: float) -> None:
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except _NOT_YET as error:
                self._wait(select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT, deadline)

    def take(self, room: memoryview) -> int | None:
        """Take as many bytes as are there; None where none are yet, 0 at the end. Raises OSError."""
        try:
            return int(self.socket.recv_into(room))
        except _NOT_YET:
            return None

    def _wait(self, event: int, deadline: float) -> None:
        """Until the connection is ready for it. Raises OSError, TimeoutError past the deadline."""
        poll = select.poll()
        try:
            poll.register(self.socket, event)
        except ValueError as error:
            raise OSError("the connection is closed") from error
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0 or not poll.poll(remaining_s * 1e3):
            raise TimeoutError

    @property
    def ready(self) -> bool:
        """Whether there is something to read, and who asked keeps up with it.

        Asked by poll, since select knows no descriptor above 1023.
        """
        if self.assoc.is_requestor and self.assoc.dimse.msg_queue.qsize() >= MAXIMUM_ANSWERS:
            return False
        if self.ahead or self.socket is None or not self._is_connected:
            return bool(self.ahead)
        poll = select.poll()
        try:
            poll.register(self.socket, select.POLLIN)
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False
        return bool(poll.poll(0)) or self.has_decrypted

    @property
    def has_decrypted(self) -> bool:
        """Whether there are bytes to take that no poll tells of."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def hang_up(self) -> None:
        """End the connection from another thread; the reading thread sees it end and closes it."""
        with suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def _read(self, nr_bytes: int) -> bytearray:
        data = bytearray(nr_bytes)
        view, count = memoryview(data), min(len(self.ahead), nr_bytes)
        view[:count] = self.ahead[:count]
        del self.ahead[:count]
        while count < nr_bytes:
            received = self.take(view[count:])
            if received is None:
                try:
                    self._wait(select.POLLIN, self._deadline)
                except TimeoutError:
                    self._break_off("the PDU did not come in time")
                continue
            if not received:
                return data[:count]
            count += received
        return data

    def _break_off(self, reason: str) -> NoReturn:
        self.broke_limit = True
        with suppress(OSError):
            self.socket.settimeout(1.0)
            self.socket.sendall(_ABORT)
        self._shutdown_socket()
        raise OSError(reason)

    def _shutdown_socket(self) -> None:
        if self.socket is None:
            return
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class BoundedDul(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of one association; when it ends, nobody goes on waiting for it."""

    streams_objects = False

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._idle_timer, self.artim_timer = SteadyTimer(IDLE_S), SteadyTimer(FIRST_PDU_S)

    def attend(self, dimse: DIMSEServiceProvider) -> None:
        """Know the layer above."""

    def _decode_pdu(self, bytestream: bytearray) -> Any:
        return super()._decode_pdu(understood(bytes(bytestream)) if bytestream[0] in _NEGOTIATION else bytestream)

    def run_reactor(self) -> None:
        """Run until the association's end, and never print a traceback for it."""
        try:
            super().run_reactor()
        except Exception:  # noqa: BLE001 - a peer may drive the state machine where pynetdicom knows no way on
            self.socket.broke_limit = True
        finally:
            self._kill_thread = True
            self.state_machine.current_state = "Sta1"
            self.socket._shutdown_socket()  # noqa: SLF001 - our own class
            self.assoc.dimse.msg_queue.put((None, None))
            self.to_user_queue.put(None)


class BoundedDimse(DIMSEServiceProvider):  # type: ignore[misc]
    """Joins the fragments of messages up to a size, and sends messages without delay."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._room_bytes = self._new_room()

    @property
    def maximum_pdu_size(self) -> int:
        """The longest P-DATA the peer takes and we send; the peer's 0 means any."""
        return min(super().maximum_pdu_size or MAXIMUM_PDU_BYTES, MAXIMUM_PDU_BYTES)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take fragments; a message too large or not DIMSE ends the association, and so do too many at once."""
        try:
            for _, fragment in primitive.presentation_data_value_list:
                part = fragment[0] & 1
                self._room_bytes[part] -= len(fragment) - 1
            if min(self._room_bytes) < 0:
                self._give_up()
                return
            super().receive_primitive(primitive)
        except Exception:  # noqa: BLE001 - whatever its parser raises, the message is bad
            self._give_up()
        if self.message is None:
            self._room_bytes = self._new_room()
            if self.assoc.is_acceptor and self.msg_queue.qsize() > MAXIMUM_UNANSWERED:
                self._give_up()

    def get_msg(self, block: bool = False) -> Any:  # noqa: FBT001, FBT002 - pynetdicom's own signature
        """The next message. An acceptor ends the association for what is no request.

        A requestor's answers wait for the thread that asked. Its reactor gets none: the way it is
        paused is not safe, and it would take and drop an answer now and then.
        """
        if self.assoc.is_requestor:
            return super().get_msg(block) if block else (None, None)
        context_id, message = super().get_msg(block)
        if message is not None and not message.is_valid_request:
            self._give_up()
            return None, None
        return context_id, message

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message straight from this thread, past the queue that the upper layer polls."""
        is_request = primitive.MessageIDBeingRespondedTo is None
        message = (_RQ_TO_MESSAGE if is_request else _RSP_TO_MESSAGE)[type(primitive)]()
        message.primitive_to_message(primitive)
        for part in message.encode_msg(context_id, self.maximum_pdu_size):
            self.dul.socket.send(P_DATA_TF(part).encode())

    def _new_room(self) -> list[int]:
        holds_objects = self.assoc.is_acceptor and not self.assoc.dul.streams_objects
        data_bytes = MAXIMUM_HELD_BYTES if holds_objects else MAXIMUM_ANSWER_BYTES
        return [data_bytes, MAXIMUM_COMMAND_BYTES]

    def _give_up(self) -> None:
        self.message = None
        self.dul.socket.broke_limit = True
        self.dul.event_queue.put("Evt19")


def bound(assoc: Association, upper_layer: Callable[[Association], BoundedDul] = BoundedDul) -> None:
    """Give an association that has not started its bounded layers; its socket is still to be set."""
    assoc.dul = upper_layer(assoc)
    assoc.dimse = BoundedDimse(assoc)
    assoc.dul.attend(assoc.dimse)
    assoc.acse_timeout, assoc.network_timeout = assoc.ae.acse_timeout, assoc.ae.network_timeout


class BoundedEntity(AE):  # type: ignore[misc]
    """An application entity with our name and time-outs, whose own requests for association are bounded too."""

    def __init__(self, ae_title: str) -> None:
        prepare()
        super().__init__(ae_title)
        self.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.maximum_pdu_size = MAXIMUM_PDU_BYTES
        self.acse_timeout = FIRST_PDU_S
        self.connection_timeout = FIRST_PDU_S
        self.dimse_timeout = ANSWER_S
        self.network_timeout = IDLE_S

    def _create_socket(self, assoc: Association, address: Any, tls_args: Any) -> BoundedSocket:
        bound(assoc)
        opened = BoundedSocket(assoc, address=address)
        opened.tls_args = tls_args
        return opened
