"""What the Storage SCP promises its peers, and what no peer can do to it."""

from __future__ import annotations

import logging
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import UID_dictionary
from pynetdicom import AE, AllStoragePresentationContexts

from orchestrator.dicom import bounded, listener, scp
from orchestrator.dicom.scu import DicomSender, store_files
from orchestrator.domain.errors import Broken, Fault, Refused, Transient
from tests.dicom_peers import (
    ABORT,
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    LOOPBACK,
    PATIENT_NAME,
    PRIVATE_CLASS,
    RELEASE,
    FakeReception,
    associate_rq,
    associated,
    connected,
    data_set_of,
    eventually,
    listening,
    p_data,
    program,
    read_pdu,
    scp_of,
    store_rq,
    write_object,
)

if TYPE_CHECKING:
    from pathlib import Path

TRANSFER_SYNTAXES = sorted(uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax")
BIG = "1.2.840.10008.1.2.2"
CLOSED = 0
ACCEPTED = 2
REJECTED = 3
ANSWERED = 4
RELEASED = 6
ABORTED = 7


def send(paths: list[Path], port: int, calling_ae: str = "CT1") -> list[tuple[str, str]]:
    files = store_files(paths, host=LOOPBACK, port=port, called_ae="TENDON", calling_ae=calling_ae)
    return [(file.outcome, file.detail) for file in files]


def can_associate(port: int) -> bool:
    try:
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    except Transient:
        return False
    return True


def status_of(pdu: bytes) -> int:
    """The status of a response, the last element of its command set here."""
    at = pdu.index(struct.pack("<HHL", 0, 0x0900, 2))
    return int.from_bytes(pdu[at + 8 : at + 10], "little")


def test_every_transfer_syntax_of_the_standard_is_stored_byte_for_byte(tmp_path):
    paths = [write_object(tmp_path, transfer_syntax_uid=uid) for uid in TRANSFER_SYNTAXES]
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        assert set(send(paths, port)) == {("accepted", "")}
    assert reception.stored == [
        (CT, path.stem, uid, data_set_of(path)) for path, uid in zip(paths, TRANSFER_SYNTAXES, strict=True)
    ]


def test_real_images_in_every_encoding_are_stored_byte_for_byte(sample_data):
    paths = sorted(p for p in (sample_data / "transfer_syntaxes").rglob("*.dcm") if p.is_file())
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        assert {outcome for outcome, _ in send(paths, port)} == {"accepted"}
    assert sorted(data for *_, data in reception.stored) == sorted(map(data_set_of, paths))


def test_every_storage_class_is_accepted_and_so_are_retired_and_private_ones():
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    classes += ["1.2.840.10008.5.1.4.1.1.5", "1.2.840.10008.5.1.4.1.1.12.3", PRIVATE_CLASS]
    with listening(scp_of(FakeReception())) as port:
        for start in range(0, len(classes), 100):
            entity = AE("CT1")
            for uid in classes[start : start + 100]:
                entity.add_requested_context(uid)
            association = entity.associate(LOOPBACK, port, ae_title="TENDON")
            assert len(association.accepted_contexts) == len(classes[start : start + 100])
            association.release()
            association.join()


def test_an_object_of_a_private_class_is_stored(tmp_path):
    path = write_object(tmp_path, sop_class_uid=PRIVATE_CLASS)
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        assert send([path], port) == [("accepted", "")]
    assert reception.stored == [(PRIVATE_CLASS, path.stem, EXPLICIT, data_set_of(path))]


@pytest.mark.parametrize("transfer_syntax_uid", [IMPLICIT, EXPLICIT, BIG])
def test_dcmtk_stores_byte_for_byte(tmp_path, transfer_syntax_uid):
    storescu = program("storescu")
    path = write_object(tmp_path, transfer_syntax_uid=transfer_syntax_uid)
    reception = FakeReception()
    offer = {IMPLICIT: "-xi", EXPLICIT: "-xe", BIG: "-xb"}[transfer_syntax_uid]
    with listening(scp_of(reception)) as port:
        subprocess.run([storescu, offer, "-aec", "TENDON", LOOPBACK, str(port), str(path)], check=True)
        assert eventually(lambda: reception.outcomes == ["released"])
    assert reception.stored == [(CT, path.stem, transfer_syntax_uid, data_set_of(path))]


def test_dcmtk_is_answered_to_c_echo():
    echoscu = program("echoscu")
    with listening(scp_of(FakeReception())) as port:
        subprocess.run([echoscu, "-aec", "TENDON", LOOPBACK, str(port)], check=True)
        wrong = subprocess.run(
            [echoscu, "-aec", "OTHER", LOOPBACK, str(port)], check=False, capture_output=True, text=True
        )
    assert "Called AE Title Not Recognized" in wrong.stderr + wrong.stdout


def test_an_association_is_opened_with_the_callers_title_and_address_and_closed_once():
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    assert reception.opened == [("CT1", LOOPBACK)]
    assert reception.closed == [("association 1", "released")]


@pytest.mark.parametrize(("last_words", "outcome"), [(b"", "lost"), (ABORT, "aborted")])
def test_a_connection_that_ends_in_mid_object_stores_nothing_and_is_closed_once(last_words, outcome):
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        with associated(port) as connection:
            connection.sendall(p_data(3, store_rq()) + p_data(0, b"\x08\0\x60\0CS\x02\0CT") + last_words)
        assert eventually(lambda: reception.outcomes == [outcome])
    assert reception.stored == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Refused(Fault.STORAGE_LOW), 0xA700),
        (Broken(Fault.STORE_FAILED), 0xA700),
        (Refused(Fault.TRUNCATED), 0xC000),
        (Refused(Fault.NOT_DICOM), 0xC000),
        (Refused(Fault.NOT_FOUND), 0x0110),
        (OSError(28, PATIENT_NAME), 0xA700),
        (ValueError(PATIENT_NAME), 0x0110),
    ],
)
def test_a_refusal_becomes_a_status_and_the_association_goes_on(tmp_path, caplog, failure, status):
    path = write_object(tmp_path)
    reception = FakeReception(failure=failure)
    with listening(scp_of(reception)) as port, associated(port) as connection:
        connection.sendall(p_data(3, store_rq(path.stem)) + p_data(2, data_set_of(path)))
        kind, body = read_pdu(connection)
        assert (kind, status_of(body)) == (ANSWERED, status)
        reception.failure = None
        connection.sendall(p_data(3, store_rq(path.stem)) + p_data(2, data_set_of(path)))
        assert status_of(read_pdu(connection)[1]) == 0
        connection.sendall(RELEASE)
        assert read_pdu(connection)[0] == RELEASED
    assert [data for *_, data in reception.stored] == [data_set_of(path)]
    assert PATIENT_NAME not in caplog.text
    assert "Traceback" not in caplog.text


