"""Two files show the same, whatever the encoding they are written in, or they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from orchestrator.dicom import versions
from orchestrator.dicom.elements import Unreadable, all_elements, pixel_data
from orchestrator.dicom.part10 import read_part10
from orchestrator.dicom.versions import is_same
from orchestrator.domain.errors import Fault, Unfit
from tests.house import write_limb_study
from tests.synthetic import write_series

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
DECODED = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEG2000Lossless)
CORRECTED = {
    "PatientName": "Finch^Yellow",
    "PatientID": "P2",
    "PatientBirthDate": "19510101",
    "AccessionNumber": "A2",
    "StudyDescription": "",
    "SpecificCharacterSet": "ISO_IR 100",
}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_series(tmp_path_factory.mktemp("ct"))[0]


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    return str(write_limb_study(tmp_path_factory.mktemp("limb"))[-1])


@pytest.fixture
def never_decoded(monkeypatch):
    def fail(*_):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(versions, "has_same_pixels", fail)


def again(path: str, folder: Path, syntax=None, pixels=None, **changed) -> str:
    """The object written anew, in another transfer syntax if one is named."""
    made = pydicom.dcmread(path)
    for keyword, value in changed.items():
        setattr(made, keyword, value)
    if pixels is not None:
        made.PixelData = pixels(made.pixel_array).tobytes()
    target = folder / "again.dcm"
    if syntax in (None, RLELossless, JPEG2000Lossless):
        if syntax is not None:
            made.compress(syntax, generate_instance_uid=False)
        made.save_as(target)
        return str(target)
    is_big = syntax == ExplicitVRBigEndian
    if is_big:
        made.PixelData = np.frombuffer(made.PixelData, "<i2").astype(">i2").tobytes()
    made.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(target, made, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not is_big)
    return str(target)


def one_more(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels[-1, -1] += 1
    return pixels


# images


@pytest.mark.parametrize("syntax", PLAIN, ids=lambda s: s.name)
def test_plain_pixels_are_compared_without_decoding_them(image, tmp_path, never_decoded, syntax):
    assert is_same(image, again(image, tmp_path, syntax, **CORRECTED))
    assert not is_same(image, again(image, tmp_path, syntax, one_more, **CORRECTED))


@pytest.mark.parametrize("syntax", DECODED, ids=lambda s: s.name)
def test_other_encodings_are_decoded(image, tmp_path, syntax):
    assert is_same(image, again(image, tmp_path, syntax, **CORRECTED))
    assert not is_same(image, again(image, tmp_path, syntax, one_more))


def test_fragments_that_are_the_same_are_not_decoded(image, tmp_path, never_decoded):
    compressed = Path(again(image, tmp_path, RLELossless)).rename(tmp_path / "first.dcm")
    assert is_same(str(compressed), again(str(compressed), tmp_path, PatientName="Finch"))


def test_fragments_that_are_cut_otherwise_are_decoded(image, tmp_path):
    first = Path(again(image, tmp_path, JPEG2000Lossless)).rename(tmp_path / "first.dcm")
    made = pydicom.dcmread(first)
    (frame,) = pydicom.encaps.generate_frames(made.PixelData, number_of_frames=1)
    made.PixelData = pydicom.encaps.encapsulate([frame], fragments_per_frame=2)
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    made.save_as(tmp_path / "second.dcm")
    assert is_same(str(first), str(tmp_path / "second.dcm"))


def test_the_same_values_in_cells_of_another_size_are_the_same(image, tmp_path):
    assert is_same(image, again(image, tmp_path, BitsStored=12, HighBit=11))


@pytest.mark.parametrize("changed", [{"RescaleSlope": "2"}, {"RescaleIntercept": "-1024"}], ids=str)
def test_another_rescale_makes_other_values(image, tmp_path, changed):
    assert not is_same(image, again(image, tmp_path, **changed))


def test_a_rescale_written_otherwise_is_the_same(image, tmp_path):
    assert is_same(image, again(image, tmp_path, RescaleSlope="1.00E0", RescaleIntercept="-0.0 "))


def test_another_shape_of_the_same_bytes_is_other(image, tmp_path):
    made = pydicom.dcmread(image)
    assert not is_same(image, again(image, tmp_path, Rows=made.Columns, Columns=made.Rows))


def test_what_cannot_be_decoded_or_read_is_said(image, tmp_path):
    broken = again(image, tmp_path, JPEG2000Lossless)
    whole = Path(broken).read_bytes()
    at = whole.index(b"\xff\x4f\xff\x51")
    Path(broken).write_bytes(whole[:at] + bytes(40) + whole[at + 40 :])
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(Path(image).read_bytes()[:-5])
    for path in (broken, str(cut)):
        with pytest.raises(Unfit) as told:
            is_same(image, path)
        assert told.value.fault is Fault.PIXELS_UNREADABLE


# other objects


@pytest.mark.parametrize("syntax", [*PLAIN, DeflatedExplicitVRLittleEndian], ids=lambda s: s.name)
def test_a_drawing_is_the_same_whoever_it_is_of(drawing, tmp_path, syntax):
    assert is_same(drawing, again(drawing, tmp_path, syntax, **CORRECTED))


def test_a_drawing_whose_contour_moved_is_other(drawing, tmp_path):
    made = pydicom.dcmread(drawing)
    made.ROIContourSequence[0].ContourSequence[0].ContourData[0] += 1
    made.save_as(tmp_path / "moved.dcm")
    assert not is_same(drawing, str(tmp_path / "moved.dcm"))


def test_a_drawing_that_says_more_is_other_and_one_that_says_who_changed_it_is_not(drawing, tmp_path):
    assert not is_same(drawing, again(drawing, tmp_path, StructureSetLabel="another"))
    note = pydicom.Dataset()
    note.Manufacturer = "Archive"
    assert is_same(drawing, again(drawing, tmp_path, ContributingEquipmentSequence=[note]))


def test_an_image_is_no_drawing(image, drawing):
    assert not is_same(image, drawing)


# where pixels lie


@pytest.mark.parametrize("syntax", [*PLAIN, RLELossless], ids=lambda s: s.name)
def test_pixel_data_lies_where_it_is_said_to(image, tmp_path, syntax):
    path = again(image, tmp_path, syntax)
    part10 = read_part10(path)
    data = Path(path).read_bytes()[part10.offset :]
    found = pixel_data(data, part10.transfer_syntax_uid)
    value = pydicom.dcmread(path).PixelData
    assert data[found.start : found.start + len(value)] == value
    assert found.length == (None if syntax == RLELossless else len(value))


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 3000), at=st.integers(0, 3000), byte=st.integers(0, 255))
def test_every_element_is_given_or_the_data_set_is_unreadable(drawing, cut, at, byte):
    """Broken data sets end in no other error."""
    part10 = read_part10(drawing)
    data = bytearray(Path(drawing).read_bytes()[part10.offset :])
    data[at % len(data)] = byte
    try:
        found = list(all_elements(bytes(data[: len(data) - cut]), part10.transfer_syntax_uid))
    except Unreadable:
        return
    assert sum(len(element.value) for element in found) <= len(data)
