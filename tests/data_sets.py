"""Data sets down to their bytes, and what the reader of headers makes of them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from orchestrator.dicom import elements as walk
from orchestrator.dicom.facts import read_header

if TYPE_CHECKING:
    from orchestrator.domain.study import Header

IMPLICIT, EXPLICIT, DEFLATED, BIG = walk.IMPLICIT_LITTLE, walk.EXPLICIT_LITTLE, walk.DEFLATED, walk.EXPLICIT_BIG
JPEG_LOSSLESS, JPEG_BASELINE = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50"
CT = "1.2.840.10008.5.1.4.1.1.2"


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def encoded(data_set: Dataset, syntax: str, pixels: bytes | None = bytes(64)) -> bytes:
    if pixels is not None:
        is_encapsulated = syntax not in (IMPLICIT, EXPLICIT, DEFLATED, BIG)
        data_set.PixelData = encapsulate([pixels]) if is_encapsulated else pixels
        data_set["PixelData"].VR = "OB" if is_encapsulated else "OW"
        data_set["PixelData"].is_undefined_length = is_encapsulated
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(target, data_set)
    if syntax != DEFLATED:
        return target.getvalue()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(target.getvalue()) + deflater.flush()


def read(data: bytes, syntax: str = EXPLICIT, size: int | None = None) -> Header:
    return read_header(data, sop_class_uid=CT, sop_instance_uid="1.2.3.4.5", transfer_syntax_uid=syntax, size=size)


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"SQ", b"UN", b"OB", b"OW", b"UT", b"UC"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
