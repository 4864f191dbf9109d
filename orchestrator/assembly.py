"""The composition root: settings become adapters, adapters become services. The only place that joins them."""

from __future__ import annotations

import secrets
import socket
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator import shipped
from orchestrator.admin.app import AdminServer, application
from orchestrator.dicom.archive import Archive
from orchestrator.dicom.facts import read_header
from orchestrator.dicom.part10 import part10_prefix
from orchestrator.dicom.scp import StorageScp
from orchestrator.dicom.scu import DicomSender
from orchestrator.domain.errors import Broken, Fault
from orchestrator.rounds import Rounds
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.delivering import Dispatch
from orchestrator.service.receiving import Reception
from orchestrator.service.routing import Router
from orchestrator.service.working import Workshop
from orchestrator.store.catalog import FolderCatalog
from orchestrator.store.folder import FolderSender
from orchestrator.store.objects import DirectoryObjects
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import is_current, migrate
from orchestrator.telemetry import metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from orchestrator.ports import Catalog, Sender
    from orchestrator.settings import Settings


DELIVERED_KINDS = ("dicom", "folder")
"""Kinds of destination that this version has a sender for."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """This moment in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the port


class RandomIdentifiers:
    """Random names of 128 bits."""

    def new(self) -> str:
        """A new name, 32 hex digits."""
        return uuid.uuid4().hex  # noqa: TID251 - this is the port


@dataclass(frozen=True, slots=True)
class System:
    """One process's view of the installation: adapters ready, nothing started."""

    settings: Settings
    installation: str
    records: DatabaseRecords
    objects: DirectoryObjects
    rulebook: YamlRulebook
    catalog: Catalog
    clock: SystemClock
    identifiers: RandomIdentifiers

    def workshop(self) -> Workshop:
        """What workers ask."""
        return Workshop(self.records, self.clock, self.identifiers, self.settings.lease_seconds)

    def admin(self, checks: Mapping[str, Callable[[], bool]]) -> AdminServer:
        """The HTTP server on its bound socket, not started. `checks` say whether the other parts work."""
        listening = socket.create_server((self.settings.admin_host, self.settings.admin_port))
        metrics = metrics_of(self.records, self.objects)
        return AdminServer(application(metrics=metrics, checks=checks), listening)

    def rounds(self) -> Rounds:
        """The timed rounds, not started."""
        router = Router(
            self.records,
            self.rulebook,
            self.catalog,
            self.clock,
            self.identifiers,
            self.settings.quiet_seconds,
        )
        senders: dict[str, Sender] = {"dicom": DicomSender(self.settings.ae_title), "folder": FolderSender()}
        return Rounds(router, self.workshop(), Dispatch(self.records, self.objects, self.clock, senders))

    def scp(self) -> StorageScp:
        """The Storage SCP, not started. Visits that a dead process left open are closed."""
        with self.records.transaction() as unit:
            unit.studies.close_abandoned(self.clock.now())
        self.objects.sweep()
        reception = Reception(
            records=self.records,
            objects=self.objects,
            clock=self.clock,
            identifiers=self.identifiers,
            read_header=read_header,
            prefix=part10_prefix,
            addresses=_addresses,
            own_ae_title=self.settings.ae_title,
            quiet_s=self.settings.quiet_seconds,
        )
        return StorageScp(self.settings.ae_title, self.settings.dicom_host, self.settings.dicom_port, reception)


def open_rulebook() -> YamlRulebook:
    """The rulebook alone."""
    return YamlRulebook()


def open_archive(ae_title: str, folder: Path) -> Archive:
    """The small PACS of the demo, not started."""
    return Archive(ae_title, folder)


def open_catalog(settings: Settings) -> Catalog:
    """The pipelines alone: what is shipped, then the site's own folders."""
    return FolderCatalog([shipped.folder("models"), *settings.pipelines_dirs], open_rulebook())


def open_system(settings: Settings) -> System:
    """Join everything. SQLite is brought up to date here. Raises Broken SCHEMA_OLD."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = open_engine(settings.database_url)
    _require_schema(engine)
    records = DatabaseRecords(engine)
    with records.transaction() as unit:
        installation = unit.site.installation(settings.installation or secrets.token_hex(8))
    return System(
        settings=settings,
        installation=installation,
        records=records,
        objects=DirectoryObjects(settings.objects_dir),
        rulebook=open_rulebook(),
        catalog=open_catalog(settings),
        clock=SystemClock(),
        identifiers=RandomIdentifiers(),
    )


def _require_schema(engine: Engine) -> None:
    migrations = shipped.folder("migrations")
    if engine.dialect.name == "sqlite":
        migrate(engine, migrations)
    elif not is_current(engine, migrations):
        raise Broken(Fault.SCHEMA_OLD)


def _addresses(host: str) -> frozenset[str]:
    """All addresses of a host name; none when it cannot be resolved."""
    try:
        return frozenset(str(info[4][0]) for info in socket.getaddrinfo(host, None))
    except OSError:
        return frozenset()
