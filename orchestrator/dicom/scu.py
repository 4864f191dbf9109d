"""Sends stored objects to other DICOM nodes as they are, and asks whether they arrived."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.filereader import read_file_meta_info
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification
from pynetdicom.status import code_to_category
from pynetdicom.transport import AddressInformation
from pynetdicom.utils import set_ae

from orchestrator.dicom.bounded import MAXIMUM_PDU_BYTES, BoundedEntity
from orchestrator.domain.address import address_fault
from orchestrator.domain.errors import Fault, Refused, TendonError, Transient
from orchestrator.ports import Outcome, Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pynetdicom.association import Association

    from orchestrator.domain.delivery import Destination, Output

MAXIMUM_CONTEXTS = 128
MAXIMUM_MATCHES = 8
RELEASED_S = 0.5
THREAD_END_S = 5.0
REJECTED_FOR_GOOD = 1
OUT_OF_RESOURCES = range(0xA700, 0xA800)
PENDING = (0xFF00, 0xFF01)

Context = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Peer:
    """A node to call, and the AE title to call it with."""

    ae_title: str
    host: str
    port: int
    calling_ae: str


@dataclass(frozen=True, slots=True)
class FileSent:
    """What became of one file; `detail` holds no patient data."""

    path: Path
    outcome: Outcome
    detail: str = ""


class DicomSender:
    """Carries outputs to destinations of kind `dicom` under our AE title."""

    def __init__(self, ae_title: str) -> None:
        self._ae_title = ae_title

    def send(self, destination: Destination, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
        """Send Part 10 files over one association, each data set byte for byte."""
        files = store_files(
            [Path(path) for _, path in outputs],
            host=destination.host,
            port=destination.port,
            called_ae=destination.ae_title,
            calling_ae=self._ae_title,
        )
        return [Sent(output.id, file.outcome, file.detail) for (output, _), file in zip(outputs, files, strict=True)]

    def prove(self, destination: Destination, outputs: Sequence[Output]) -> dict[str, str]:
        """Find outputs by C-FIND at IMAGE level, Study Root; one that cannot be asked for is not proven."""
        peer = Peer(destination.ae_title, destination.host, destination.port, self._ae_title)
        contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
        try:
            with association_with(peer, contexts) as association:
                return {o.id: "query" for o in outputs if o.sop_instance_uid and _shows(association, o)}
        except TendonError:
            return {}

    def echo(self, host: str, port: int, ae_title: str) -> None:
        """Ask a node whether it is there. Raises Transient PEER_UNREACHABLE or Refused PEER_REFUSED."""
        with association_with(Peer(ae_title, host, port, self._ae_title), [build_context(Verification)]) as association:
            status = association.send_c_echo()
        if status.get("Status") != 0:
            raise Transient(Fault.PEER_UNREACHABLE, "the destination did not answer C-ECHO with success")


def store_files(
    paths: Sequence[Path],
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[FileSent]:
    """Store Part 10 files at a node, in the order given, over one association where 128 contexts do.

    `on_progress(done, total)` is called after each file. Nothing is transcoded.
    """
    peer = Peer(called_ae, host, port, calling_ae)
    contexts = {path: _context(path) for path in paths}
    known = {path: context for path, context in contexts.items() if context is not None}
    results = {path: FileSent(path, "refused", "not a DICOM Part 10 file") for path in contexts if path not in known}
    distinct = iter(dict.fromkeys(known.values()))
    while batch := set(islice(distinct, MAXIMUM_CONTEXTS)):
        for result in _send_batch(peer, {path: context for path, context in known.items() if context in batch}):
            results[result.path] = result
            if on_progress is not None:
                on_progress(len(results), len(contexts))
    return [results[path] for path in paths]


def _send_batch(peer: Peer, files: dict[Path, Context]) -> Iterator[FileSent]:
    left = dict(files)
    try:
        with association_with(
            peer, [build_context(*context) for context in dict.fromkeys(files.values())]
        ) as association:
            accepted = {(cx.abstract_syntax, cx.transfer_syntax[0]) for cx in association.accepted_contexts}
            for count, (path, context) in enumerate(files.items()):
                if context in accepted:
                    outcome, detail = _store(association, path, count % 0xFFFF + 1)
                else:
                    outcome, detail = "refused", _not_accepted(context)
                del left[path]
                yield FileSent(path, outcome, detail)
    except TendonError as error:
        for path in left:
            yield FileSent(path, "refused" if isinstance(error, Refused) else "unreachable", error.detail)


def _store(association: Association, path: Path, message_id: int) -> tuple[Outcome, str]:
    try:
        answer = association.send_c_store(path, msg_id=message_id)
    except (RuntimeError, ValueError, ZeroDivisionError):  # it ended, or the peer takes no PDU of any use
        association.abort()
        answer = Dataset()
    status = answer.get("Status")
    if status is None:
        return "unreachable", "the association ended before the destination answered"
    category = code_to_category(status)
    if category == "Success":
        return "accepted", ""
    if category == "Warning":
        return "accepted", f"stored with warning 0x{status:04X}"
    if status in OUT_OF_RESOURCES:
        return "unreachable", f"the destination is out of resources, status 0x{status:04X}"
    return "refused", f"the destination answered with status 0x{status:04X}"


def _shows(association: Association, output: Output) -> bool:
    if not association.is_established:
        return False
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = output.study_uid
    query.SeriesInstanceUID = output.series_uid
    query.SOPInstanceUID = output.sop_instance_uid
    is_shown = False
    answers = association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind)
    for answer, match in islice(answers, MAXIMUM_MATCHES):
        is_shown = is_shown or (match is not None and match.get("SOPInstanceUID") == output.sop_instance_uid)
        if answer.get("Status") not in PENDING:
            return is_shown
    association.abort()
    return False


def _context(path: Path) -> Context | None:
    try:
        meta = read_file_meta_info(path)
        if meta.MediaStorageSOPInstanceUID:
            return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except Exception:  # noqa: BLE001 - whatever the parser raises, this is no Part 10 file
        return None
    return None


def _not_accepted(context: Context) -> str:
    sop_class_uid, transfer_syntax_uid = context
    return f"the destination does not accept SOP class {sop_class_uid} in transfer syntax {transfer_syntax_uid}"


@contextmanager
def association_with(peer: Peer, contexts: list[Any]) -> Iterator[Association]:
    """An association that was negotiated; it is not established when the peer accepted no context.

    Raises Transient PEER_UNREACHABLE, Refused PEER_REFUSED, ADDRESS_FORBIDDEN or DESTINATION_INVALID.
    """
    try:
        address = _address(peer)
        set_ae(peer.ae_title, "called AE title", allow_empty=False, allow_none=False)
        association = BoundedEntity(peer.calling_ae).associate(
            address, peer.port, contexts, ae_title=peer.ae_title, max_pdu=MAXIMUM_PDU_BYTES
        )
    except OSError as error:
        raise Transient(Fault.PEER_UNREACHABLE, "the destination's host is not known") from error
    except ValueError as error:
        raise Refused(Fault.DESTINATION_INVALID, "the destination's AE title or ours is not valid") from error
    try:
        _raise_unless_negotiated(association)
        yield association
    finally:
        if association.is_established:
            association.release()
        association.dul.join(RELEASED_S)
        if association.dul.is_alive():
            association.abort()
        if association.is_alive():
            association.join(THREAD_END_S)


def _address(peer: Peer) -> str:
    """The address of the peer's host that is connected to. Raises Refused ADDRESS_FORBIDDEN, or OSError."""
    address = str(AddressInformation(peer.host, peer.port).address)
    if fault := address_fault(address):
        raise Refused(Fault.ADDRESS_FORBIDDEN, f"the destination's address {fault}")
    return address


def _raise_unless_negotiated(association: Association) -> None:
    if association.is_established or association.rejected_contexts:
        return
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = f"the destination rejects our association (source {answer.result_source}, reason {answer.diagnostic})"
        if answer.result == REJECTED_FOR_GOOD:
            raise Refused(Fault.PEER_REFUSED, reason)
        raise Transient(Fault.PEER_UNREACHABLE, reason)
    raise Transient(Fault.PEER_UNREACHABLE)
