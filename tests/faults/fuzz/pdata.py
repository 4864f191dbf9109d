"""The stream of P-DATA: fragments that do not depend on how the network cuts them, or one error."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from orchestrator.dicom.pdata import MalformedError, PDataReader
from tests.dicom_peers import RELEASE, p_data, store_rq
from tests.faults.fuzz.target import Target

if TYPE_CHECKING:
    from random import Random

LONGEST_PDU_BYTES = 1024
Piece = tuple[int, bool, bytes, bool]


def run(data: bytes) -> None:
    """The first byte says how the rest is cut."""
    if not data:
        return
    stream = data[1:]
    whole, was_whole = read(stream, len(stream) or 1)
    found, was_found = read(stream, data[0] % 32 + 1)
    assert was_found == was_whole
    assert joined(found)[: len(joined(whole))] == joined(whole)


def read(stream: bytes, longest: int) -> tuple[list[Piece], bool]:
    """What comes of the stream in pieces of this length, and whether it was all well."""
    reader, found, held = PDataReader(LONGEST_PDU_BYTES), [], b""
    for start in range(0, len(stream), longest):
        data, used = memoryview(held + stream[start : start + longest]), 0
        try:
            for fragment, used in reader.fragments(data):  # noqa: B007 - the last one counts
                if fragment is not None:
                    assert len(fragment.part) <= len(data)
                    found.append((fragment.context_id, fragment.is_command, bytes(fragment.part), fragment.is_last))
        except MalformedError:
            return found, False
        held = bytes(data[used:])
        if reader.is_at_other_pdu:
            return found, True
        assert len(held) < 6, "only the beginning of a header is held back"
    return found, True


def joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces put together up to the last of each message, or to another kind or context."""
    whole: list[Piece] = []
    for piece in pieces:
        if whole and not whole[-1][3] and whole[-1][:2] == piece[:2]:
            whole[-1] = (*piece[:2], whole[-1][2] + piece[2], piece[3])
        else:
            whole.append(piece)
    return whole


def compose(random: Random) -> bytes:
    """PDUs of several fragments, lengths right or just off."""
    stream = bytearray([random.randrange(256)])
    for _ in range(random.randint(1, 4)):
        body = b""
        for _ in range(random.randint(1, 3)):
            part = random.randbytes(random.choice((0, 1, 5, 40)))
            off = random.choice((0, 0, 0, 0, 0, 0, -1, 1))
            body += struct.pack(">LBB", len(part) + 2 + off, random.choice((1, 3)), random.randrange(4)) + part
        stream += struct.pack(">BxL", random.choice((4, 4, 4, 4, 5)), len(body)) + body
    return bytes(stream)


def seeds() -> list[bytes]:
    message = p_data(3, store_rq()) + p_data(0, bytes(300)) + p_data(2, b"end")
    return [b"\x00" + message + RELEASE, b"\x07" + message, b"\xff" + p_data(2, b""), b"\x01" + RELEASE]


TOKENS = (
    *(struct.pack(">BxL", 4, length) for length in (0, 5, 6, LONGEST_PDU_BYTES, LONGEST_PDU_BYTES + 1, 0xFFFFFFFF)),
    *(struct.pack(">LBB", length, 1, control) for length in (0, 1, 2, 3, 0xFFFFFFFF) for control in range(4)),
)
TARGET = Target(run, seeds, compose, TOKENS)
