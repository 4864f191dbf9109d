"""Records in a database by SQLAlchemy Core: the port `Records` on SQLite and PostgreSQL.

SQLite runs in WAL with synchronous=FULL; every write transaction begins immediate, because a
deferred one that turns into a writer fails at once instead of waiting. On PostgreSQL writers work at
the same time in READ COMMITTED: what must not interleave holds its study first, and every change of
a state is fenced by the state it expects.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import DataError, InterfaceError, OperationalError

from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.store.accounts import AccountRows, AnswerRows, SessionRows, SignInRows, TokenRows
from orchestrator.store.alarms import AlarmRows
from orchestrator.store.audit import AuditRows
from orchestrator.store.bell import FileBell
from orchestrator.store.counts import CountRows
from orchestrator.store.deliveries import DeliveryRows
from orchestrator.store.dialect import CHANNEL, tell_if_rung
from orchestrator.store.jobs import JobRows
from orchestrator.store.keeping import KeepingRows
from orchestrator.store.leases import LeaseRows
from orchestrator.store.lists import ListRows
from orchestrator.store.notices import NoticeRows
from orchestrator.store.orders import OrderRows
from orchestrator.store.site import SiteRows
from orchestrator.store.studies import StudyRows
from orchestrator.store.tables import installation
from orchestrator.store.versions import VersionRows
from orchestrator.store.workers import WorkerRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.ports import Bell, Unit

_BUSY_TIMEOUT_MS = 30_000
_KEPT_FROM_WRITING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
    }
)
_PRIMARY_CODE = 0xFF
_ANYTHING = select(installation.c.id)


@dataclass(frozen=True)
class _Unit:
    """One transaction; the parts share its connection."""

    connection: Connection

    @cached_property
    def studies(self) -> StudyRows:
        return StudyRows(self.connection)

    @cached_property
    def versions(self) -> VersionRows:
        return VersionRows(self.connection)

    @cached_property
    def jobs(self) -> JobRows:
        return JobRows(self.connection)

    @cached_property
    def deliveries(self) -> DeliveryRows:
        return DeliveryRows(self.connection)

    @cached_property
    def orders(self) -> OrderRows:
        return OrderRows(self.connection)

    @cached_property
    def site(self) -> SiteRows:
        return SiteRows(self.connection)

    @cached_property
    def leases(self) -> LeaseRows:
        return LeaseRows(self.connection)

    @cached_property
    def workers(self) -> WorkerRows:
        return WorkerRows(self.connection)

    @cached_property
    def alarms(self) -> AlarmRows:
        return AlarmRows(self.connection)

    @cached_property
    def keeping(self) -> KeepingRows:
        return KeepingRows(self.connection)

    @cached_property
    def audit(self) -> AuditRows:
        return AuditRows(self.connection)

    @cached_property
    def accounts(self) -> AccountRows:
        return AccountRows(self.connection)

    @cached_property
    def sessions(self) -> SessionRows:
        return SessionRows(self.connection)

    @cached_property
    def sign_ins(self) -> SignInRows:
        return SignInRows(self.connection)

    @cached_property
    def tokens(self) -> TokenRows:
        return TokenRows(self.connection)

    @cached_property
    def lists(self) -> ListRows:
        return ListRows(self.connection)

    @cached_property
    def answers(self) -> AnswerRows:
        return AnswerRows(self.connection)

    @cached_property
    def counts(self) -> CountRows:
        return CountRows(self.connection)

    @cached_property
    def notices(self) -> NoticeRows:
        return NoticeRows(self.connection)


class DatabaseRecords:
    """The port `Records` on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        is_postgresql = engine.dialect.name == "postgresql"
        self._view: dict[str, Any] = (
            {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if is_postgresql else {"reading": True}
        )

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        """One write transaction; rolled back when the block raises."""
        with answering(self._engine), self._engine.begin() as connection:
            connection.info.pop(CHANNEL, None)
            yield _Unit(connection)
            tell_if_rung(connection)

    @contextmanager
    def reading(self) -> Iterator[_Unit]:
        """One consistent view that takes no write lock."""
        with answering(self._engine), self._engine.connect().execution_options(**self._view) as connection:
            yield _Unit(connection)
            connection.rollback()

    def bell(self) -> Bell:
        """A bell that rings when these records have changed, for one thread."""
        url = self._engine.url
        if self._engine.dialect.name != "postgresql":
            return FileBell(str(url.database))
        from orchestrator.store.postgresql import ChannelBell  # noqa: PLC0415 - see `open_engine`

        return ChannelBell(url)

    def is_answering(self) -> bool:
        """Whether the database answers at this moment."""
        try:
            with self.reading() as unit:
                unit.connection.execute(_ANYTHING).first()
                return True
        except Transient:
            return False

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


@contextmanager
def answering(engine: Engine) -> Iterator[None]:
    """A PostgreSQL that does not answer or hangs up is worth trying again; so is a SQLite that cannot write.

    SQLite's other errors of that class are ours, such as a table that is not there. A text or number that a database
    cannot hold, such as one with a NUL in it, is refused: REQUEST_INVALID.
    """
    try:
        yield
    except (DataError, OverflowError, UnicodeEncodeError) as error:
        raise Refused(Fault.REQUEST_INVALID, "a text or number in it cannot be kept") from error
    except (OperationalError, InterfaceError) as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if engine.dialect.name != "postgresql" and code not in _KEPT_FROM_WRITING:
            raise
        raise Transient(Fault.DATABASE_UNREACHABLE) from error


def open_engine(url: str) -> Engine:
    """An engine whose transactions keep the promises above. `postgresql://` means psycopg 3."""
    named = make_url(url)
    if named.drivername == "postgresql":
        from orchestrator.store.postgresql import open_server  # noqa: PLC0415 - its driver is loaded where it is used

        return open_server(named)
    engine = create_engine(named, pool_size=16, max_overflow=128)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
