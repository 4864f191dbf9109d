"""An instance arrives: bytes and facts durable, or a refusal (I1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orchestrator.domain.admission import NotAdmitted, sender
from orchestrator.domain.audit import opened
from orchestrator.domain.errors import Fault, Refused
from orchestrator.keeping import Received
from orchestrator.ports import Association
from orchestrator.service.recording import Entry
from orchestrator.service.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.admission import Caller
    from orchestrator.domain.delivery import Node
    from orchestrator.keeping import Journal, JournalEntry, ObjectWriter
    from orchestrator.ports import Clock, Identifiers, Objects, Records
    from orchestrator.service.quotas import Allowance, Quotas
    from orchestrator.service.recording import Recorder

ABANDONED: Final = "the receiving process ended"
"""The outcome of an association that its process did not outlive."""

RESERVE_BYTES: Final = 1 << 30
PIECE_BYTES: Final = 1 << 20
"""How much of an object is taken in before free space is looked at again."""


@dataclass(frozen=True, slots=True)
class _Visit:
    """What an open association needs to know of its node."""

    issuer: str = ""
    allowance: Allowance | None = None


_NO_NODE: Final = _Visit()


@dataclass(frozen=True, slots=True)
class Reception:
    """What the Storage SCP asks: may this peer speak, and keep this object.

    `prefix` gives the bytes that turn a data set into a Part 10 file; `check_class` raises Refused where the first
    bytes of a data set name another SOP class than announced; `addresses` resolves a node's host. A caller is a node
    when AE title and address agree; its port does not matter. Without a journal each object is recorded as it comes.
    """

    records: Records
    objects: Objects
    clock: Clock
    identifiers: Identifiers
    recorder: Recorder
    prefix: Callable[[str, str, str], bytes]
    check_class: Callable[[bytes | memoryview, str, str], None]
    addresses: Callable[[str], frozenset[str]]
    own_ae_title: str
    quotas: Quotas
    journal: Journal | None = None
    reserve_bytes: int = RESERVE_BYTES
    _visits: dict[str, _Visit] = field(default_factory=dict)
    _together: Together[Entry] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_together", Together(self.recorder.keep))

    def open(self, caller: Caller) -> str:
        """Admit a peer; gives the association's id. Raises NotAdmitted."""
        node = self._sender(caller)
        name = node.name if node else ""
        visit = _Visit(node.patient_id_issuer, self.quotas.allowance(node)) if node else _Visit()
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
        self._visits[association.id] = visit
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
        """An object is about to come.

        Raises Refused STORAGE_LOW or OVER_QUOTA, Broken STORE_FAILED, Transient as the journal.
        """
        prefix = self.prefix(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        visit = self._visits.get(association_id, _NO_NODE)
        received = Received(
            association_id,
            visit.issuer,
            sop_class_uid,
            sop_instance_uid,
            transfer_syntax_uid,
            len(prefix),
            self.clock.now(),
        )
        arrival = Arrival(self, received, visit.allowance)
        arrival.open(prefix)
        return arrival

    def left_open(self) -> list[str]:
        """Associations that a process that died has left open, as long as none is opened yet. Raises Transient."""
        with self.records.reading() as unit:
            return unit.studies.open_visits()

    def record(self, entry: Entry) -> None:
        """Keep the record of an object that is stored. Raises as `Recorder.keep`.

        What several associations have to keep at the same time goes into one transaction.
        """
        self._together.join(entry)

    def free_bytes(self) -> int:
        """What may still be taken in once all that is owed has become objects."""
        owed_bytes = self.journal.owed_bytes if self.journal else 0
        return self.objects.free_bytes() - owed_bytes

    def close(self, association_id: str, outcome: str) -> None:
        """Note how the visit ended, after all that came in it. Raises Transient DATABASE_UNREACHABLE."""
        now = self.clock.now()
        if self.journal is not None:
            self.journal.end(association_id, now, outcome)
        else:
            with self.records.transaction() as unit:
                unit.studies.close_association(association_id, now, outcome)
        self._visits.pop(association_id, None)


@dataclass(slots=True)
class Arrival:
    """One object on its way in; nothing of it is held, and nothing is left of it unless it is finished."""

    reception: Reception
    received: Received
    allowance: Allowance | None = None
    _entry: JournalEntry | None = None
    _writer: ObjectWriter | None = None
    _size_bytes: int = 0
    _room_bytes: int = 0
    _allowed_bytes: int = 0

    def open(self, prefix: bytes) -> None:
        """Look for room, and begin with what stands before the data set."""
        self._look_for_room()
        journal = self.reception.journal
        try:
            if journal is not None:
                self._entry = journal.begin()
            else:
                self._writer = self.reception.objects.begin()
            self._append(prefix)
        except BaseException:
            self.drop()
            raise

    def write(self, part: bytes | memoryview) -> None:
        """The next bytes of the data set. Raises as `Reception.begin`, and Refused OTHER_CLASS."""
        if not self._size_bytes:
            self.reception.check_class(part, self.received.transfer_syntax_uid, self.received.sop_class_uid)
        if self._size_bytes + len(part) > self._room_bytes:
            self._look_for_room()
        self._append(part)
        self._size_bytes += len(part)

    def _look_for_room(self) -> None:
        """Whether there is room for another piece beside the reserve, and the node may send it; asked once for each."""
        if self.reception.free_bytes() - PIECE_BYTES < self.reception.reserve_bytes:
            raise Refused(Fault.STORAGE_LOW)
        if self.allowance is not None:
            self.allowance.take(PIECE_BYTES, self._allowed_bytes)
            self._allowed_bytes += PIECE_BYTES
        self._room_bytes = self._size_bytes + PIECE_BYTES

    def _append(self, part: bytes | memoryview) -> None:
        if self._entry is not None:
            assert self.reception.journal is not None, "it was begun there"
            whole_bytes = self.received.prefix_bytes + self._size_bytes + len(part)
            if whole_bytes <= self.reception.journal.largest_bytes:
                self._entry.write(part)
                return
            self._leave_the_journal(self._entry)
        assert self._writer is not None, "the object is finished"
        self._writer.write(part)

    def _leave_the_journal(self, entry: JournalEntry) -> None:
        """What is too large for the journal becomes an object at once: there the cost of each object is small."""
        self._writer = self.reception.objects.begin()
        with entry.view() as written:
            self._writer.write(written)
        entry.discard()
        self._entry = None

    def finish(self) -> None:
        """Keep it. When this returns, bytes and facts survive a power cut.

        Raises Broken STORE_FAILED, Transient STORAGE_LOW, OBJECTS_UNREACHABLE or DATABASE_UNREACHABLE.
        """
        if self._entry is not None:
            self._entry.commit(self.received)
        else:
            self._finish_apart()
        self._settle(self.received.prefix_bytes + self._size_bytes)

    def _finish_apart(self) -> None:
        assert self._writer is not None, "finished once"
        with self._writer.view() as written, written[self.received.prefix_bytes :] as data_set:
            header = self.reception.recorder.header_of(self.received, data_set)
        stored = self._writer.commit()
        self.reception.record(Entry(self.received.association_id, header, stored, self.received.received_at))
        self.reception.objects.begin().discard()  # a record on a disk that has broken down meanwhile is no promise

    def drop(self) -> None:
        """Leave nothing of it; harmless once it is kept."""
        for begun in (self._entry, self._writer):
            if begun is not None:
                begun.discard()
        self._settle(0)

    def _settle(self, size_bytes: int) -> None:
        """What came of it in the end counts for the node's quota; the first to tell is believed."""
        if self.allowance is not None:
            self.allowance.note(size_bytes - self._allowed_bytes)
            self.allowance = None
