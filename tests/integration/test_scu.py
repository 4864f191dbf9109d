"""What the sender tells of each object it sends, and what a destination can do to it."""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from orchestrator.dicom import bounded
from orchestrator.dicom.archive import Archive
from orchestrator.dicom.scu import DicomSender, store_files
from orchestrator.domain.delivery import Destination, Output
from orchestrator.domain.errors import Broken, Fault, Refused, Transient
from tests.dicom_peers import (
    ABORT,
    CT,
    EXPLICIT,
    IMPLICIT,
    LOOPBACK,
    PATIENT_NAME,
    FakeReception,
    associate_ac,
    associate_rj,
    data_set_of,
    free_port,
    listening,
    program,
    scp_of,
    scripted,
    store_rsp,
    write_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

J2K = "1.2.840.10008.1.2.4.90"
SENDER = DicomSender("TENDON")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def pacs(port: int, ae_title: str = "PACS", host: str = LOOPBACK) -> Destination:
    return Destination(name="pacs", kind="dicom", ae_title=ae_title, host=host, port=port)


def output(path: Path, **changed: str) -> Output:
    return Output(id=f"output {path.stem}", job_id="job", kind="seg", name="x", digest="", **changed)


def parcel(*paths: Path) -> list[tuple[Output, str]]:
    return [
        (output(path, study_uid="1.2.3", series_uid="1.2.3.4", sop_instance_uid=path.stem), str(path)) for path in paths
    ]


def told(destination: Destination, *paths: Path) -> list[tuple[str, str]]:
    return [(sent.outcome, sent.detail) for sent in SENDER.send(destination, parcel(*paths))]


def test_a_batch_goes_over_one_association_byte_for_byte_and_is_proven(tmp_path):
    paths = [write_object(tmp_path, transfer_syntax_uid=uid) for uid in (EXPLICIT, IMPLICIT, J2K, EXPLICIT)]
    sent = parcel(*paths)
    archive = Archive("PACS", tmp_path / "pacs")
    with listening(archive) as port:
        answers = SENDER.send(pacs(port), sent)
        proofs = SENDER.prove(pacs(port), [o for o, _ in sent] + [output(tmp_path / "never", sop_instance_uid="9.9")])
    assert [(a.output_id, a.outcome, a.detail) for a in answers] == [(o.id, "accepted", "") for o, _ in sent]
    assert proofs == {o.id: "query" for o, _ in sent}
    assert [data_set_of(tmp_path / "pacs" / path.name) for path in paths] == [data_set_of(path) for path in paths]


def test_one_batch_is_one_association(tmp_path):
    reception = FakeReception()
    with listening(scp_of(reception, "PACS")) as port:
        told(pacs(port), *(write_object(tmp_path) for _ in range(3)))
    assert reception.opened == [("TENDON", LOOPBACK)]
    assert reception.outcomes == ["released"]


def test_outputs_without_a_uid_are_not_asked_for(tmp_path):
    with listening(Archive("PACS", tmp_path)) as port:
        assert SENDER.prove(pacs(port), [output(tmp_path)]) == {}


def test_a_peer_that_is_down_is_unreachable(tmp_path):
    path = write_object(tmp_path)
    port = free_port()
    assert told(pacs(port), path, path) == [("unreachable", Fault.PEER_UNREACHABLE.value.meaning)] * 2
    assert SENDER.prove(pacs(port), [parcel(path)[0][0]]) == {}
    with pytest.raises(Transient):
        SENDER.echo(LOOPBACK, port, "PACS")


def test_a_host_without_an_address_is_unreachable(tmp_path):
    ((outcome, detail),) = told(pacs(104, host="no-such-host.invalid"), write_object(tmp_path))
    assert (outcome, detail) == ("unreachable", "the destination's host is not known")


@pytest.mark.parametrize("host", ["169.254.169.254", "0xA9FEA9FE", "::ffff:169.254.169.254", "0.0.0.0", "fe80::1"])
def test_a_forbidden_address_is_refused_for_good_and_not_connected_to(tmp_path, host):
    ((outcome, detail),) = told(pacs(104, host=host), write_object(tmp_path))
    assert outcome == "refused"
    assert detail.startswith("the destination's address ")
    assert SENDER.prove(pacs(104, host=host), [output(tmp_path)]) == {}


def test_a_name_that_leads_to_a_forbidden_address_at_the_moment_of_connecting_is_refused(tmp_path, monkeypatch):
    real = socket.getaddrinfo

    def lead_astray(host: str | None, *given: object, **named: object) -> list:
        return real("169.254.169.254" if host == "pacs.example" else host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lead_astray)
    with pytest.raises(Refused) as refusal:
        SENDER.echo("pacs.example", 104, "PACS")
    assert refusal.value.fault is Fault.ADDRESS_FORBIDDEN


def test_a_title_that_is_none_is_refused(tmp_path):
    ((outcome, detail),) = told(pacs(104, ae_title="much too long a title"), write_object(tmp_path))
    assert (outcome, detail) == ("refused", "the destination's AE title or ours is not valid")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (associate_rj(1, 1, 7), "refused"),
        (associate_rj(2, 3, 1), "unreachable"),
        (ABORT, "unreachable"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unreachable"),
    ],
)
def test_a_rejection_for_good_refuses_and_one_for_now_may_pass(tmp_path, answer, outcome):
    with scripted(answer) as port:
        assert told(pacs(port), write_object(tmp_path))[0][0] == outcome


