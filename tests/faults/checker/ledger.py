"""What a modality knows by itself: whom it imaged, what it sent, and what it was told."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose study it is; every value carries the canary."""

    study_uid: str
    patient_id: str
    patient_name: str
    accession: str


@dataclass(slots=True)
class Sent:
    """One image: the SHA-256 of its data set as sent, and whether 0x0000 was seen for it."""

    study_uid: str
    sha256: str
    is_stored: bool = False


@dataclass
class Ledger:
    """The sender's book. `path` is written as it goes, so that a reader of a broken run finds it there."""

    path: Path
    canary: str
    patients: dict[str, Patient] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, patient: Patient, data_sets: dict[str, bytes]) -> None:
        """A study about to be sent: its data sets by SOP Instance UID."""
        with self._lock:
            self.patients[patient.study_uid] = patient
            for uid, data in data_sets.items():
                self.sent[uid] = Sent(patient.study_uid, hashlib.sha256(data).hexdigest())
                self._write(sop_instance_uid=uid, **asdict(self.sent[uid]))

    def stored(self, sop_instance_uid: str) -> None:
        """The receiver answered 0x0000: from now on the image is its business."""
        with self._lock:
            self.sent[sop_instance_uid].is_stored = True
            self._write(sop_instance_uid=sop_instance_uid, is_stored=True)

    def of_study(self, study_uid: str) -> frozenset[str]:
        return frozenset(uid for uid, sent in self.sent.items() if sent.study_uid == study_uid)

    def whole(self) -> list[str]:
        """The studies all of whose images were answered 0x0000."""
        lacking = {sent.study_uid for sent in self.sent.values() if not sent.is_stored}
        return [uid for uid in self.patients if uid not in lacking]

    def _write(self, **line: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
