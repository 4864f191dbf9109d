from __future__ import annotations

import subprocess
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
import pydicom
import pytest

from orchestrator.dicom import seg, sr
from orchestrator.domain import codes
from orchestrator.domain.contours import fill_slice
from orchestrator.domain.geometry import Volume
from orchestrator.domain.result import Measurement, Results, Score
from tests.synthetic import (
    AXIAL,
    MEASUREMENTS,
    OBLIQUE,
    SAGITTAL,
    bone_segment,
    ibsi,
    limb,
    lump_segment,
    request_on,
    results_of,
    write_series,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.ports import ReportRequest

_, BONE, LUMP = limb()
BOTH = results_of(bone_segment(BONE), lump_segment(LUMP))
OF_BONE = Measurement(codes.sct("118565006", "Volume"), 2.742, codes.MILLILITRE, "Tibia")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_series(tmp_path_factory.mktemp("source"))


def read(request: ReportRequest) -> pydicom.Dataset:
    (built,) = sr.build(request)
    return pydicom.dcmread(BytesIO(built.data))


def below(item: pydicom.Dataset, meaning: str = "") -> Iterator[pydicom.Dataset]:
    """Content items anywhere below one, of that concept name if given."""
    for child in item.get("ContentSequence", ()):
        if not meaning or child.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            yield child
        yield from below(child, meaning)


def groups(document: pydicom.Dataset) -> list[pydicom.Dataset]:
    return list(below(document, "Measurement Group"))


def numbers(group: pydicom.Dataset) -> dict[str, pydicom.Dataset]:
    """NUM items by the derivation, or the name where there is none."""
    found = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            derived = [d.ConceptCodeSequence[0].CodeMeaning for d in below(item, "Derivation")]
            found[(derived or [item.ConceptNameCodeSequence[0].CodeMeaning])[0]] = item
    return found


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, OBLIQUE], ids=["axial", "sagittal", "oblique"])
def test_checker_and_another_parser_take_the_report(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    request = request_on(write_series(tmp_path, orientation), BOTH, orientation)
    path = tmp_path / "result.dcm"
    path.write_bytes(sr.build(request)[0].data)
    checked = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    dumped = subprocess.run(["dsrdump", "+Pf", path], capture_output=True, text=True, check=True)
    assert "Verification Flag   : UNVERIFIED" in dumped.stdout
    assert "Preliminary Flag    : PRELIMINARY" in dumped.stdout
    assert "Volume of Mesh" in dumped.stdout
    assert "AI, not reviewed" in dumped.stdout
    assert "error" not in dumped.stderr.lower()


def test_equal_requests_give_equal_bytes(paths: list[str]) -> None:
    first, again = (sr.build(request_on(paths, BOTH))[0].data for _ in range(2))
    assert first == again


def test_nothing_measured_or_nothing_outlined_gives_no_report(paths: list[str]) -> None:
    assert sr.build(request_on(paths, results_of(bone_segment(BONE), measurements=()))) == []
    assert sr.build(request_on(paths, results_of())) == []
    assert sr.build(request_on(paths, results_of(lump_segment(np.zeros_like(LUMP))))) == []


def test_only_measured_segments_get_a_group_each_alone(paths: list[str]) -> None:
    (only,) = groups(read(request_on(paths, BOTH)))
    assert only.ContentTemplateSequence[0].TemplateIdentifier == "1411"
    assert [f.ConceptCodeSequence[0].CodeMeaning for f in below(only, "Finding")] == ["Lesion"]
    both = replace(BOTH, measurements=(*MEASUREMENTS, OF_BONE))
    assert len(groups(read(request_on(paths, both)))) == 2


def test_regions_are_polylines_on_the_images_and_point_to_no_segment(paths: list[str]) -> None:
    document = read(request_on(paths, BOTH))
    regions = list(below(document, "Image Region"))
    assert {r.GraphicType for r in regions} == {"POLYLINE"}
    assert not list(below(document, "Referenced Segment"))
    assert not [i for i in below(document) if i.ValueType == "IMAGE" and "66.4" in str(i)]
    for region in regions:
        (image,) = region.ContentSequence
        assert image.RelationshipType == "SELECTED FROM"


def test_outlines_enclose_exactly_the_voxels(paths: list[str]) -> None:
    request = request_on(paths, BOTH)
    order = [pydicom.dcmread(p).SOPInstanceUID for p in request.source_files]
    drawn = np.zeros_like(LUMP)
    for region in below(read(request), "Image Region"):
        k = order.index(region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        drawn[k] ^= fill_slice([np.reshape(region.GraphicData, (-1, 2)) - 0.5], LUMP.shape[1:])
    np.testing.assert_array_equal(drawn, LUMP)


def test_the_largest_slice_is_drawn_first(paths: list[str]) -> None:
    request = request_on(paths, BOTH)
    first = next(below(read(request), "Image Region"))
    largest = pydicom.dcmread(request.source_files[int(np.argmax(LUMP.sum(axis=(1, 2))))]).SOPInstanceUID
    assert first.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == largest


def test_a_long_region_is_drawn_on_twenty_slices_and_says_so(tmp_path: Path) -> None:
    shape = (30, *BONE.shape[1:])
    request = request_on(
        write_series(tmp_path, shape=shape), results_of(bone_segment(limb(shape)[1]), measurements=(OF_BONE,))
    )
    document = read(request)
    images = [i for i in below(next(below(document, "Image Library"))) if i.ValueType == "IMAGE"]
    assert 18 <= len(images) == len(list(below(document, "Image Region"))) <= 20
    assert any("at most 20 slices" in c.TextValue for c in below(document, "Comment"))


def test_tracking_identifiers_are_those_of_the_segmentation(paths: list[str]) -> None:
    request = request_on(paths, BOTH)
    segments = pydicom.dcmread(BytesIO(seg.build(request)[0].data)).SegmentSequence
    (group,) = groups(read(request))
    assert next(below(group, "Tracking Identifier")).TextValue == segments[1].TrackingID
    assert segments[1].TrackingUID == next(below(group, "Tracking Unique Identifier")).UID


def test_intensity_statistics_of_ct_are_attenuation_with_a_derivation(paths: list[str]) -> None:
    (group,) = groups(read(request_on(paths, BOTH)))
    found = numbers(group)
    for derivation, value in (("Mean", 38.9), ("Skewness", -0.12)):
        item = found[derivation]
        assert item.ConceptNameCodeSequence[0].CodeValue == "112031"
        assert float(item.MeasuredValueSequence[0].NumericValue) == value
    assert found["Mean"].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert found["Sphericity"].ConceptNameCodeSequence[0].CodingSchemeDesignator == "IBSI"


def test_intensity_statistics_of_other_images_keep_their_ibsi_code(tmp_path: Path) -> None:
    request = request_on(write_series(tmp_path, Modality="MR"), BOTH)
    request = replace(request, volume=Volume(request.volume.array, request.volume.grid, "1"))
    document = read(request)
    mean = numbers(groups(document)[0])["Mean intensity"].ConceptNameCodeSequence[0]
    assert (mean.CodeValue, mean.CodingSchemeDesignator) == ("Q4LE", "IBSI")
    assert next(below(document, "Procedure reported")).ConceptCodeSequence[0].CodeValue == "25056-3"


def test_a_failed_number_has_no_value_but_the_reason(paths: list[str]) -> None:
    failed = (*MEASUREMENTS, Measurement(ibsi("NI2N", "Correlation of GLCM"), float("nan"), codes.NO_UNITS, "Lump"))
    (group,) = groups(read(request_on(paths, replace(BOTH, measurements=failed))))
    for name in ("Joint entropy", "Correlation of GLCM"):
        item = numbers(group)[name]
        assert len(item.MeasuredValueSequence) == 0
        assert item.NumericValueQualifierCodeSequence[0].CodeMeaning == "Measurement failure"


def test_the_numbers_a_viewer_shows_first_are_the_ones_people_ask_for(paths: list[str]) -> None:
    (group,) = groups(read(request_on(paths, BOTH)))
    assert list(numbers(group))[:2] == ["Maximum 3D Diameter of a Mesh", "Mean"]


def test_every_number_names_the_algorithm_and_its_method(paths: list[str]) -> None:
    (group,) = groups(read(request_on(paths, BOTH)))
    for item in numbers(group).values():
        assert next(below(item, "Algorithm Name")).TextValue == "virtual_biopsy"
        assert next(below(item, "Algorithm Version")).TextValue == "1.0.0"
    assert next(below(numbers(group)["Volume of Mesh"], "Algorithm Parameters")).TextValue == "3D"
    said = [i.TextValue for i in group.ContentSequence if i.ValueType == "TEXT"]
    assert "bin_width_hu=25" in said
    assert f"package_sha256={'ab' * 32}" in said


def test_reader_is_told_marks_and_notices(paths: list[str]) -> None:
    document = read(request_on(paths, BOTH, environment="test"))
    said = [c.TextValue for c in below(document, "Comment")]
    assert said == [
        "AI, not reviewed",
        "For research use only: not for clinical use",
        "TEST: not a real report",
        "Not checked: contrast agent",
    ]
    assert document.SeriesDescription.startswith("TEST ")
    assert (document.CompletionFlag, document.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert document.ContentQualification == "RESEARCH"


HOMELESS = Measurement(codes.sct("410668003", "Length"), 12.0, codes.MILLIMETRE)


def test_numbers_of_no_segment_belong_to_the_only_one(paths: list[str]) -> None:
    alone = results_of(lump_segment(LUMP), measurements=(HOMELESS,))
    document = read(request_on(paths, alone))
    assert "Length" in numbers(groups(document)[0])
    assert document.CompletionFlag == "COMPLETE"


def test_numbers_without_a_home_make_the_report_partial(paths: list[str]) -> None:
    several = replace(BOTH, measurements=(*MEASUREMENTS, HOMELESS))
    document = read(request_on(paths, several))
    assert document.CompletionFlag == "PARTIAL"
    assert any(c.TextValue.startswith("1 numbers that belong to no") for c in below(document, "Comment"))


def test_a_score_names_its_model_and_what_was_missing(paths: list[str]) -> None:
    score = Score(codes.Code("SINS", "99TENDON", "SINS"), 9.0, 0.4, None, "SINS", "2010", "Fisher 2010", (), ("pain",))
    results = Results(segments=(lump_segment(LUMP),), scores=(score,))
    found = numbers(groups(read(request_on(paths, results)))[0])
    assert float(found["SINS"].MeasuredValueSequence[0].NumericValue) == 9.0
    assert float(found["Probability"].MeasuredValueSequence[0].NumericValue) == 0.4
    assert [p.TextValue for p in below(found["SINS"], "Algorithm Parameters")] == [
        "citation: Fisher 2010",
        "missing: pain",
    ]


def test_all_source_images_are_evidence(paths: list[str]) -> None:
    request = request_on(paths, BOTH)
    document = read(request)
    listed = highdicom.sr.ComprehensiveSR.from_dataset(replace_failed(document)).get_evidence()
    assert {str(e[2]) for e in listed} == set(request.provenance.input_uids)


def replace_failed(document: pydicom.Dataset) -> pydicom.Dataset:
    """highdicom reads no NUM without a value, so those are taken out before it is asked."""
    for group in groups(document):
        group.ContentSequence = [i for i in group.ContentSequence if "NumericValueQualifierCodeSequence" not in i]
    return document


@pytest.mark.parametrize(
    ("terms", "name"), [(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), ("ISO_IR 100", "Müller^Jörg")]
)
def test_identity_is_copied_byte_for_byte(tmp_path: Path, terms: Any, name: str) -> None:
    request = request_on(write_series(tmp_path, SpecificCharacterSet=terms, PatientName=name), BOTH)
    source = pydicom.dcmread(request.source_files[0])
    made = read(request)
    for keyword in ("PatientName", "PatientID", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        assert made.get_item(keyword).value == source.get_item(keyword).value
    assert made.PatientName == name