@pytest.mark.parametrize("result", [3, 4])
def test_a_context_not_accepted_refuses_and_names_the_class(tmp_path, result):
    path = write_object(tmp_path)
    with scripted(associate_ac(result)) as port:
        assert told(pacs(port), path) == [
            ("refused", f"the destination does not accept SOP class {CT} in transfer syntax {EXPLICIT}")
        ]


def test_of_a_mixed_batch_only_what_the_peer_does_not_accept_is_refused(tmp_path):
    storescp = program("storescp")
    taken, compressed = write_object(tmp_path), write_object(tmp_path, transfer_syntax_uid=J2K)
    with dcmtk_storescp(storescp, tmp_path) as port:
        outcomes = [outcome for outcome, _ in told(pacs(port), compressed, taken)]
    assert outcomes == ["refused", "accepted"]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, "accepted"),
        (0xB000, "accepted"),
        (0xB006, "accepted"),
        (0xB007, "accepted"),
        (0xA700, "unreachable"),
        (0xA7FF, "unreachable"),
        (0xA900, "refused"),
        (0xC000, "refused"),
        (0x0110, "refused"),
        (0x0122, "refused"),
        (0x0124, "refused"),
    ],
)
def test_statuses_say_what_happens_next(tmp_path, status, outcome):
    with scripted(associate_ac(), store_rsp(status)) as port:
        ((told_outcome, detail),) = told(pacs(port), write_object(tmp_path))
    assert told_outcome == outcome
    assert (f"0x{status:04X}" in detail) is (status != 0)
    assert PATIENT_NAME not in detail


def test_after_a_connection_is_lost_the_rest_is_unreachable(tmp_path):
    with scripted(associate_ac(), store_rsp(0), ABORT) as port:
        outcomes = [outcome for outcome, _ in told(pacs(port), *(write_object(tmp_path) for _ in range(3)))]
    assert outcomes == ["accepted", "unreachable", "unreachable"]


def test_a_peer_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "ANSWER_S", 0.3)
    with scripted(associate_ac()) as port:
        assert told(pacs(port), write_object(tmp_path))[0][0] == "unreachable"


def test_a_peer_that_never_answers_the_request_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "FIRST_PDU_S", 0.3)
    with scripted() as port:
        assert told(pacs(port), write_object(tmp_path))[0][0] == "unreachable"