def test_an_object_without_a_data_set_is_not_understood():
    reception = FakeReception()
    with listening(scp_of(reception)) as port, associated(port) as connection:
        connection.sendall(p_data(3, store_rq(data_set_type=0x0101)))
        assert status_of(read_pdu(connection)[1]) == 0xC000
    assert reception.stored == []


def test_twenty_associations_at_once_lose_nothing(tmp_path):
    paths = [[write_object(tmp_path, pixel_bytes=70_000) for _ in range(5)] for _ in range(20)]
    reception = FakeReception(pause_s=0.005)
    with listening(scp_of(reception)) as port, ThreadPoolExecutor(20) as pool:
        sent = list(pool.map(lambda k: send(paths[k], port, f"CT{k}"), range(20)))
    assert {result for results in sent for result in results} == {("accepted", "")}
    expected = {path.stem: data_set_of(path) for some in paths for path in some}
    assert {uid: data for _, uid, _, data in reception.stored} == expected
    assert reception.outcomes == ["released"] * 20


def test_one_peer_has_sixteen_associations_and_others_are_still_welcome():
    with listening(scp_of(FakeReception())) as port, ExitStack() as held:
        for _ in range(listener.MAXIMUM_PER_PEER):
            held.enter_context(associated(port, calling="GREEDY"))
        one_more = held.enter_context(connected(port))
        one_more.sendall(associate_rq("TENDON", "GREEDY"))
        assert read_pdu(one_more) == (REJECTED, bytes([0, 2, 3, 2]))
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")


