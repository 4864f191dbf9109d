"""What a real reception keeps of what real peers send: data sets bit by bit, and the header facts of each."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.part10 import read_part10
from orchestrator.dicom.scu import store_files
from orchestrator.domain.errors import Refused
from orchestrator.store.tables import instances
from tests.dicom_peers import (
    CT,
    EXPLICIT,
    IMPLICIT,
    LOOPBACK,
    associated,
    data_set_of,
    p_data,
    program,
    read_pdu,
    store_rq,
    write_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.assembly import System

ROOT = "1.2.840.10008.1.2"
SUFFIXES = ("1.99", "2", "5", "4.50", "4.70", "4.80", "4.91", "4.201")
SYNTAXES = (IMPLICIT, EXPLICIT, *(f"{ROOT}.{suffix}" for suffix in SUFFIXES))
DIRECTORY = "1.2.840.10008.1.3.10"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture
def system(tmp_path):
    opened = open_system(settings.load({"TENDON_DATA_DIR": str(tmp_path / "data"), "TENDON_DICOM_PORT": "0"}))
    yield opened
    opened.records.close()


def kept(system: System) -> dict[str, list[bytes]]:
    """The data sets stored, by SOP Instance UID."""
    found: dict[str, list[bytes]] = {}
    with system.records.transaction() as unit:
        rows = unit.connection.execute(instances.select().order_by(instances.c.id)).all()
    for row in rows:
        path = Path(system.objects.path(row.digest))
        found.setdefault(row.sop_instance_uid, []).append(data_set_of(path))
    return found


def sent(files: Iterable[Path], system: System) -> dict[str, str]:
    scp = system.scp()
    port = scp.start()
    try:
        results = store_files(list(files), host=LOOPBACK, port=port, called_ae="TENDON", calling_ae="TENDON")
        return {str(result.path): result.outcome for result in results}
    finally:
        scp.stop()


def test_every_encoding_is_kept_bit_by_bit_and_read(system, tmp_path):
    files = [write_object(tmp_path / "sent", transfer_syntax_uid=uid, pixel_bytes=300_000) for uid in SYNTAXES]
    assert set(sent(files, system).values()) == {"accepted"}
    assert kept(system) == {path.stem: [data_set_of(path)] for path in files}
    with system.records.reading() as unit:
        study = unit.studies.get("1.2.3")
        found = {i.header.sop_instance_uid: i.header for series in study.series for i in series.instances}
    assert {path.stem: found[path.stem] for path in files} == {path.stem: read_file_header(path) for path in files}


def test_dcmtk_and_we_send_the_same(system, tmp_path):
    path = write_object(tmp_path / "sent", pixel_bytes=300_000)
    scp = system.scp()
    port = str(scp.start())
    try:
        for name in ("storescu", "dcmsend"):
            given = [program(name), "-aec", "TENDON", *(["-aet", "TENDON"]), LOOPBACK, port, str(path)]
            subprocess.run(given, check=True, capture_output=True, timeout=60)
    finally:
        scp.stop()
    assert kept(system) == {path.stem: [data_set_of(path)]}, "the same bytes again are no other version"


def test_an_object_of_another_class_than_announced_is_refused_and_the_next_one_taken(system, tmp_path):
    named = write_object(tmp_path / "sent", pixel_bytes=150_000)
    data_set = data_set_of(named)
    scp = system.scp()
    with associated(scp.start(), calling="TENDON") as connection:
        for sop_class_uid, status in ((MR, 0xA900), (CT, 0x0000)):
            pieces = p_data(0, data_set[:100_000]) + p_data(2, data_set[100_000:])
            connection.sendall(p_data(3, store_rq(named.stem, sop_class_uid, data_set_type=0)) + pieces)
            _, answer = read_pdu(connection)
            assert struct.pack("<HHLH", 0, 0x0900, 2, status) in answer
    scp.stop()
    assert kept(system) == {named.stem: [data_set]}


def test_an_object_is_known_by_the_instance_that_its_data_set_names(system, tmp_path):
    named = write_object(tmp_path / "sent")
    scp = system.scp()
    with associated(scp.start(), calling="TENDON") as connection:
        connection.sendall(p_data(3, store_rq("1.2.3.999", data_set_type=0)) + p_data(2, data_set_of(named)))
        _, answer = read_pdu(connection)
        assert struct.pack("<HHLH", 0, 0x0900, 2, 0) in answer
    scp.stop()
    assert list(kept(system)) == [named.stem]


def test_every_public_image_is_kept_bit_by_bit(system, sample_data):
    """Of the malformed ones, those that name a class and an instance to send them under."""
    files = []
    for path in sorted(p for p in sample_data.rglob("*") if p.is_file()):
        try:
            header = read_file_header(path)
        except Refused:
            continue
        if header.sop_class_uid != DIRECTORY and header.sop_class_uid and header.sop_instance_uid:
            files.append((path, header.sop_instance_uid))
    assert len(files) > 100
    outcomes = sent([path for path, _ in files], system)
    found = kept(system)
    for path, uid in files:
        assert outcomes[str(path)] == "accepted", path
        assert path.read_bytes()[read_part10(path).offset :] in found[uid], path
