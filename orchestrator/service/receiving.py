"""An instance arrives: object and record durable, or a refusal (I1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from orchestrator.domain.errors import Broken, Fault, Refused
from orchestrator.domain.study import Instance
from orchestrator.ports import Association

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.delivery import Node
    from orchestrator.domain.study import Header
    from orchestrator.keeping import StoredObject
    from orchestrator.ports import Clock, HeaderReader, Identifiers, Objects, Records

RESERVE_BYTES: Final = 1 << 30


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

    def open(self, calling_ae: str, address: str) -> str:
        """Admit a peer; gives the association's id. Raises Refused UNKNOWN_PEER."""
        with self.records.reading() as unit:
            site = unit.site.current()
        node = self._node(site.nodes if site else (), calling_ae, address)
        now = self.clock.now()
        association = Association(self.identifiers.new(), calling_ae, address, now)
        if node is None and not self._is_our_own_tool(calling_ae, address):
            with self.records.transaction() as unit:
                unit.studies.open_association(replace(association, closed_at=now, outcome="refused: unknown peer"))
            raise Refused(Fault.UNKNOWN_PEER)
        with self.records.transaction() as unit:
            unit.studies.open_association(association)
        self._issuers[association.id] = node.patient_id_issuer if node else ""
        return association.id

    def _node(self, nodes: tuple[Node, ...], calling_ae: str, address: str) -> Node | None:
        return next(
            (n for n in nodes if n.may_send and n.ae_title == calling_ae and address in self.addresses(n.host)),
            None,
        )

    def _is_our_own_tool(self, calling_ae: str, address: str) -> bool:
        """`tendon send` on this machine calls with the title it calls."""
        return calling_ae == self.own_ae_title and address in self.addresses("localhost")

    def store(
        self,
        association_id: str,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        data_set: bytes,
    ) -> None:
        """Keep one object. When this returns, bytes and record survive a power cut.

        Raises Refused STORAGE_LOW, Broken STORE_FAILED, Transient STORAGE_LOW or OBJECTS_UNREACHABLE.
        """
        if self.objects.free_bytes() - len(data_set) < self.reserve_bytes:
            raise Refused(Fault.STORAGE_LOW)
        header = self.read_header(
            data_set,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )
        stored = self._write(self.prefix(sop_class_uid, sop_instance_uid, transfer_syntax_uid), data_set)
        self._record(association_id, _marked(header, self._issuers.get(association_id, "")), stored)

    def _write(self, prefix: bytes, data_set: bytes) -> StoredObject:
        writer = self.objects.begin()
        try:
            writer.write(prefix)
            writer.write(data_set)
            return writer.commit()
        finally:
            writer.discard()

    def _record(self, association_id: str, header: Header, stored: StoredObject) -> None:
        now = self.clock.now()
        with self.records.transaction() as unit:
            unit.studies.hold(stored.digest)
            if not self.objects.holds(stored.digest):
                raise Broken(Fault.STORE_FAILED, "the object was swept before its record was kept")
            instance = Instance(
                header=header,
                digest=stored.digest,
                size=stored.size,
                received_at=now,
                association_id=association_id,
                is_own=unit.studies.is_own(header.sop_instance_uid),
            )
            unit.studies.add(instance, look_at=now + timedelta(seconds=self.quiet_s))

    def close(self, association_id: str, outcome: str) -> None:
        """Note how the visit ended."""
        self._issuers.pop(association_id, None)
        with self.records.transaction() as unit:
            unit.studies.close_association(association_id, self.clock.now(), outcome)


def _marked(header: Header, issuer: str) -> Header:
    """The header with the node's issuer where the images name none, and marked when it names no study."""
    if not header.unreadable and not (header.study_uid and header.series_uid):
        header = replace(header, unreadable=Fault.NO_IDENTITY.value.meaning)
    if header.patient.id and not header.patient.issuer and issuer:
        header = replace(header, patient=replace(header.patient, issuer=issuer))
    return header
