"""What our derived objects (SEG, SR) share: source headers without pixels, our equipment, names, final bytes."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import highdicom
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as CodedEntry
from pydicom.uid import ExplicitVRLittleEndian

from orchestrator.dicom.identity import COPIED, as_found, read_header, seal, stamp
from orchestrator.domain.errors import Broken, Fault
from orchestrator.domain.report import is_test, marks
from orchestrator.domain.result import derive_uid
from orchestrator.domain.review import UNREVIEWED_MARK
from orchestrator.ports import BuiltObject

if TYPE_CHECKING:
    from orchestrator.domain.codes import Code
    from orchestrator.domain.delivery import OutputKind
    from orchestrator.domain.result import Provenance
    from orchestrator.ports import ReportRequest

MANUFACTURER = "Tendon"
LONG_STRING = 64
FIRST_SERIES_NUMBER = 9000
_SERIES_NUMBERS = 1000
_GEOMETRY = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID StudyInstanceUID FrameOfReferenceUID Modality Rows Columns "
    "ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness LossyImageCompression "
    "LossyImageCompressionRatio LossyImageCompressionMethod"
)
_SERIES = ("BodyPartExamined", "PositionReferenceIndicator")
_PLAIN = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{MIDDLE DOT}": ".",
        "\N{LESS-THAN OR EQUAL TO}": "<=",
        "\N{GREATER-THAN OR EQUAL TO}": ">=",
        "\N{PLUS-MINUS SIGN}": "+-",
        "\N{LATIN SMALL LETTER SHARP S}": "ss",
        "\\": "/",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The source series: `images[k]` is the header of slice k with geometry and UIDs only.

    `first` is the whole header of slice 0, from which patient and study are copied.
    """

    images: tuple[Dataset, ...]
    first: Dataset


def read_source(request: ReportRequest) -> Source:
    """Headers of the source files. Raises Broken RESULT_INVALID when files and masks do not belong together."""
    shape = request.volume.grid.shape
    if len(request.source_files) != shape[0] or any(s.mask.shape != shape for s in request.results.segments):
        raise Broken(Fault.RESULT_INVALID, "masks, volume and source files have different shapes")
    keywords = tuple(_GEOMETRY.split())
    with as_found():
        first = read_header(request.source_files[0], (*COPIED, *_SERIES))
        images = tuple(_bare(read_header(path, keywords), request) for path in request.source_files)
    if any((image.Rows, image.Columns) != shape[1:] for image in images):
        raise Broken(Fault.RESULT_INVALID, "the volume has other rows and columns than the source images")
    return Source(images, first)


def _bare(header: Dataset, request: ReportRequest) -> Dataset:
    """A header highdicom can work from: patient and study text, stamped on later, cannot trip it."""
    bare = Dataset()
    for element in header:
        bare.add(element)
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(bare, keyword, "")
    bare.StudyDate = bare.StudyTime = None
    bare.StudyInstanceUID = request.provenance.study_uid
    if not bare.get("FrameOfReferenceUID"):
        bare.FrameOfReferenceUID = derive_uid(
            request.provenance.installation, "frame", request.provenance.source_series_uid
        )
    if not bare.get("SliceThickness"):
        bare.SliceThickness = round(request.volume.grid.spacing_mm[0], 6)
    return bare


def text(value: str, limit: int = 1024) -> str:
    """Our own words in ASCII, so that they are right in whatever character set the source declares."""
    plain = unicodedata.normalize("NFKD", value.translate(_PLAIN)).encode("ascii", "ignore").decode()
    return " ".join(plain.split())[:limit].strip()


def entry(code: Code) -> CodedEntry:
    """The code triple as highdicom takes it."""
    return CodedEntry(code.value, code.scheme, text(code.meaning, LONG_STRING))


def series_description(provenance: Provenance, target: str) -> str:
    """What the reading list shows: algorithm, version, target and the mark, the mark never cut off."""
    head = "TEST " if is_test(provenance) else ""
    tail = f", {UNREVIEWED_MARK}"
    name = f"{text(provenance.title)} {provenance.version}"
    room = LONG_STRING - len(head) - len(tail)
    if len(name) + len(target) + 2 > room:
        name = f"{provenance.pipeline} {provenance.version}"
    return head + text(f"{name}: {text(target)}", room) + tail


