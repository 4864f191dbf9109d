"""The composition root: settings become adapters, adapters become services. The only place that joins them.

What only some roles need is imported where it is joined, so that each starts with what it needs.
"""

from __future__ import annotations

import secrets
import socket
import time
import uuid
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from orchestrator import shipped
from orchestrator.domain.errors import Broken, Fault
from orchestrator.domain.exposure import Precautions, bind_dicom, bind_pages, may_administer, may_receive
from orchestrator.domain.health import works
from orchestrator.domain.provider import CALLBACK, Grant, Policy
from orchestrator.recorder import RecorderProcess
from orchestrator.rounds import Couriers, Duty, Rounds, route_due, settle_questions
from orchestrator.service import deciding
from orchestrator.service.announcing import Crier, announce_ready
from orchestrator.service.checking import (
    clock_health,
    database_health,
    exposure_health,
    recorder_health,
    storage_health,
)
from orchestrator.service.counting import Census, count_at, is_counting, nodes_due
from orchestrator.service.delivering import Dispatch, deliver_to, destinations_due
from orchestrator.service.enrolling import known_role
from orchestrator.service.federating import Federation
from orchestrator.service.leading import ROUNDS, Office
from orchestrator.service.operating import is_under_way, note_unusable_message
from orchestrator.service.posting import Post, forget_told, notices_due, post_to
from orchestrator.service.quotas import Quotas
from orchestrator.service.receiving import ABANDONED, Reception
from orchestrator.service.recording import JournalRecorder, Recorder
from orchestrator.service.rejecting import Rejections
from orchestrator.service.retiring import Keeper, retire_due, sweep, watermark
from orchestrator.service.routing import Router
from orchestrator.service.signing import Door
from orchestrator.service.staffing import Staff, look_after_workers
from orchestrator.service.working import Workshop, fail_exhausted
from orchestrator.settings import as_environment
from orchestrator.store.clock import DatabaseClock, SteadyClock
from orchestrator.store.journal import JournalPacks, PackJournal
from orchestrator.store.objects import DirectoryObjects
from orchestrator.store.records import DatabaseRecords, answering, open_engine
from orchestrator.store.schema import is_current, migrate
from orchestrator.store.spool import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from orchestrator.admin.context import Admin
    from orchestrator.broker import DeadLetter, DeadLetters
    from orchestrator.dicom.archive import Archive
    from orchestrator.dicom.scp import StorageScp
    from orchestrator.domain.exposure import Binding
    from orchestrator.domain.health import Health
    from orchestrator.domain.notice import NoticeKind
    from orchestrator.keeping import Errand, Owed
    from orchestrator.notices import Messenger
    from orchestrator.ports import Sender, Shelves
    from orchestrator.rulebook import YamlRulebook
    from orchestrator.settings import Settings
    from orchestrator.site import Catalog


_LOOK_EVERY_S: Final = 0.25
_ASK_EVERY_S: Final = 0.5
"""Without a bell: what has just begun to arrive is nothing to ask about yet."""
_TRY_AGAIN_EVERY_S: Final = 0.75
"""What is new rings a bell; only back-offs and leases that end wait for this."""
_STAFF_EVERY_S: Final = 20.0
_DEAD_LETTERS_EVERY_S: Final = 10.0
_SWEEP_EVERY_S: Final = 30.0
_KEEP_EVERY_S: Final = 60.0
_DEAD_LETTERS_AT_ONCE: Final = 1000

DELIVERED_KINDS = ("dicom", "folder")
"""Kinds of destination that this version has a sender for."""


class RandomIdentifiers:
    """Random names of 128 bits."""

    def new(self) -> str:
        """A new name, 32 hex digits."""
        return uuid.uuid4().hex  # noqa: TID251 - this is the port


