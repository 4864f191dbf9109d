"""A test object for trying destinations: a Secondary Capture (PS3.3 A.8) that names itself a test all over."""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset

from orchestrator.dicom.elements import EXPLICIT_LITTLE
from orchestrator.dicom.part10 import part10_prefix
from orchestrator.domain.result import derive_uid
from orchestrator.ports import BuiltObject

_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_SIDE: Final = 64
_TOLD: Final = "TENDON TEST OBJECT, NO PATIENT"


def specimen(installation: str) -> BuiltObject:
    """The test object of an installation: the same bytes at each call. It shows a cross."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = _SECONDARY_CAPTURE
    made.SOPInstanceUID = derive_uid(installation, "test object", "instance")
    made.StudyInstanceUID = derive_uid(installation, "test object", "study")
    made.SeriesInstanceUID = derive_uid(installation, "test object", "series")
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "TENDON^TEST", "TENDON-TEST", "", "O"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20260101", "000000", "TEST", ""
    made.ReferringPhysicianName = ""
    made.StudyDescription = made.SeriesDescription = made.ImageComments = _TOLD
    made.Modality, made.ConversionType, made.Manufacturer = "OT", "SYN", "Tendon"
    made.SeriesNumber = made.InstanceNumber = 1
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.PatientOrientation = ""
    _draw_cross(made)
    buffer = BytesIO()
    target = DicomIO(buffer)
    target.is_little_endian, target.is_implicit_VR = True, False
    write_dataset(target, made)
    prefix = part10_prefix(_SECONDARY_CAPTURE, made.SOPInstanceUID, EXPLICIT_LITTLE)
    return BuiltObject(
        "picture",
        "tendon-test.dcm",
        prefix + buffer.getvalue(),
        _SECONDARY_CAPTURE,
        str(made.SOPInstanceUID),
        str(made.SeriesInstanceUID),
        EXPLICIT_LITTLE,
    )


def _draw_cross(made: Dataset) -> None:
    pixels = np.zeros((_SIDE, _SIDE), np.uint8)
    diagonal = np.arange(_SIDE)
    pixels[diagonal, diagonal] = pixels[diagonal, diagonal[::-1]] = 255
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = _SIDE
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.BurnedInAnnotation = "NO"
    made.PixelData = pixels.tobytes()
