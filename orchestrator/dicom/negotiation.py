"""What is taken of a request for association, or of its acceptance: the rest is ignored, as the standard asks.

An acceptor tests only bit 0 of the protocol version (PS3.8 9.3.2) and must not mind user information it does not know
(PS3.8 D.2). Asynchronous operations, extended negotiation and user identity are not supported here, and answered by
leaving them out (PS3.7 D.3.3). pynetdicom takes long over each item: a request has no more of them than are looked at.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Final

MOST_OF_A_KIND: Final = 128
"""There are as many ids of presentation contexts (PS3.8 9.3.2.2)."""
MOST_TRANSFER_SYNTAXES: Final = 64
"""Of one presentation context; the standard knows 63."""

_FIXED_BYTES: Final = 74
_VERSION: Final = slice(6, 8)
_ITEM: Final = struct.Struct(">BxH")
_PDU: Final = struct.Struct(">BxL")
_CONTEXT, _TRANSFER_SYNTAX, _USER_INFORMATION = 0x20, 0x40, 0x50
_CONTEXT_FIXED_BYTES: Final = 4
_ITEMS: Final = frozenset({0x10, _CONTEXT, 0x21, _USER_INFORMATION})
_CONTEXT_ITEMS: Final = frozenset({0x30, _TRANSFER_SYNTAX})
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
    kept: list[bytes] = []
    counts: Counter[int] = Counter()
    at = 0
    while at + _ITEM.size <= len(items):
        kind, length = _ITEM.unpack_from(items, at)
        end = at + _ITEM.size + length
        if end > len(items):
            break
        counts[kind] += 1
        most = MOST_TRANSFER_SYNTAXES if kind == _TRANSFER_SYNTAX else MOST_OF_A_KIND
        if kind in known and counts[kind] <= most:
            inside = _inside(kind, items[at + _ITEM.size : end])
            kept.append(_ITEM.pack(kind, len(inside)) + inside)
        at = end
    return b"".join(kept) + items[at:]


def _inside(kind: int, value: bytes) -> bytes:
    if kind == _USER_INFORMATION:
        return _kept(value, _USER_ITEMS)
    if kind == _CONTEXT:
        return value[:_CONTEXT_FIXED_BYTES] + _kept(value[_CONTEXT_FIXED_BYTES:], _CONTEXT_ITEMS)
    return value
