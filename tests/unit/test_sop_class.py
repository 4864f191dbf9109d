"""A data set of another SOP class than its request says is refused before it is kept (PS3.4 B.2.3)."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dicom.sop_class import check_class
from orchestrator.domain.errors import Fault, Refused
from tests.dicom_peers import CT, EXPLICIT, IMPLICIT

BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
MR = "1.2.840.10008.5.1.4.1.1.4"
LAYOUT = {IMPLICIT: "<HHL", EXPLICIT: "<HH2sH", BIG: ">HH2sH"}


def data_set(syntax: str, sop_class: bytes | None) -> bytes:
    """Elements of group 8."""
    made = b""
    for element, vr, value in ((0x0008, b"CS", b"ORIGINAL"), (0x0016, b"UI", sop_class), (0x0060, b"CS", b"CT")):
        if value is not None:
            head = (8, element, len(value)) if syntax == IMPLICIT else (8, element, vr, len(value))
            made += struct.pack(LAYOUT[syntax], *head) + value
    return made


@pytest.mark.parametrize("syntax", LAYOUT)
@pytest.mark.parametrize("sop_class", [CT.encode() + b"\0", CT.encode() + b" ", b"", None])
def test_what_names_the_same_class_or_none_is_no_contradiction(syntax, sop_class):
    check_class(data_set(syntax, sop_class), syntax, CT)


@pytest.mark.parametrize("syntax", LAYOUT)
@pytest.mark.parametrize("sop_class", [MR.encode() + b"\0", CT.encode() + b"." + b"1" * 60])
def test_another_class_is_refused(syntax, sop_class):
    with pytest.raises(Refused) as refusal:
        check_class(data_set(syntax, sop_class), syntax, CT)
    assert refusal.value.fault is Fault.OTHER_CLASS


@given(st.binary(max_size=400), st.sampled_from([*LAYOUT, DEFLATED, "1.2.840.10008.1.2.4.50", "no syntax"]))
def test_whatever_comes_is_taken_or_refused(part, syntax):
    with suppress(Refused):
        check_class(part, syntax, CT)


@given(st.integers(0, 80))
def test_a_first_piece_that_ends_early_is_no_contradiction(count):
    check_class(data_set(EXPLICIT, CT.encode() + b"\0")[:count], EXPLICIT, CT)
