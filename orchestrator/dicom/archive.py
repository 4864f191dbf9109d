"""A small PACS of our own: where the demo sends, and the peer that tests send to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydicom import Dataset, dcmread
from pynetdicom import evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from orchestrator.dicom.listener import Listener
from orchestrator.dicom.scp import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, SUCCESS
from orchestrator.dicom.storage_classes import is_storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
PENDING = 0xFF00
IDENTIFIER_DOES_NOT_MATCH = 0xA900

# What a level is told apart by, and what it can be asked for (PS3.4 C.6.2.1)
_LEVELS = {
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SOPInstanceUID", "SOPClassUID"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What the archive knows of one object it holds, under the names of the DICOM keywords."""

    StudyInstanceUID: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    SOPClassUID: str
    Modality: str


class Archive:
    """Keeps every object as `<folder>/<SOP Instance UID>.dcm`, byte for byte, and answers C-FIND.

    It trusts its peers with memory, and what it stores is not synced to disk: it is no place for patients.
    """

    def __init__(self, ae_title: str, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self._folder = folder
        self._entries: dict[str, Entry] = {}
        self._lock = Lock()
        self._listener = Listener(
            [ae_title],
            host,
            port,
            handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)],
            sop_class_uids=[StudyRootQueryRetrieveInformationModelFind],
            stores=partial(is_storage, takes_unknown=True),
        )

    def start(self) -> int:
        """Read what the folder holds and listen; returns the port. Raises Broken SETTING_INVALID."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.glob("*.dcm"):
            entry = _entry(path)
            if entry is not None:
                self._entries[entry.SOPInstanceUID] = entry
        return self._listener.start()

    def stop(self) -> None:
        """Accept no more; associations that outlast a grace of 5 s are aborted."""
        self._listener.stop()

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not UID.fullmatch(uid):
            return CANNOT_UNDERSTAND
        data = event.encoded_dataset()
        entry = _entry(BytesIO(data))
        if entry is None or entry.SOPInstanceUID != uid:
            return CANNOT_UNDERSTAND
        final = self._folder / f"{uid}.dcm"
        try:
            with self._lock:
                partial = final.with_suffix(".part")
                partial.write_bytes(data)
                partial.replace(final)
                self._entries[uid] = entry
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        level = str(query.get("QueryRetrieveLevel", ""))
        if level not in _LEVELS:
            yield IDENTIFIER_DOES_NOT_MATCH, None
            return
        keys = [key for key in _LEVELS[level] if key in query]
        with self._lock:
            entries = list(self._entries.values())
        distinct = {tuple(getattr(e, key) for key in _LEVELS[level]): e for e in entries if _matches(query, keys, e)}
        for entry in distinct.values():
            if event.is_cancelled:
                return
            yield PENDING, _answer(query, level, keys, entry)


def _matches(query: Dataset, keys: list[str], entry: Entry) -> bool:
    """Universal, single value, and list of UID matching (PS3.4 C.2.2.2); wild cards find themselves only."""
    for key in keys:
        element = query[key]
        wanted = [str(element.value)] if element.VM == 1 else [str(value) for value in element.value or ()]
        if wanted and getattr(entry, key) not in wanted:
            return False
    return True


def _answer(query: Dataset, level: str, keys: list[str], entry: Entry) -> Dataset:
    answer = Dataset()
    for element in query:
        answer.add_new(element.tag, element.VR, [] if element.VR == "SQ" else "")
    for key in keys:
        setattr(answer, key, getattr(entry, key))
    answer.QueryRetrieveLevel = level
    return answer


def _entry(source: Path | BytesIO) -> Entry | None:
    """What to index of a Part 10 file; None where it cannot be read or lacks a UID."""
    names = Entry.__slots__
    try:
        header = dcmread(source, stop_before_pixels=True, specific_tags=list(names))
        entry = Entry(**{name: str(header.get(name, "")) for name in names})
    except Exception:  # noqa: BLE001 - whatever the parser raises, the object cannot be indexed
        return None
    return entry if entry.StudyInstanceUID and entry.SeriesInstanceUID and entry.SOPInstanceUID else None
