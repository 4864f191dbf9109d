"""Peers and objects for tests of the DICOM network, down to the bytes of PS3.8."""

from __future__ import annotations

import shutil
import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from orchestrator.dicom.pdata import command_elements
from orchestrator.dicom.scp import StorageScp
from orchestrator.domain.admission import NotAdmitted, Rejection
from orchestrator.domain.errors import Fault, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.domain.admission import Caller

CT = str(CTImageStorage)
EXPLICIT = str(ExplicitVRLittleEndian)
ECHO = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"
LOOPBACK = "127.0.0.1"
PATIENT_NAME = "Canary^Yellow"
PRIVATE_CLASS = "1.2.826.0.1.3680043.9.9999.1"
RELEASE = bytes.fromhex("050000000004 00000000")
RELEASED = bytes.fromhex("060000000004 00000000")
ABORT = bytes.fromhex("070000000004 00000000")


# objects


def write_object(
    folder: Path,
    *,
    transfer_syntax_uid: str = EXPLICIT,
    sop_class_uid: str = CT,
    study_uid: str = "1.2.3",
    series_uid: str = "1.2.3.4",
    modality: str = "CT",
    pixel_bytes: int = 512,
) -> Path:
    """A small object as a Part 10 file named by its SOP Instance UID; compressed pixels are noise."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    image.SOPClassUID, image.SOPInstanceUID = sop_class_uid, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = study_uid, series_uid, modality
    image.PatientName = PATIENT_NAME
    image.BitsAllocated = 16
    pixels = bytes(k * 7 % 251 for k in range(pixel_bytes))
    is_compressed = UID(transfer_syntax_uid).is_encapsulated
    image.PixelData = encapsulate([pixels]) if is_compressed else pixels
    image["PixelData"].VR = "OB" if is_compressed else "OW"
    folder.mkdir(exist_ok=True)
    path = folder / f"{image.SOPInstanceUID}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def data_set_of(path: Path) -> bytes:
    """What follows the file meta information, whose length its first element tells (PS3.10 7.1)."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


# our side


