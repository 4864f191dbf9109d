"""Objects stream from the socket to where they are kept: in any cut, and without a trace of what breaks off."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pynetdicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.dicom import bounded, scp, stream
from orchestrator.dicom.scu import DicomSender
from tests.dicom_peers import (
    ABORT,
    CT,
    ECHO,
    EXPLICIT,
    LOOPBACK,
    RELEASE,
    FakeReception,
    associate_rq,
    connected,
    descriptors,
    echo_rq,
    eventually,
    listening,
    p_data,
    read_pdu,
    read_status,
    scp_of,
    store_rq,
)

ANSWERED, RELEASED = 4, 6
BOTH = ((CT, EXPLICIT), (ECHO, "1.2.840.10008.1.2"))
DATA = bytes(k * 31 % 251 for k in range(5000))


def established(connection: socket.socket) -> socket.socket:
    connection.sendall(associate_rq("TENDON", contexts=BOTH))
    assert read_pdu(connection)[0] == 2
    return connection


def fragments(data: bytes, longest: int) -> bytes:
    starts = range(0, len(data), longest)
    return b"".join(p_data(2 if at + longest >= len(data) else 0, data[at : at + longest]) for at in starts)


@pytest.mark.parametrize("is_known", [True, False], ids=["streamed", "the plain way"])
def test_an_object_is_kept_byte_for_byte(monkeypatch, is_known):
    """Where pynetdicom's private names may be others, its own way takes over."""
    monkeypatch.setattr(scp, "IS_KNOWN", is_known)
    reception = FakeReception()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        established(connection).sendall(p_data(3, store_rq("1.2.3.9")) + fragments(DATA, 900))
        assert read_status(connection) == 0
    assert reception.stored == [(CT, "1.2.3.9", EXPLICIT, DATA)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 6000), max_size=8), st.integers(1, 3000))
def test_whatever_the_network_cuts_is_put_together(one_listener, cuts, longest):
    reception, port = one_listener
    reception.stored.clear()
    sent = p_data(3, store_rq("1.2.3.9")) + fragments(DATA, longest)
    edges = [0, *sorted({cut % len(sent) for cut in cuts}), len(sent)]
    with connected(port) as connection:
        established(connection).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in pairwise(edges):
            connection.sendall(sent[start:end])
        assert read_status(connection) == 0
    assert [data for *_, data in reception.stored] == [DATA]


@pytest.fixture(scope="module")
def one_listener():
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        yield reception, port


def test_objects_and_echoes_follow_one_another_on_one_association():
    reception = FakeReception()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        established(connection)
        for number in range(3):
            connection.sendall(p_data(3, store_rq(f"1.2.3.{number}")) + fragments(DATA, 2000))
            assert read_status(connection) == 0
            connection.sendall(echo_rq())
            assert read_status(connection) == 0
        connection.sendall(RELEASE)
        assert read_pdu(connection)[0] == RELEASED
    assert [uid for _, uid, _, _ in reception.stored] == ["1.2.3.0", "1.2.3.1", "1.2.3.2"]


def test_requests_sent_ahead_are_answered_in_their_order():
    """Without asynchronous operations negotiated nobody should, and nothing is lost where somebody does."""
    reception = FakeReception()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        requests = [p_data(3, store_rq(f"1.2.3.{number}")) + fragments(DATA, 700) for number in range(4)]
        established(connection).sendall(b"".join(requests) + RELEASE)
        assert [read_status(connection) for _ in requests] == [0] * 4
        assert read_pdu(connection)[0] == RELEASED
    assert [data for *_, data in reception.stored] == [DATA] * 4


@pytest.mark.parametrize("end", [b"", ABORT, RELEASE, p_data(3, store_rq("1.2.3.8"))])
def test_of_an_object_that_is_not_whole_nothing_is_left(end):
    reception = FakeReception()
    with listening(scp_of(reception)) as port:
        with connected(port) as connection:
            established(connection).sendall(p_data(3, store_rq()) + p_data(0, DATA) + end)
            if end:
                read_pdu(connection)
        assert eventually(lambda: len(reception.closed) == 1)
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
    assert (reception.stored, reception.dropped) == ([], 1)


