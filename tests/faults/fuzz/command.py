"""Command sets: elements or one error, and an answer that can be read to every C-STORE request that is taken."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from orchestrator.dicom.pdata import MalformedError, PDataReader, command_elements, store_response
from orchestrator.dicom.stream import _require_names, _text
from tests.dicom_peers import CT, command, store_rq
from tests.faults.fuzz.target import Target

if TYPE_CHECKING:
    from random import Random

ELEMENTS = (0x0000, 0x0002, 0x0100, 0x0110, 0x0120, 0x0600, 0x0700, 0x0800, 0x0900, 0x1000, 0x1030, 0x1031, 0xFFFF)
UID_ELEMENTS = (0x0002, 0x1000)


def run(data: bytes) -> None:
    """The first two bytes are the longest PDU the peer takes."""
    longest, command_set = max(int.from_bytes(data[:2], "big"), 7), data[2:]
    try:
        request = command_elements(command_set)
        assert sum(8 + len(value) for value in request.values()) <= len(command_set)
        _require_names(request)
    except MalformedError:
        return
    for element in UID_ELEMENTS:
        assert 0 < len(_text(request[element])) <= 64
        _text(request[element]).encode()
    answer = memoryview(store_response(request, 1, 0xA700, longest))
    assert len(answer) < 600 * 13
    reader, body = PDataReader(longest), b""
    for fragment, used in reader.fragments(answer):
        if fragment is not None:
            assert fragment.is_command
            body += fragment.part
            assert not body or fragment.is_last == (used == len(answer))
    told = command_elements(body)
    assert used == len(answer)
    assert int.from_bytes(told[0x0000], "little") == len(body) - 12
    assert all(len(value) % 2 == 0 for value in told.values())
    assert (told[0x0120], told[0x0900]) == (request[0x0110], b"\x00\xa7")
    assert all(_text(told[element]) == _text(request[element]) for element in UID_ELEMENTS)


def compose(random: Random) -> bytes:
    """Command sets of elements in any order, lengths right or just off."""
    body = b""
    for _ in range(random.randint(1, 10)):
        value = random.choice((b"", b"\1\0", b"\1\1", CT.encode() + b"\0", b"1.2.3 ", b"1" * 64, b"\0" * 300))
        off = random.choice((0, 0, 0, 0, 0, 0, 0, -1, 1))
        body += struct.pack("<HHL", 0, random.choice(ELEMENTS), max(len(value) + off, 0)) + value
    return random.randbytes(2) + body


def seeds() -> list[bytes]:
    sets = (store_rq(), store_rq("1." + "2" * 62), store_rq("1.2.3 \0\0", data_set_type=0x0101), command(0x0030))
    return [longest + command_set for command_set in sets for longest in (b"\0\x07", b"\x40\0")]


TOKENS = (
    *(struct.pack("<HHL", 0, element, length) for element in ELEMENTS for length in (0, 1, 2, 64, 0xFFFFFFFF)),
    *(CT.encode(), b"\0" * 70, b" " * 64, b"\x80" * 8, struct.pack("<HHL", 8, 0x18, 4)),
)
TARGET = Target(run, seeds, compose, TOKENS)
