"""Header facts are read from any encoding, within bounds, and whatever bytes come there is an answer."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.dicom.author import Drawing, StudyIdentity, write_ct, write_rtstruct
from orchestrator.dicom.elements import DEFLATED_SYNTAXES
from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.part10 import part10_prefix, read_part10
from orchestrator.dicom.text import decode
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.geometry import Volume
from orchestrator.domain.study import Header, Patient, RegionFact
from tests.data_sets import (
    BIG,
    CT,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    SEQUENCE_END,
    a_header,
    encoded,
    explicit,
    implicit,
    item,
    read,
)
from tests.synthetic import AXIAL, grid_of, uid

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = StudyIdentity(
    patient_id="P-7",
    patient_name="Müller^Jörg",
    patient_id_issuer="MAIN",
    study_uid=uid("study"),
    series_uid=uid("series"),
    frame_of_reference_uid=uid("frame"),
    body_part="KNEE",
    laterality="L",
)
CODE = implicit(0x00080100, b"24725-4 ")
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, *sorted(DEFLATED_SYNTAXES), JPEG_LOSSLESS, JPEG_BASELINE]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_facts_are_the_same_in_every_encoding(syntax):
    assert read(encoded(a_header(), syntax), syntax) == Header(
        sop_class_uid=CT,
        sop_instance_uid="1.2.3.4.5",
        transfer_syntax_uid=syntax,
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        patient=Patient(id="P-7", issuer="MAIN", name="Müller^Jörg"),
        modality="CT",
        procedure_code="24725-4",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        instance_number=12,
        content_time="20240131101530",
        kvp=120.0,
        gantry_tilt_deg=-18.5,
        rows=4,
        columns=8,
        photometric="MONOCHROME2",
        spacing_mm=(0.7, 0.8),
        position_mm=(-1.5, 2.0, 30.0),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        rescaled=True,
        lossy=syntax == JPEG_BASELINE,
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pixels_cut_off_anywhere_are_recognised(syntax):
    whole = encoded(a_header(), syntax, bytes(range(64)))
    assert not read(whole, syntax).unreadable
    for length in range(len(whole) - 60, len(whole)):
        assert read(whole[:length], syntax).unreadable == "the data set ends too early"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_header_cut_off_anywhere_is_unreadable_or_ends_between_elements(syntax):
    whole = encoded(a_header(), syntax)
    assert sum(not read(whole[:length], syntax).unreadable for length in range(len(whole))) < 60


def test_the_beginning_of_a_large_object_is_enough():
    whole = encoded(a_header(), EXPLICIT, bytes(4096))
    assert read(whole[:-4000], size=len(whole)) == read(whole)
    assert read(whole[:200], size=len(whole)).unreadable.startswith("the header is longer than")
    assert read(whole[:-4000], size=len(whole) - 1).unreadable == "the data set ends too early"


def test_the_beginning_of_a_large_encapsulated_object_is_enough():
    whole = encoded(a_header(), JPEG_LOSSLESS, bytes(4096))
    assert read(whole[:-4000], JPEG_LOSSLESS, size=len(whole)) == read(whole, JPEG_LOSSLESS)


def test_a_fault_keeps_the_facts_found_before_it():
    header = read(encoded(a_header(), EXPLICIT)[:-1])
    assert header.unreadable
    assert header.study_uid == "1.2.3"


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_sequences_of_undefined_length_hold_the_same_facts(syntax):
    open_header = a_header()
    open_header["ProcedureCodeSequence"].is_undefined_length = True
    open_header.ProcedureCodeSequence[0].is_undefined_length_sequence_item = True
    assert read(encoded(open_header, syntax), syntax) == read(encoded(a_header(), syntax), syntax)


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x08\0\x32\x10UN\0\0\xff\xff\xff\xff" + ITEM + CODE + ITEM_END + SEQUENCE_END,
        explicit(0x00081032, b"UN", implicit(0xFFFEE000, CODE)),
        explicit(0x00081032, b"SQ", implicit(0xFFFEE000, CODE)),
        b"\x08\0\x32\x10SQ\0\0\xff\xff\xff\xff"
        + implicit(0xFFFEE000, explicit(0x00080100, b"SH", b"24725-4 "))
        + SEQUENCE_END,
    ],
)
def test_sequences_written_as_unknown_or_partly_implicit_are_read(sequence):
    header = read(sequence + explicit(0x0020000D, b"UI", b"1.2\0"))
    assert (header.procedure_code, header.study_uid, header.unreadable) == ("24725-4", "1.2", "")


def test_a_value_representation_nobody_knows_is_passed_over():
    for vr, extra in ((b"ZZ", b""), (b"XQ", struct.pack("<HI", 0, 4))):
        strange = b"\x09\0\x10\x10" + vr + (extra or struct.pack("<H", 4)) + b"abcd"
        assert read(strange + explicit(0x0020000D, b"UI", b"1.2\0")).study_uid == "1.2"


def test_moments_are_taken_in_order_and_must_be_real():
    assert read(encoded(a_header(ContentTime=""), EXPLICIT)).content_time == "20240131000000"
    later = a_header(ContentTime="", StudyDate="20200229", StudyTime="07")
    assert read(encoded(later, EXPLICIT)).content_time == "20200229070000"
    broken = (
        explicit(0x00080020, b"DA", b"20241399")
        + explicit(0x00080023, b"DA", b"2024.01.02")
        + explicit(0x00080033, b"TM", b"10:20:30")
    )
    assert read(broken).content_time == "20240102102030"
    assert read(explicit(0x00080023, b"DA", b"20241399")).content_time == ""


@pytest.mark.parametrize("text", [b"nan", b"inf", b"1e999", b"1_0", b"abc", b"", b"1\\2\\3", b"\xef\xbc\x91"])
def test_what_is_no_decimal_string_is_no_number(text):
    padded = text + b" " * (len(text) % 2)
    header = read(explicit(0x00280030, b"DS", padded) + explicit(0x00181120, b"DS", padded))
    assert header.spacing_mm is None
    assert header.gantry_tilt_deg in (None, 1.0)


def test_a_veterinary_image_says_its_species():
    assert read(encoded(a_header(PatientSpeciesDescription="Canine"), EXPLICIT)).patient_species == "Canine"
    coded = a_header(PatientSpeciesCodeSequence=[item(CodeMeaning="Canis lupus familiaris")])
    assert read(encoded(coded, EXPLICIT)).patient_species == "Canis lupus familiaris"


def test_a_header_survives_its_record_and_holds_nothing_a_database_refuses():
    name = b"A\0B\x1b\x07^\xed\xa0\x80"
    header = read(explicit(0x00080005, b"CS", b"ISO_IR 192") + explicit(0x00100010, b"PN", name))
    assert "\0" not in header.patient.name
    assert Header.from_record(json.loads(json.dumps(header.as_record()).encode())) == header


# structure sets and segmentations


def test_structures_are_named_unless_empty_or_the_outline_of_the_body(tmp_path: Path):
    grid = grid_of(AXIAL, (3, 8, 8))
    images = write_ct(Volume(np.zeros((3, 8, 8), np.float32), grid, "1"), tmp_path, identity=IDENTITY)
    contour = grid.to_mm(np.array([(1, 2, 2), (1, 2, 5), (1, 5, 5)], float))
    drawings = [
        Drawing("  Tumör\n  ", [contour], "GTV"),
        Drawing("BODY", [contour], "EXTERNAL"),
        Drawing("nothing drawn", []),
        Drawing("n" * 64, [contour, contour]),
    ]
    path = write_rtstruct(drawings, images, tmp_path / "rt.dcm", identity=IDENTITY)
    assert read_file_header(path).regions == (
        RegionFact("Tumör", "rtstruct", IDENTITY.series_uid),
        RegionFact("n" * 64, "rtstruct", IDENTITY.series_uid),
    )


def test_segments_are_named_on_the_series_they_refer_to():
    segmentation = item(
        ReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.9")],
        SegmentSequence=[
            item(SegmentNumber=0, SegmentLabel="Background"),
            item(SegmentNumber=1, SegmentLabel="Femur"),
            item(SegmentNumber=2, SegmentLabel="x" * 70),
        ],
    )
    header = read(encoded(segmentation, EXPLICIT, None))
    assert header.regions == (RegionFact("Femur", "seg", "1.2.9"), RegionFact("x" * 64, "seg", "1.2.9"))


# what is broken


@pytest.mark.parametrize(
    "data",
    [
        explicit(0x00081032, b"SQ", implicit(0xFFFEE000, CODE)[:-4]),
        explicit(0x00081032, b"SQ", CODE),
        b"\x08\0\x32\x10SQ\0\0\xff\xff\xff\xff" + ITEM + CODE + SEQUENCE_END,
        explicit(0x00081032, b"SQ", ITEM + CODE) + explicit(0x0020000D, b"UI", b"1.2\0"),
        ITEM_END[:4] + b"\0\0",
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + ITEM,
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + CODE,
    ],
)
def test_broken_structure_is_unreadable_with_a_reason(data):
    assert read(data).unreadable


@given(st.binary(max_size=300), st.sampled_from(SYNTAXES))
def test_no_bytes_make_the_reader_raise(data, syntax):
    read(data, syntax)


@settings(max_examples=300)
@given(
    syntax=st.sampled_from([IMPLICIT, EXPLICIT, BIG, JPEG_LOSSLESS]),
    wounds=st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from("set drop add"), st.binary(min_size=1, max_size=6)), max_size=4
    ),
)
def test_no_damage_to_a_real_header_makes_the_reader_raise(syntax, wounds):
    data = bytearray(encoded(a_header(), syntax))
    for place, kind, found in wounds:
        start = int(place * len(data))
        data[start : start + (0 if kind == "add" else len(found))] = b"" if kind == "drop" else found
    header = read(bytes(data), syntax)
    json.dumps(header.as_record(), allow_nan=False).encode()


@given(st.binary(max_size=60), st.lists(st.sampled_from([*pydicom.charset.python_encoding, "nonsense"]), max_size=3))
def test_no_text_makes_decoding_raise(value, terms):
    assert "\0" not in decode(value, terms)


# files


def test_the_file_prefix_is_read_back_by_us_and_by_pydicom(tmp_path: Path):
    path = tmp_path / "x.dcm"
    data_set = encoded(a_header(), EXPLICIT)
    path.write_bytes(part10_prefix(CT, "1.2.3.4.5", EXPLICIT) + data_set)
    part10 = read_part10(path)
    assert (part10.sop_class_uid, part10.sop_instance_uid, part10.transfer_syntax_uid) == (CT, "1.2.3.4.5", EXPLICIT)
    assert path.read_bytes()[part10.offset :] == data_set
    assert part10.size == len(data_set)
    meta = pydicom.dcmread(path).file_meta
    assert meta.ImplementationVersionName == "TENDON_1"
    assert meta.ImplementationClassUID.is_valid
    assert part10_prefix(CT, "1.2.3.4.5", EXPLICIT) == part10_prefix(CT, "1.2.3.4.5", EXPLICIT)


def test_uids_the_file_meta_leaves_empty_come_from_the_data_set(tmp_path: Path):
    path = tmp_path / "x.dcm"
    path.write_bytes(
        part10_prefix("", "", IMPLICIT) + encoded(a_header(SOPClassUID=CT, SOPInstanceUID="1.9"), IMPLICIT)
    )
    assert (read_part10(path).sop_class_uid, read_part10(path).sop_instance_uid) == (CT, "1.9")
    assert read_file_header(path).sop_instance_uid == "1.9"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", Fault.NOT_DICOM),
        (bytes(200), Fault.NOT_DICOM),
        (bytes(128) + b"DICM", Fault.NOT_DICOM),
        (part10_prefix(CT, "1.2", EXPLICIT)[:-40], Fault.TRUNCATED),
        (part10_prefix(CT, "1.2", EXPLICIT)[:140], Fault.TRUNCATED),
        (bytes(128) + b"DICM\2\0\1\0OB\0\0\xff\xff\xff\x7f", Fault.NOT_DICOM),
        (bytes(128) + b"DICM" + b"\2\0\3\0UI\0\0" * 1000, Fault.NOT_DICOM),
    ],
)
def test_what_is_no_dicom_file_is_refused(tmp_path: Path, data: bytes, fault: Fault):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(Refused) as caught:
        read_part10(tmp_path / "x")
    assert caught.value.fault is fault


@given(st.binary(max_size=200))
def test_no_file_makes_the_reader_raise_anything_but_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(bytes(128) + b"DICM" + data)
    try:
        read_part10(path)
    except Refused:
        return
