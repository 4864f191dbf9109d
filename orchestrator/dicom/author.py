"""Writes a CT series and an RT Structure Set from arrays, for synthetic studies: equal arguments give equal bytes.

CT Image IOD, PS3.3 A.3; RT Structure Set IOD, PS3.3 A.19.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.valuerep import format_number_as_ds

from orchestrator.dicom.elements import EXPLICIT_LITTLE
from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.part10 import part10_prefix
from orchestrator.dicom.regions import STRUCTURE_SET
from orchestrator.domain.result import derive_uid

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from orchestrator.domain.geometry import Volume
    from orchestrator.domain.study import Header

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"

_MAKER = "Tendon"
_INTERCEPT = -1024
"""Stored values are HU + 1024 in 16 bits with sign, so HU from -33792 to 31743 are kept exactly."""


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """Whose study is written and what it is called. Dates and times are DICOM's (DA, TM)."""

    patient_id: str
    patient_name: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    birth_date: str = ""
    sex: str = "O"
    patient_id_issuer: str = ""
    study_date: str = "20260101"
    study_time: str = "120000"
    study_id: str = "1"
    accession_number: str = ""
    study_description: str = ""
    series_description: str = ""
    series_number: int = 1
    body_part: str = ""
    laterality: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A structure to write: closed contours, each (n, 3) in LPS mm without a repeated last point."""

    name: str
    contours: Sequence[NDArray[np.float64]]
    interpreted_type: str = ""


def write_ct(volume: Volume, folder: str | os.PathLike[str], *, identity: StudyIdentity) -> list[str]:
    """One file per slice, in slice order, of a volume in HU; HU are rounded to whole numbers.

    The grid may lie in any direction. Its slices may even be sheared: a step that is not along the normal
    gives the positions of a tilted gantry.
    """
    columns, rows = (volume.grid.affine[:3, axis] / np.linalg.norm(volume.grid.affine[:3, axis]) for axis in (2, 1))
    step_mm = abs(float(volume.grid.affine[:3, 0] @ np.cross(columns, rows)))
    _, between_rows, between_columns = volume.grid.spacing_mm
    paths = []
    for k, array in enumerate(volume.array):
        image = _patient_and_study(identity, identity.series_uid, "CT", identity.series_number)
        image.SOPClassUID = CT_IMAGE
        image.SOPInstanceUID = derive_uid(_MAKER, "image", identity.series_uid, str(k))
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.SeriesDescription = identity.series_description
        image.BodyPartExamined, image.Laterality = identity.body_part, identity.laterality
        image.ContentDate, image.ContentTime = identity.study_date, identity.study_time
        image.AcquisitionNumber, image.InstanceNumber = 1, k + 1
        image.PatientPosition, image.KVP = "HFS", "120"
        image.ImagePositionPatient = _decimals(volume.grid.affine[:3, 3] + k * volume.grid.affine[:3, 0])
        image.ImageOrientationPatient = _decimals(np.concatenate((columns, rows)))
        image.PixelSpacing = _decimals((between_rows, between_columns))
        (image.SliceThickness,) = _decimals((step_mm,))
        _set_pixels(image, array)
        paths.append(_write(image, Path(folder) / f"ct-{k + 1:04d}.dcm"))
    return paths


def write_rtstruct(
    drawings: Iterable[Drawing],
    images: Sequence[str],
    path: str | os.PathLike[str],
    *,
    identity: StudyIdentity,
    label: str = "REGIONS",
) -> str:
    """An RT Structure Set that draws these structures on the series of CT files; returns its path.

    Each contour refers to the image nearest to it.
    """
    headers = [read_file_header(image) for image in images]
    described = list(enumerate(drawings, start=1))
    structure_set = _patient_and_study(identity, derive_uid(_MAKER, "structures", identity.series_uid), "RTSTRUCT", 901)
    structure_set.SOPClassUID = STRUCTURE_SET
    structure_set.SOPInstanceUID = derive_uid(_MAKER, "structure set", identity.series_uid, label)
    structure_set.InstanceNumber = 1
    structure_set.StructureSetLabel = label
    structure_set.StructureSetDate, structure_set.StructureSetTime = identity.study_date, identity.study_time
    structure_set.ApprovalStatus = "UNAPPROVED"
    structure_set.OperatorsName = ""
    structure_set.ReferencedFrameOfReferenceSequence = [_referenced_series(identity, headers)]
    structure_set.StructureSetROISequence = [
        _item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=identity.frame_of_reference_uid,
            ROIName=drawing.name,
            ROIGenerationAlgorithm="MANUAL",
        )
        for number, drawing in described
    ]
    structure_set.ROIContourSequence = [_roi_contour(number, d, headers) for number, d in described]
    structure_set.RTROIObservationsSequence = [
        _item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            RTROIInterpretedType=drawing.interpreted_type,
            ROIInterpreter="",
        )
        for number, drawing in described
    ]
    return _write(structure_set, Path(path))


def _patient_and_study(identity: StudyIdentity, series_uid: str, modality: str, series_number: int) -> Dataset:
    """Patient, General Study, General Series, Frame of Reference, General Equipment and SOP Common modules."""
    return _item(
        SpecificCharacterSet="ISO_IR 192",
        PatientName=identity.patient_name,
        PatientID=identity.patient_id,
        **({"IssuerOfPatientID": identity.patient_id_issuer} if identity.patient_id_issuer else {}),
        PatientBirthDate=identity.birth_date,
        PatientSex=identity.sex,
        StudyInstanceUID=identity.study_uid,
        StudyDate=identity.study_date,
        StudyTime=identity.study_time,
        StudyID=identity.study_id,
        AccessionNumber=identity.accession_number,
        ReferringPhysicianName="",
        StudyDescription=identity.study_description,
        Modality=modality,
        SeriesInstanceUID=series_uid,
        SeriesNumber=series_number,
        SeriesDate=identity.study_date,
        SeriesTime=identity.study_time,
        FrameOfReferenceUID=identity.frame_of_reference_uid,
        PositionReferenceIndicator="",
        Manufacturer=_MAKER,
        ManufacturerModelName=f"{_MAKER} synthetic study",
    )


def _set_pixels(image: Dataset, array: NDArray[np.float32]) -> None:
    limits = np.iinfo(np.int16)
    stored = np.clip(np.rint(array) - _INTERCEPT, limits.min, limits.max).astype("<i2")
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = str(_INTERCEPT), "1", "HU"
    image.WindowCenter, image.WindowWidth = "200", "1500"
    image.PixelData = stored.tobytes()


def _referenced_series(identity: StudyIdentity, headers: Sequence[Header]) -> Dataset:
    series = _item(SeriesInstanceUID=identity.series_uid, ContourImageSequence=[_image_reference(h) for h in headers])
    study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=identity.study_uid,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=identity.frame_of_reference_uid, RTReferencedStudySequence=[study])


def _roi_contour(number: int, drawing: Drawing, headers: Sequence[Header]) -> Dataset:
    contour_items = [
        _item(
            ContourImageSequence=[_image_reference(_nearest(contour, headers))],
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=len(contour),
            ContourData=_decimals(contour.ravel()),
        )
        for contour in drawing.contours
    ]
    roi = _item(ROIDisplayColor=[255, 200, 60], ReferencedROINumber=number)
    if contour_items:
        roi.ContourSequence = contour_items
    return roi


def _nearest(contour: NDArray[np.float64], headers: Sequence[Header]) -> Header:
    centre = contour.mean(axis=0)

    def distance_mm(header: Header) -> float:
        way = np.array(header.orientation, np.float64)
        normal = np.cross(way[:3], way[3:])
        return abs(float((centre - np.array(header.position_mm, np.float64)) @ normal))

    return min(headers, key=distance_mm)


def _image_reference(header: Header) -> Dataset:
    return _item(ReferencedSOPClassUID=header.sop_class_uid, ReferencedSOPInstanceUID=header.sop_instance_uid)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, ItemSequence(value) if keyword.endswith("Sequence") else value)
    return item


def _decimals(values: Iterable[float]) -> list[str]:
    """Decimal strings of at most 16 characters; negative zero, which some readers refuse, becomes zero."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def _write(data_set: Dataset, path: Path) -> str:
    buffer = BytesIO()
    target = DicomIO(buffer)
    target.is_little_endian, target.is_implicit_VR = True, False
    write_dataset(target, data_set)
    prefix = part10_prefix(str(data_set.SOPClassUID), str(data_set.SOPInstanceUID), EXPLICIT_LITTLE)
    path.write_bytes(prefix + buffer.getvalue())
    return str(path)
