"""Corners of the protocol on the wire: what is allowed is answered, and what is not ends its association alone."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from orchestrator.dicom import stream
from orchestrator.dicom.bounded import MAXIMUM_PDU_BYTES, MAXIMUM_UNANSWERED
from orchestrator.dicom.pdata import command_elements
from orchestrator.dicom.scu import DicomSender
from tests.dicom_peers import (
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    LOOPBACK,
    RELEASE,
    FakeReception,
    associate_rq,
    associated,
    command,
    connected,
    echo_rq,
    eventually,
    item,
    listening,
    p_data,
    pdu,
    read_command,
    read_pdu,
    read_status,
    scp_of,
    store_rq,
)

ACCEPTED, REJECTED, ANSWERED, RELEASED, ABORTED = 2, 3, 4, 6, 7
CLOSED = 0
BOTH = ((CT, EXPLICIT), (ECHO, IMPLICIT), ("1.2.840.10008.5.1.4.1.1.4", EXPLICIT))
DATA = b"\x08\x00\x60\x00CS\x02\x00CT"


@pytest.fixture
def reception():
    return FakeReception()


@pytest.fixture
def port(reception):
    with listening(scp_of(reception)) as port:
        yield port
        DicomSender("CT1").echo(LOOPBACK, port, "TENDON")


@pytest.fixture
def connection(port):
    """Three presentation contexts: CT, Verification and MR."""
    with connected(port) as connection:
        connection.sendall(associate_rq("TENDON", contexts=BOTH))
        assert read_pdu(connection)[0] == ACCEPTED
        yield connection


def stored(reception: FakeReception) -> list[bytes]:
    return [data for *_, data in reception.stored]


# fragments and PDUs


def fragment(control: int, data: bytes, context_id: int = 1) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context_id, control) + data


def test_command_and_data_may_share_a_pdu(connection, reception):
    request = store_rq()
    connection.sendall(
        pdu(4, fragment(1, request[:20]) + fragment(3, request[20:]) + fragment(0, DATA[:3]) + fragment(2, DATA[3:]))
    )
    assert read_status(connection) == 0
    connection.sendall(pdu(4, fragment(3, request) + fragment(2, DATA) + fragment(3, request) + fragment(2, DATA)))
    assert [read_status(connection), read_status(connection)] == [0, 0]
    assert stored(reception) == [DATA] * 3


def test_a_last_fragment_may_be_empty(connection, reception):
    connection.sendall(p_data(1, store_rq()) + p_data(3, b"") + p_data(0, DATA) + p_data(2, b""))
    assert read_status(connection) == 0
    assert stored(reception) == [DATA]


@pytest.mark.parametrize("maximum_bytes", [0, 7, 8, 50, 16384, MAXIMUM_PDU_BYTES + 1, 0xFFFFFFFF])
def test_no_answer_is_longer_than_the_peer_takes(port, reception, maximum_bytes):
    with connected(port) as connection:
        connection.sendall(associate_rq("TENDON", contexts=BOTH, maximum_bytes=maximum_bytes))
        assert read_pdu(connection)[0] == ACCEPTED
        connection.sendall(p_data(3, store_rq()) + p_data(2, DATA))
        for request in (b"", echo_rq()):
            connection.sendall(request)
            bodies, control = [], 0
            while not control & 2:
                kind, body = read_pdu(connection)
                assert kind == ANSWERED
                bodies.append(body)
                control = body[5]
            assert max(map(len, bodies)) <= (maximum_bytes or MAXIMUM_PDU_BYTES)
            assert command_elements(b"".join(body[6:] for body in bodies))[0x0900] == b"\0\0"
    assert stored(reception) == [DATA]


@pytest.mark.parametrize("maximum_bytes", [1, 6])
def test_a_peer_that_takes_no_answer_stores_nothing(port, reception, maximum_bytes):
    with connected(port) as connection:
        connection.sendall(associate_rq("TENDON", maximum_bytes=maximum_bytes))
        assert read_pdu(connection)[0] == ACCEPTED
        connection.sendall(p_data(3, store_rq()) + p_data(2, DATA))
        assert read_pdu(connection)[0] == ABORTED
    assert eventually(lambda: reception.outcomes[:1] == ["limit"])
    assert reception.stored == []


@pytest.mark.parametrize(
    "mixture",
    [
        p_data(1, store_rq()[:30]) + p_data(3, store_rq()[30:], context_id=5) + p_data(2, DATA, context_id=5),
        p_data(1, store_rq()[:30]) + p_data(2, DATA),
        p_data(3, store_rq()) + p_data(2, DATA, context_id=5),
        p_data(3, store_rq()) + p_data(0, DATA) + p_data(3, store_rq("1.2.9")) + p_data(2, DATA),
        p_data(3, store_rq()) + p_data(0, DATA) + echo_rq() + p_data(2, DATA),
        p_data(3, store_rq()) + p_data(0, DATA) + p_data(3, command(0x0FFF, (0x0120, b"\1\0"), (0x0800, b"\1\1"))),
        p_data(3, store_rq(), context_id=9) + p_data(2, DATA, context_id=9),
    ],
    ids=[
        "a command of two contexts",
        "data within a command",
        "data of another context",
        "a request in mid-object",
        "an echo in mid-object",
        "a cancel in mid-object",
        "a context not accepted",
    ],
)
def test_messages_are_never_mixed(connection, reception, mixture):
    connection.sendall(mixture)
    assert read_pdu(connection)[0] in (CLOSED, ABORTED)
    assert eventually(lambda: len(reception.closed) == 1)
    assert reception.stored == []


def test_nothing_is_taken_of_a_peer_any_more_once_it_broke_a_limit(connection, reception):
    """However fast it goes on."""
    connection.sendall(p_data(2, b"data of no message") + (p_data(3, store_rq()) + p_data(2, DATA)) * 50)
    assert read_pdu(connection)[0] in (CLOSED, ABORTED)
    assert eventually(lambda: reception.outcomes == ["limit"])
    assert reception.stored == []


# requests


@pytest.mark.parametrize("priority", [0, 1, 2, 7])
def test_every_priority_is_taken(connection, reception, priority):
    connection.sendall(p_data(3, store_rq(priority=priority)) + p_data(2, DATA))
    assert read_status(connection) == 0
    assert stored(reception) == [DATA]


@pytest.mark.parametrize("message_id", [b"\0\0", b"\x01\0", b"\xff\xff"])
def test_an_answer_names_its_request(connection, message_id):
    connection.sendall(p_data(3, store_rq("1.2.3.77", message_id=message_id)) + p_data(2, DATA))
    answer = read_command(connection)
    assert (answer[0x0120], answer[0x0002], answer[0x1000]) == (message_id, CT.encode() + b"\0", b"1.2.3.77")


@pytest.mark.parametrize("message_id", [b"", b"\x01", b"\x01\0\0", b"\x01\0\0\0", b"1 " * 8])
def test_a_message_id_that_is_no_number_of_two_bytes_ends_the_association(connection, reception, message_id):
    connection.sendall(p_data(3, store_rq(message_id=message_id)) + p_data(2, DATA))
    assert read_pdu(connection)[0] == ABORTED
    assert reception.stored == []


@pytest.mark.parametrize(
    "data",
    [
        DATA + b"\x10\0\x20\0LO\x01\0X",
        b"\x08\0\0\0UL\x04\0\x0a\0\0\0" + DATA + b"\x10\0\0\0UL\x04\0\0\0\0\0",
        b"\x01",
        b"neither elements nor any length that is even.",
    ],
    ids=["odd", "group lengths", "one byte", "no elements"],
)
def test_a_data_set_is_stored_as_it_comes(connection, reception, data):
    connection.sendall(p_data(3, store_rq()) + p_data(2, data))
    assert read_status(connection) == 0
    assert stored(reception) == [data]


@pytest.mark.parametrize(("context_id", "transfer_syntax"), [(1, EXPLICIT), (3, IMPLICIT), (5, EXPLICIT)])
def test_an_object_goes_by_its_request_where_its_context_is_of_another_class(
    connection, reception, context_id, transfer_syntax
):
    """Its bytes are safe so, and in the transfer syntax of the context it came in."""
    other = "1.2.840.10008.5.1.4.1.1.4" if context_id == 1 else CT
    connection.sendall(p_data(3, store_rq("1.2.3", other), context_id) + p_data(2, DATA, context_id))
    assert read_status(connection) == 0
    assert reception.stored == [(other, "1.2.3", transfer_syntax, DATA)]


def test_a_cancel_between_objects_changes_nothing(connection, reception):
    cancel = command(0x0FFF, (0x0120, b"\1\0"), (0x0800, b"\1\1"))
    for _ in range(12):
        connection.sendall(p_data(3, cancel))
    connection.sendall(p_data(3, store_rq()) + p_data(2, DATA))
    assert read_status(connection) == 0
    connection.sendall(RELEASE)
    assert read_pdu(connection)[0] == RELEASED
    assert stored(reception) == [DATA]


def test_echoes_sent_ahead_are_answered_in_their_order_and_too_many_end_the_association(
    monkeypatch, connection, reception
):
    monkeypatch.setattr(stream, "_LOOK_S", 60.0)
    few = range(1, 1 + MAXIMUM_UNANSWERED)
    connection.sendall(b"".join(echo_rq(message_id=number) for number in few))
    assert [int.from_bytes(read_command(connection)[0x0120], "little") for _ in few] == list(few)
    connection.sendall(b"".join(echo_rq() for _ in range(3000)))
    kind = ANSWERED
    while kind == ANSWERED:
        kind, _ = read_pdu(connection)
    assert kind in (CLOSED, ABORTED)
    assert eventually(lambda: reception.outcomes == ["limit"])


# negotiation


def counted(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def user_items(acceptance: bytes) -> dict[int, bytes]:
    """Of an A-ASSOCIATE-AC, with the items they lie in."""
    found: dict[int, bytes] = {}
    items = acceptance[68:]
    while items:
        kind, length = struct.unpack_from(">BxH", items)
        found[kind] = items[4 : 4 + length]
        items = items[4:] if kind == 0x50 else items[4 + length :]
    return found


@pytest.mark.parametrize(
    "proposed",
    [
        item(0x53, struct.pack(">HH", 5, 5)),
        item(0x53, struct.pack(">HH", 0, 0)),
        item(0x56, counted(CT.encode()) + b"\2\0\3\0\0\0"),
        item(0x57, counted(CT.encode()) + counted(b"1.2.840.10008.4.2") + counted(b"")),
        *(item(0x58, bytes([kind, 1]) + counted(b"user \xff") + counted(b"secret")) for kind in (1, 2, 3, 4, 5, 9)),
        item(0x5A, b"of a later edition") + item(0xFF, b""),
    ],
    ids=[
        *("asynchronous", "asynchronous without limit", "extended", "common extended", "user", "password"),
        *("Kerberos", "SAML", "JWT", "no identity we know", "no item we know"),
    ],
)
def test_what_is_proposed_beyond_us_is_left_out_of_the_answer(port, reception, proposed):
    with connected(port) as connection:
        connection.sendall(associate_rq("TENDON", user_items=proposed))
        kind, body = read_pdu(connection)
        assert kind == ACCEPTED
        assert user_items(body).keys() <= {0x10, 0x21, 0x50, 0x51, 0x52, 0x55}
        connection.sendall(p_data(3, store_rq()) + p_data(2, DATA))
        assert read_status(connection) == 0
    assert stored(reception) == [DATA]


@pytest.mark.parametrize(
    ("version", "answer"), [(1, ACCEPTED), (3, ACCEPTED), (0xFFFF, ACCEPTED), (0, REJECTED), (2, REJECTED)]
)
def test_of_the_protocol_version_one_bit_counts(port, version, answer):
    request = bytearray(associate_rq("TENDON"))
    request[6:8] = struct.pack(">H", version)
    with connected(port) as connection:
        connection.sendall(request)
        kind, body = read_pdu(connection)
        assert kind == answer
        assert kind == ACCEPTED or body == bytes([0, 1, 2, 2])


def broken_requests() -> list[bytes]:
    head = struct.pack(">H2x16s16s32x", 1, b"TENDON".ljust(16), b"RAW".ljust(16)) + item(0x10, b"1.2.840.10008.3.1.1.1")
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4.5"))
    context = item(0x30, CT.encode()) + item(0x40, EXPLICIT.encode())
    bodies = (
        head + item(0x20, b"\1\0\0\0" + item(0x40, EXPLICIT.encode())) + user,
        head + item(0x20, b"\1\0\0\0" + item(0x30, CT.encode())) + user,
        head + item(0x20, b"\1\0\0\0") + user,
        head + item(0x20, b"\2\0\0\0" + context) + user,
        head + item(0x20, b"\1\0\0\0" + context) * 2 + user,
        head + item(0x20, b"\1\0\0\0" + context),
        head + item(0x20, b"\1\0\0\0" + context) + item(0x50, item(0x51, b"\0")),
        head + user,
        head,
        head[:50],
        head[:4] + bytes(32) + head[36:] + item(0x20, b"\1\0\0\0" + context) + user,
        head + item(0x20, b"\1\0\0\0" + context)[:-3],
    )
    return [pdu(1, body) for body in bodies]


@pytest.mark.parametrize("request_pdu", broken_requests())
def test_no_request_for_association_leaves_a_thread_behind(reception, request_pdu):
    """Whether it is taken or not: a peer that then says nothing holds nothing, and one nobody let in stays out."""
    with listening(scp_of(reception)) as port:
        before = threading.active_count()
        with connected(port) as connection:
            connection.sendall(request_pdu)
            kind, _ = read_pdu(connection)
            if kind == ACCEPTED:
                assert len(reception.opened) == 1
            else:
                assert eventually(lambda: threading.active_count() <= before)
        assert eventually(lambda: threading.active_count() <= before)


def test_the_seventeenth_association_of_a_peer_is_welcome_again_once_another_ended(port):
    with associated(port, calling="GREEDY"):
        held = []
        for _ in range(15):
            held.append(socket.create_connection((LOOPBACK, port), timeout=10))
            held[-1].sendall(associate_rq("TENDON", "GREEDY"))
            assert read_pdu(held[-1])[0] == ACCEPTED
        with connected(port) as one_more:
            one_more.sendall(associate_rq("TENDON", "GREEDY"))
            assert read_pdu(one_more) == (REJECTED, bytes([0, 2, 3, 2]))
        for connection in held:
            connection.close()
        assert eventually(lambda: is_accepted(port))


def is_accepted(port: int) -> bool:
    with connected(port) as connection:
        connection.sendall(associate_rq("TENDON", "GREEDY"))
        return read_pdu(connection)[0] == ACCEPTED
