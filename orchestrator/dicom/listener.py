"""Listens for associations and keeps them within limits; what is done in them is its owner's affair."""

from __future__ import annotations

import logging
import socketserver
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

from pynetdicom import build_context, evt
from pynetdicom.pdu_primitives import A_ABORT
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelMove, Verification
from pynetdicom.transport import AssociationServer, RequestHandler

from orchestrator.dicom.bounded import BoundedDul, BoundedEntity, BoundedSocket, bound
from orchestrator.dicom.storage_classes import TRANSFER_SYNTAXES, of_no_patient
from orchestrator.domain.admission import Caller, NotAdmitted, Rejection
from orchestrator.domain.errors import Broken, Fault, TendonError

if TYPE_CHECKING:
    from pynetdicom.association import Association

MAXIMUM_ASSOCIATIONS = 64
MAXIMUM_PER_PEER = 16
MAXIMUM_WAITING = 64
ABORT_S = 2.0
END_S = 15.0

# A-ASSOCIATE-RJ where we cannot tell: result, source, reason (PS3.8 9.3.4)
NO_REASON = (2, 1, 1)

LOG = logging.getLogger(__name__)

Handler = tuple[Any, Callable[..., Any]]


@dataclass(slots=True)
class _Visit:
    """One accepted connection; `caller` is known once its request for association is in."""

    caller: Caller | None = None
    is_admitted: bool = False
    is_aborted: bool = False

    def is_of(self, caller: Caller) -> bool:
        """Whether it is of the same peer, whatever the title it calls."""
        known = self.caller
        return known is not None and (known.calling_ae, known.address) == (caller.calling_ae, caller.address)


