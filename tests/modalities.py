"""Modalities that send without end, what they were answered, and whether that was the truth."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from orchestrator.dicom.bounded import BoundedEntity
from tests.dicom_peers import LOOPBACK, PATIENT_NAME, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
PAUSE_S = 0.05
"""After what was not stored."""


def image(number: int, pixel_bytes: int, study_uid: str) -> Dataset:
    """A CT image whose pixels nobody else has."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = study_uid, f"{study_uid}.1", "CT"
    made.PatientName = PATIENT_NAME
    made.BitsAllocated = 16
    made.PixelData = hashlib.shake_128(f"{study_uid} {number}".encode()).digest(pixel_bytes)
    made["PixelData"].VR = "OW"
    return made


@dataclass
class Modality:
    """Sends in one association, or in the next when it ends; `stored`: the pixels of what was answered with success."""

    port: int
    pixel_bytes: int
    study_uid: str
    calling_ae: str = "TENDON"
    statuses: Counter[int | None] = field(default_factory=Counter)
    rejected: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    stored: dict[str, bytes] = field(default_factory=dict)

    def run(self, stopping: Event) -> None:
        entity = BoundedEntity(self.calling_ae)
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        number = 0
        while not stopping.is_set():
            association = entity.associate(LOOPBACK, self.port, ae_title="TENDON")
            if association.is_rejected:
                told = association.acceptor.primitive
                self.rejected[told.result, told.result_source, told.diagnostic] += 1
            while association.is_established and not stopping.is_set():
                number += 1
                if not self._is_stored(association, image(number, self.pixel_bytes, self.study_uid)):
                    stopping.wait(PAUSE_S)
            if association.is_established:
                association.release()
            stopping.wait(PAUSE_S)

    def _is_stored(self, association: Any, made: Dataset) -> bool:
        try:
            status = association.send_c_store(made).get("Status")
        except (RuntimeError, ValueError):
            status = None
        self.statuses[status] += 1
        if status == SUCCESS:
            self.stored[str(made.SOPInstanceUID)] = made.PixelData
        return status == SUCCESS


@contextmanager
def sending(*modalities: Modality) -> Iterator[None]:
    """All of them at work."""
    stopping = Event()
    threads = [Thread(target=modality.run, args=(stopping,)) for modality in modalities]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


RECORDED = "SELECT sop_instance_uid, digest FROM instances"


def recorded(data_dir: Path) -> list[tuple[str, str]]:
    """What the database in a folder says, by a copy of it; nobody may be at work there."""
    with TemporaryDirectory() as copy:
        for path in data_dir.glob("tendon.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(f"{copy}/tendon.db")) as database:
            return database.execute(RECORDED).fetchall()


def lost(rows: Iterable[tuple[str, str]], data_dir: Path, *modalities: Modality) -> list[str]:
    """UIDs answered with success of which there is not exactly one record with an object of exactly these pixels."""
    found: dict[str, list[str]] = {}
    for uid, digest in rows:
        found.setdefault(uid, []).append(digest)
    return [
        uid
        for modality in modalities
        for uid, pixels in modality.stored.items()
        if len(found.get(uid, [])) != 1 or not is_kept(data_dir, found[uid][0], pixels)
    ]


def is_kept(data_dir: Path, digest: str, pixels: bytes) -> bool:
    data = (data_dir / "objects" / digest[:2] / digest).read_bytes()
    return hashlib.sha256(data).hexdigest() == digest and data.endswith(pixels)


TIMEOUT_S = 60.0


def stored(*modalities: Modality) -> list[int]:
    return [len(modality.stored) for modality in modalities]


def go_on(*modalities: Modality) -> bool:
    """Whether each has some more objects stored."""
    before = stored(*modalities)
    return eventually(
        lambda: all(now >= then + 3 for now, then in zip(stored(*modalities), before, strict=True)), TIMEOUT_S
    )


def are_refused(*modalities: Modality) -> bool:
    return eventually(lambda: all(modality.statuses[OUT_OF_RESOURCES] >= 3 for modality in modalities), TIMEOUT_S)


def statuses(*modalities: Modality) -> set[int | None]:
    """All that any object was answered; None where there was no answer."""
    return set().union(*(modality.statuses for modality in modalities))
