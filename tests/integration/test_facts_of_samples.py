"""Every public sample image gives, field by field, the facts that pydicom reads."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from orchestrator.dicom.facts import LOSSY_SYNTAXES, read_file_header
from orchestrator.domain.errors import Refused
from orchestrator.domain.fact_sources import FIELDS, study_facts
from orchestrator.domain.study import Header, RegionFact, Series, Study
from tests.strategies import instance_of

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = {
    "study_description": "StudyDescription",
    "accession_number": "AccessionNumber",
    "series_description": "SeriesDescription",
    "protocol": "ProtocolName",
    "station": "StationName",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "body_part": "BodyPartExamined",
    "patient_position": "PatientPosition",
    "patient_age": "PatientAge",
    "photometric": "PhotometricInterpretation",
    "frame_of_reference_uid": "FrameOfReferenceUID",
}
NUMBERS = {
    "series_number": "SeriesNumber",
    "instance_number": "InstanceNumber",
    "dose_area_product_dgycm2": "ImageAndFluoroscopyAreaDoseProduct",
}
PATIENT = {
    "id": "PatientID",
    "issuer": "IssuerOfPatientID",
    "name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
}
COMPARED_ELSEWHERE = {"patient", "regions", "unreadable", "content_time", "layout", "sop_class_uid", "sop_instance_uid"}


class Theirs:
    """What pydicom reads of a file, under the names of `Header`."""

    def __init__(self, data_set: Dataset) -> None:
        self.root = data_set
        self.own = next(iter(data_set.get("PerFrameFunctionalGroupsSequence") or ()), Dataset())
        self.shared = next(iter(data_set.get("SharedFunctionalGroupsSequence") or ()), Dataset())
        if "SegmentSequence" in data_set:
            self.own = self.shared = Dataset()

    def text(self, keyword: str) -> str:
        value = self.root.get(keyword)
        whole = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value)
        return whole.strip(" \0")

    def number(self, keyword: str) -> float | None:
        value = self.root.get(keyword)
        value = next(iter(value), None) if isinstance(value, MultiValue) else value
        try:
            return None if value is None or value == "" else float(value)
        except ValueError:
            return None

    def numbers(self, keyword: str, of: Dataset | None = None) -> tuple[float, ...] | None:
        value = (self.root if of is None else of).get(keyword)
        return tuple(map(float, value)) if value else None

    def in_group(self, keyword: str, *sequences: str) -> Any:
        """The value in a functional group of the first frame, its own or shared."""
        for group in (self.own, self.shared):
            inside = group
            for sequence in sequences:
                inside = next(iter(inside.get(sequence) or ()), Dataset())
            if inside.get(keyword) not in (None, ""):
                return inside.get(keyword)
        return None

    def coded(self, sequence: str, *keywords: str) -> str:
        first = next(iter(self.root.get(sequence) or ()), Dataset())
        return next((str(first[keyword].value or "") for keyword in keywords if keyword in first), "")

    def image(self) -> dict[str, Any]:
        image_type = self.root.get("ImageType") or []
        values = [image_type] if isinstance(image_type, str) else image_type
        return {
            "image_type": tuple(value.strip() for value in values),
            "rows": self.root.get("Rows") or 0,
            "columns": self.root.get("Columns") or 0,
            "samples_per_pixel": self.root.get("SamplesPerPixel") or 1,
            "frames": int(self.number("NumberOfFrames") or 1),
            "kvp": self.number("KVP"),
            "rescaled": self.number("RescaleSlope") is not None and self.number("RescaleIntercept") is not None,
            "lossy": self.root.file_meta.TransferSyntaxUID in LOSSY_SYNTAXES
            or self.text("LossyImageCompression") == "01",
            "burned_in": {"YES": True, "NO": False}.get(self.text("BurnedInAnnotation")),
            "ctdi_vol_mgy": self.number("CTDIvol"),
            "exposure_mas": self._exposure_mas(),
            "contrast_administered": None,
        }

    def place(self) -> dict[str, Any]:
        spacing = self.in_group("PixelSpacing", "PixelMeasuresSequence")
        orientation = self.in_group("ImageOrientationPatient", "PlaneOrientationSequence")
        thickness = self.in_group("SliceThickness", "PixelMeasuresSequence")
        return {
            "spacing_mm": tuple(map(float, spacing)) if spacing else self.numbers("PixelSpacing"),
            "position_mm": self.numbers("ImagePositionPatient"),
            "orientation": tuple(map(float, orientation)) if orientation else self.numbers("ImageOrientationPatient"),
            "slice_thickness_mm": float(thickness) if thickness else self.number("SliceThickness"),
            "gantry_tilt_deg": self.number("GantryDetectorTilt"),
        }

    def said(self) -> dict[str, Any]:
        return {
            "procedure_code": self.coded("ProcedureCodeSequence", "CodeValue", "LongCodeValue"),
            "patient_species": self.text("PatientSpeciesDescription")
            or self.coded("PatientSpeciesCodeSequence", "CodeMeaning"),
            "anatomic_region": self.coded("AnatomicRegionSequence", "CodeValue", "LongCodeValue")
            or self.in_group("CodeValue", "FrameAnatomySequence", "AnatomicRegionSequence")
            or "",
            "laterality": self.in_group("FrameLaterality", "FrameAnatomySequence")
            or self.text("ImageLaterality")
            or self.text("Laterality"),
            "kernel": self.text("ConvolutionKernel"),
            "contrast_agent": self.text("ContrastBolusAgent")
            or self.coded("ContrastBolusAgentSequence", "CodeMeaning"),
        }

    def _exposure_mas(self) -> float | None:
        whole, fine = self.number("Exposure"), self.number("ExposureInuAs")
        return whole if whole or fine is None else fine / 1000


def sample_files(sample_data: Path):
    for path in sorted(p for p in sample_data.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                yield path


def differences(header: Header, theirs: Theirs) -> dict[str, tuple[Any, Any]]:
    """Ours and theirs of each field in which they differ."""
    expected = {name: theirs.text(keyword) for name, keyword in TEXTS.items()}
    expected |= {name: theirs.number(keyword) for name, keyword in NUMBERS.items()}
    expected |= theirs.image() | theirs.place() | theirs.said()
    expected["transfer_syntax_uid"] = str(theirs.root.file_meta.TransferSyntaxUID)
    assert {field.name for field in fields(Header)} - set(expected) == COMPARED_ELSEWHERE
    differ = {
        name: (getattr(header, name), value) for name, value in expected.items() if getattr(header, name) != value
    }
    for name, keyword in PATIENT.items():
        ours, value = getattr(header.patient, name).rstrip("="), theirs.text(keyword).rstrip("=")
        if ours != value:
            differ[name] = (ours, value)
    return differ


def test_every_sample_file_gives_the_facts_pydicom_reads(sample_data: Path):
    unreadable, refused, differ, compared = {}, [], {}, 0
    for path in sample_files(sample_data):
        try:
            header = read_file_header(path)
        except Refused:
            refused.append(path.name)
            continue
        if header.unreadable:
            unreadable[path.name] = header.unreadable
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = differences(header, Theirs(pydicom.dcmread(path, stop_before_pixels=True)))
        if found:
            differ[str(path.relative_to(sample_data))] = found
        compared += 1
    assert differ == {}
    assert compared > 300
    assert refused == ["meta_missing_tsyntax.dcm"]
    assert unreadable == dict.fromkeys(("MR_truncated.dcm", "rtplan_truncated.dcm"), "the data set ends too early")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("chrArab", "قباني^لنزار"),
        ("chrFren", "Buc^Jérôme"),
        ("chrGerm", "Äneas^Rüdiger"),
        ("chrGreek", "Διονυσιος"),
        ("chrH31", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrI2", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrX1", "Wang^XiaoDong=王^小東="),
    ],
)
def test_names_in_the_scripts_of_the_world_are_read(sample_data: Path, file: str, name: str):
    assert read_file_header(sample_data / "charsets" / f"{file}.dcm").patient.name == name


def test_sample_regions_are_found_on_their_series(sample_data: Path):
    knee = sample_data / "msk_sarcoma/knee_STS_042/ct"
    series_uid = read_file_header(next((knee / "dicom").iterdir())).series_uid
    assert read_file_header(knee / "rtstruct.dcm").regions == (RegionFact("GTV_Mass_CT", "rtstruct", series_uid),)
    label_map = read_file_header(sample_data / "seg_sr/dcmqi_sr/sparse-labelmap-ppv5.dcm")
    assert [region.name for region in label_map.regions] == ["Liver"]


def facts_of(folder: Path) -> dict[str, Any]:
    """Facts of the series whose files lie in a folder, by their short names."""
    series = Series("1", tuple(instance_of(read_file_header(path)) for path in sorted(folder.iterdir())))
    _, (its,) = study_facts(Study("1", 1, (series,)), {})
    return {name.removeprefix("series."): its.values[name] for name in FIELDS if name.startswith("series.")}


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (
            "mr_knee_enhanced",
            {"orientation": "SAGITTAL", "laterality": "R", "frames": 19, "is_enhanced": True, "slice_thickness_mm": 6.0}
            | {"is_volume": False, "missing_slices": None, "has_burned_in_annotation": False, "is_derived": False},
        ),
        (
            "ct_geometry/gantry_tilt_phantom",
            {"orientation": "AXIAL", "gantry_tilt_deg": 18.5, "shear_deg": 18.5, "missing_slices": 0}
            | {"obliquity_deg": 18.5, "is_volume": False, "is_enhanced": False, "kernel": "UB"},
        ),
        (
            "ct_abdomen_labelled/dicom",
            {"orientation": "AXIAL", "slice_step_mm": 2.0, "slice_gap_mm": -1.0, "coverage_mm": 40.0}
            | {"missing_slices": 0, "shear_deg": 0.0, "frames": 20},
        ),
    ],
)
def test_series_of_samples_say_how_they_lie(sample_data: Path, folder: str, expected: dict[str, Any]):
    facts = facts_of(sample_data / folder)
    assert {name: facts[name] for name in expected} == expected
