"""Records in a database by SQLAlchemy Core: the port `Records` for SQLite.

SQLite runs in WAL with synchronous=FULL; every write transaction begins immediate, because a
deferred one that turns into a writer fails at once instead of waiting.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event

from orchestrator.store.deliveries import DeliveryRows
from orchestrator.store.jobs import JobRows
from orchestrator.store.site import SiteRows
from orchestrator.store.studies import StudyRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.ports import Unit

_BUSY_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class _Unit:
    """One transaction; the parts share its connection."""

    connection: Connection

    @cached_property
    def studies(self) -> StudyRows:
        return StudyRows(self.connection)

    @cached_property
    def jobs(self) -> JobRows:
        return JobRows(self.connection)

    @cached_property
    def deliveries(self) -> DeliveryRows:
        return DeliveryRows(self.connection)

    @cached_property
    def site(self) -> SiteRows:
        return SiteRows(self.connection)


class DatabaseRecords:
    """The port `Records` on an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        """One write transaction; rolled back when the block raises."""
        with self._engine.begin() as connection:
            yield _Unit(connection)

    @contextmanager
    def reading(self) -> Iterator[Unit]:
        """One consistent view that takes no write lock."""
        with self._engine.connect().execution_options(reading=True) as connection:
            yield _Unit(connection)
            connection.rollback()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def open_engine(url: str) -> Engine:
    """An engine whose transactions keep the promises above."""
    engine = create_engine(url, pool_size=16, max_overflow=128)
    if engine.dialect.name == "sqlite":
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
