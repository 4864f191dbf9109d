"""Studies as bytes: encoded once, then made another's by rewriting what has a fixed length."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom import dcmread

from orchestrator.dicom.author import StudyIdentity, write_ct
from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.geometry import Grid, Volume
from tests.dicom_peers import data_set_of
from tests.load.arrivals import FAILURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.load.arrivals import PlannedStudy

SIDE: Final = 16
STAT, ROUTINE = "STAT   ", "ROUTINE"
TEMPLATE: Final = f"{0:08d}{99_999_999:08d}"
"""Stands in every UID and patient id of the template, and nowhere else."""
_PIXEL_BYTES: Final = SIDE * SIDE * 2
_STUDY, _SERIES, _FRAME, _IMAGE, _BROKEN = 1, 2, 3, 4, 5


def core_of(seed: int, number: int) -> str:
    """What tells this study from all others."""
    return f"{seed % 100_000_000:08d}{number:08d}"


def study_uid(core: str) -> str:
    return _uid(_STUDY, core)


def core_of_uid(uid: str) -> str:
    """The core of any UID made here."""
    return uid[6:22]


def _uid(kind: int, core: str, instance: int = 0) -> str:
    return f"2.25.{kind}{core}{instance:06d}"


def write_template(folder: Path, images: int) -> list[Path]:
    """A small CT whose every UID has the same length and the template's core."""
    array = np.full((images, SIDE, SIDE), -1000.0, np.float32)
    array[:, 4:12, 4:12] = 900.0
    identity = StudyIdentity(
        patient_id=f"P{TEMPLATE}",
        patient_name="Load^Canary",
        study_uid=_uid(_STUDY, TEMPLATE),
        series_uid=_uid(_SERIES, TEMPLATE),
        frame_of_reference_uid=_uid(_FRAME, TEMPLATE),
        series_description=f"={ROUTINE}=",
    )
    volume = Volume(array, Grid(array.shape, np.diag((3.0, 2.0, 2.0, 1.0))), HOUNSFIELD_UNIT.value)
    paths = []
    for number, path in enumerate(write_ct(volume, folder, identity=identity)):
        image = dcmread(path)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = _uid(_IMAGE, TEMPLATE, number)
        image.save_as(path)
        paths.append(Path(path))
    return paths


@dataclass(frozen=True, slots=True)
class Template:
    """Data sets of one study, as many images as any study needs."""

    images: Sequence[bytes]

    @classmethod
    def made(cls, images: int) -> Template:
        with TemporaryDirectory() as folder:
            return cls([data_set_of(path) for path in write_template(Path(folder), images)])

    def objects(self, planned: PlannedStudy, seed: int) -> dict[str, bytes]:
        """The study's data sets by SOP Instance UID, in slice order; its fate is in the first pixels of each."""
        core = core_of(seed, planned.number)
        fate = fate_bytes(planned)
        made = {}
        for number, image in enumerate(self.images[: planned.images]):
            data = image.replace(TEMPLATE.encode(), core.encode())
            if planned.is_stat:
                data = data.replace(f"={ROUTINE}=".encode(), f"={STAT}=".encode())
            at = len(data) - _PIXEL_BYTES
            made[_uid(_IMAGE, core, number)] = data[:at] + fate + data[at + len(fate) :]
        return made

    @staticmethod
    def broken_object(planned: PlannedStudy, seed: int) -> tuple[str, bytes]:
        """An object of no study: a data set cut off within an element."""
        return _uid(_BROKEN, core_of(seed, planned.number)), struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 64) + b"1.2.3"


def fate_bytes(planned: PlannedStudy) -> bytes:
    """Pixels that say how long the stage takes, how it ends, and of which study it is."""
    high, low = divmod(planned.number, 10_000)
    return struct.pack("<4h", planned.compute_ms, FAILURES.index(planned.failure), high, low)


def fate_in(data: bytes) -> tuple[int, int, tuple[int, int]]:
    """Milliseconds, index of the failure and the study's number, read from an image's end."""
    compute_ms, failure, high, low = struct.unpack_from("<4h", data, len(data) - _PIXEL_BYTES)
    return compute_ms, failure, (high, low)
