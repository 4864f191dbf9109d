"""What the listener tells peers it rejects, and that nobody else has to wait for what becomes of it."""

from __future__ import annotations

import threading

import pytest

from orchestrator.dicom import rejected
from orchestrator.dicom.scp import StorageScp
from orchestrator.dicom.scu import DicomSender, store_files
from orchestrator.domain.errors import Broken, Fault, Transient
from tests.dicom_peers import (
    LOOPBACK,
    PATIENT_NAME,
    FakeReception,
    FakeRejections,
    associate_rq,
    connected,
    eventually,
    listening,
    read_pdu,
    scp_of,
    write_object,
)

CLOSED = 0
REJECTED = 3


def test_an_unknown_peer_is_rejected_for_good(tmp_path):
    reception = FakeReception(strangers=frozenset({"STRANGER"}))
    with listening(scp_of(reception)) as port:
        with connected(port) as connection:
            connection.sendall(associate_rq("TENDON", "STRANGER"))
            assert read_pdu(connection) == (REJECTED, bytes([0, 1, 1, 3]))
            assert read_pdu(connection) == (CLOSED, b"")
        files = [write_object(tmp_path)]
        (sent,) = store_files(files, host=LOOPBACK, port=port, called_ae="TENDON", calling_ae="STRANGER")
    assert sent.outcome == "refused"
    assert reception.opened == reception.closed == reception.stored == []


def test_a_wrong_called_title_is_rejected_before_the_reception_is_asked():
    reception = FakeReception()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        connection.sendall(associate_rq("OTHER"))
        assert read_pdu(connection) == (REJECTED, bytes([0, 1, 1, 7]))
    assert reception.opened == reception.closed == []


def test_each_title_of_ours_may_be_called_and_no_other():
    reception, rejections = FakeReception(), FakeRejections()
    with listening(scp_of(reception, "TENDON", "OLD ROUTER", rejections=rejections)) as port:
        for called in ("TENDON", "OLD ROUTER"):
            DicomSender("CT1").echo(LOOPBACK, port, called)
        with connected(port) as connection:
            connection.sendall(associate_rq("OLD"))
            assert read_pdu(connection) == (REJECTED, bytes([0, 1, 1, 7]))
        assert eventually(lambda: rejections.written == 1)
    assert len(reception.opened) == 2
    assert rejections.noted == [("RAW", "OLD", "called-ae-unknown")]


@pytest.mark.parametrize(
    ("failure", "said"),
    [(Transient(Fault.DATABASE_UNREACHABLE), "TND-9008"), (RuntimeError(PATIENT_NAME), "RuntimeError")],
)
def test_a_reception_that_cannot_answer_rejects_for_now_and_it_is_logged_only(caplog, failure, said):
    class Unable(FakeReception):
        def open(self, caller):
            raise failure

    rejections = FakeRejections()
    with listening(scp_of(Unable(), rejections=rejections)) as port, connected(port) as connection:
        connection.sendall(associate_rq("TENDON"))
        assert read_pdu(connection) == (REJECTED, bytes([0, 2, 1, 1]))
        assert eventually(lambda: f"no association could be opened: {said}" in caplog.text)
    assert rejections.noted == []
    assert PATIENT_NAME not in caplog.text


def test_rejections_that_hang_on_their_way_to_the_database_hold_up_neither_peers_nor_a_stop(monkeypatch):
    monkeypatch.setattr(rejected, "_END_S", 0.1)
    released = threading.Event()

    class Stuck(FakeRejections):
        def write(self, *, everything=False):
            released.wait(30)

    reception, rejections = FakeReception(strangers=frozenset({"RAW"})), Stuck()
    started = scp_of(reception, rejections=rejections)
    port = started.start()
    for _ in range(20):
        with connected(port) as connection:
            connection.sendall(associate_rq("TENDON"))
            assert read_pdu(connection) == (REJECTED, bytes([0, 1, 1, 3]))
    DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    started.stop()
    released.set()
    assert len(rejections.noted) == 20
    assert eventually(lambda: "rejections" not in {thread.name for thread in threading.enumerate()})


def test_a_rejection_that_cannot_be_noted_is_a_rejection_all_the_same(caplog):
    class Broken(FakeRejections):
        def note(self, caller, refusal):
            raise RuntimeError(PATIENT_NAME)

    with listening(scp_of(FakeReception(), rejections=Broken())) as port:
        with connected(port) as connection:
            connection.sendall(associate_rq("OTHER"))
            assert read_pdu(connection) == (REJECTED, bytes([0, 1, 1, 7]))
            assert read_pdu(connection) == (CLOSED, b"")
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    assert "was not noted: RuntimeError" in caplog.text
    assert PATIENT_NAME not in caplog.text


def test_an_ipv4_peer_is_known_by_its_ipv4_address_where_we_listen_on_ipv6_too():
    reception = FakeReception()
    started = StorageScp(("TENDON",), "::", 0, reception, FakeRejections())
    try:
        port = started.start()
    except Broken:
        pytest.skip("this machine has no IPv6")
    DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    started.stop()
    assert reception.opened == [("CT1", LOOPBACK)]
