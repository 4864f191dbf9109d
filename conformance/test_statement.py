"""The conformance statement says what the code has, and a running SCP does what the statement says."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import UID_dictionary

from conformance.statement import STATEMENT, filled, rows
from conformance.tables import TABLES
from orchestrator.dicom import scp
from orchestrator.dicom.scp import StorageScp
from orchestrator.domain.admission import Rejection
from orchestrator.domain.errors import Refused
from tests.dicom_peers import (
    CT,
    ECHO,
    EXPLICIT,
    PRIVATE_CLASS,
    FakeReception,
    FakeRejections,
    associate_rq,
    associated,
    connected,
    listening,
    p_data,
    read_pdu,
    scp_of,
    store_rq,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = STATEMENT.read_text(encoding="utf-8")
CONTEXTS_OF_AN_ASSOCIATION = 128
ACCEPTED, ANSWERED, REJECTED = 2, 4, 3
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
UNKNOWN_CLASSES = (PRIVATE_CLASS, "1.2.840.10008.5.1.4.1.1.99999")
UNKNOWN_SYNTAX = "1.2.826.0.1.3680043.9.9999.2"
MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, ASYNCHRONOUS, ROLES, IMPLEMENTATION_VERSION = 0x51, 0x52, 0x53, 0x54, 0x55
EXTENDED, USER_IDENTITY = 0x56, 0x58


def uids(name: str) -> list[str]:
    """The UIDs of a table, which stand last in its rows."""
    return [cells[-1].strip("`") for cells in rows(TEXT, name)]


def values(name: str) -> dict[str, str]:
    return {cells[0]: cells[-1].strip("`") for cells in rows(TEXT, name)}


def items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Items of an A-ASSOCIATE PDU (PS3.8 9.3)."""
    while data:
        kind, length = struct.unpack_from(">BxH", data)
        yield kind, data[4 : 4 + length]
        data = data[4 + length :]


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def negotiated(port: int, contexts: list[tuple[str, str]]) -> list[tuple[int, str]]:
    """Result and transfer syntax of each presentation context, in the order asked."""
    answers: list[tuple[int, str]] = []
    for start in range(0, len(contexts), CONTEXTS_OF_AN_ASSOCIATION):
        some = contexts[start : start + CONTEXTS_OF_AN_ASSOCIATION]
        with connected(port) as connection:
            connection.sendall(associate_rq("TENDON", contexts=tuple(some)))
            kind, body = read_pdu(connection)
            assert kind == ACCEPTED
        found = {}
        for kind, answer in items(body[68:]):
            if kind == 0x21:
                ((_, syntax),) = items(answer[4:])
                found[answer[0]] = (answer[2], syntax.decode())
        answers += [found[2 * k + 1] for k in range(len(some))]
    return answers


@pytest.fixture
def port() -> Iterator[int]:
    with listening(scp_of(FakeReception(strangers=frozenset({"STRANGER"})))) as port:
        yield port


def test_the_statement_is_what_the_code_makes_of_it():
    assert filled(TEXT) == TEXT, "run `python -m conformance`"
    assert all(f"<!-- table: {name} -->" in TEXT for name in TABLES)


def test_every_storage_class_of_the_statement_is_accepted_in_every_transfer_syntax(port):
    classes, syntaxes = uids("storage-classes"), uids("transfer-syntaxes")
    assert len(classes) > 190
    contexts = list(zip(classes, cycle(syntaxes), strict=False))
    contexts += [(CT, syntax) for syntax in syntaxes]
    contexts += [(uid, syntax) for uid in UNKNOWN_CLASSES for syntax in (EXPLICIT, UNKNOWN_SYNTAX)]
    assert negotiated(port, contexts) == [(0, syntax) for _, syntax in contexts]


def test_what_the_statement_says_of_other_services_is_so(port):
    taken = {ECHO, *uids("storage-classes")}
    named = [uid for uid, entry in UID_dictionary.items() if "SOP Class" in entry[1] and uid not in taken]
    assert len(named) > 100
    refused = negotiated(port, [(uid, EXPLICIT) for uid in named])
    assert {result for result, _ in refused} == {ABSTRACT_SYNTAX_NOT_SUPPORTED}
    assert {result for result, _ in negotiated(port, [(ECHO, syntax) for syntax in uids("other-syntaxes")])} == {0}
    assert [result for result, _ in negotiated(port, [(ECHO, "1.2.840.10008.1.2.4.50")])] == [4]