@dataclass
class FakeReception:
    """Takes in every peer but strangers, and keeps what it is given."""

    strangers: frozenset[str] = frozenset()
    failure: Exception | None = None
    pause_s: float = 0.0
    closings_lost: int = 0
    dropped: int = 0
    opened: list[tuple[str, str]] = field(default_factory=list)
    stored: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    closed: list[tuple[str, str]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def open(self, caller: Caller) -> str:
        with self.lock:
            if caller.calling_ae in self.strangers:
                raise NotAdmitted(Rejection.UNKNOWN_CALLING_AE)
            self.opened.append((caller.calling_ae, caller.address))
            return f"association {len(self.opened)}"

    def begin(
        self, association_id: str, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> FakeArrival:
        return FakeArrival(self, (sop_class_uid, sop_instance_uid, transfer_syntax_uid))

    def close(self, association_id: str, outcome: str) -> None:
        with self.lock:
            if self.closings_lost:
                self.closings_lost -= 1
                raise Transient(Fault.DATABASE_UNREACHABLE)
            self.closed.append((association_id, outcome))

    @property
    def outcomes(self) -> list[str]:
        return [outcome for _, outcome in self.closed]


@dataclass
class FakeArrival:
    """An object on its way into a `FakeReception`."""

    reception: FakeReception
    named: tuple[str, str, str]
    data_set: bytearray = field(default_factory=bytearray)

    def write(self, part: memoryview) -> None:
        self.data_set += part

    def finish(self) -> None:
        time.sleep(self.reception.pause_s)
        if self.reception.failure is not None:
            raise self.reception.failure
        with self.reception.lock:
            self.reception.stored.append((*self.named, bytes(self.data_set)))

    def drop(self) -> None:
        with self.reception.lock:
            self.reception.dropped += 1


@dataclass
class FakeRejections:
    """Keeps the rejections it is told of; `failure` is what the database does instead of writing them."""

    failure: Exception | None = None
    noted: list[tuple[str, str, str]] = field(default_factory=list)
    written: int = 0

    def note(self, caller: Caller, refusal: NotAdmitted) -> None:
        self.noted.append((caller.calling_ae, caller.called_ae, refusal.rejection.value.reason))

    def write(self, *, everything: bool = False) -> float | None:
        if self.failure is not None:
            raise self.failure
        self.written = len(self.noted)
        return None


def scp_of(
    reception: FakeReception, *ae_titles: str, port: int = 0, rejections: FakeRejections | None = None
) -> StorageScp:
    """An SCP, not started; TENDON where no title is given."""
    return StorageScp(ae_titles or ("TENDON",), LOOPBACK, port, reception, rejections or FakeRejections())


@contextmanager
def listening(listener: Any) -> Iterator[int]:
    """Start an SCP, and see that its stop leaves no thread behind."""
    before = set(threading.enumerate())
    port = listener.start()
    try:
        yield port
    finally:
        listener.stop()
        assert set(threading.enumerate()) <= before


def eventually(is_so: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def program(name: str) -> str:
    """The path of a DICOM program of another maker; the test is skipped where it is not installed."""
    path = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin:/opt/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


# PS3.8 by hand


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def associate_rq(
    called: str,
    calling: str = "RAW",
    contexts: tuple[tuple[str, str], ...] = ((CT, EXPLICIT),),
    *,
    maximum_bytes: int = 16384,
    user_items: bytes = b"",
) -> bytes:
    """A-ASSOCIATE-RQ; context k has the id 2k + 1."""
    body = struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for k, (abstract, transfer) in enumerate(contexts):
        syntaxes = item(0x30, abstract.encode()) + item(0x40, transfer.encode())
        body += item(0x20, struct.pack(">B3x", 2 * k + 1) + syntaxes)
    user = item(0x51, struct.pack(">L", maximum_bytes)) + item(0x52, b"1.2.3.4.5") + user_items
    return pdu(1, body + item(0x50, user))


def associate_ac(result: int = 0, transfer: str = EXPLICIT, maximum_bytes: int = 16384) -> bytes:
    """A-ASSOCIATE-AC with one presentation context of id 1: 0 accepts, 3 knows no such class, 4 no such syntax."""
    body = struct.pack(">H2x16s16s32x", 1, b" " * 16, b" " * 16) + item(0x10, b"1.2.840.10008.3.1.1.1")
    body += item(0x21, struct.pack(">BxBx", 1, result) + item(0x40, transfer.encode()))
    user = item(0x51, struct.pack(">L", maximum_bytes)) + item(0x52, b"1.2.3.4.5")
    return pdu(2, body + item(0x50, user))


def associate_rj(result: int, source: int, reason: int) -> bytes:
    return pdu(3, struct.pack(">xBBB", result, source, reason))


def p_data(control: int, data: bytes, context_id: int = 1) -> bytes:
    """One fragment: bit 0 of `control` says command, bit 1 last."""
    return pdu(4, struct.pack(">LBB", len(data) + 2, context_id, control) + data)


def command(field_code: int, *elements: tuple[int, bytes]) -> bytes:
    """A command set: Implicit VR Little Endian, with its group length (PS3.7 6.3.1)."""
    body = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value
        for element, value in sorted(((0x0100, struct.pack("<H", field_code)), *elements))
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_rq(
    sop_instance_uid: str = "1.2.3.4",
    sop_class_uid: str = CT,
    *,
    data_set_type: int = 1,
    message_id: bytes = b"\x01\x00",
    priority: int = 0,
) -> bytes:
    def padded(text: str) -> bytes:
        return text.encode() + b"\0" * (len(text) % 2)

    return command(
        0x0001,
        (0x0002, padded(sop_class_uid)),
        (0x0110, message_id),
        (0x0700, struct.pack("<H", priority)),
        (0x0800, struct.pack("<H", data_set_type)),
        (0x1000, padded(sop_instance_uid)),
    )


def store_rsp(status: int) -> bytes:
    """The last fragment of a C-STORE response."""
    no_data, message = struct.pack("<H", 0x0101), struct.pack("<H", 1)
    return p_data(3, command(0x8001, (0x0120, message), (0x0800, no_data), (0x0900, struct.pack("<H", status))))


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU; type 0 once the connection is closed."""
    header = _read(connection, 6)
    if len(header) < 6:
        return 0, b""
    kind, length = struct.unpack(">BxL", header)
    return kind, _read(connection, length)


def read_command(connection: socket.socket) -> dict[int, bytes]:
    """The elements of the next command set, of however many fragments."""
    command_set, is_last = b"", False
    while not is_last:
        kind, body = read_pdu(connection)
        assert kind == 4
        is_last = bool(body[5] & 2)
        command_set += body[6:]
    return command_elements(command_set)


def read_status(connection: socket.socket) -> int:
    """The status of the next response."""
    return int.from_bytes(read_command(connection)[0x0900], "little")


def echo_rq(context_id: int = 3, *, message_id: int = 1) -> bytes:
    named = ((0x0002, ECHO.encode() + b"\0"), (0x0110, struct.pack("<H", message_id)), (0x0800, b"\x01\x01"))
    return p_data(3, command(0x0030, *named), context_id)


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def _read(connection: socket.socket, count: int) -> bytes:
    data = b""
    try:
        while len(data) < count and (more := connection.recv(count - len(data))):
            data += more
    except ConnectionError:
        return b""
    return data


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        yield connection


@contextmanager
def associated(port: int, called: str = "TENDON", calling: str = "RAW") -> Iterator[socket.socket]:
    """A connection on which one presentation context, CT in Explicit VR Little Endian, is accepted."""
    with connected(port) as connection:
        connection.sendall(associate_rq(called, calling))
        kind, _ = read_pdu(connection)
        assert kind == 2
        yield connection


@contextmanager
def scripted(*answers: bytes) -> Iterator[int]:
    """A peer that gives answer k to the k-th message it gets, then lets go or waits; yields its port."""
    listener = socket.create_server((LOOPBACK, 0))

    def play() -> None:
        connection, _ = listener.accept()
        with connection:
            for answer in answers:
                kind, body = read_pdu(connection)
                while kind == 4 and body[5] != 2:
                    kind, body = read_pdu(connection)
                try:
                    connection.sendall(answer)
                except ConnectionError:
                    return
            while kind := read_pdu(connection)[0]:
                if kind == 5:
                    connection.sendall(RELEASED)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
        thread.join()