class Listener:
    """A listening application entity of one or several AE titles.

    `admit(association, caller)` is asked before a peer is accepted and may raise NotAdmitted; without
    it every peer is welcome. `ended(association, outcome)` is called once for each association
    admitted, with the outcome `released`, `aborted`, `lost`, or `limit` where the peer broke a limit
    of ours. `rejected(caller, refusal)` is called for each peer that was rejected for a known reason.
    `stores(SOP class)` says whether objects of a class are taken; without it none are.
    """

    def __init__(
        self,
        ae_titles: Sequence[str],
        host: str,
        port: int,
        *,
        handlers: Sequence[Handler],
        admit: Callable[[Any, Caller], None] | None = None,
        ended: Callable[[Any, str], None] | None = None,
        rejected: Callable[[Caller, NotAdmitted], None] | None = None,
        sop_class_uids: Sequence[str] = (),
        stores: Callable[[str], bool] = lambda _: False,
        upper_layer: Callable[[Any], BoundedDul] = BoundedDul,
    ) -> None:
        self._ae_titles = ae_titles
        self._address = (host, port)
        self._handlers = [*handlers, (evt.EVT_REQUESTED, self._requested), (evt.EVT_ACSE_RECV, self._acse_received)]
        self._admit = admit
        self._ended = ended
        self._rejected = rejected
        self.contexts = [build_context(uid) for uid in (Verification, *sop_class_uids)]
        self.contexts += [build_context(uid, TRANSFER_SYNTAXES) for uid in of_no_patient() if stores(uid)]
        self._services = frozenset(context.abstract_syntax for context in self.contexts)
        self._stores = stores
        self.upper_layer = upper_layer
        self._visits: dict[Any, _Visit] = {}
        self._change = Condition()
        self._server: _Server | None = None
        self._thread: Thread | None = None

    def start(self) -> int:
        """Listen; returns the port. Raises Broken SETTING_INVALID where the address cannot be had."""
        entity = BoundedEntity(self._ae_titles[0])
        entity.maximum_associations = MAXIMUM_ASSOCIATIONS + MAXIMUM_WAITING
        try:
            server = entity.make_server(
                self._address,
                contexts=self.contexts,
                evt_handlers=self._handlers,
                server_class=_Server,
                request_handler=_Handler,
            )
        except OSError as error:
            where = f"{self._address[0]}:{self._address[1]}"
            raise Broken(Fault.SETTING_INVALID, f"cannot listen on {where}: {error.strerror}") from error
        server.contexts = []
        server.listener = self
        self._server = server
        name = f"listener {self._ae_titles[0]}"
        self._thread = Thread(target=server.serve_forever, args=(0.05,), name=name, daemon=True)
        self._thread.start()
        return int(server.server_address[1])

    @property
    def is_alive(self) -> bool:
        """Whether it listens."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self, grace_s: float = 5.0) -> None:
        """Accept no more, let associations end within the grace, then abort them. Harmless when stopped."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server = self._thread = None
        self._close(lambda visit: visit.caller is None)
        if not self._wait_for_end(grace_s):
            with self._change:
                running = list(self._visits)
            for association in running:
                association.abort(block=False)
            if not self._wait_for_end(ABORT_S):
                self._close(lambda _: True)
                self._wait_for_end(END_S)

    def welcome(self, association: Association) -> None:
        """Start an association on a new connection; of too many that say nothing the oldest is closed."""
        with self._change:
            waiting = [a for a, visit in self._visits.items() if visit.caller is None]
            self._visits[association] = _Visit()
        for oldest in waiting[: max(len(waiting) + 1 - MAXIMUM_WAITING, 0)]:
            oldest.dul.socket.hang_up()
        reactor = association.run
        association.run = lambda: self._run(association, reactor)
        association.start()

    def _run(self, association: Association, reactor: Callable[[], None]) -> None:
        try:
            reactor()
        except Exception as error:  # noqa: BLE001 - nothing a peer does may end in a traceback
            LOG.error("an association ended by %s", type(error).__name__)  # noqa: TRY400
            association.dul.socket.hang_up()
        finally:
            visit = self._visits[association]
            try:
                if visit.is_admitted and self._ended is not None:
                    self._ended(association, _outcome(association, visit))
            except Exception as error:  # noqa: BLE001 - the thread must leave the register
                LOG.error("the end of an association was not noted: %s", type(error).__name__)  # noqa: TRY400
            with self._change:
                del self._visits[association]
                self._change.notify_all()

    def _requested(self, event: Any) -> None:
        association = event.assoc
        caller = _caller(association)
        try:
            self._take_a_place(association, caller)
            if self._admit is not None:
                self._admit(association, caller)
            self._narrow(association)
        except Exception as error:  # noqa: BLE001 - refused, or we cannot tell: either way no association
            self._visits[association].is_admitted = False
            answer = error.rejection.value.answer if isinstance(error, NotAdmitted) else NO_REASON
            association.acse.send_reject(*answer)
            self._tell(caller, error)
            association.kill()

    def _narrow(self, association: Association) -> None:
        """Have contexts that are neither a service of ours nor stored refused as such.

        pynetdicom takes every class that it has no name for as stored; these ask for one that it knows and we have not.
        """
        for context in association.requestor.primitive.presentation_context_definition_list:
            uid = str(context.abstract_syntax)
            if uid not in self._services and not self._stores(uid):
                context.abstract_syntax = PatientRootQueryRetrieveInformationModelMove

    def _take_a_place(self, association: Association, caller: Caller) -> None:
        """Count the association in. Raises NotAdmitted."""
        with self._change:
            visit = self._visits[association]
            visit.caller = caller
            admitted = [v for v in self._visits.values() if v.is_admitted]
            if sum(v.is_of(caller) for v in admitted) >= MAXIMUM_PER_PEER:
                raise NotAdmitted(Rejection.LIMIT_OF_PEER)
            if len(admitted) >= MAXIMUM_ASSOCIATIONS:
                raise NotAdmitted(Rejection.LIMIT_OF_ALL)
            if caller.called_ae not in self._ae_titles:
                raise NotAdmitted(Rejection.UNKNOWN_CALLED_AE)
            visit.is_admitted = True

    def _tell(self, caller: Caller, error: Exception) -> None:
        if not isinstance(error, NotAdmitted):
            what = error.code if isinstance(error, TendonError) else type(error).__name__
            LOG.error("no association could be opened: %s", what)
        elif self._rejected is not None:
            try:
                self._rejected(caller, error)
            except Exception as fault:  # noqa: BLE001 - the association must end all the same
                LOG.error("a rejected association was not noted: %s", type(fault).__name__)  # noqa: TRY400

    def _acse_received(self, event: Any) -> None:
        if isinstance(event.primitive, A_ABORT):
            self._visits[event.assoc].is_aborted = True

    def _close(self, is_meant: Callable[[_Visit], bool]) -> None:
        with self._change:
            meant = [a for a, visit in self._visits.items() if is_meant(visit)]
        for association in meant:
            association.dul.socket.hang_up()

    def _wait_for_end(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        with self._change:
            threads = list(self._visits)
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in threads)


def _caller(association: Association) -> Caller:
    """Who asks; an IPv4 address is one also where it comes mapped into IPv6 (RFC 4291 2.5.5.2)."""
    request, address = association.requestor.primitive, association.requestor.address
    return Caller(request.calling_ae_title.strip(), request.called_ae_title.strip(), address.removeprefix("::ffff:"))


def _outcome(association: Association, visit: _Visit) -> str:
    if association.is_released:
        return "released"
    if association.dul.socket.broke_limit:
        return "limit"
    is_aborted = visit.is_aborted or association._sent_abort  # noqa: SLF001 - pynetdicom tells it nowhere else
    return "aborted" if is_aborted else "lost"


class _Server(AssociationServer):  # type: ignore[misc]
    """The listening socket."""

    request_queue_size = MAXIMUM_WAITING
    listener: Listener

    def service_actions(self) -> None:
        """Leave the garbage to Python."""

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Drop a connection that could not be taken up."""
        with suppress(OSError):
            request.close()

    def shutdown(self) -> None:
        """Stop listening."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class _Handler(RequestHandler):  # type: ignore[misc]
    """A new connection."""

    def handle(self) -> None:
        """Make it a bounded association and start it.

        The contexts are the same for all: a copy for each, as pynetdicom makes of a server's, takes 40 ms.
        """
        association = self._create_association()
        listener = self.server.listener
        association.acceptor.supported_contexts = listener.contexts
        bound(association, listener.upper_layer)
        association.set_socket(BoundedSocket(association, client_socket=self.request))
        listener.welcome(association)
