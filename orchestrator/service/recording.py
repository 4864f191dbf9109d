"""What was received becomes objects and records: by the recorder from the journal, or at once where there is none."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.domain.study import Header, Instance
from orchestrator.service.noticing import sound_alarm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from orchestrator.keeping import Errand, ObjectMaker, Packs, Received, StoredObject
    from orchestrator.ports import Clock, HeaderReader, Objects, Records

_CANNOT_BE_RECORDED: Final = "its facts cannot be recorded"
_log = logging.getLogger("tendon.recording")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be kept of one object that is stored."""

    association_id: str
    header: Header
    stored: StoredObject
    received_at: datetime

    @property
    def names(self) -> tuple[str, ...]:
        """What nobody else may decide on meanwhile."""
        return self.stored.digest, self.header.sop_instance_uid, self.header.study_uid


@dataclass(frozen=True, slots=True)
class Recorder:
    """What keeping records of objects needs."""

    records: Records
    objects: Objects
    clock: Clock
    read_header: HeaderReader
    quiet_s: float

    def header_of(self, received: Received, data_set: memoryview) -> Header:
        """Header facts, marked where they make the object impossible to route."""
        header = self.read_header(
            data_set,
            sop_class_uid=received.sop_class_uid,
            sop_instance_uid=received.sop_instance_uid,
            transfer_syntax_uid=received.transfer_syntax_uid,
        )
        if not header.unreadable and not (header.study_uid and header.series_uid):
            header = replace(header, unreadable=Fault.NO_IDENTITY.value.meaning)
        if header.patient.id and not header.patient.issuer and received.issuer:
            header = replace(header, patient=replace(header.patient, issuer=received.issuer))
        return header

    def keep(self, entries: Sequence[Entry]) -> None:
        """Keep the records of stored objects, in one transaction.

        Raises Broken STORE_FAILED where an object was swept meanwhile, Transient DATABASE_UNREACHABLE.
        """
        look_at = self.clock.now() + timedelta(seconds=self.quiet_s)
        with self.records.transaction() as unit:
            unit.studies.hold(*{name for entry in entries for name in entry.names})
            for entry in entries:
                if not self.objects.holds(entry.stored.digest):
                    raise Broken(Fault.STORE_FAILED, "the object was swept before its record was kept")
                instance = Instance(
                    header=entry.header,
                    digest=entry.stored.digest,
                    size=entry.stored.size,
                    received_at=entry.received_at,
                    association_id=entry.association_id,
                    is_own=unit.studies.is_own(entry.header.sop_instance_uid),
                )
                unit.studies.add(instance, look_at=look_at)


@dataclass(frozen=True, slots=True)
class JournalRecorder:
    """Makes objects and records of what is in the journal."""

    recorder: Recorder
    packs: Packs
    objects: ObjectMaker

    def do(self, errands: Sequence[Errand]) -> list[Errand]:
        """Make objects and records of these entries, then note the ends among them; returns what is left.

        What cannot be recorded with the others is recorded by itself, if need be by its names alone; an object that
        still cannot be is left in the journal, with an alarm. Raises Transient; then nothing is done for certain.
        """
        entries = [errand for errand in errands if errand.kind == "entry"]
        ends = [errand for errand in errands if errand.kind != "entry"]
        undone: list[Errand] = []
        try:
            self._record(entries)
        except Transient:
            raise
        except Exception:  # noqa: BLE001 - one of them may be to blame
            undone = [errand for errand in entries if not self._is_recorded(errand)]
        if ends:
            with self.recorder.records.transaction() as unit:
                for end in ends:
                    assert end.at is not None, "ends have a moment"
                    unit.studies.close_association(end.association_id, end.at, end.outcome)
        return undone

    def _record(self, errands: Sequence[Errand], *, by_names: bool = False) -> None:
        if not errands:
            return
        entries: list[Entry] = []
        stored = self._stored(self._read(errands, entries, by_names=by_names))
        if stored != [entry.stored for entry in entries]:
            raise Broken(Fault.OBJECT_DAMAGED, "the bytes in the journal have changed")
        self.recorder.keep(entries)

    def _read(self, errands: Sequence[Errand], entries: list[Entry], *, by_names: bool) -> Iterator[memoryview]:
        """The bytes of each, one at a time; what is to be kept of it is added to the entries."""
        for journalled in self.packs.entries(errands):
            received = journalled.received
            data_set = journalled.data[received.prefix_bytes :]
            header = _by_names(received) if by_names else self.recorder.header_of(received, data_set)
            entries.append(Entry(received.association_id, header, journalled.stored, received.received_at))
            yield journalled.data

    def _stored(self, objects: Iterator[memoryview]) -> list[StoredObject]:
        try:
            return self.objects.keep_all(objects)
        except Broken as error:
            if error.fault is not Fault.STORE_FAILED:
                raise
            raise Transient(error.fault, error.detail) from error  # it is the disk's fault, not an object's

    def _is_recorded(self, errand: Errand) -> bool:
        for by_names in (False, True):
            try:
                self._record([errand], by_names=by_names)
            except Transient:
                raise
            except Exception as error:  # noqa: BLE001 - it stays in the journal, and somebody is told
                _log.error("an object could not be recorded: %s", type(error).__name__)
            else:
                return True
        now = self.recorder.clock.now()
        with self.recorder.records.transaction() as unit:
            sound_alarm(unit, Alarm(Fault.NOT_RECORDED.code, errand.pack, f"entry at {errand.place}", now, now))
        return False


def _by_names(received: Received) -> Header:
    """The header of an object whose facts no database takes."""
    return Header(
        sop_class_uid=_printable(received.sop_class_uid),
        sop_instance_uid=_printable(received.sop_instance_uid),
        transfer_syntax_uid=received.transfer_syntax_uid,
        unreadable=_CANNOT_BE_RECORDED,
    )


def _printable(name: str) -> str:
    return "".join(sign if sign.isascii() and sign.isprintable() else "?" for sign in name)