@pytest.mark.parametrize(
    "answers",
    [
        (struct.pack(">BxL", 2, 0xFFFFFFFF) + bytes(4 << 20),),
        (associate_ac(), struct.pack(">BxL", 4, 0xFFFFFFFF) + bytes(4 << 20)),
        (associate_ac(), struct.pack(">BxL", 4, bounded.MAXIMUM_PDU_BYTES + 1)),
        (associate_ac(maximum_bytes=3), b""),
        (associate_ac(maximum_bytes=6), b""),
    ],
    ids=["4 GiB acceptance", "4 GiB answer", "longer than offered", "takes 3 bytes", "takes 6 bytes"],
)
def test_a_hostile_destination_costs_neither_memory_nor_time(tmp_path, answers):
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with scripted(*answers) as port:
        assert told(pacs(port), write_object(tmp_path))[0][0] == "unreachable"
    assert time.monotonic() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 << 10


def test_a_destination_that_promises_no_limit_gets_pdus_of_our_size(tmp_path):
    with scripted(associate_ac(maximum_bytes=0), store_rsp(0)) as port:
        assert told(pacs(port), write_object(tmp_path, pixel_bytes=400_000))[0][0] == "accepted"


def test_what_is_no_part_10_file_is_refused_and_the_rest_is_sent(tmp_path):
    text, gone = tmp_path / "notes.txt", tmp_path / "gone.dcm"
    text.write_text("not an image")
    paths = [text, write_object(tmp_path), gone]
    progress = []
    with listening(scp_of(FakeReception(), "PACS")) as port:
        files = store_files(
            paths,
            host=LOOPBACK,
            port=port,
            called_ae="PACS",
            calling_ae="CT1",
            on_progress=lambda done, total: progress.append((done, total)),
        )
    assert [(f.path, f.outcome) for f in files] == list(zip(paths, ["refused", "accepted", "refused"], strict=True))
    assert progress == [(3, 3)]


def test_more_classes_than_one_association_can_name_are_sent_over_two(tmp_path):
    paths = [write_object(tmp_path, sop_class_uid=f"1.2.826.0.1.3680043.9.9999.2.{k}") for k in range(130)]
    reception = FakeReception()
    with listening(scp_of(reception, "PACS")) as port:
        files = store_files(paths, host=LOOPBACK, port=port, called_ae="PACS", calling_ae="CT1")
    assert {f.outcome for f in files} == {"accepted"}
    assert len(reception.opened) == 2
    assert {uid for _, uid, _, _ in reception.stored} == {path.stem for path in paths}


def test_echo_tells_a_rejection_from_an_answer():
    with listening(scp_of(FakeReception(), "PACS")) as port:
        SENDER.echo(LOOPBACK, port, "PACS")
        with pytest.raises(Refused, match="source 1, reason 7") as caught:
            SENDER.echo(LOOPBACK, port, "OTHER")
    assert caught.value.fault is Fault.PEER_REFUSED


def test_a_reception_out_of_space_is_tried_again_later(tmp_path):
    reception = FakeReception(failure=Broken(Fault.STORE_FAILED))
    with listening(scp_of(reception, "PACS")) as port:
        assert told(pacs(port), write_object(tmp_path))[0][0] == "unreachable"


def test_dcmtk_gets_every_byte(tmp_path):
    storescp = program("storescp")
    paths = [write_object(tmp_path, pixel_bytes=300_000) for _ in range(4)]
    with dcmtk_storescp(storescp, tmp_path) as port:
        assert {outcome for outcome, _ in told(pacs(port), *paths)} == {"accepted"}
    received = sorted(data_set_of(path) for path in (tmp_path / "received").iterdir())
    assert received == sorted(map(data_set_of, paths))


@contextmanager
def dcmtk_storescp(storescp: str, folder: Path) -> Iterator[int]:
    """DCMTK's receiver, which writes what it gets bit by bit and knows no compressed syntax by default."""
    port = free_port()
    (folder / "received").mkdir()
    process = subprocess.Popen(
        [storescp, "+B", "-od", str(folder / "received"), str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                SENDER.echo(LOOPBACK, port, "ANY")
                break
            except Transient:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
