"""The C-STORE data path: objects go from the socket to where they are kept as they come, in one thread.

pynetdicom keeps listening, negotiation, the state machine and every other message. In state 6 (data transfer) its
upper layer's thread takes P-DATA out of one buffer and hands the fragments of objects on: an object is never held,
and none of its bytes become PDU objects. Both threads of an association sleep until something happens. What is
pynetdicom's own here holds for the versions that `IS_KNOWN` names.
"""

from __future__ import annotations

import os
import queue
import select
import time
from contextlib import suppress
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

import pynetdicom
from pynetdicom.pdu_primitives import P_DATA

from orchestrator.dicom import bounded
from orchestrator.dicom.bounded import BoundedDul
from orchestrator.dicom.pdata import (
    SHORTEST_PDU_BYTES,
    MalformedError,
    PDataReader,
    command_elements,
    store_response,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association
    from pynetdicom.dimse import DIMSEServiceProvider

    from orchestrator.dicom.pdata import Fragment

    Begin = Callable[[Association, str, str, str], "Arriving"]

IS_KNOWN: Final = pynetdicom.__version__.startswith("3.0.")

_DATA_TRANSFER, _CLOSING = "Sta6", "Sta13"
_BUFFER_BYTES: Final = 640 << 10
_SPARE_BUFFERS: Final[list[memoryview]] = []
"""Whoever has taken out of one what came gives it back: few are needed, and they stay in the processor's cache."""

_MOST_SPARE: Final = 4
_LOOK_S: Final = 5.0
"""How often a sleeper looks at what nobody tells it: whether the other side has been idle for too long."""

_LOOK_IN_PDU_S: Final = 1.0
_LOOK_NEGOTIATING_S: Final = 0.05
_C_STORE_RQ: Final = b"\x01\x00"
_NO_DATA_SET: Final = b"\x01\x01"
_CLASS, _COMMAND, _MESSAGE_ID, _DATA_SET_TYPE, _INSTANCE = 0x0002, 0x0100, 0x0110, 0x0800, 0x1000
_LONGEST_UID, _US_BYTES = 64, 2
_CANNOT_UNDERSTAND: Final = 0xC000


class Arriving(Protocol):
    """An object on its way in."""

    def write(self, part: memoryview) -> None:
        """The next bytes of its data set."""

    def finish(self) -> None:
        """That was all: keep it. Returning is the promise that becomes 0x0000."""

    def drop(self) -> None:
        """It will not be whole: leave no trace. Harmless after `finish`."""


class _SignallingQueue(queue.Queue[Any]):
    """Tells somebody of each item, and again as long as there are more."""

    def __init__(self, signal: Callable[[], None]) -> None:
        super().__init__()
        self._signal = signal

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002
        super().put(item, block, timeout)
        self._signal()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
        item = super().get(block, timeout)
        if not self.empty():
            self._signal()
        return item


class _Checkpoint(Event):
    """Stands where the association's thread looks whether it may go on: there it sleeps until there is work."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self._work = Event()

    def signal(self) -> None:
        """There is work."""
        self._work.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Until there is work, or for a while; then until it may go on."""
        self._work.wait(_LOOK_S)
        self._work.clear()
        return super().wait(timeout)


class _Object:
    """One C-STORE request being answered."""

    def __init__(self, request: dict[int, bytes], context_id: int, longest_answer_bytes: int) -> None:
        self.request = request
        self.context_id = context_id
        self.longest_answer_bytes = longest_answer_bytes
        self.arriving: Arriving | None = None
        self.status = 0
        self.size_bytes = 0

    def attempt(self, step: Callable[[], Any], status_of: Callable[[Exception], int]) -> Any:
        """Do it unless something failed before; a failure becomes the status, and what came is dropped."""
        if self.status:
            return None
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - the peer must get its answer
            self.status = status_of(error)
            self.drop()
            return None

    def drop(self) -> None:
        """Leave no trace of it."""
        if self.arriving is not None:
            with suppress(Exception):
                self.arriving.drop()


class StreamDul(BoundedDul):
    """The upper layer of one association whose peer sends objects.

    `begin(association, SOP class, SOP instance, transfer syntax)` opens each; `status_of` gives the C-STORE status of
    whatever it, or the object, raises.
    """

    streams_objects = True

    def __init__(self, assoc: Association, begin: Begin, status_of: Callable[[Exception], int]) -> None:
        super().__init__(assoc)
        self._begin = begin
        self._status_of = status_of
        self._bell: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_lock = Lock()
        self._run_loop_delay = 0
        self.to_provider_queue = _SignallingQueue(self._wake)
        checkpoint = assoc._reactor_checkpoint = _Checkpoint()  # noqa: SLF001 - see above
        self.to_user_queue = _SignallingQueue(checkpoint.signal)
        self._signal_work = checkpoint.signal
        self._reader = PDataReader(bounded.MAXIMUM_PDU_BYTES)
        self._rest = b""
        self._began_s = 0.0
        self._command = bytearray()
        self._command_context_id = 0
        self._object: _Object | None = None

    def attend(self, dimse: DIMSEServiceProvider) -> None:
        """Have the association's thread woken by each message that is whole."""
        dimse.msg_queue = _SignallingQueue(self._signal_work)

    # sleeping

    def _wake(self) -> None:
        with self._bell_lock:
            if self._bell is not None:
                os.eventfd_write(self._bell, 1)

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == _CLOSING or self.socket is None or self.socket.socket is None:
            return bool(super()._is_transport_event())
        if self.socket.ahead or not self.event_queue.empty():
            return bool(super()._is_transport_event())
        while self._is_readable(self._patience_s()):
            self._read_pdu_data()
            if not self._is_alone_with_data():
                return True
            self._idle_timer.restart()
        self._check_deadline()
        return False

    def _is_alone_with_data(self) -> bool:
        """Whether only objects may be next: then the way round the reactor, which sleeps each time, is spared."""
        return (
            self.state_machine.current_state == _DATA_TRANSFER
            and self.event_queue.empty()
            and self.to_provider_queue.empty()
            and not self.socket.ahead
            and not self._kill_thread
        )

    def _patience_s(self) -> float:
        if self.state_machine.current_state != _DATA_TRANSFER:
            return _LOOK_NEGOTIATING_S
        return min(_LOOK_S, _LOOK_IN_PDU_S) if self._is_in_pdu else _LOOK_S

    @property
    def _is_in_pdu(self) -> bool:
        return bool(self._rest) or not self._reader.is_between_pdus

    def _is_readable(self, timeout_s: float) -> bool:
        """Whether the peer has sent something; sleeps until then, until somebody here wants to send, or for a while."""
        assert self._bell is not None, "only the thread that closes it waits here"
        if self.socket.has_decrypted:
            return True
        poll = select.poll()
        try:
            poll.register(self.socket.socket, select.POLLIN)
        except (OSError, ValueError):
            return True
        poll.register(self._bell, select.POLLIN)
        ready = {handle for handle, _ in poll.poll(timeout_s * 1e3)}
        if self._bell in ready:
            ready.discard(self._bell)
            with suppress(OSError):
                os.eventfd_read(self._bell)
        return bool(ready)

    def _check_deadline(self) -> None:
        if self._is_overdue():
            self._break_off()

    def _is_overdue(self) -> bool:
        """Whether a PDU began to come longer ago than it may take, whether or not it comes drop by drop."""
        return self._is_in_pdu and time.monotonic() - self._began_s > bounded.PDU_S

    def kill_dul(self) -> None:
        """Kill the reactor and stop the thread."""
        super().kill_dul()
        self._wake()

    def stop_dul(self) -> bool:
        """Stop the reactor if the connection is closed; says whether it was."""
        if self.state_machine.current_state != "Sta1":
            self._wake()
            return False
        self._kill_thread = True
        self._wake()
        while self.is_alive():
            self.join(0.05)
        return True

    def run_reactor(self) -> None:
        """Run until the association's end; an object that is not whole by then leaves no trace."""
        try:
            super().run_reactor()
        finally:
            if self._object is not None:
                self._object.drop()
                self._object = None
            with self._bell_lock:
                bell, self._bell = self._bell, None
            if bell is not None:
                os.close(bell)

    # data

    def _read_pdu_data(self) -> None:
        if self.state_machine.current_state != _DATA_TRANSFER or self.socket.ahead:
            super()._read_pdu_data()
            return
        try:
            self._receive()
        except MalformedError:
            self._break_off()
        except OSError:
            self.event_queue.put("Evt17")

    def _receive(self) -> None:
        """Take what has come, until nothing more is there or it is another type's or another thread's turn."""
        buffer = _SPARE_BUFFERS.pop() if _SPARE_BUFFERS else memoryview(bytearray(_BUFFER_BYTES))
        try:
            while self._receive_into(buffer) and self._is_alone_with_data():
                """There may be more."""
        finally:
            if len(_SPARE_BUFFERS) < _MOST_SPARE:
                _SPARE_BUFFERS.append(buffer)

    def _receive_into(self, buffer: memoryview) -> bool:
        """Take what fits of what has come; says whether there may be more of the same."""
        is_new, pdus_begun, held = not self._is_in_pdu, self._reader.pdus_begun, len(self._rest)
        received = self.socket.take(buffer[held:])
        if received is None:
            return False
        if not received:
            self.event_queue.put("Evt17")
            return False
        buffer[:held] = self._rest
        end = held + received
        used = self._hand_on(buffer[:end])
        if is_new or self._reader.pdus_begun != pdus_begun:
            self._began_s = time.monotonic()
        self._rest = bytes(buffer[used:end])
        if self._reader.is_at_other_pdu:
            self.socket.ahead += self._rest
            self._rest = b""
            super()._read_pdu_data()
            return False
        if self._is_overdue():
            raise MalformedError
        return end == len(buffer) or bool(self.socket.has_decrypted)

    def _hand_on(self, data: memoryview) -> int:
        used = 0
        for fragment, used in self._reader.fragments(data):  # noqa: B007 - the last one counts
            if fragment is not None:
                self._take(fragment)
        return used

    def _take(self, fragment: Fragment) -> None:
        if fragment.is_command:
            self._take_command(fragment)
        elif self._command:
            raise MalformedError
        elif self._object is None:
            self._pass_on(fragment.context_id, int(fragment.is_last) << 1, bytes(fragment.part))
        else:
            self._take_data(self._object, fragment)

    def _take_command(self, fragment: Fragment) -> None:
        if self._command and fragment.context_id != self._command_context_id:
            raise MalformedError
        self._command_context_id = fragment.context_id
        self._command += fragment.part
        if self._object is not None or len(self._command) > bounded.MAXIMUM_COMMAND_BYTES:
            raise MalformedError
        if not fragment.is_last:
            return
        command_set, self._command = bytes(self._command), bytearray()
        elements = command_elements(command_set)
        context = self.assoc._accepted_cx.get(fragment.context_id)  # noqa: SLF001 - see above
        is_store = elements.get(_COMMAND) == _C_STORE_RQ and elements.get(_DATA_SET_TYPE) != _NO_DATA_SET
        if is_store and context is not None:
            _require_names(elements)
            self._object = self._opened(elements, fragment.context_id, str(context.transfer_syntax[0]))
        else:
            self._pass_on(fragment.context_id, 3, command_set)

    def _opened(self, request: dict[int, bytes], context_id: int, transfer_syntax_uid: str) -> _Object:
        longest_answer_bytes = self.assoc.dimse.maximum_pdu_size
        if longest_answer_bytes < SHORTEST_PDU_BYTES:
            raise MalformedError
        opened = _Object(request, context_id, longest_answer_bytes)
        sop_class_uid, sop_instance_uid = (_text(request[element]) for element in (_CLASS, _INSTANCE))
        opened.arriving = opened.attempt(
            lambda: self._begin(self.assoc, sop_class_uid, sop_instance_uid, transfer_syntax_uid), self._status_of
        )
        return opened

    def _take_data(self, arriving: _Object, fragment: Fragment) -> None:
        if fragment.context_id != arriving.context_id:
            raise MalformedError
        arriving.size_bytes += len(fragment.part)
        if arriving.size_bytes > bounded.MAXIMUM_OBJECT_BYTES:
            raise MalformedError
        kept = arriving.arriving
        if kept is not None and fragment.part:
            arriving.attempt(lambda: kept.write(fragment.part), self._status_of)
        if fragment.is_last:
            self._object = None
            self._answer(arriving)

    def _answer(self, arrived: _Object) -> None:
        kept = arrived.arriving
        if not arrived.size_bytes:
            arrived.drop()
            arrived.status = arrived.status or _CANNOT_UNDERSTAND
        elif kept is not None:
            arrived.attempt(kept.finish, self._status_of)
        self.socket.send(
            store_response(arrived.request, arrived.context_id, arrived.status, arrived.longest_answer_bytes)
        )

    def _pass_on(self, context_id: int, control: int, part: bytes) -> None:
        """Another message is pynetdicom's. Raises MalformedError where that was one too many, or none."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context_id, bytes([control]) + part]]
        self.assoc.dimse.receive_primitive(primitive)
        if not self.event_queue.empty():
            raise MalformedError

    def _break_off(self) -> None:
        """The peer broke a limit: A-ABORT, and nothing of it is read any more."""
        self.socket.broke_limit = True
        self._rest = b""
        self._reader = PDataReader(bounded.MAXIMUM_PDU_BYTES)
        self.event_queue.put("Evt19")


def _require_names(request: dict[int, bytes]) -> None:
    """A request that does not say what comes, or cannot be answered, is none. Raises MalformedError."""
    lengths = [len(request.get(element, b"").rstrip(b"\0 ")) for element in (_CLASS, _INSTANCE)]
    if not all(0 < length <= _LONGEST_UID for length in lengths) or len(request.get(_MESSAGE_ID, b"")) != _US_BYTES:
        raise MalformedError


def _text(value: bytes) -> str:
    return value.decode("ascii", errors="replace").rstrip("\0 ")
