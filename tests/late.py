"""Objects that reach a study after its images, for tests: dose report, presentation state, key object selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from orchestrator.dicom.identity import as_found
from orchestrator.domain.result import derive_uid

if TYPE_CHECKING:
    from pathlib import Path

DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
MODALITIES = {DOSE_SR: "SR", PRESENTATION_STATE: "PR", KEY_OBJECTS: "KO"}
_OF_THE_STUDY = (
    "PatientID",
    "PatientName",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
)


def write_late(folder: Path, image: Path, sop_class_uid: str, series_uid: str = "") -> Path:
    """An object of this class that refers to an image, in a series of its own of the image's study."""
    source = dcmread(image, stop_before_pixels=True)
    late = Dataset()
    late.SOPClassUID, late.Modality = sop_class_uid, MODALITIES[sop_class_uid]
    late.SOPInstanceUID = derive_uid("late", sop_class_uid, source.SOPInstanceUID)
    late.SeriesInstanceUID = series_uid or derive_uid("late series", sop_class_uid, source.SOPInstanceUID)
    late.SeriesNumber, late.InstanceNumber = 0, 1
    referred, of_series = Dataset(), Dataset()
    referred.ReferencedSOPClassUID, referred.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    of_series.SeriesInstanceUID, of_series.ReferencedImageSequence = source.SeriesInstanceUID, [referred]
    late.ReferencedSeriesSequence = [of_series]
    return _written(folder, late, source)


def write_of_study(folder: Path, sample: Path, image: Path) -> Path:
    """A sample object as if it belonged to the image's study."""
    return _written(folder, dcmread(sample), dcmread(image, stop_before_pixels=True))


def _written(folder: Path, late: Dataset, source: Dataset) -> Path:
    with as_found():
        for keyword in _OF_THE_STUDY:
            if keyword in source:
                setattr(late, keyword, source[keyword].value)
        late.file_meta = FileMetaDataset()
        late.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{late.SOPInstanceUID}.dcm"
        late.save_as(path, enforce_file_format=True)
    return path
