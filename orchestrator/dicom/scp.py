"""The Storage and Verification SCP: takes every storage class in every transfer syntax, and parses none."""

from __future__ import annotations

import logging
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from pynetdicom import evt

from orchestrator.dicom.bounded import BoundedDul
from orchestrator.dicom.listener import Listener
from orchestrator.dicom.rejected import RejectionWriter
from orchestrator.dicom.storage_classes import is_storage
from orchestrator.dicom.stream import IS_KNOWN, StreamDul
from orchestrator.domain.errors import Fault, Refused, TendonError, where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pynetdicom.association import Association

    from orchestrator.dicom.rejected import Rejections
    from orchestrator.dicom.stream import Arriving
    from orchestrator.domain.admission import Caller

# C-STORE statuses (PS3.4 B.2.3, PS3.7 C)
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_STATUS = {
    Fault.JOURNAL_FULL: OUT_OF_RESOURCES,
    Fault.OTHER_CLASS: DOES_NOT_MATCH,
    Fault.OVER_QUOTA: OUT_OF_RESOURCES,
    Fault.STORAGE_LOW: OUT_OF_RESOURCES,
    Fault.STORE_FAILED: OUT_OF_RESOURCES,
    Fault.OBJECTS_UNREACHABLE: OUT_OF_RESOURCES,
    Fault.DATABASE_UNREACHABLE: OUT_OF_RESOURCES,
    Fault.TRUNCATED: CANNOT_UNDERSTAND,
    Fault.NOT_DICOM: CANNOT_UNDERSTAND,
}

_CLOSE_AGAIN_S = 0.5

LOG = logging.getLogger(__name__)


class Reception(Protocol):
    """Where what peers send is taken in. Called from many threads at once."""

    def open(self, caller: Caller) -> str:
        """Let a peer in; returns the association's id. Raises NotAdmitted."""

    def begin(
        self, association_id: str, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Arriving:
        """An object is about to come; when its `finish` returns it is kept, byte for byte."""

    def close(self, association_id: str, outcome: str) -> None:
        """Note the end of an association that was opened, once."""


class StorageScp:
    """Listens under its AE titles, the first of them its own, and hands objects to a reception."""

    def __init__(
        self,
        ae_titles: Sequence[str],
        host: str,
        port: int,
        reception: Reception,
        rejections: Rejections,
        *,
        takes_unknown: bool = True,
    ) -> None:
        """`takes_unknown`: SOP classes that the standard does not name, private ones among them."""
        self._reception = reception
        self._rejections = RejectionWriter(rejections)
        self._ids: dict[Any, str] = {}
        self._stopping = Event()
        self._listener = Listener(
            ae_titles,
            host,
            port,
            handlers=[(evt.EVT_C_STORE, self._store)],
            admit=self._open,
            ended=self._close,
            rejected=self._rejections.note,
            stores=partial(is_storage, takes_unknown=takes_unknown),
            upper_layer=partial(StreamDul, begin=self._begin, status_of=_status_of) if IS_KNOWN else BoundedDul,
        )

    def start(self) -> int:
        """Listen; returns the port, which port 0 leaves to the system. Raises Broken SETTING_INVALID."""
        self._stopping.clear()
        port = self._listener.start()
        self._rejections.start()
        return port

    def stop(self, grace_s: float = 5.0) -> None:
        """Accept no more; associations that outlast the grace are aborted."""
        self._stopping.set()
        self._listener.stop(grace_s)
        self._rejections.stop()

    @property
    def is_alive(self) -> bool:
        """Whether it listens."""
        return self._listener.is_alive

    def _open(self, association: Association, caller: Caller) -> None:
        self._ids[association] = self._reception.open(caller)

    def _close(self, association: Association, outcome: str) -> None:
        """Note the end, however long that takes: a series is not ready while an association is open on it.

        What cannot be noted before this process ends is noted when the next one starts.
        """
        association_id = self._ids.pop(association)
        while True:
            try:
                self._reception.close(association_id, outcome)
            except Exception as error:  # noqa: BLE001 - whatever keeps it from being noted now may be over soon
                LOG.error("the end of an association could not be noted: %s", where(error))  # noqa: TRY400
            else:
                return
            if self._stopping.wait(_CLOSE_AGAIN_S):
                return

    def _begin(
        self, association: Association, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> Arriving:
        return self._reception.begin(
            self._ids[association],
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )

    def _store(self, event: Any) -> int:
        """The plain way, for a pynetdicom whose private names may be others, and for requests without a data set."""
        request = event.request
        data_set = request.DataSet.getvalue() if request.DataSet else b""
        if not data_set:
            return CANNOT_UNDERSTAND
        arriving: Arriving | None = None
        try:
            arriving = self._begin(
                event.assoc,
                str(request.AffectedSOPClassUID),
                str(request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
            )
            arriving.write(memoryview(data_set))
            arriving.finish()
        except Exception as error:  # noqa: BLE001 - the peer must get its answer
            if arriving is not None:
                arriving.drop()
            return _status_of(error)
        return SUCCESS


def _status_of(error: Exception) -> int:
    """The C-STORE status that tells the peer of a failure."""
    if isinstance(error, TendonError):
        if not isinstance(error, Refused):
            LOG.error("an object could not be stored: %s", error.code)
        return _STATUS.get(error.fault, PROCESSING_FAILURE)
    LOG.error("an object could not be stored: %s", where(error))
    return OUT_OF_RESOURCES if isinstance(error, OSError) else PROCESSING_FAILURE