@dataclass(frozen=True)
class System:
    """One process's view of the installation: adapters ready, nothing started."""

    settings: Settings
    installation: str
    records: DatabaseRecords
    objects: Shelves
    clock: DatabaseClock | SteadyClock
    identifiers: RandomIdentifiers

    @cached_property
    def rulebook(self) -> YamlRulebook:
        """The rules' language."""
        return open_rulebook(https_only=self.settings.https_only)

    @cached_property
    def catalog(self) -> Catalog:
        """The pipelines installed."""
        return open_catalog(self.settings)

    @cached_property
    def door(self) -> Door:
        """What letting somebody in needs."""
        from orchestrator.passwords import Argon2Passwords

        return Door(self.records, self.clock, Argon2Passwords(), takes_passwords=self.settings.local_accounts)

    @cached_property
    def federation(self) -> Federation | None:
        """What coming in by the identity provider needs, where there is one."""
        given = self.settings.oidc
        if not given.issuer:
            return None
        from orchestrator.outgoing.provider import Client, OpenIdProvider

        client = Client(
            issuer=given.issuer,
            id=given.client_id,
            secret=given.client_secret,
            callback=f"{self.settings.public_url}{CALLBACK}",
            groups_claim=given.groups_claim,
            acrs=given.acrs,
        )
        grants = [Grant(group=group, role=known_role(role), sites=sites) for group, role, sites in given.roles]
        policy = Policy(grants=tuple(grants), groups_claim=given.groups_claim, acrs=given.acrs)
        return Federation(self.door, OpenIdProvider(client), policy)

    @property
    def office(self) -> deciding.Office:
        """What changing the rules, nodes and destinations needs."""
        return deciding.Office(
            self.records, self.catalog, self.clock, self.rulebook, needs_approval=self.settings.rule_approval
        )

    def workshop(self) -> Workshop:
        """What workers ask."""
        return Workshop(self.records, self.catalog, self.clock, self.identifiers, self.settings.lease_seconds)

    def receiving(self) -> Binding:
        """Where studies may be received."""
        return bind_dicom(self.settings.dicom_host, self._precautions())

    def pages(self) -> Binding:
        """Where pages may be served."""
        return bind_pages(self.settings.admin_host, self._precautions())

    @cached_property
    def desk(self) -> Admin:
        """What pages and API work with."""
        from orchestrator.assembly.web import desk_of

        return desk_of(self)

    def _precautions(self) -> Precautions:
        with self.records.reading() as unit:
            accounts, site = unit.accounts.all(), unit.site.current()
        return Precautions(
            has_admin=may_administer(accounts, self.clock.now()),
            has_tls=self.settings.tls_certificate is not None,
            has_senders=may_receive(site),
            is_network_trusted=self.settings.is_network_trusted,
            is_distributed=self.settings.is_distributed,
        )

    def database_health(self) -> Health:
        """Whether the database answers."""
        return database_health(self.records.is_answering)

    def rounds(self, holder: str) -> Rounds:
        """The timed rounds, not started; `holder` names this process among those that stand by."""
        office = Office(self.records, self.clock, ROUNDS, holder, self.settings.lease_seconds)
        workshop, dispatch = self.workshop(), self._dispatch(office)
        couriers = Couriers(partial(destinations_due, dispatch), partial(deliver_to, dispatch))
        keeper, census = self._keeper(), self._census()
        askers = Couriers(partial(nodes_due, census), partial(count_at, census), "asking")
        post = self._post(office)
        tellers = Couriers(partial(notices_due, post), partial(post_to, post), "telling")
        has_series, has_versions, has_stages, has_deliveries, has_notices = (
            partial(is_under_way, self.records, what)
            for what in ("studies", "versions", "jobs", "deliveries", "notices")
        )
        settle = partial(settle_questions, self.router())
        bell = self.records.bell
        duties = [
            Duty("routing", partial(route_due, self.router()), _LOOK_EVERY_S, bell(), has_series),
            Duty("counting", askers.send_out, _ASK_EVERY_S, None, partial(is_counting, census), askers.wait),
            Duty("identity", settle, _TRY_AGAIN_EVERY_S, bell(), has_versions),
            Duty("delivering", couriers.send_out, _TRY_AGAIN_EVERY_S, bell(), has_deliveries, couriers.wait),
            Duty("telling", tellers.send_out, _TRY_AGAIN_EVERY_S, bell(), has_notices, tellers.wait),
            Duty("forgetting notices", partial(forget_told, post), _KEEP_EVERY_S),
            Duty("giving up", partial(fail_exhausted, workshop), _TRY_AGAIN_EVERY_S, None, has_stages),
            Duty("workers", partial(look_after_workers, self.staff()), _STAFF_EVERY_S),
            Duty("retiring", partial(retire_due, keeper), _KEEP_EVERY_S),
            Duty("sweeping", partial(sweep, keeper), _SWEEP_EVERY_S),
            Duty("watermark", partial(watermark, keeper), _KEEP_EVERY_S),
        ]
        if self.settings.broker_url:
            from orchestrator.broker import CeleryAnnouncer, DeadLetters

            announcer = CeleryAnnouncer(self.settings.broker_url)
            crier = Crier(self.records, self.clock, announcer, self.settings.lease_seconds)
            announce = partial(announce_ready, crier)
            duties.append(Duty("announcing", announce, _TRY_AGAIN_EVERY_S, bell(), has_stages, announcer.close))
            letters = DeadLetters(self.settings.broker_url)
            note = partial(self._note_dead_letters, letters)
            duties.append(Duty("dead letters", note, _DEAD_LETTERS_EVERY_S, finish=letters.close))
        return Rounds(office, duties)

    def staff(self) -> Staff:
        """The workers that are there."""
        return Staff(self.records, self.clock)

    def router(self) -> Router:
        """What routing needs, and what an operator does about a job or a study."""
        return Router(
            self.records,
            self.rulebook,
            self.catalog,
            self.clock,
            self.identifiers,
            self.settings.quiet_seconds,
            self.settings.time_zone,
        )

    def _dispatch(self, office: Office) -> Dispatch:
        return Dispatch(self.records, self.objects, self.clock, self.senders(), office)

    def senders(self) -> dict[str, Sender]:
        """What carries objects, by the kind of destination."""
        from orchestrator.dicom.scu import DicomSender
        from orchestrator.store.folder import FolderSender

        return {"dicom": DicomSender(self.settings.ae_title), "folder": FolderSender()}

    def _post(self, office: Office) -> Post:
        from orchestrator.outgoing.mail import Mail
        from orchestrator.outgoing.webhook import Webhooks

        given = self.settings
        messengers: dict[NoticeKind, Messenger] = {
            "webhook": Webhooks(given.webhook_secret, https_only=given.https_only)
        }
        if given.smtp_url and given.mail_from:
            messengers["email"] = Mail(given.smtp_url, given.mail_from)
        return Post(self.records, self.clock, messengers, self.installation, office)

    def _census(self) -> Census:
        from orchestrator.dicom.counting import FindCounter

        counter = FindCounter(self.settings.ae_title)
        return Census(self.records, self.clock, counter, self.settings.quiet_seconds)

    def _keeper(self) -> Keeper:
        work_dir = self.settings.work_dir
        spaces = {"objects": self.objects.free_bytes, "work": lambda: free_bytes(work_dir)}
        return Keeper(self.records, self.objects, self.clock, self.settings.retention_days, spaces)

    def _note_dead_letters(self, letters: DeadLetters) -> None:
        def note(letter: DeadLetter) -> None:
            note_unusable_message(self.records, self.clock, letter.queue, letter.reason)

        letters.take(note, _DEAD_LETTERS_AT_ONCE)

    def scp(self) -> Receiver:
        """The Storage SCP with its recorder, not started."""
        from orchestrator.dicom.part10 import part10_prefix
        from orchestrator.dicom.scp import StorageScp
        from orchestrator.dicom.sop_class import check_class

        journal = process = None
        if isinstance(self.objects, DirectoryObjects):
            process = RecorderProcess(as_environment(self.settings))
            journal = PackJournal(self.settings.journal_dir, process.tell)
        reception = Reception(
            records=self.records,
            objects=self.objects,
            clock=self.clock,
            identifiers=self.identifiers,
            recorder=self._recorder(),
            prefix=part10_prefix,
            check_class=check_class,
            addresses=_addresses,
            own_ae_title=self.settings.ae_title,
            quotas=Quotas(self.records, self.clock, time.monotonic),
            journal=journal,
        )
        titles = (self.settings.ae_title, *self.settings.called_ae_titles)
        rejections = Rejections(self.records, self.clock)
        binding = self.receiving()
        scp = StorageScp(
            titles,
            binding.host,
            self.settings.dicom_port,
            reception,
            rejections,
            takes_unknown=self.settings.unknown_sop_classes == "accept",
        )
        return Receiver(self, reception, scp, binding, journal, process)

    def do_errands(self, errands: Sequence[Errand]) -> Sequence[Errand]:
        """Record what is in the journal; returns what is left."""
        return self._journal_recorder.do(errands)

    @cached_property
    def _journal_recorder(self) -> JournalRecorder:
        assert isinstance(self.objects, DirectoryObjects), "only a directory has a journal"
        return JournalRecorder(self._recorder(), JournalPacks(self.settings.journal_dir), self.objects)

    def _recorder(self) -> Recorder:
        from orchestrator.dicom.facts import read_header

        return Recorder(self.records, self.objects, self.clock, read_header, self.settings.quiet_seconds)


