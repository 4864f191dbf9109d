"""Beside hostile neighbours, a real `tendon scp` goes on for honest ones, and is afterwards what it was before."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import struct
import subprocess
import zlib
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.dicom.elements import DEFLATED
from orchestrator.dicom.part10 import part10_prefix
from orchestrator.dicom.scu import DicomSender, store_files
from orchestrator.store.tables import instances
from tests.data_sets import EXPLICIT, IMPLICIT, ITEM, ITEM_END, SEQUENCE_END, explicit, implicit
from tests.dicom_peers import (
    ABORT,
    CT,
    LOOPBACK,
    associate_rq,
    associated,
    connected,
    eventually,
    item,
    p_data,
    pdu,
    read_pdu,
    store_rq,
)
from tests.house import TENDON
from tests.receiver import is_owed

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = "TENDON"
MOST_MORE_MIB = 96
STUDY = explicit(0x0020000D, b"UI", b"1.2.3\0")


@dataclass
class Scp:
    """The process, and what it holds."""

    pid: int
    port: int
    data: Path

    @property
    def _status(self) -> str:
        return Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")

    @property
    def threads(self) -> int:
        return int(re.search(r"Threads:\s+(\d+)", self._status)[1])

    @property
    def peak_mib(self) -> int:
        return int(re.search(r"VmHWM:\s+(\d+)", self._status)[1]) >> 10

    @property
    def descriptors(self) -> int:
        """Without those of the database, whose connections are kept and lent, and of packs, some of which are kept."""
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.append(entry.readlink())
        return sum(not path.name.startswith("tendon.db") and path.suffix != ".pack" for path in found)

    @property
    def files(self) -> set[Path]:
        found = {path for path in (self.data / "objects").rglob("*") if path.is_file()}
        return {path for path in found if path.parent.name != "journal"}

    @property
    def is_writing(self) -> bool:
        """Whether there is something in the journal, or half an object."""
        objects = self.data / "objects"
        return any((objects / "incoming").iterdir()) or any(map(is_owed, (objects / "journal").glob("*.pack")))

    def records(self, sop_instance_uid: str) -> int:
        with closing(sqlite3.connect(f"file:{self.data / 'tendon.db'}?mode=ro", uri=True)) as database:
            asked = database.execute("SELECT count(*) FROM instances WHERE sop_instance_uid = ?", (sop_instance_uid,))
            return int(asked.fetchone()[0])

    def echo(self) -> None:
        """An honest one; it raises where it is not answered in time."""
        DicomSender(ME).echo(LOOPBACK, self.port, ME)


@pytest.fixture(scope="module")
def scp(tmp_path_factory) -> Iterator[Scp]:
    data = tmp_path_factory.mktemp("scp") / "data"
    environment = {"PATH": os.environ["PATH"], "TENDON_DATA_DIR": str(data), "TENDON_DICOM_PORT": "0"}
    process = subprocess.Popen(
        [TENDON, "scp"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    announced = process.stdout.readline()
    running = Scp(process.pid, int(announced.rpartition(":")[2]), data)
    running.echo()
    try:
        yield running
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in complaints


@pytest.fixture
def at_rest(scp) -> Iterator[Scp]:
    """The process, which has to come to rest again."""
    before = (scp.threads, scp.descriptors)
    peak_mib = scp.peak_mib
    yield scp
    scp.echo()
    assert eventually(lambda: (scp.threads, scp.descriptors) <= before, 30), (before, scp.threads, scp.descriptors)
    assert scp.peak_mib - peak_mib < MOST_MORE_MIB


def flood(connection: socket.socket, piece: bytes, count: int) -> None:
    """Send until it is cut off."""
    with suppress(OSError):
        for _ in range(count):
            connection.sendall(piece)


def rude_request(count: int) -> bytes:
    """A request for association whose every context names so many transfer syntaxes: with 2,000 it has 6.1 MB."""
    body = struct.pack(">H2x16s16s32x", 1, ME.ljust(16).encode(), ME.ljust(16).encode())
    syntaxes = b"".join(item(0x40, b"1.2.840.10008.1.%04d" % k) for k in range(count))
    for number in range(1, 256, 2):
        body += item(0x20, struct.pack(">B3x", number) + item(0x30, CT.encode()) + syntaxes)
    return pdu(1, body)


def test_honest_neighbours_are_served_beside_many_that_are_not(at_rest):
    with ExitStack() as held:

        def stranger() -> socket.socket:
            return held.enter_context(socket.create_connection((LOOPBACK, at_rest.port), timeout=30))

        for _ in range(60):
            stranger().sendall(b"\x01\0\0\0")
        at_rest.echo()
        for _ in range(1000):
            idle = held.enter_context(socket.socket())
            idle.settimeout(0.0)
            idle.connect_ex((LOOPBACK, at_rest.port))
        at_rest.echo()
        half = associate_rq(ME, ME)[:100]
        for _ in range(200):
            flood(stranger(), half, 1)
        at_rest.echo()
        for request in (rude_request(2000), rude_request(300)):
            for _ in range(8):
                flood(stranger(), request, 1)
            at_rest.echo()


@pytest.mark.parametrize("is_associated", [False, True])
def test_a_pdu_that_claims_4_gib_costs_no_memory(at_rest, is_associated):
    with connected(at_rest.port) as connection:
        if is_associated:
            connection.sendall(associate_rq(ME, ME))
            read_pdu(connection)
        connection.sendall(struct.pack(">BxL", 4 if is_associated else 1, 0xFFFFFFFF))
        flood(connection, bytes(1 << 20), 200)
        with suppress(TimeoutError):
            read_pdu(connection)


def test_commands_without_end_cost_no_memory(at_rest):
    """Each within its bounds, and none waited for."""
    with associated(at_rest.port, ME, ME) as connection:
        flood(
            connection,
            (p_data(3, store_rq(data_set_type=0x0101) + implicit(0x00000000 | 0x1030, bytes(60_000)))) * 16,
            200,
        )


def in_sequence(tag: int, *items: bytes) -> bytes:
    return implicit(tag, b"".join(implicit(0xFFFEE000, each) for each in items))


def bombs() -> dict[str, tuple[str, bytes]]:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(STUDY + explicit(0x7FE00010, b"OB", b"")[:8] + struct.pack("<I", 1 << 28))
    for _ in range(256):
        deflated += deflater.compress(bytes(1 << 20))
    level = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + ITEM
    on = in_sequence(0x30060014, *[implicit(0x0020000E, b"1.2\0")] * 10_000)
    structures = in_sequence(0x30060010, in_sequence(0x30060012, on)) + in_sequence(
        0x30060020, *[implicit(0x30060022, b"1 ")] * 10_000
    )
    contours = in_sequence(
        0x30060039, in_sequence(0x30060040, implicit(0x30060050, b"0 ")) + implicit(0x30060084, b"1 ")
    )
    return {
        "1.9.1": (DEFLATED, deflated + deflater.flush()),
        "1.9.2": (EXPLICIT, STUDY + explicit(0x00400555, b"SQ", implicit(0xFFFEE000, b"") * 1_000_000)),
        "1.9.3": (EXPLICIT, STUDY + level * 100_000 + (ITEM_END + SEQUENCE_END) * 100_000),
        "1.9.4": (IMPLICIT, implicit(0x0020000D, b"1.2.3\0") + structures + contours),
        "1.9.5": (DEFLATED, bytes.fromhex("04c0810800000000207feb43001c880000000000f2b73e") * (1 << 20)),
    }


REASONS = {
    "1.9.1": "inflates to more than",
    "1.9.2": "more than the 10000 items",
    "1.9.3": "deeper than the 32 levels",
    "1.9.4": "more than the 1000 regions",
    "1.9.5": "",
}


def test_bombs_are_stored_byte_for_byte_and_marked_unreadable(at_rest, tmp_path):
    sent = bombs()
    for uid, (transfer_syntax, data_set) in sent.items():
        (tmp_path / uid).write_bytes(part10_prefix(CT, uid, transfer_syntax) + data_set)
    paths = [tmp_path / uid for uid in sent]
    results = store_files(paths, host=LOOPBACK, port=at_rest.port, called_ae=ME, calling_ae=ME)
    assert {result.outcome for result in results} == {"accepted"}
    assert eventually(lambda: not at_rest.is_writing, 60)
    system = open_system(settings.load({"TENDON_DATA_DIR": str(at_rest.data)}))
    with system.records.transaction() as unit:
        rows = unit.connection.execute(instances.select().where(instances.c.sop_instance_uid.in_(sent))).all()
    for row in rows:
        uid = row.sop_instance_uid
        assert Path(system.objects.path(row.digest)).read_bytes() == (tmp_path / uid).read_bytes()
        assert row.header["unreadable"]
        assert REASONS[uid] in row.header["unreadable"]
    assert len(rows) == len(sent)
    system.records.close()


@pytest.mark.parametrize("pieces", [5, 90], ids=["in the journal", "too large for it"])
@pytest.mark.parametrize("end", ["abort", "loss", "reset", "release", "half a PDU"])
def test_what_breaks_off_in_mid_object_leaves_no_file_and_no_descriptor(at_rest, end, pieces):
    before = at_rest.files
    with associated(at_rest.port, ME, ME) as connection:
        connection.sendall(p_data(3, store_rq()) + p_data(0, bytes(100_000)) * pieces)
        assert eventually(lambda: at_rest.is_writing)
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif end != "loss":
            connection.sendall({"abort": ABORT, "release": b"\x05\0\0\0\0\4\0\0\0\0"}.get(end, p_data(0, bytes(9))[:9]))
    assert eventually(lambda: not at_rest.is_writing)
    assert at_rest.files == before
    assert at_rest.records("1.2.3.4") == 0