def test_over_the_number_of_associations_in_all_a_peer_is_rejected_for_now(monkeypatch):
    monkeypatch.setattr(listener, "MAXIMUM_ASSOCIATIONS", 2)
    with listening(scp_of(FakeReception())) as port, associated(port, calling="A"):
        with associated(port, calling="B"), connected(port) as one_more:
            one_more.sendall(associate_rq("TENDON", "C"))
            assert read_pdu(one_more) == (REJECTED, bytes([0, 2, 3, 2]))
        assert eventually(lambda: can_associate(port))


def test_of_too_many_silent_connections_only_the_longest_waiting_is_closed(monkeypatch):
    monkeypatch.setattr(listener, "MAXIMUM_WAITING", 6)
    with listening(scp_of(FakeReception())) as port, ExitStack() as held:
        connections = [held.enter_context(connected(port)) for _ in range(7)]
        assert read_pdu(connections[0]) == (CLOSED, b"")
        for connection in connections[1:]:
            connection.sendall(associate_rq("TENDON"))
            assert read_pdu(connection)[0] == ACCEPTED


@pytest.mark.parametrize("first_bytes", [b"", b"\x01\0\0", associate_rq("TENDON")[:40]])
def test_a_peer_that_does_not_finish_its_first_pdu_is_closed(monkeypatch, first_bytes):
    monkeypatch.setattr(bounded, "FIRST_PDU_S", 0.3)
    with listening(scp_of(FakeReception())) as port, connected(port) as connection:
        connection.sendall(first_bytes)
        assert read_pdu(connection)[0] in (CLOSED, ABORTED)


def test_a_peer_that_feeds_a_pdu_drop_by_drop_is_closed(monkeypatch):
    monkeypatch.setattr(bounded, "PDU_S", 0.3)
    reception = FakeReception()
    with listening(scp_of(reception)) as port, associated(port) as connection:
        connection.sendall(p_data(3, store_rq())[:8])
        for _ in range(6):
            threading.Event().wait(0.1)
            try:
                connection.sendall(b"\0")
            except OSError:
                break
        assert read_pdu(connection)[0] in (CLOSED, ABORTED)
        assert eventually(lambda: reception.outcomes == ["limit"])


@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">BxL", 4, 0xFFFFFFFF),
        struct.pack(">BxL", 4, bounded.MAXIMUM_PDU_BYTES + 1),
        struct.pack(">BxL", 5, 1 << 20),
        struct.pack(">BxL", 9, 0),
        struct.pack(">BxLL", 4, 4, 0xFFFFFFF0),
        struct.pack(">BxLLBB", 4, 6, 2, 1, 3),
        struct.pack(">BxLLB", 4, 5, 1, 1),
        p_data(3, store_rq()[:12]),
        p_data(2, b"data"),
        p_data(3, store_rq("")) + p_data(2, b"data"),
        p_data(3, store_rq("1" * 65)) + p_data(2, b"data"),
        p_data(3, b"\xff" * 40),
    ],
    ids=[
        "4 GiB",
        "longer than offered",
        "long release",
        "unknown type",
        "fragment past its PDU",
        "empty command",
        "fragment without control",
        "cut command",
        "data before its command",
        "no UID",
        "long UID",
        "no command",
    ],
)
def test_a_malformed_pdu_costs_its_association_only(capfd, pdu):
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        with associated(port) as connection:
            connection.sendall(pdu)
            assert read_pdu(connection)[0] in (CLOSED, ABORTED)
        assert eventually(lambda: len(reception.closed) == 1)
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    assert "Traceback" not in capfd.readouterr().err


def test_a_request_for_association_over_a_mebibyte_is_not_read():
    with listening(scp_of(FakeReception())) as port, connected(port) as connection:
        connection.sendall(struct.pack(">BxL", 1, bounded.MAXIMUM_NEGOTIATION_BYTES + 1))
        assert read_pdu(connection)[0] == ABORTED


def test_an_endless_command_set_ends_the_association():
    reception = FakeReception()
    with listening(scp_of(reception)) as port, associated(port) as connection:
        connection.sendall(p_data(1, bytes(bounded.MAXIMUM_COMMAND_BYTES)) + p_data(1, b"\0"))
        assert read_pdu(connection)[0] == ABORTED
        assert eventually(lambda: reception.outcomes == ["limit"])