@dataclass(frozen=True, slots=True)
class Receiver:
    """The Storage SCP and what records the objects it takes in."""

    system: System
    reception: Reception
    storage: StorageScp
    binding: Binding
    journal: PackJournal | None
    recorder: RecorderProcess | None

    def start(self) -> int:
        """Listen; returns the port. Visits that a dead process left open are closed.

        Raises Broken SETTING_INVALID, JOURNAL_IN_USE or JOURNAL_UNREADABLE, Transient DATABASE_UNREACHABLE.
        """
        if isinstance(self.system.clock, SteadyClock):
            self.system.clock.set()
        left_open = self.reception.left_open()
        if self.journal is not None and self.recorder is not None:
            self.journal.recover()
            self.recorder.start(self.journal.done, self.journal.lock)
        for association_id in left_open:
            self.reception.close(association_id, ABANDONED)
        return self.storage.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Accept no more; what the recorder does not finish within the grace is done after the next start."""
        self.storage.stop(grace_s)
        if self.journal is not None and self.recorder is not None:
            self.recorder.stop(grace_s)
            self.journal.close()

    def wait_for_records(self, timeout_s: float) -> bool:
        """Wait until what was taken in by now is recorded; says whether it is."""
        return self.recorder is None or self.recorder.wait(timeout_s)

    @property
    def checks(self) -> dict[str, Callable[[], Health]]:
        """How each part of receiving is found out."""
        checks: dict[str, Callable[[], Health]] = {
            "listening": lambda: works(self.storage.is_alive),
            "storage": partial(storage_health, self.reception),
            "database": self.system.database_health,
            "quotas": self.reception.quotas.look,
            "clock": lambda: clock_health(self.system.clock.skew_s()),
            "exposure": partial(exposure_health, [self.binding]),
        }
        if self.journal is not None and self.recorder is not None:
            recorder = self.recorder
            checks["recorder"] = partial(recorder_health, self.journal, lambda: recorder.is_keeping_up)
        return checks

    @property
    def owed(self) -> Callable[[], Owed] | None:
        """What the journal owes, where there is one."""
        journal = self.journal
        return None if journal is None else lambda: journal.owed


def open_rulebook(*, https_only: bool = False) -> YamlRulebook:
    """The rulebook alone."""
    from orchestrator.rulebook import YamlRulebook

    return YamlRulebook(https_only=https_only)


def open_archive(ae_title: str, folder: Path) -> Archive:
    """The small PACS of the demo, not started."""
    from orchestrator.dicom.archive import Archive

    return Archive(ae_title, folder)


def open_catalog(settings: Settings) -> Catalog:
    """The pipelines alone: what is shipped, then the site's own folders."""
    from orchestrator.store.catalog import FolderCatalog

    return FolderCatalog([shipped.folder("models"), *settings.pipelines_dirs], open_rulebook())


