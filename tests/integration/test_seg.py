from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from orchestrator.dicom import seg
from orchestrator.dicom.identity import as_found, read_identity
from orchestrator.dicom.volume import read_volume
from orchestrator.domain import codes
from orchestrator.domain.errors import Broken
from orchestrator.ports import ReportRequest
from tests.synthetic import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    bone_segment,
    ibsi,
    limb,
    lump_segment,
    provenance,
    request_on,
    results_of,
    uid,
    write_series,
)

if TYPE_CHECKING:
    from orchestrator.domain.geometry import Grid
    from orchestrator.domain.result import Results

_, BONE, LUMP = limb()
BOTH = results_of(bone_segment(BONE), lump_segment(LUMP))
ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL, "oblique": OBLIQUE}
VERBATIM = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "SpecificCharacterSet",
)


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data))


def faults(path: Path) -> list[str]:
    """Error lines of dciodvfy."""
    done = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert bool(lines) == bool(done.returncode)
    return lines


def build_in(folder: Path, results: Results = BOTH, **series: Any) -> tuple[Path, ReportRequest]:
    request = request_on(write_series(folder / "source", **series), results)
    (built,) = seg.build(request)
    path = folder / "result.dcm"
    path.write_bytes(built.data)
    return path, request


def masks_by_dcmqi(path: Path, folder: Path, grid: Grid) -> dict[str, np.ndarray]:
    """Masks of a SEG on the grid, as an independent reader sees them."""
    folder.mkdir()
    tool = Path(sys.executable).with_name("segimage2itkimage")
    subprocess.run(
        [tool, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nifti"], check=True, capture_output=True
    )
    meta = json.loads((folder / "meta.json").read_text())
    masks = {}
    for item in (i for group in meta["segmentAttributes"] for i in group):
        image = nibabel.load(next(folder.glob(f"*{item['labelID']}.nii.gz")))
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
        voxels = np.argwhere(np.asarray(image.dataobj) > 0) @ lps[:3, :3].T + lps[:3, 3]
        index = np.rint(grid.to_index(voxels)).astype(int)
        mask = np.zeros(grid.shape, bool)
        mask[tuple(index.T)] = True
        masks[item["SegmentLabel"]] = mask
    return masks


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_another_reader_finds_every_voxel_where_it_was(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    request = request_on(write_series(tmp_path / "source", orientation), BOTH, orientation)
    path = tmp_path / "result.dcm"
    path.write_bytes(seg.build(request)[0].data)
    assert faults(path) == []
    found = masks_by_dcmqi(path, tmp_path / "read", request.volume.grid)
    assert found.keys() == {"Tibia", "Lump"}
    np.testing.assert_array_equal(found["Tibia"], BONE)
    np.testing.assert_array_equal(found["Lump"], LUMP)


def test_overlapping_segments_keep_all_their_voxels(tmp_path: Path) -> None:
    wider = BONE | LUMP
    path, request = build_in(tmp_path, results_of(bone_segment(wider), lump_segment(LUMP)))
    assert read(path.read_bytes()).SegmentsOverlap == "YES"
    found = masks_by_dcmqi(path, tmp_path / "read", request.volume.grid)
    np.testing.assert_array_equal(found["Tibia"], wider)
    np.testing.assert_array_equal(found["Lump"], LUMP)


def test_a_single_segment_passes_the_checker_too(tmp_path: Path) -> None:
    path, _ = build_in(tmp_path, results_of(lump_segment(LUMP, algorithm_type="MANUAL")))
    assert faults(path) == []
    (described,) = read(path.read_bytes()).SegmentSequence
    assert described.SegmentAlgorithmType == "MANUAL"


def test_nothing_outlined_gives_no_segmentation(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    assert seg.build(request_on(paths, results_of())) == []
    assert seg.build(request_on(paths, results_of(lump_segment(np.zeros_like(LUMP))))) == []


def test_an_empty_segment_is_left_out_and_numbers_stay_dense(tmp_path: Path) -> None:
    path, _ = build_in(tmp_path, results_of(lump_segment(np.zeros_like(LUMP)), bone_segment(BONE)))
    (described,) = read(path.read_bytes()).SegmentSequence
    assert (described.SegmentNumber, described.SegmentLabel) == (1, "Tibia")


def test_equal_requests_give_equal_bytes(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    first, again = (seg.build(request_on(paths, BOTH))[0].data for _ in range(2))
    assert first == again


def test_another_generation_is_another_instance_of_the_same_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    old, new = (seg.build(request_on(paths, BOTH, generation=g))[0] for g in (1, 2))
    assert old.series_uid == new.series_uid
    assert old.sop_instance_uid != new.sop_instance_uid


def test_every_segment_is_named_coded_coloured_tracked_and_attributed(tmp_path: Path) -> None:
    path, request = build_in(tmp_path)
    tibia, lump = read(path.read_bytes()).SegmentSequence
    kind = tibia.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("272673000", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert tibia.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert (lump.TrackingID, lump.TrackingUID) == ("Lump", request.provenance.tracking_uid("Lump"))
    assert lump.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert lump.SegmentAlgorithmName == "virtual_biopsy"
    algorithm = lump.SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmVersion == "1.0.0"
    assert "bin_width_hu=25" in algorithm.AlgorithmParameters
    assert "rule_set_version=3" in algorithm.AlgorithmParameters
    colour = highdicom.color.CIELabColor.from_dicom_value(lump.RecommendedDisplayCIELabValue)
    assert np.abs(np.subtract(colour.to_rgb(), (235, 80, 70))).max() <= 2


def test_equipment_is_ours_and_times_are_the_results(tmp_path: Path) -> None:
    path, _ = build_in(tmp_path)
    made = read(path.read_bytes())
    assert (made.Manufacturer, made.ManufacturerModelName) == ("Tendon", "Virtual biopsy")
    assert (made.SoftwareVersions, made.DeviceSerialNumber) == ("virtual_biopsy 1.0.0", "demo")
    assert made.ContentQualification == "RESEARCH"
    assert made.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    moments = [e.value for e in made.iterall() if e.VR in {"DA", "DT", "TM"} and e.keyword.startswith("Con")]
    assert {"20240311", "082100", "20240311082100"} == set(moments)
    assert made.SeriesNumber >= 9000
    assert made.StudyInstanceUID == uid("study")
    assert made.FrameOfReferenceUID == uid("frame")


def test_segmentation_refers_to_images_only(tmp_path: Path) -> None:
    path, request = build_in(tmp_path)
    made = read(path.read_bytes())
    assert {e.value for e in made.iterall() if e.keyword == "ReferencedSOPClassUID"} == {request.identity.sop_class_uid}
    assert len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == BONE.shape[0]


@pytest.mark.parametrize(
    ("title", "starts"),
    [
        ("Virtual biopsy", "Virtual biopsy 1.0.0: Tibia, left, Lump"),
        ("Virtual biopsy: numbers of a drawn region", "virtual_biopsy 1.0.0: Tibia, left, Lump"),
    ],
)
def test_series_description_speaks_and_never_loses_its_mark(tmp_path: Path, title: str, starts: str) -> None:
    paths = write_series(tmp_path)
    said = read(seg.build(request_on(paths, BOTH, title=title))[0].data).SeriesDescription
    assert said.startswith(starts)
    assert said.endswith(", AI, not reviewed")
    tested = read(seg.build(request_on(paths, BOTH, title=title, environment="test"))[0].data).SeriesDescription
    assert tested.startswith("TEST ")
    assert tested.endswith(", AI, not reviewed")
    assert max(len(said), len(tested)) <= 64


NAMES = {
    "UTF-8": ("ISO_IR 192", "Müller^Jörg"),
    "German": ("ISO_IR 100", "Müller^Jörg"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
}


@pytest.mark.parametrize(("terms", "name"), NAMES.values(), ids=NAMES)
def test_identity_is_copied_byte_for_byte(tmp_path: Path, terms: Any, name: str) -> None:
    path, request = build_in(tmp_path, SpecificCharacterSet=terms, PatientName=name, ReferringPhysicianName=name)
    assert faults(path) == []
    source, made = pydicom.dcmread(request.source_files[0]), pydicom.dcmread(path)
    for keyword in VERBATIM:
        ours, theirs = made.get_item(keyword), source.get_item(keyword)
        assert ours.value == theirs.value, keyword
    assert made.PatientName == name
    assert request.identity.patient.name == name


def test_faults_of_the_source_are_kept_and_trip_nothing(tmp_path: Path) -> None:
    wrong = {
        "StudyID": "12345678901234567",
        "PatientBirthDate": "unknown",
        "PatientSex": "X1",
        "AccessionNumber": "an accession number of too many characters",
        "StudyTime": "25:61",
    }
    path, request = build_in(tmp_path, **wrong)
    with as_found():
        made = pydicom.dcmread(path)
        assert {keyword: str(made[keyword].value) for keyword in wrong} == wrong
    found = faults(path)
    assert found
    assert set(found) == set(faults(Path(request.source_files[0])))


def test_an_undeclared_character_set_is_copied_as_it_is(tmp_path: Path) -> None:
    paths = write_series(tmp_path, SpecificCharacterSet=None, PatientName="Muller^Jorg")
    for path in paths:
        data = Path(path).read_bytes()
        Path(path).write_bytes(data.replace(b"Muller^Jorg", b"M\xfcller^J\xf6rg"))
    made = pydicom.dcmread(BytesIO(seg.build(request_on(paths, BOTH))[0].data))
    assert made.get_item("PatientName").value.strip() == b"M\xfcller^J\xf6rg"
    assert "SpecificCharacterSet" not in made


def test_nested_issuers_are_copied_and_give_the_patient_system(tmp_path: Path) -> None:
    issuer = pydicom.Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3.4", "ISO"
    path, request = build_in(tmp_path, IssuerOfPatientIDQualifiersSequence=[issuer])
    (copied,) = pydicom.dcmread(path).IssuerOfPatientIDQualifiersSequence
    assert copied.UniversalEntityID == "1.2.3.4"
    assert request.identity.patient_system == "urn:oid:1.2.3.4"


def test_absent_identity_stays_absent_and_required_elements_stay_empty(tmp_path: Path) -> None:
    path, request = build_in(
        tmp_path, AccessionNumber=None, PatientID="", IssuerOfPatientID=None, StudyDescription=None
    )
    assert faults(path) == []
    made = pydicom.dcmread(path)
    assert made.AccessionNumber == ""
    assert not made.PatientID
    assert "IssuerOfPatientID" not in made
    assert "StudyDescription" not in made
    assert request.identity.patient.id == ""


def test_words_of_ours_are_ascii_in_any_character_set(tmp_path: Path) -> None:
    label = "Knöchel \N{EN DASH} außen"
    path, _ = build_in(tmp_path, results_of(bone_segment(BONE, label=label)), SpecificCharacterSet="ISO_IR 101")
    assert read(path.read_bytes()).SegmentSequence[0].SegmentLabel == "Knochel - aussen"


def test_local_codes_declare_their_scheme(tmp_path: Path) -> None:
    local = codes.Code("X1", "99TENDON", "Something new")
    path, _ = build_in(tmp_path, results_of(lump_segment(LUMP, type=local)))
    (scheme,) = read(path.read_bytes()).CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99TENDON"
    assert faults(path) == []
    assert "CodingSchemeIdentificationSequence" not in read(build_in(tmp_path)[0].read_bytes())
    assert ibsi("A", "b").scheme == "IBSI"


def test_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    request = request_on(write_series(tmp_path), results_of(bone_segment(BONE[:-1])))
    with pytest.raises(Broken, match="TND-4004"):
        seg.build(request)
    with pytest.raises(Broken, match="TND-4004"):
        seg.build(replace(request, results=BOTH, source_files=request.source_files[:-1]))


@pytest.mark.parametrize("case", ["knee_STS_042/ct", "knee_STS_042/mr_t1", "foot_STS_019/ct", "hip_femur_STS_012/ct"])
def test_reference_masks_of_real_series_come_back(sample_data: Path, tmp_path: Path, case: str) -> None:
    folder = sample_data / "msk_sarcoma" / case
    images = [
        p
        for p in sorted((folder / "dicom").iterdir())
        if pydicom.dcmread(p, specific_tags=["Modality"]).Modality != "RTSTRUCT"
    ]
    source = read_volume([str(p) for p in images])
    reference = nibabel.load(folder / "mask.nii.gz")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ reference.affine
    at_mm = np.argwhere(np.asarray(reference.dataobj) > 0) @ lps[:3, :3].T + lps[:3, 3]
    mask = np.zeros(source.volume.grid.shape, bool)
    mask[tuple(np.rint(source.volume.grid.to_index(at_mm)).astype(int).T)] = True
    assert int(mask.sum()) == len(at_mm)
    request = ReportRequest(
        results_of(lump_segment(mask)),
        provenance(study_uid=source.headers[0].study_uid, source_series_uid=source.headers[0].series_uid),
        source.volume,
        list(source.files),
        read_identity(source.files[0]),
    )
    path = tmp_path / "result.dcm"
    path.write_bytes(seg.build(request)[0].data)
    (found,) = masks_by_dcmqi(path, tmp_path / "read", source.volume.grid).values()
    np.testing.assert_array_equal(found, mask)
    assert all("StudyID" in fault for fault in faults(path)), "only faults of the source may remain"
