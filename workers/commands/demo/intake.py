"""What a folder holds: the objects worth sending, and a sentence for every fault a person can mend."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.dicom.facts import read_file_header
from orchestrator.domain.errors import Fault, Refused

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.domain.study import Header

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_DICOM_SUFFIXES: Final = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True, slots=True)
class Intake:
    """Files to send with their header facts; `problems` make the run fail, `notes` do not."""

    files: tuple[Path, ...]
    headers: tuple[Header, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def look_into(folder: Path) -> Intake:
    """Read every file below a folder, never following what only looks like one."""
    files: list[Path] = []
    headers: list[Header] = []
    problems: list[str] = []
    skipped: Counter[str] = Counter()
    if not folder.is_dir():
        return Intake((), (), (f"{folder} is not a folder: name the folder that holds the study.",), ())
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        where = path.relative_to(folder)
        try:
            header = read_file_header(path)
        except Refused as error:
            if error.fault is Fault.NOT_DICOM and path.suffix.lower() not in _DICOM_SUFFIXES:
                skipped["".join(path.suffixes) or "no suffix"] += 1
            else:
                problems.append(f"{where} was not sent: {error.detail} [{error.code}]. {_advice(error)}")
            continue
        if header.sop_class_uid == _MEDIA_DIRECTORY:
            skipped["DICOMDIR (the index of a medium)"] += 1
            continue
        if header.unreadable:
            problems.append(f"{where} was not sent: {header.unreadable}. Export the object again and repeat.")
            continue
        files.append(path)
        headers.append(header)
    notes = tuple(
        f"{count} files of kind {kind} are no DICOM objects and were skipped." for kind, count in skipped.items()
    )
    return Intake(tuple(files), tuple(headers), (*problems, *_faults_of(folder, headers, problems)), notes)


def _advice(error: Refused) -> str:
    remedy = error.fault.value.remedy
    return remedy[0].upper() + remedy[1:] + "."


def _faults_of(folder: Path, headers: list[Header], earlier: list[str]) -> list[str]:
    """Faults of the folder as a whole."""
    if not headers:
        return [] if earlier else [f"{folder} holds no DICOM object: name a folder with an exported study."]
    faults = []
    if len({(h.patient.issuer, h.patient.id) for h in headers}) > 1:
        faults.append(
            "The folder holds objects of more than one patient: each study was handled for itself;"
            " look whether that was meant, and give one patient a folder."
        )
    if not any(h.modality == "CT" for h in headers):
        faults.append("The folder holds no CT series: the demo's pipelines work on CT, so nothing was run.")
    known = {h.series_uid for h in headers}
    if any(h.regions and not any(region.series_uid in known for region in h.regions) for h in headers):
        faults.append(
            "A drawn region refers to images that are not in the folder: put the images it was drawn on beside it."
        )
    return faults
