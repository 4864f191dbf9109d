"""Data sets to read headers from: sound ones by pydicom, and elements by hand."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from orchestrator.dicom.elements import DEFLATED_SYNTAXES
from orchestrator.dicom.elements import EXPLICIT_BIG as BIG
from orchestrator.dicom.elements import EXPLICIT_LITTLE as EXPLICIT
from orchestrator.dicom.elements import IMPLICIT_LITTLE as IMPLICIT
from orchestrator.dicom.facts import read_header

if TYPE_CHECKING:
    from orchestrator.domain.study import Header

CT = "1.2.840.10008.5.1.4.1.1.2"
JPEG_LOSSLESS, JPEG_BASELINE = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50"


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def a_header(**more) -> Dataset:
    """A CT header with a bit of everything, nested sequences, private and unknown elements included."""
    made = item(
        SpecificCharacterSet="ISO_IR 192",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        ContentDate="20240131",
        ContentTime="101530.5",
        Modality="CT",
        ProcedureCodeSequence=[item(CodeValue="24725-4", CodingSchemeDesignator="LN", CodeMeaning="CT Head")],
        ReferencedImageSequence=[
            item(ReferencedSOPInstanceUID="1.2", PurposeOfReferenceCodeSequence=[item(CodeValue="1")])
        ],
        PatientName="Müller^Jörg",
        PatientID="P-7",
        IssuerOfPatientID="MAIN",
        KVP="120",
        GantryDetectorTilt="-18.5",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.4",
        InstanceNumber="12",
        ImagePositionPatient=["-1.5", "2", "3e1"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        PhotometricInterpretation="MONOCHROME2",
        Rows=4,
        Columns=8,
        PixelSpacing=["0.7", "0.8"],
        BitsAllocated=16,
        RescaleIntercept="-1024",
        RescaleSlope="1",
    )
    block = made.private_block(0x0019, "TENDON TEST", create=True)
    block.add_new(0x01, "OB", b"\0\1\2\3")
    block.add_new(0x02, "SQ", [item(CodeValue="private")])
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


def encoded(data_set: Dataset, syntax: str, pixels: bytes | None = bytes(64)) -> bytes:
    if pixels is not None:
        is_encapsulated = syntax not in (IMPLICIT, EXPLICIT, BIG, *DEFLATED_SYNTAXES)
        data_set.PixelData = encapsulate([pixels]) if is_encapsulated else pixels
        data_set["PixelData"].VR = "OB" if is_encapsulated else "OW"
        data_set["PixelData"].is_undefined_length = is_encapsulated
    target = DicomBytesIO()
    target.is_little_endian, target.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(target, data_set)
    if syntax not in DEFLATED_SYNTAXES:
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


ITEM, ITEM_END, SEQUENCE_END = (
    struct.pack("<HHI", 0xFFFE, e, n) for e, n in ((0xE000, 0xFFFFFFFF), (0xE00D, 0), (0xE0DD, 0))
)
