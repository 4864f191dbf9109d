"""Fragments come out of P-DATA whole and in order however the network cuts it, and what is malformed is refused."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dicom.pdata import MalformedError, PDataReader, command_elements, store_response

LONGEST = 4096
RELEASE_RQ = bytes.fromhex("050000000004 00000000")


def pdu(*fragments: tuple[int, int, bytes]) -> bytes:
    body = b"".join(struct.pack(">LBB", len(data) + 2, context, control) + data for context, control, data in fragments)
    return struct.pack(">BxL", 4, len(body)) + body


def read(stream: bytes, cuts: list[int], longest: int = LONGEST) -> tuple[list[tuple[int, bool, bytes, bool]], bytes]:
    """What comes out when the stream is received in these pieces, and what is left of it."""
    reader, found, held = PDataReader(longest), [], b""
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    for start, end in pairwise(edges):
        data, used = memoryview(held + stream[start:end]), 0
        for fragment, used in reader.fragments(data):  # noqa: B007
            if fragment is not None:
                found.append((fragment.context_id, fragment.is_command, bytes(fragment.part), fragment.is_last))
        held = bytes(data[used:])
    return joined(found), held


def joined(pieces: list[tuple[int, bool, bytes, bool]]) -> list[tuple[int, bool, bytes, bool]]:
    """Pieces put together up to the last of each message."""
    whole: list[tuple[int, bool, bytes, bool]] = []
    for piece in pieces:
        before = whole.pop()[2] if whole and not whole[-1][3] else b""
        whole.append((piece[0], piece[1], before + piece[2], piece[3]))
    return whole


parts = st.binary(max_size=40)
messages = st.lists(st.tuples(st.booleans(), st.lists(parts, min_size=1, max_size=4)), min_size=1, max_size=4)


@given(messages, st.lists(st.integers(0, 4000), max_size=30), st.booleans())
def test_messages_come_out_whole_however_they_are_cut(sent, cuts, together):
    fragments = [
        (1, int(is_command) | (2 if k == len(pieces) - 1 else 0), piece)
        for is_command, pieces in sent
        for k, piece in enumerate(pieces)
    ]
    stream = pdu(*fragments) if together else b"".join(pdu(fragment) for fragment in fragments)
    found, left = read(stream, cuts)
    assert left == b""
    assert found == [(1, is_command, b"".join(pieces), True) for is_command, pieces in sent]


@given(st.lists(st.integers(0, 100), max_size=5))
def test_it_stops_before_a_pdu_of_another_type(cuts):
    found, left = read(pdu((3, 2, b"data")) + RELEASE_RQ, cuts)
    assert found == [(3, False, b"data", True)]
    assert left == RELEASE_RQ or RELEASE_RQ.endswith(left)


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack(">BxL", 4, LONGEST + 1),
        struct.pack(">BxL", 4, 0),
        struct.pack(">BxL", 4, 5) + bytes(5),
        struct.pack(">BxLLBB", 4, 6, 1, 1, 3),
        struct.pack(">BxLLBB", 4, 6, 0xFFFFFFF0, 1, 3),
        struct.pack(">BxLLBB", 4, 9, 3, 1, 2) + b"abc",
    ],
    ids=["too long", "empty", "no header", "no control", "past its PDU", "a rest that is no fragment"],
)
def test_what_is_malformed_is_refused(stream):
    with pytest.raises(MalformedError):
        read(stream, [])


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_random_bytes_are_fragments_or_malformed_and_nothing_else(stream, cuts):
    with suppress(MalformedError):
        read(stream, cuts)


@given(st.binary(max_size=80))
def test_a_command_set_is_elements_or_malformed(command_set):
    try:
        found = command_elements(command_set)
    except MalformedError:
        return
    assert sum(8 + len(value) for value in found.values()) <= len(command_set)


@pytest.mark.parametrize("longest", [7, 8, 50, LONGEST])
def test_a_response_names_what_it_answers_in_pdus_the_peer_takes(longest):
    request = {0x0002: b"1.2  ", 0x0110: b"\x07\x00", 0x1000: b"1.2.3" + b"\0" * 90}
    answer = store_response(request, 5, 0xA700, longest)
    ((context, is_command, body, is_last),), left = read(answer, [], longest)
    elements = command_elements(body)
    assert (context, is_command, is_last, left) == (5, True, True, b"")
    assert int.from_bytes(elements[0], "little") == len(body) - 12
    assert {element: elements[element] for element in (0x0002, 0x0120, 0x1000)} == {
        0x0002: b"1.2\0",
        0x0120: b"\x07\x00",
        0x1000: b"1.2.3\0",
    }
    assert (elements[0x0100], elements[0x0800], elements[0x0900]) == (b"\x01\x80", b"\x01\x01", b"\x00\xa7")
