"""Small CT series of any orientation, made for tests, and requests for reports on them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from orchestrator.dicom.identity import as_found, read_identity
from orchestrator.domain import codes
from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.geometry import Grid, Volume
from orchestrator.domain.result import Measurement, Notice, Provenance, Results, Segment, derive_uid
from orchestrator.ports import ReportRequest

if TYPE_CHECKING:
    from pathlib import Path

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
_C, _S = math.cos(math.radians(20)), math.sin(math.radians(20))
OBLIQUE = (_C, _S, 0.0, -_S * _C, _C * _C, -_S)
SHAPE = (12, 40, 48)
SPACING_MM = (3.0, 0.8, 0.8)


def uid(*parts: str) -> str:
    return derive_uid("synthetic", *parts)


def grid_of(orientation: tuple[float, ...], shape: tuple[int, int, int] = SHAPE) -> Grid:
    """The grid the files of `write_series` lie on: columns of the affine are slice, row, column steps."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    affine = np.eye(4)
    affine[:3, 0] = np.cross(row, column) * SPACING_MM[0]
    affine[:3, 1] = column * SPACING_MM[1]
    affine[:3, 2] = row * SPACING_MM[2]
    affine[:3, 3] = (-17.5, 22.25, -103.0)
    return Grid(shape, affine)


def limb(shape: tuple[int, int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """HU of a limb with a bone and a lump, and the masks of both; nothing is symmetric about any axis."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    z, y, x = k / shape[0], j / shape[1], i / shape[2]
    array = np.full(shape, -1000.0, np.float32)
    array[(y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.42**2] = 50.0
    bone = (y - 0.62) ** 2 + (x - 0.55) ** 2 < 0.14**2
    array[bone] = 900.0
    lump = (z - 0.4) ** 2 * 0.3 + (y - 0.34) ** 2 + (x - 0.33) ** 2 < 0.13**2
    array[lump] = 90.0
    return array, bone, lump


def write_series(
    folder: Path, orientation: tuple[float, ...] = AXIAL, shape: tuple[int, int, int] = SHAPE, **changed: Any
) -> list[str]:
    """A CT series, slice k in file k; `changed` sets elements of every file by keyword (None leaves one out)."""
    grid, (array, _, _) = grid_of(orientation, shape), limb(shape)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(grid.shape[0]):
        image = _image(k, grid, orientation, array[k])
        path = folder / f"slice{k:03}.dcm"
        with as_found():
            for keyword, value in changed.items():
                if value is None:
                    delattr(image, keyword)
                else:
                    setattr(image, keyword, value)
            image.save_as(path, enforce_file_format=True)
        paths.append(str(path))
    return paths


def _image(k: int, grid: Grid, orientation: tuple[float, ...], pixels: np.ndarray) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid("instance", str(k))
    image.StudyInstanceUID, image.SeriesInstanceUID = uid("study"), uid("series")
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = uid("frame"), ""
    image.PatientName, image.PatientID, image.IssuerOfPatientID = "Ash^Robin", "T-0042", "MAIN"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19700102", "O", "054Y"
    image.StudyDate, image.StudyTime = "20240311", "081512"
    image.SeriesDate, image.SeriesTime, image.ContentDate, image.ContentTime = "20240311", "082000", "20240311", "0821"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "S1", "A-77", "Birch^Kim"
    image.StudyDescription, image.SeriesDescription = "KNEE", "bone 3.0"
    image.Modality, image.Manufacturer, image.BodyPartExamined = "CT", "Phantom works", "KNEE"
    image.Laterality, image.PatientPosition = "L", "FFS"
    image.SeriesNumber, image.InstanceNumber, image.AcquisitionNumber = 4, k + 1, 1
    image.ImageType, image.KVP, image.SliceThickness = ["ORIGINAL", "PRIMARY", "AXIAL"], "120", "3"
    image.ImageOrientationPatient = [round(v, 10) for v in orientation]
    image.ImagePositionPatient = [round(v, 6) for v in grid.to_mm(np.array([[k, 0.0, 0.0]]))[0]]
    image.PixelSpacing = [SPACING_MM[1], SPACING_MM[2]]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", "1", "HU"
    image.PixelData = pixels.astype("<i2").tobytes()
    return image


def bone_segment(mask: np.ndarray, **changed: Any) -> Segment:
    segment = Segment("Tibia", codes.ANATOMICAL_STRUCTURE, codes.BONE, mask, laterality=codes.LEFT)
    return replace(segment, **changed)


def lump_segment(mask: np.ndarray, **changed: Any) -> Segment:
    segment = Segment(
        "Lump", codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE, codes.LESION, mask, "SEMIAUTOMATIC", None, (235, 80, 70)
    )
    return replace(segment, **changed)


def ibsi(value: str, meaning: str) -> codes.Code:
    return codes.Code(value, "IBSI", meaning)


MEASUREMENTS = (
    Measurement(ibsi("RNU0", "Volume of Mesh"), 2345.678, codes.CUBIC_MILLIMETRE, "Lump", "3D"),
    Measurement(ibsi("L0JK", "Maximum 3D Diameter of a Mesh"), 31.25, codes.MILLIMETRE, "Lump"),
    Measurement(ibsi("Q4LE", "Mean intensity"), 38.9, codes.HOUNSFIELD_UNIT, "Lump"),
    Measurement(ibsi("KE2A", "Intensity skewness"), -0.12, codes.NO_UNITS, "Lump"),
    Measurement(ibsi("QCFX", "Sphericity"), 0.81, codes.NO_UNITS, "Lump"),
    Measurement(ibsi("TU9B", "Joint entropy"), None, codes.NO_UNITS, "Lump", "3D averaged"),
)


def results_of(*segments: Segment, measurements: tuple[Measurement, ...] = MEASUREMENTS) -> Results:
    return Results(
        segments=segments,
        measurements=measurements,
        notices=(Notice("Not checked: contrast agent", "warning", "TND-3008"),),
        parameters={"bin_width_hu": "25"},
    )


def provenance(**changed: Any) -> Provenance:
    values: dict[str, Any] = {
        "installation": "demo",
        "environment": "production",
        "pipeline": "virtual_biopsy",
        "version": "1.0.0",
        "title": "Virtual biopsy",
        "intended_use": "Measures a drawn region",
        "standing": "research",
        "package_digest": "ab" * 32,
        "weights_digest": "",
        "rule_set_version": 3,
        "study_uid": uid("study"),
        "source_series_uid": uid("series"),
        "input_uids": tuple(uid("instance", str(k)) for k in range(SHAPE[0])),
        "input_set": "cd" * 32,
        "generation": 1,
        "content_time": "20240311082100",
    }
    return Provenance(**(values | changed))


def request_on(
    paths: list[str], results: Results, orientation: tuple[float, ...] = AXIAL, **changed: Any
) -> ReportRequest:
    """A request on the series of `write_series`; `changed` sets fields of its provenance."""
    shape = (len(paths), *SHAPE[1:])
    volume = Volume(limb(shape)[0], grid_of(orientation, shape), HOUNSFIELD_UNIT.value)
    return ReportRequest(results, provenance(**changed), volume, paths, read_identity(paths[0]))
