"""What is taken of a request for association, or of its acceptance: the rest is ignored, as the standard asks.

An acceptor tests only bit 0 of the protocol version (PS3.8 9.3.2) and must not mind user information it does not know
(PS3.8 D.2). Asynchronous operations, extended negotiation and user identity are not supported here, and answered by
leaving them out (PS3.7 D.3.3).
"""

from __future__ import annotations

import struct
from typing import Final

_FIXED_BYTES: Final = 74
_VERSION: Final = slice(6, 8)
_ITEM: Final = struct.Struct(">BxH")
_PDU: Final = struct.Struct(">BxL")
_USER_INFORMATION: Final = 0x50
_ITEMS: Final = frozenset({0x10, 0x20, 0x21, _USER_INFORMATION})
_USER_ITEMS: Final = frozenset({0x51, 0x52, 0x54, 0x55})
"""Maximum length, implementation class, role selection, implementation version (PS3.7 D.3.3, PS3.8 D.1)."""


def understood(pdu: bytes) -> bytes:
    """The A-ASSOCIATE-RQ or -AC with nothing in it but what is understood; malformed items are left as they are."""
    fixed = bytearray(pdu[:_FIXED_BYTES])
    if len(fixed) == _FIXED_BYTES and fixed[_VERSION][1] & 1:
        fixed[_VERSION] = b"\0\1"
    body = bytes(fixed[_PDU.size :]) + _kept(pdu[_FIXED_BYTES:], _ITEMS)
    return _PDU.pack(pdu[0], len(body)) + body


def _kept(items: bytes, known: frozenset[int]) -> bytes:
    kept, at = [], 0
    while at + _ITEM.size <= len(items):
        kind, length = _ITEM.unpack_from(items, at)
        end = at + _ITEM.size + length
        if end > len(items):
            break
        if kind == _USER_INFORMATION and kind in known:
            inside = _kept(items[at + _ITEM.size : end], _USER_ITEMS)
            kept.append(_ITEM.pack(kind, len(inside)) + inside)
        elif kind in known:
            kept.append(items[at:end])
        at = end
    return b"".join(kept) + items[at:]
