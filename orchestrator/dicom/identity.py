"""Whose images these are: read for people, and copied into our objects byte for byte (I5).

What is copied keeps the source's own faults (a Study ID of 17 characters, an undeclared character set):
mending them would make our objects disagree with the images they belong to.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pydicom
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import BaseTag

from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.report import Identity
from orchestrator.domain.study import Patient

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENT = (
    "PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence PatientBirthDate "
    "PatientBirthTime PatientSex QualityControlSubject OtherPatientIDs OtherPatientNames OtherPatientIDsSequence "
    "EthnicGroup PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription "
    "PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole "
    "ResponsibleOrganization PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence "
    "ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName ClinicalTrialSiteID "
    "ClinicalTrialSiteName ClinicalTrialSubjectID ClinicalTrialSubjectReadingID"
)
_STUDY = (
    "StudyInstanceUID StudyDate StudyTime ReferringPhysicianName ReferringPhysicianIdentificationSequence "
    "ConsultingPhysicianName StudyID AccessionNumber IssuerOfAccessionNumberSequence StudyDescription "
    "PhysiciansOfRecord NameOfPhysiciansReadingStudy ReferencedStudySequence ProcedureCodeSequence PatientAge "
    "PatientSize PatientWeight PatientSexNeutered ClinicalTrialTimePointID ClinicalTrialTimePointDescription"
)
COPIED = tuple(f"SpecificCharacterSet {_PATIENT} {_STUDY}".split())
"""Patient and study modules (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3), and the character set they are written in."""

_TYPE_2 = frozenset(
    (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "ReferringPhysicianName",
        "StudyID",
        "AccessionNumber",
    )
)
_SHOWN = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "Laterality",
    "FrameOfReferenceUID",
)


@contextmanager
def as_found() -> Iterator[None]:
    """Work on values as they are: what breaks its value representation is neither refused nor warned of."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def read_header(path: str, keywords: tuple[str, ...] = ()) -> Dataset:
    """The data set of a file without its pixels, only the elements named if any are. Raises Unfit NOT_A_VOLUME."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(keywords) or None)
    except (InvalidDicomError, OSError, EOFError) as fault:
        raise Unfit(Fault.NOT_A_VOLUME, "a source image cannot be read") from fault


def read_identity(path: str) -> Identity:
    """The identity in the header of one source image. Raises Unfit NOT_A_VOLUME when it cannot be read."""
    with as_found():
        header = read_header(path, (*COPIED, *_SHOWN))
        text = {keyword: _text(header, keyword) for keyword in (*COPIED, *_SHOWN) if not keyword.endswith("Sequence")}
        return Identity(
            patient=Patient(
                id=text["PatientID"],
                issuer=text["IssuerOfPatientID"],
                name=text["PatientName"],
                birth_date=text["PatientBirthDate"],
                sex=text["PatientSex"],
            ),
            patient_system=_issuer_oid(header),
            study_uid=text["StudyInstanceUID"],
            series_uid=text["SeriesInstanceUID"],
            sop_class_uid=text["SOPClassUID"],
            accession_number=text["AccessionNumber"],
            study_id=text["StudyID"],
            study_date=text["StudyDate"],
            study_time=text["StudyTime"],
            study_description=text["StudyDescription"],
            referring_physician=text["ReferringPhysicianName"],
            series_description=text["SeriesDescription"],
            modality=text["Modality"],
            body_part=text["BodyPartExamined"],
            laterality=text["Laterality"],
            frame_of_reference_uid=text["FrameOfReferenceUID"],
        )


def stamp(target: Dataset, header: Dataset, more: tuple[str, ...] = ()) -> None:
    """Put the header's patient and study elements, and those of `more`, into `target` as they are.

    Elements of ours that the header lacks stay where the standard wants them present (type 2), empty.
    """
    with as_found():
        for keyword in (*COPIED, *more):
            tag = BaseTag(tag_for_keyword(keyword) or 0)
            found = _verbatim(header, tag)
            if found is not None:
                target[tag] = found
            elif keyword in _TYPE_2:
                target[tag] = RawDataElement(
                    tag, dictionary_VR(tag), 0, b"", 0, is_implicit_VR=False, is_little_endian=True
                )
            elif tag in target and keyword != "StudyInstanceUID":
                del target[tag]


def _verbatim(header: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    if tag not in header:
        return None
    found = header.get_item(tag)
    vr = dictionary_VR(tag)
    if vr == "SQ":
        return _verbatim_sequence(header, tag)
    if isinstance(found, DataElement):
        return found
    assert found is not None
    value = found.value or b""
    padded = value if len(value) % 2 == 0 else value + (b"\0" if vr == "UI" else b" ")
    return RawDataElement(tag, vr, len(padded), padded, 0, is_implicit_VR=False, is_little_endian=True)


def _verbatim_sequence(header: Dataset, tag: BaseTag) -> DataElement | None:
    """A sequence item by item; None where its bytes do not hold together."""
    try:
        items = header[tag].value
        copies = []
        for item in items:
            copy = Dataset()
            for inner in list(item.keys()):
                found = None if inner.is_private else _verbatim(item, inner)
                if found is not None:
                    copy[inner] = found
                seal(copy)
            copies.append(copy)
    except (ValueError, EOFError, KeyError, NotImplementedError):
        return None
    return DataElement(tag, "SQ", ItemSequence(copies))


def seal(data_set: Dataset) -> None:
    """Declare raw elements to be in the encoding they will be written in, so that pydicom leaves their bytes."""
    data_set.set_original_encoding(
        is_implicit_vr=False,
        is_little_endian=True,
        character_encoding=data_set._character_set,  # noqa: SLF001
    )


def _text(header: Dataset, keyword: str) -> str:
    try:
        value = header.get(keyword)
    except (ValueError, NotImplementedError):
        return ""
    return "" if value is None else str(value).strip()


def _issuer_oid(header: Dataset) -> str:
    """urn:oid of the issuer of the patient id, where the header names it as an ISO OID."""
    for item in header.get("IssuerOfPatientIDQualifiersSequence") or []:
        oid = str(item.get("UniversalEntityID") or "").strip()
        if item.get("UniversalEntityIDType") == "ISO" and oid:
            return f"urn:oid:{oid}"
    return ""