def test_unknown_classes_are_refused_where_the_site_has_chosen_so():
    scp = StorageScp(["TENDON"], "127.0.0.1", 0, FakeReception(), FakeRejections(), takes_unknown=False)
    asked = [(uid, EXPLICIT) for uid in (*UNKNOWN_CLASSES, CT)]
    with listening(scp) as port:
        answers = [result for result, _ in negotiated(port, asked)]
    assert answers == [ABSTRACT_SYNTAX_NOT_SUPPORTED] * len(UNKNOWN_CLASSES) + [0]


def test_association_parameters_and_extended_negotiation_are_as_stated(port):
    name = struct.pack(">H", len(CT)) + CT.encode()
    asked = (
        item(ASYNCHRONOUS, struct.pack(">HH", 5, 5))
        + item(ROLES, name + b"\1\1")
        + item(EXTENDED, name + b"\2\0\0\0\0\0")
        + item(USER_IDENTITY, b"\1\1" + struct.pack(">H4sH", 4, b"user", 0))
    )
    request = bytearray(associate_rq("TENDON"))
    request[2:6] = struct.pack(">L", len(request) - 6 + len(asked))
    at = request.rindex(item(MAXIMUM_LENGTH, struct.pack(">L", 16384))) - 2
    request[at : at + 2] = struct.pack(">H", len(request) - at - 2 + len(asked))
    with connected(port) as connection:
        connection.sendall(bytes(request) + asked)
        kind, body = read_pdu(connection)
    assert kind == ACCEPTED
    answer = dict(items(body[68:]))
    assert answer[0x10].decode() == values("association")["application context"]
    user = dict(items(answer[0x50]))
    assert set(user) == {MAXIMUM_LENGTH, IMPLEMENTATION_CLASS, IMPLEMENTATION_VERSION, ROLES}
    longest = values("association")["longest P-DATA PDU received and sent, bytes"]
    assert struct.unpack(">L", user[MAXIMUM_LENGTH]) == (int(longest),)
    assert user[IMPLEMENTATION_CLASS].decode() == values("product")["implementation class UID"]
    assert user[IMPLEMENTATION_VERSION].decode() == values("product")["implementation version name"]
    assert user[ROLES] == name + b"\1\1"


def stated_answer(rejection: Rejection) -> list[int]:
    """Result, source and reason that the statement gives for it."""
    causes = rows(TEXT, "rejections")
    return next(
        [int(cell.split()[0]) for cell in cells] for cause, *cells in causes if cause == rejection.value.meaning
    )


@pytest.mark.parametrize(
    ("called", "calling", "rejection"),
    [("OTHER", "RAW", Rejection.UNKNOWN_CALLED_AE), ("TENDON", "STRANGER", Rejection.UNKNOWN_CALLING_AE)],
)
def test_associations_are_rejected_as_stated(port, called, calling, rejection):
    stated = stated_answer(rejection)
    with connected(port) as connection:
        connection.sendall(associate_rq(called, calling))
        assert read_pdu(connection) == (REJECTED, bytes([0, *stated]))


def test_as_many_associations_of_one_peer_are_accepted_as_stated(port):
    stated = stated_answer(Rejection.LIMIT_OF_PEER)
    most = int(values("association")["of them with one AE title and address"])
    answers = []
    with ExitStack() as held:
        for _ in range(most + 1):
            connection = held.enter_context(connected(port))
            connection.sendall(associate_rq("TENDON"))
            answers.append(read_pdu(connection))
    assert [kind for kind, _ in answers] == [ACCEPTED] * most + [REJECTED]
    assert answers[-1][1] == bytes([0, *stated])


def status_of(pdu: tuple[int, bytes]) -> int:
    kind, body = pdu
    assert kind == ANSWERED
    at = body.index(struct.pack("<HHL", 0, 0x0900, 2))
    return int.from_bytes(body[at + 8 : at + 10], "little")


def test_failures_are_answered_with_the_stated_statuses():
    stated = {cells[-1]: int(cells[0], 16) for cells in rows(TEXT, "store-statuses")}
    reception = FakeReception()
    with listening(scp_of(reception)) as port, associated(port) as connection:

        def answer(data: bytes = b"\x08\0\x60\0CS\x02\0CT") -> int:
            connection.sendall(p_data(3, store_rq()) + p_data(2, data))
            return status_of(read_pdu(connection))

        assert answer() == next(status for causes, status in stated.items() if "kept, bytes and record" in causes)
        for fault in scp._STATUS:
            reception.failure = Refused(fault)
            (status,) = (status for causes, status in stated.items() if f"({fault.value.code})" in causes)
            assert answer() == status
        reception.failure = RuntimeError("whatever")
        assert answer() == next(status for causes, status in stated.items() if "any other failure" in causes)
        assert answer(b"") == next(int(c[0], 16) for c in rows(TEXT, "store-statuses") if c[2] == "cannot understand")