def open_system(settings: Settings) -> System:
    """Join everything. SQLite is brought up to date here. Raises Broken SCHEMA_OLD."""
    _make_folder(settings)
    engine = open_engine(settings.database_url)
    with answering(engine):
        _require_schema(engine)
    records = DatabaseRecords(engine)
    with records.transaction() as unit:
        installation = unit.site.installation(settings.installation or secrets.token_hex(8))
    return System(
        settings=settings,
        installation=installation,
        records=records,
        objects=_open_objects(settings),
        clock=DatabaseClock(engine) if settings.is_distributed else SteadyClock(settings.data_dir / "clock"),
        identifiers=RandomIdentifiers(),
    )


def _open_objects(settings: Settings) -> Shelves:
    if not settings.objects_url:
        return DirectoryObjects(settings.objects_dir)
    from orchestrator.store.bucket import BucketObjects

    return BucketObjects(
        settings.objects_url,
        settings.objects_dir,
        cache_bytes=int(settings.objects_cache_gb * 1e9),
        endpoint=settings.objects_endpoint,
        region=settings.objects_region,
        key_id=settings.objects_key_id,
        secret=settings.objects_secret,
    )


def migrate_site(settings: Settings) -> None:
    """Bring the database's schema and the broker's queues up to date. Raises Transient where one does not answer."""
    if not settings.is_distributed:
        _make_folder(settings)
    engine = open_engine(settings.database_url)
    with answering(engine):
        migrate(engine, shipped.folder("migrations"))
    engine.dispose()
    if settings.broker_url:
        from orchestrator.broker import declare_queues

        declare_queues(settings.broker_url)


def _make_folder(settings: Settings) -> None:
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)


def _require_schema(engine: Engine) -> None:
    migrations = shipped.folder("migrations")
    if is_current(engine, migrations):
        return
    if engine.dialect.name != "sqlite":
        raise Broken(Fault.SCHEMA_OLD)
    migrate(engine, migrations)


def _addresses(host: str) -> frozenset[str]:
    """All addresses of a host name; none when it cannot be resolved."""
    try:
        return frozenset(str(info[4][0]) for info in socket.getaddrinfo(host, None))
    except OSError:
        return frozenset()
