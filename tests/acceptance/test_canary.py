"""What peers send of a patient, in whatever place, shows in no log, metric, answer or file name of the whole system."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.data_sets import explicit
from tests.dicom_peers import CT, LOOPBACK, RELEASE, associate_rq, associated, connected, p_data, read_pdu, store_rq
from tests.house import MODALITY, house, write_limb_study

CANARY = "canary"
WHO = {"patient_id": "CANARYID77", "patient_name": "Canaryname^Zebra", "accession_number": "CANARYACC9"}
UIDS = ("1.2.CANARY.3", "CANARY^ZEBRA", "1.2.\x1b]0;CANARY", "CANARY\n" * 9, "../../CANARY", "")


@pytest.fixture
def tendon(tmp_path):
    with house(tmp_path) as started:
        started.start()
        yield started


def data_set(uid: str) -> bytes:
    """With the canary also where only numbers, dates and UIDs may be."""
    given = [
        (0x00080016, b"UI", CT),
        (0x00080018, b"UI", uid),
        (0x00080020, b"DA", "CANARY"),
        (0x00080050, b"SH", "CANARY2"),
        (0x00080060, b"CS", "CT"),
        (0x00081030, b"LO", "canary text"),
        (0x00100010, b"PN", "Canary^Zebra"),
        (0x00100020, b"LO", "CANARY1"),
        (0x00100030, b"DA", "CANARY"),
        (0x0020000D, b"UI", f"{uid}.CANARY"),
        (0x0020000E, b"UI", "1.2.CANARY"),
        (0x00200013, b"IS", "CANARY"),
        (0x00200032, b"DS", "CANARY\\0\\0"),
    ]
    return b"".join(explicit(tag, vr, text.encode() + b" " * (len(text) % 2)) for tag, vr, text in given)


def store(port: int, uid: str, data: bytes, calling: str = MODALITY) -> None:
    """As a peer that checks nothing."""
    with associated(port, calling=calling) as connection:
        connection.sendall(p_data(3, store_rq(uid)) + p_data(2, data))
        read_pdu(connection)
        connection.sendall(RELEASE)
        read_pdu(connection)


def recorders() -> dict[int, list[str]]:
    """Every recorder of this machine, with what it was given."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"\0recorder\0" in (entry / "cmdline").read_bytes():
                found[int(entry.name)] = (entry / "environ").read_text().split("\0")
        except OSError:
            continue
    return found


def kill_the_recorder(tendon) -> None:
    mine = f"TENDON_DATA_DIR={tendon.environment['TENDON_DATA_DIR']}"
    (pid,) = [pid for pid, given in recorders().items() if mine in given]
    os.kill(pid, signal.SIGKILL)


def test_nothing_of_a_patient_is_in_logs_metrics_answers_or_file_names(tendon, tmp_path):
    monitor = httpx.Client(base_url=f"http://{LOOPBACK}:{tendon.admin_port}", timeout=30)
    names: set[str] = set()

    def look() -> bool:
        """Names of files come and go."""
        names.update(str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*"))
        return "tendon_journal_owed_objects 0.0" in monitor.get("/metrics").text

    for number, uid in enumerate(UIDS):
        store(tendon.dicom_port, uid, data_set(uid))
        store(tendon.dicom_port, f"1.2.{number}.CANARY", b"CANARY" * 100)
        store(tendon.dicom_port, uid, data_set(uid)[: 40 + 30 * number])
        look()
    with associated(tendon.dicom_port, calling=MODALITY) as connection:
        connection.sendall(p_data(3, store_rq("1.2.CANARY.4")) + p_data(0, b"CANARY, and then nothing more comes"))
    with connected(tendon.dicom_port) as connection:
        connection.sendall(associate_rq("TENDON", "CANARY ZEBRA"))
        read_pdu(connection)
    kill_the_recorder(tendon)
    tendon.send(write_limb_study(tmp_path / "study", study_description="canarytext", **WHO))
    first, *_ = tendon.settled(2)
    tendon.until(look)

    serve = tendon.roles["serve"]
    seen = {
        "/metrics": monitor.get("/metrics").text,
        "/readyz": monitor.get("/readyz").text,
        "jobs": tendon.tendon("jobs"),
        "study": tendon.tendon("study", first["study_uid"]),
        "check": tendon.tendon("check", expect=None),
        "alarms": tendon.tendon("alarms"),
    }
    monitor.close()
    serve.terminate()
    seen["stdout"] = serve.stdout.read()
    tendon.stop()
    assert serve.returncode == 0
    seen |= {"stderr": tendon.log(), "names of files": "\n".join(names)}
    assert "the recorder ended" in seen["stderr"]
    assert len(names) > len(UIDS)
    assert [where for where, text in seen.items() if CANARY in text.lower()] == []
