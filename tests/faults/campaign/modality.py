"""Modalities that send many small studies, each image until it was answered 0x0000, and keep a book of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dsutils import encode

from orchestrator.dicom.author import StudyIdentity, write_ct
from orchestrator.domain.codes import HOUNSFIELD_UNIT
from orchestrator.domain.geometry import Grid, Volume
from tests.faults.checker.ledger import Ledger, Patient
from tests.house import LOOPBACK, MODALITY

if TYPE_CHECKING:
    import random
    import socket
    import threading
    from pathlib import Path

    from pydicom import Dataset

CANARY = "Qanaryqx"
FEWEST_SLICES, MOST_SLICES, SIDE = 4, 8, 32
RESENT_SHARE = 0.1
"""So many studies are sent twice, as an operator who pushes a button again does."""
SUCCESS = 0x0000
PAUSE_S = 0.5
ANSWER_S = 10
LONGEST_GAP_S = 2.0


def images_to_send(folder: Path) -> list[Dataset]:
    """The slices of a small CT with a block of bone in it, made once; studies differ in their names alone."""
    array = np.full((MOST_SLICES, SIDE, SIDE), -1000, np.float32)
    array[:, 6:26, 6:26] = 40
    array[:, 12:20, 12:20] = 900
    grid = Grid(array.shape, np.array([[0.0, 0, 2, 0], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]]))
    who = StudyIdentity("x", "x", "1.2.3", "1.2.3.4", "1.2.3.5")
    folder.mkdir()
    paths = write_ct(Volume(array, grid, HOUNSFIELD_UNIT), folder, identity=who)
    return [dcmread(path) for path in paths]


class Entity(AE):
    """Knows its sockets: of a connection that was reset pynetdicom leaves one open."""

    def __init__(self, ae_title: str) -> None:
        super().__init__(ae_title)
        self.opened: list[socket.socket] = []

    def _create_socket(self, *given: Any) -> Any:
        made = super()._create_socket(*given)
        self.opened.append(made.socket)
        return made


@dataclass
class Modality:
    """One device that sends its studies one after the other until it is told to stop."""

    ledger: Ledger
    images: list[Dataset]
    port: int
    rng: random.Random
    stopping: threading.Event
    studies: list[int]
    """The numbers of its studies; a study's names follow from its number."""
    refused: dict[str, int] = field(default_factory=dict)

    def work(self) -> None:
        for number in self.studies:
            study = self._study(number)
            self._send_whole(study)
            if self.rng.random() < RESENT_SHARE:
                self._send(study)
            if self.stopping.wait(self.rng.uniform(0, LONGEST_GAP_S)):
                return

    def _study(self, number: int) -> list[Dataset]:
        uid = f"2.25.{self.rng.getrandbits(100)}"
        patient = Patient(uid, f"{CANARY}-P{number}-", f"{CANARY}{number}^Yellow", f"{CANARY}A{number}Z"[:16])
        slices = deepcopy(self.images[: self.rng.randint(FEWEST_SLICES, MOST_SLICES)])
        for k, image in enumerate(slices, start=1):
            image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"
            image.FrameOfReferenceUID = f"{uid}.2"
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.{k}"
            image.PatientID, image.PatientName = patient.patient_id, patient.patient_name
            image.AccessionNumber = patient.accession
        data_sets = {str(i.SOPInstanceUID): encode(i, is_implicit_vr=False, is_little_endian=True) for i in slices}
        self.ledger.begin(patient, {uid: data or b"" for uid, data in data_sets.items()})
        return slices

    def _send_whole(self, study: list[Dataset]) -> None:
        left = study
        while left and not self.stopping.is_set():
            left = self._send(left)
            if left:
                self.stopping.wait(PAUSE_S)

    def _send(self, images: list[Dataset]) -> list[Dataset]:
        """Over one association; gives those that were not answered 0x0000."""
        entity = Entity(ae_title=MODALITY)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = ANSWER_S
        entity.add_requested_context(images[0].SOPClassUID, ExplicitVRLittleEndian)
        association = entity.associate(LOOPBACK, self.port, ae_title="TENDON")
        left = list(images)
        if not association.is_established:
            self._note("no association")
        while left and association.is_established:
            try:
                status = association.send_c_store(left[0])
            except (RuntimeError, ValueError):
                break
            if status.get("Status") != SUCCESS:
                self._note(hex(status.Status) if "Status" in status else "no answer")
                break
            self.ledger.stored(str(left.pop(0).SOPInstanceUID))
        if association.is_established:
            association.release()
        if association.is_alive():
            association.join(ANSWER_S)
        for connection in entity.opened:
            connection.close()
        return left

    def _note(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1