def test_an_object_over_the_limit_ends_the_association(monkeypatch):
    monkeypatch.setattr(bounded, "MAXIMUM_OBJECT_BYTES", 1000)
    reception = FakeReception()
    with listening(scp_of(reception)) as port, associated(port) as connection:
        connection.sendall(p_data(3, store_rq()) + p_data(0, bytes(900)) + p_data(2, bytes(101)))
        assert read_pdu(connection)[0] == ABORTED
    assert reception.stored == []


def test_random_bytes_harm_nobody(capfd):
    reception = FakeReception()
    with listening(scp_of(reception)) as port:

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(min_size=1, max_size=200), st.integers(0, 8))
        def feed(noise: bytes, kind: int) -> None:
            with associated(port) as connection:
                connection.sendall(struct.pack(">BxL", kind, len(noise)) + noise if kind else noise)

        feed()
        assert eventually(lambda: len(reception.closed) == len(reception.opened))
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    assert reception.stored == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("uid", [PATIENT_NAME, "../outside", "1.2.3 4", "1.2\r\nlog line"])
def test_a_uid_that_is_none_is_handed_over_as_it_came_and_logged_nowhere(uid, caplog, capfd):
    reception = FakeReception()
    with listening(scp_of(reception)) as port, associated(port) as connection:
        connection.sendall(p_data(3, store_rq(uid)) + p_data(2, b"data"))
        assert status_of(read_pdu(connection)[1]) == 0
    assert reception.stored == [(CT, uid, EXPLICIT, b"data")]
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_nothing_of_the_patient_is_logged(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    path = write_object(tmp_path)
    with listening(scp_of(FakeReception())) as port:
        send([path], port)
        send([path], port, "STRANGER")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_an_end_that_cannot_be_noted_while_the_database_is_away_is_noted_later(monkeypatch):
    monkeypatch.setattr(scp, "_CLOSE_AGAIN_S", 0.05)
    reception = FakeReception(closings_lost=3)
    with listening(scp_of(reception)) as port:
        with associated(port):
            pass
        assert eventually(lambda: reception.outcomes == ["lost"])
    assert reception.closings_lost == 0


def test_an_end_that_cannot_be_noted_holds_up_no_stop():
    reception = FakeReception(closings_lost=1000)
    with listening(scp_of(reception)) as port:
        with associated(port):
            pass
        assert eventually(lambda: reception.closings_lost < 1000)
        before = time.monotonic()
    assert time.monotonic() - before < 2
    assert reception.outcomes == []


def test_stop_lets_an_association_end_within_the_grace(tmp_path):
    reception = FakeReception(pause_s=0.3)
    scp = scp_of(reception)
    port = scp.start()
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, [write_object(tmp_path)], port)
        assert eventually(lambda: len(reception.opened) == 1)
        scp.stop()
        assert sending.result() == [("accepted", "")]
    assert reception.outcomes == ["released"]


def test_stop_aborts_what_outlasts_the_grace_and_closes_what_waits():
    reception = FakeReception()
    scp = scp_of(reception)
    before = set(threading.enumerate())
    port = scp.start()
    with connected(port) as silent, associated(port) as connection:
        scp.stop(grace_s=0.1)
        assert read_pdu(connection)[0] == ABORTED
        assert read_pdu(silent) == (CLOSED, b"")
    assert reception.outcomes == ["aborted"]
    assert set(threading.enumerate()) <= before
    scp.stop()


def test_after_stop_the_port_is_closed():
    scp = scp_of(FakeReception())
    port = scp.start()
    scp.stop()
    with pytest.raises(ConnectionRefusedError), connected(port):
        pass


def test_an_address_in_use_is_told_at_start():
    with listening(scp_of(FakeReception())) as port, pytest.raises(Broken, match="cannot listen") as caught:
        scp_of(FakeReception(), port=port).start()
    assert caught.value.fault is Fault.SETTING_INVALID


def test_only_c_echo_and_storage_are_spoken():
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    with listening(scp_of(FakeReception())) as port:
        entity = AE("CT1")
        entity.add_requested_context(ECHO)
        entity.add_requested_context(find)
        association = entity.associate(LOOPBACK, port, ae_title="TENDON")
        assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [ECHO]
        association.release()
        association.join()
