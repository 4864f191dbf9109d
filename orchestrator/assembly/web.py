"""Joins what answers over HTTP: pages and API for staff, or what monitors ask alone."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from orchestrator.admin.app import BODY_CAPS, application
from orchestrator.admin.context import Admin
from orchestrator.admin.limits import Limits
from orchestrator.admin.monitors import monitor_routes
from orchestrator.admin.server import AdminServer
from orchestrator.admin.tls import Certificate
from orchestrator.apart import ReplayApart
from orchestrator.dicom.scu import DicomSender
from orchestrator.dicom.specimen import specimen
from orchestrator.domain.errors import Broken, Fault
from orchestrator.service.probing import Prober
from orchestrator.settings import as_environment
from orchestrator.telemetry import metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.assembly import System
    from orchestrator.domain.exposure import Binding
    from orchestrator.domain.health import Health
    from orchestrator.keeping import Owed


def admin_server(
    system: System,
    port: int,
    states: Callable[[], Mapping[str, Health]],
    journal: Callable[[], Owed] | None,
    pages: Binding | None = None,
) -> AdminServer:
    """The HTTP server on its bound socket, not started. `states` tells how the other parts are.

    Without `pages` it is there for monitors, which ask without TLS. Raises Broken SETTING_INVALID.
    """
    given = system.settings
    certificate = None
    if pages and given.tls_certificate and given.tls_key:
        certificate = Certificate(given.tls_certificate, given.tls_key)
    listening = _listening(pages.host if pages else given.admin_host, port)
    routes = monitor_routes(metrics=metrics_of(system.records, system.objects, journal), states=states)
    served = application(system.desk, routes) if pages else Starlette(routes=routes)
    return AdminServer(Limits(served, BODY_CAPS), listening, certificate=certificate, trusted=given.trusted_proxies)


def desk_of(system: System) -> Admin:
    """What pages and API work with."""
    given = system.settings
    prober = Prober(
        system.records,
        system.objects,
        DicomSender(given.ae_title).echo,
        system.senders(),
        partial(specimen, system.installation),
    )
    return Admin(
        installation=system.installation,
        environment=given.environment,
        time_zone=given.time_zone,
        records=system.records,
        objects=system.objects,
        clock=system.clock,
        identifiers=system.identifiers,
        catalog=system.catalog,
        rulebook=system.rulebook,
        door=system.door,
        office=system.office,
        router=system.router(),
        staff=system.staff(),
        prober=prober,
        replayer=ReplayApart(as_environment(given)),
        federation=system.federation,
        public_url=given.public_url,
    )


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Broken SETTING_INVALID where the address cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Broken(Fault.SETTING_INVALID, f"cannot listen on {host}:{port}: {error.strerror}") from error
