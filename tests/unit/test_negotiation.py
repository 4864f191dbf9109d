"""Of a request for association what is understood is kept as it is, and the rest is left out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

from orchestrator.dicom.negotiation import MOST_OF_A_KIND, MOST_TRANSFER_SYNTAXES, understood
from tests.dicom_peers import CT, EXPLICIT, associate_ac, associate_rq, item, pdu

UNKNOWN = item(0x5A, b"of a later edition") + item(0x53, struct.pack(">HH", 0, 0)) + item(0x58, b"\2\1\0\1a\0\1b")
SYNTAX = item(0x40, EXPLICIT.encode())


def request(*items: bytes) -> bytes:
    return pdu(1, associate_rq("TENDON")[6:74] + b"".join(items))


@pytest.mark.parametrize("sound", [associate_rq("TENDON", "CT1", ((CT, EXPLICIT),) * 100), associate_ac()])
def test_what_is_understood_is_kept_as_it_is(sound):
    assert understood(sound) == sound
    (A_ASSOCIATE_RQ if sound[0] == 1 else A_ASSOCIATE_AC)().decode(understood(sound))


def test_what_is_not_known_is_left_out_and_lengths_agree():
    assert understood(associate_rq("TENDON", user_items=UNKNOWN)) == associate_rq("TENDON")
    context = item(0x20, b"\1\0\0\0" + item(0x30, CT.encode()) + item(0x77, b"?") + SYNTAX)
    assert understood(request(item(0x99, b"?"), context)) == request(
        item(0x20, b"\1\0\0\0" + item(0x30, CT.encode()) + SYNTAX)
    )


@pytest.mark.parametrize(("version", "left"), [(1, 1), (3, 1), (0xFFFF, 1), (0, 0), (2, 2), (0x0100, 0x0100)])
def test_of_the_version_bit_0_counts(version, left):
    offered = struct.pack(">H", version).join((associate_rq("TENDON")[:6], associate_rq("TENDON")[8:]))
    assert understood(offered)[6:8] == struct.pack(">H", left)


def test_no_more_items_are_kept_than_there_may_be():
    contexts = [item(0x20, b"\1\0\0\0" + SYNTAX * (MOST_TRANSFER_SYNTAXES + 9))] * (MOST_OF_A_KIND + 9)
    kept = item(0x20, b"\1\0\0\0" + SYNTAX * MOST_TRANSFER_SYNTAXES)
    assert understood(request(*contexts)) == request(*[kept] * MOST_OF_A_KIND)


@given(st.binary(max_size=200), st.integers(1, 2), st.integers(0, 80))
def test_no_bytes_make_it_raise_or_grow(noise, kind, start):
    sound = associate_rq("TENDON", user_items=UNKNOWN) if kind == 1 else associate_ac()
    damaged = bytes([kind]) + sound[1:start] + noise
    assert len(understood(damaged)) <= max(len(damaged), 6)
    assert understood(understood(damaged)) == understood(damaged)
