"""An instance arrives: object and record durable, or a refusal (I1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.admission import NotAdmitted, sender
from orchestrator.domain.audit import opened
from orchestrator.domain.errors import Broken, Fault, Refused, TendonError
from orchestrator.domain.study import Instance
from orchestrator.ports import Association
from orchestrator.service.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.domain.admission import Caller
    from orchestrator.domain.delivery import Node
    from orchestrator.domain.study import Header
    from orchestrator.keeping import ObjectWriter, StoredObject
    from orchestrator.ports import Clock, HeaderReader, Identifiers, Objects, Records

RESERVE_BYTES: Final = 1 << 30
PIECE_BYTES: Final = 1 << 20
"""How much of an object is taken in before free space is looked at again."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is to be kept of one object."""

    association_id: str
    header: Header
    stored: StoredObject

    @property
    def names(self) -> tuple[str, ...]:
        """What nobody else may decide on meanwhile."""
        return self.stored.digest, self.header.sop_instance_uid, self.header.study_uid


@dataclass(frozen=True, slots=True)
class Reception:
    """What the Storage SCP asks: may this peer speak, and keep this object.

    `prefix` gives the bytes that turn a data set into a Part 10 file; `addresses` resolves a
    node's host. A caller is a node when AE title and address agree; its port does not matter.
    """

    records: Records
    objects: Objects
    clock: Clock
    identifiers: Identifiers
    read_header: HeaderReader
    prefix: Callable[[str, str, str], bytes]
    addresses: Callable[[str], frozenset[str]]
    own_ae_title: str
    quiet_s: float
    reserve_bytes: int = RESERVE_BYTES
    _issuers: dict[str, str] = field(default_factory=dict)
    _together: Together[_Entry] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self._keep))

    def open(self, caller: Caller) -> str:
        """Admit a peer; gives the association's id. Raises NotAdmitted."""
        node = self._sender(caller)
        name = node.name if node else ""
        association = Association(
            self.identifiers.new(),
            caller.calling_ae,
            caller.address,
            self.clock.now(),
            called_ae=caller.called_ae,
            node=name,
        )
        with self.records.transaction() as unit:
            unit.studies.open_association(association)
            unit.audit.add(opened(caller, name, association.opened_at))
        self._issuers[association.id] = node.patient_id_issuer if node else ""
        return association.id

    def _sender(self, caller: Caller) -> Node | None:
        """The node that calls; None for our own tool: `tendon send` on this machine calls with the title it calls."""
        with self.records.reading() as unit:
            site = unit.site.current()
        try:
            return sender(site.nodes if site else (), caller, self.addresses)
        except NotAdmitted:
            if caller.calling_ae == self.own_ae_title and caller.address in self.addresses("localhost"):
                return None
            raise

    def begin(
        self, association_id: str, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Arrival:
        """An object is about to come. Raises Refused STORAGE_LOW, Broken STORE_FAILED, Transient STORAGE_LOW."""
        arrival = Arrival(self, association_id, sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        arrival.open()
        return arrival

    def record(self, association_id: str, header: Header, stored: StoredObject) -> None:
        """Keep the record of an object that is stored. Raises Broken STORE_FAILED, Transient DATABASE_UNREACHABLE.

        What several associations have to keep at the same time goes into one transaction.
        """
        marked = _marked(header, self._issuers.get(association_id, ""))
        self._together.join(_Entry(association_id, marked, stored))

    def _keep(self, entries: Sequence[_Entry]) -> None:
        now = self.clock.now()
        with self.records.transaction() as unit:
            unit.studies.hold(*{name for entry in entries for name in entry.names})
            for entry in entries:
                if not self.objects.holds(entry.stored.digest):
                    raise Broken(Fault.STORE_FAILED, "the object was swept before its record was kept")
                instance = Instance(
                    header=entry.header,
                    digest=entry.stored.digest,
                    size=entry.stored.size,
                    received_at=now,
                    association_id=entry.association_id,
                    is_own=unit.studies.is_own(entry.header.sop_instance_uid),
                )
                unit.studies.add(instance, look_at=now + timedelta(seconds=self.quiet_s))

    def close(self, association_id: str, outcome: str) -> None:
        """Note how the visit ended."""
        self._issuers.pop(association_id, None)
        with self.records.transaction() as unit:
            unit.studies.close_association(association_id, self.clock.now(), outcome)


@dataclass(slots=True)
class Arrival:
    """One object on its way in; nothing of it is held, and nothing is left of it unless it is finished."""

    reception: Reception
    association_id: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    _writer: ObjectWriter = field(init=False)
    _prefix_bytes: int = 0
    _size_bytes: int = 0
    _room_bytes: int = 0

    def open(self) -> None:
        """Look for room, and begin the file with what stands before the data set."""
        self._look_for_room()
        prefix = self.reception.prefix(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid)
        self._prefix_bytes = len(prefix)
        self._writer = self.reception.objects.begin()
        try:
            self._writer.write(prefix)
        except TendonError:
            self._writer.discard()
            raise

    def write(self, part: bytes | memoryview) -> None:
        """The next bytes of the data set. Raises as `Reception.begin`."""
        if self._size_bytes + len(part) > self._room_bytes:
            self._look_for_room()
        self._writer.write(part)
        self._size_bytes += len(part)

    def _look_for_room(self) -> None:
        """Whether there is room for another piece beside the reserve; asked once for each."""
        if self.reception.objects.free_bytes() - PIECE_BYTES < self.reception.reserve_bytes:
            raise Refused(Fault.STORAGE_LOW)
        self._room_bytes = self._size_bytes + PIECE_BYTES

    def finish(self) -> None:
        """Keep it. When this returns, bytes and record survive a power cut.

        Raises Broken STORE_FAILED, Transient STORAGE_LOW or OBJECTS_UNREACHABLE.
        """
        with self._writer.view() as written, written[self._prefix_bytes :] as data_set:
            header = self.reception.read_header(
                data_set,
                sop_class_uid=self.sop_class_uid,
                sop_instance_uid=self.sop_instance_uid,
                transfer_syntax_uid=self.transfer_syntax_uid,
            )
        stored = self._writer.commit()
        self.reception.record(self.association_id, header, stored)

    def drop(self) -> None:
        """Leave nothing of it; harmless once it is kept."""
        self._writer.discard()


def _marked(header: Header, issuer: str) -> Header:
    """The header with the node's issuer where the images name none, and marked when it names no study."""
    if not header.unreadable and not (header.study_uid and header.series_uid):
        header = replace(header, unreadable=Fault.NO_IDENTITY.value.meaning)
    if header.patient.id and not header.patient.issuer and issuer:
        header = replace(header, patient=replace(header.patient, issuer=issuer))
    return header