def parameters(request: ReportRequest) -> dict[str, str]:
    """What the algorithm worked with, and what makes the result traceable (I8)."""
    provenance = request.provenance
    named = {
        "standing": provenance.standing,
        "rule_set_version": str(provenance.rule_set_version),
        "package_sha256": provenance.package_digest,
        "weights_sha256": provenance.weights_digest or "none",
        "input_set": provenance.input_set,
    }
    return {text(k): text(v) for k, v in {**request.results.parameters, **named}.items()}


def constructor_arguments(request: ReportRequest, role: str, sop_class_uid: str, target: str) -> dict[str, Any]:
    """The arguments highdicom's SEG and SR constructors have in common."""
    provenance = request.provenance
    model = text(provenance.title, LONG_STRING)
    software = f"{provenance.pipeline} {provenance.version}"[:LONG_STRING]
    serial = text(provenance.installation, LONG_STRING)
    equipment = highdicom.ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        manufacturer_model_name=model,
        software_versions=software,
        device_serial_number=serial,
        contribution_description=text(". ".join(marks(provenance))),
    )
    return {
        "series_instance_uid": provenance.series_uid(role, sop_class_uid),
        "series_number": _series_number(provenance, role),
        "sop_instance_uid": provenance.instance_uid(role, sop_class_uid),
        "instance_number": 1,
        "series_description": series_description(provenance, target),
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model,
        "software_versions": software,
        "device_serial_number": serial,
        "content_date": provenance.content_time[:8],
        "content_time": provenance.content_time[8:],
        "content_qualification": "PRODUCT" if provenance.standing == "cleared" else "RESEARCH",
        "contributing_equipment": [equipment],
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "specific_character_set": None,
    }


def _series_number(provenance: Provenance, role: str) -> int:
    """A number from 9000 on that a pipeline's role keeps, out of the way of scanners' numbers."""
    place = int(derive_uid(provenance.pipeline, "series number", role, provenance.source_series_uid)[5:])
    return FIRST_SERIES_NUMBER + place % _SERIES_NUMBERS


def finish(
    data_set: Dataset, source: Source, request: ReportRequest, kind: OutputKind, *, series_elements: bool
) -> BuiltObject:
    """Stamp identity and times, take away what changes from run to run, and write Part 10 bytes."""
    provenance = request.provenance
    day, moment = provenance.content_time[:8], provenance.content_time[8:]
    data_set.InstanceCreationDate, data_set.InstanceCreationTime = day, moment
    data_set.SeriesDate, data_set.SeriesTime = day, moment
    for equipment in data_set.ContributingEquipmentSequence:
        equipment.ContributionDateTime = provenance.content_time
    schemes = sorted({c for c in _designators(request) if c.startswith("99")})
    if schemes:
        data_set.CodingSchemeIdentificationSequence = [_private_scheme(designator) for designator in schemes]
    correct_ambiguous_vr(data_set, True)  # noqa: FBT003 - pydicom's parameter: little endian
    stamp(data_set, source.first, _SERIES if series_elements else ())
    seal(data_set)
    with as_found(), BytesIO() as written:
        data_set.save_as(written, enforce_file_format=True)
        data = written.getvalue()
    return BuiltObject(
        kind=kind,
        name=f"{provenance.pipeline}.{kind}.dcm",
        data=data,
        sop_class_uid=str(data_set.SOPClassUID),
        sop_instance_uid=str(data_set.SOPInstanceUID),
        series_uid=str(data_set.SeriesInstanceUID),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
    )


def _designators(request: ReportRequest) -> list[str]:
    results = request.results
    named = [c for s in results.segments for c in (s.category, s.type, s.laterality) if c is not None]
    named += [c for m in results.measurements for c in (m.name, m.unit)] + [s.name for s in results.scores]
    return [c.scheme for c in named]


def _private_scheme(designator: str) -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator = designator
    scheme.CodingSchemeName = f"{MANUFACTURER} local codes"
    return scheme
