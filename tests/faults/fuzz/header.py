"""Headers in every transfer syntax: facts that a record can hold, whatever the bytes."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.dicom.elements import DEFLATED
from orchestrator.dicom.facts import read_header
from orchestrator.dicom.part10 import read_part10
from orchestrator.domain.errors import Refused
from orchestrator.domain.study import Header
from tests.data_sets import BIG, EXPLICIT, IMPLICIT, a_header, encoded, implicit, item
from tests.faults.fuzz.target import Target

if TYPE_CHECKING:
    from random import Random

SYNTAXES = (IMPLICIT, EXPLICIT, BIG, DEFLATED, "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.202", "")
DEFLATE_IT, IS_BEGINNING, HAS_NAMES = 8, 16, 32
LONGEST_SEED_BYTES = 8000
TAGS = (
    *(0x00080005, 0x00080016, 0x00081032, 0x00081115, 0x0020000E, 0x00620002, 0x00620004, 0x00620005, 0x7FE00010),
    *(0x30060010, 0x30060012, 0x30060014, 0x30060020, 0x30060022, 0x30060024, 0x30060026, 0x30060039, 0x30060040),
    *(0x30060050, 0x30060080, 0x30060084, 0x300600A4, 0x00102202, 0x00080104, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD),
)


def run(data: bytes) -> None:
    """The first byte chooses the transfer syntax and how the rest is taken."""
    if not data:
        return
    how, data_set = data[0], data[1:]
    if how & DEFLATE_IT:
        deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        data_set = deflater.compress(data_set) + deflater.flush()
    named = "1.2.3" if how & HAS_NAMES else ""
    syntax = DEFLATED if how & DEFLATE_IT else SYNTAXES[how % 8 % len(SYNTAXES)]
    header = read_header(
        memoryview(data_set),
        sop_class_uid=named,
        sop_instance_uid=named,
        transfer_syntax_uid=syntax,
        size=len(data_set) + 1000 if how & IS_BEGINNING else None,
    )
    record = json.dumps(header.as_record(), allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in record, "no database takes it"
    assert Header.from_record(json.loads(record.encode())) == header


def compose(random: Random) -> bytes:
    """Elements and sequences that matter here, nested, lengths right, open or just off."""
    is_big = random.random() < 0.2
    syntax = random.choice((0, 8, 0)) if not is_big else 2
    return bytes([syntax | random.choice((0, IS_BEGINNING)) | HAS_NAMES]) + _elements(random, 4, is_big=is_big)


def _elements(random: Random, depth: int, *, is_big: bool) -> bytes:
    body = b""
    for _ in range(random.randint(0, 4)):
        tag = random.choice(TAGS) if random.random() < 0.9 else random.getrandbits(32)
        value = random.choice((b"", b"1 ", b"1.2.3\0", b"\x1b$B\x1b(B", b"a\\b^c=d ", b"\xff\xfe", b"EXTERNAL"))
        if depth and random.random() < 0.6:
            inside = [_elements(random, depth - 1, is_big=is_big) for _ in range(random.randint(0, 2))]
            value = b"".join(_element(random, 0xFFFEE000, item, is_big=is_big) for item in inside)
        body += _element(random, tag, value, is_big=is_big)
    return body


def _element(random: Random, tag: int, value: bytes, *, is_big: bool) -> bytes:
    order = ">" if is_big else "<"
    length = random.choice((len(value),) * 8 + (0xFFFFFFFF, 0xFFFFFFFF, len(value) + 1, max(len(value) - 1, 0)))
    vr = (
        struct.pack(order + "2sH", random.choice((b"SQ", b"UN", b"OB", b"UT")), 0)
        if is_big and tag >> 16 != 0xFFFE
        else b""
    )
    end = _ENDS.get(tag == 0xFFFEE000, b"") if length == 0xFFFFFFFF and not is_big else b""
    return struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr + struct.pack(order + "I", length) + value + end


_ENDS = {True: struct.pack("<HHI", 0xFFFE, 0xE00D, 0), False: struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)}


def structures() -> bytes:
    """A structure set and a segmentation in one, implicit."""
    made = item(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        StructureSetROISequence=[item(ROINumber=1, ROIName="GTV", ReferencedFrameOfReferenceUID="1.2")],
        ReferencedFrameOfReferenceSequence=[
            item(
                FrameOfReferenceUID="1.2",
                RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.3")])],
            )
        ],
        ROIContourSequence=[item(ReferencedROINumber=1, ContourSequence=[item(ContourData=["0", "0", "0"])])],
        RTROIObservationsSequence=[item(ReferencedROINumber=1, RTROIInterpretedType="GTV")],
        ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.9")],
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="Femur")],
        PatientSpeciesCodeSequence=[item(CodeMeaning="Canis")],
    )
    return encoded(made, IMPLICIT, None)


def seeds() -> list[bytes]:
    made = [bytes([k | HAS_NAMES]) + encoded(a_header(), syntax, bytes(16)) for k, syntax in enumerate(SYNTAXES[:5])]
    made += [bytes([how]) + structures() for how in (0, DEFLATE_IT, IS_BEGINNING)]
    made += [bytes([DEFLATE_IT]) + encoded(a_header(), EXPLICIT), b"\x00" + implicit(0x7FE00010, bytes(8))]
    return made + _samples()


def _samples() -> list[bytes]:
    """The small ones of the public sample images, where they are."""
    named = os.environ.get("TENDON_SAMPLE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[4] / "shared" / "data"
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > LONGEST_SEED_BYTES:
            continue
        try:
            part10 = read_part10(path)
        except Refused:
            continue
        how = SYNTAXES.index(part10.transfer_syntax_uid) if part10.transfer_syntax_uid in SYNTAXES else 1
        found.append(bytes([how | HAS_NAMES]) + path.read_bytes()[part10.offset :])
    return found


TOKENS = (
    *(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in TAGS),
    *(struct.pack(">HH", tag >> 16, tag & 0xFFFF) for tag in TAGS),
    *(struct.pack("<HHI", tag >> 16, tag & 0xFFFF, 0xFFFFFFFF) for tag in TAGS),
    *(b"SQ\0\0", b"UN\0\0\xff\xff\xff\xff", b"OB\0\0", b"UT\0\0", b"ZZ", b"SH\x04\0", b"US\x02\0", b"DS\x04\0"),
    *(b"\\ISO 2022 IR 87", b"ISO_IR 192", b"GB18030", b"ISO 2022 IR 149", b"\x1b$B", b"\x1b$)C", b"\x1b(J", b"\x1b"),
    *(b"1e999", b"-1\\2\\3", b"nan", b"20240131", b"235960.999999", b"\xed\xa0\x80", b"EXTERNAL"),
)
TARGET = Target(run, seeds, compose, TOKENS, longest_bytes=LONGEST_SEED_BYTES)
