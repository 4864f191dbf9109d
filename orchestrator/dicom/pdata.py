"""P-DATA as it streams in: fragments of messages, wherever the network cuts them (PS3.8 section 9.3.5, annex E)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

P_DATA_TF: Final = 4
_PDU: Final = struct.Struct(">BxL")
_PDV: Final = struct.Struct(">LBB")
_ELEMENT: Final = struct.Struct("<HHL")
_CONTEXT_AND_CONTROL: Final = 2
_IS_COMMAND, _IS_LAST = 1, 2
SHORTEST_PDU_BYTES: Final = _PDV.size + 1
"""One that carries anything."""


class MalformedError(Exception):
    """The peer sent what is no P-DATA, or more of it than allowed."""


class Fragment(NamedTuple):
    """A piece of one message: `part` is valid until the next piece is asked for.

    `is_last` tells the piece that ends the command set or the data set.
    """

    context_id: int
    is_command: bool
    part: memoryview
    is_last: bool


@dataclass(slots=True)
class PDataReader:
    """Takes bytes in any cut and gives the fragments in them; stops before a PDU of another type."""

    longest_pdu_bytes: int
    pdus_begun: int = 0
    _pdu_left: int = 0
    _pdv_left: int = 0
    _context_id: int = 0
    _control: int = 0
    is_at_other_pdu: bool = False

    @property
    def is_between_pdus(self) -> bool:
        """Whether the next byte begins a PDU."""
        return not (self._pdu_left or self._pdv_left)

    def fragments(self, data: memoryview) -> Iterator[tuple[Fragment | None, int]]:
        """Fragments in the data, each with the number of bytes used up by then; at last how many are used at all.

        What is left over is the beginning of a header. Raises MalformedError.
        """
        at, end = 0, len(data)
        self.is_at_other_pdu = False
        while True:
            if self._pdv_left:
                if at == end:
                    break
                taken = min(self._pdv_left, end - at)
                self._pdv_left -= taken
                self._pdu_left -= taken
                is_last = not self._pdv_left and bool(self._control & _IS_LAST)
                is_command = bool(self._control & _IS_COMMAND)
                fragment = Fragment(self._context_id, is_command, data[at : at + taken], is_last)
                at += taken
                yield fragment, at
            elif self._pdu_left:
                if end - at < _PDV.size:
                    break
                at = self._begin_pdv(data, at)
                if not self._pdv_left and self._control & _IS_LAST:
                    is_command = bool(self._control & _IS_COMMAND)
                    yield Fragment(self._context_id, is_command, data[at:at], is_last=True), at
            else:
                if end - at < _PDU.size:
                    break
                kind, length = _PDU.unpack_from(data, at)
                if kind != P_DATA_TF:
                    self.is_at_other_pdu = True
                    break
                if not _PDV.size <= length <= self.longest_pdu_bytes:
                    raise MalformedError
                self._pdu_left = length
                self.pdus_begun += 1
                at += _PDU.size
        yield None, at

    def _begin_pdv(self, data: memoryview, at: int) -> int:
        length, self._context_id, self._control = _PDV.unpack_from(data, at)
        if length < _CONTEXT_AND_CONTROL or length + 4 > self._pdu_left:
            raise MalformedError
        self._pdv_left = length - _CONTEXT_AND_CONTROL
        self._pdu_left -= _PDV.size
        if self._pdu_left and 0 < self._pdu_left - self._pdv_left < _PDV.size:
            raise MalformedError
        return at + _PDV.size


def command_elements(command_set: bytes) -> dict[int, bytes]:
    """Values of a command set by element number (PS3.7 section 6.3.1). Raises MalformedError."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command_set):
        if len(command_set) - at < _ELEMENT.size:
            raise MalformedError
        group, element, length = _ELEMENT.unpack_from(command_set, at)
        at += _ELEMENT.size
        if group != 0 or length > len(command_set) - at:
            raise MalformedError
        found[element] = command_set[at : at + length]
        at += length
    return found


def store_response(request: dict[int, bytes], context_id: int, status: int, longest_pdu_bytes: int) -> bytes:
    """The P-DATA-TF of a C-STORE-RSP (PS3.7 section 9.3.1.2) to a request, in PDUs that the peer takes."""
    values = (
        (0x0002, _padded(request[0x0002])),
        (0x0100, b"\x01\x80"),
        (0x0120, request[0x0110]),
        (0x0800, b"\x01\x01"),
        (0x0900, struct.pack("<H", status)),
        (0x1000, _padded(request[0x1000])),
    )
    body = b"".join(_ELEMENT.pack(0, element, len(value)) + value for element, value in values)
    body = _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(body)) + body
    longest = longest_pdu_bytes - _PDV.size
    parts = [body[at : at + longest] for at in range(0, len(body), longest)]
    controls = [_IS_COMMAND] * (len(parts) - 1) + [_IS_COMMAND | _IS_LAST]
    return b"".join(
        _PDU.pack(P_DATA_TF, _PDV.size + len(part))
        + _PDV.pack(_CONTEXT_AND_CONTROL + len(part), context_id, control)
        + part
        for part, control in zip(parts, controls, strict=True)
    )


def _padded(uid: bytes) -> bytes:
    uid = uid.rstrip(b"\0 ")
    return uid + b"\0" * (len(uid) % 2)