def test_a_failure_on_the_way_is_answered_once_the_object_has_come_and_the_next_one_is_taken():
    class Full(FakeReception):
        def begin(self, *given, **named):
            arrival = super().begin(*given, **named)
            if named["sop_instance_uid"] == "1.2.3.1":
                arrival.write = lambda part: (_ for _ in ()).throw(OSError(28, "no space"))
            return arrival

    reception = Full()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        established(connection)
        for uid, status in (("1.2.3.1", 0xA700), ("1.2.3.2", 0)):
            connection.sendall(p_data(3, store_rq(uid)) + fragments(DATA, 1000))
            assert read_status(connection) == status
    assert [uid for _, uid, _, _ in reception.stored] == ["1.2.3.2"]
    assert reception.dropped == 1


def test_a_pdu_that_stops_in_the_middle_of_an_object_ends_its_association(monkeypatch):
    monkeypatch.setattr(bounded, "PDU_S", 0.2)
    monkeypatch.setattr(stream, "_LOOK_S", 0.05)
    reception = FakeReception()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        half = fragments(DATA, 900)[:1500]
        established(connection).sendall(p_data(3, store_rq()) + half)
        assert read_pdu(connection)[0] == 7
        assert eventually(lambda: reception.outcomes == ["limit"])
    assert (reception.stored, reception.dropped) == ([], 1)


def test_a_pdu_fed_drop_by_drop_in_the_middle_of_an_object_ends_its_association(monkeypatch):
    monkeypatch.setattr(bounded, "PDU_S", 0.3)
    reception = FakeReception()
    with listening(scp_of(reception)) as port, connected(port) as connection:
        established(connection).sendall(p_data(3, store_rq()) + fragments(DATA, 900)[:1500])
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"\0")
                time.sleep(0.05)
                if reception.outcomes:
                    break
        assert eventually(lambda: reception.outcomes == ["limit"])
    assert (reception.stored, reception.dropped) == ([], 1)


def test_idle_associations_sleep_until_something_comes(monkeypatch):
    monkeypatch.setattr(stream, "_LOOK_S", 60.0)
    awake: list[str] = []
    looks, waits = stream.StreamDul._is_readable, stream._Checkpoint.wait
    monkeypatch.setattr(stream.StreamDul, "_is_readable", lambda *given: awake.append("upper layer") or looks(*given))
    monkeypatch.setattr(stream._Checkpoint, "wait", lambda *given: awake.append("association") or waits(*given))
    with listening(scp_of(FakeReception())) as port:
        connections = [established(socket.create_connection((LOOPBACK, port))) for _ in range(8)]
        time.sleep(0.5)
        awake.clear()
        time.sleep(1)
        assert awake == []
        for connection in connections:
            connection.sendall(echo_rq())
            assert read_status(connection) == 0
            connection.close()


def test_no_thread_and_no_descriptor_is_left_of_many_associations():
    with listening(scp_of(FakeReception())) as port:
        idle = threading.active_count()
        with connected(port) as connection:
            established(connection)
        assert eventually(lambda: threading.active_count() <= idle)
        before = descriptors()
        for number in range(30):
            with connected(port) as connection:
                established(connection).sendall(p_data(3, store_rq()) + fragments(DATA, 900)[: 100 * number])
        assert eventually(lambda: descriptors() <= before)


def test_descriptors_above_1023_are_read_too():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    reception = FakeReception()
    with ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1024):
            held.enter_context(Path(os.devnull).open())
        with listening(scp_of(reception)) as port, connected(port) as connection:
            DicomSender("CT1").echo(LOOPBACK, port, "TENDON")
            established(connection).sendall(p_data(3, store_rq()) + p_data(2, DATA) + RELEASE)
            assert read_status(connection) == 0
            assert read_pdu(connection)[0] == RELEASED
            assert connection.fileno() > 1023


def test_the_private_names_it_leans_on_are_those_of_the_installed_version():
    assert stream.IS_KNOWN, f"check orchestrator/dicom/stream.py against pynetdicom {pynetdicom.__version__}"
    association = pynetdicom.association.Association(pynetdicom.AE(), "acceptor")
    assert {"_reactor_checkpoint", "_accepted_cx", "_kill"} <= vars(association).keys()
    upper = pynetdicom.dul.DULServiceProvider
    assert all(hasattr(upper, name) for name in ("_is_transport_event", "_read_pdu_data", "run_reactor", "stop_dul"))
    assert {"_run_loop_delay", "_kill_thread", "to_provider_queue"} <= vars(association.dul).keys()
