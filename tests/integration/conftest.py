"""Fixtures of the contracts: the same tests on the fake and on the real thing."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from orchestrator import shipped
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import migrate
from orchestrator.store.tables import metadata
from tests.fakes.records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection

    from orchestrator.ports import Records


@dataclass
class Store:
    """Records, and how to open them anew as the next process does."""

    records: Records
    reopened: Callable[[], Records]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("database") / "empty.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine, shipped.folder("migrations"))
    engine.dispose()
    return path


@contextmanager
def in_memory() -> Iterator[Store]:
    records = MemoryRecords()
    yield Store(records, lambda: records)


@contextmanager
def in_database(url: str) -> Iterator[Store]:
    opened = []

    def reopened() -> Records:
        opened.append(DatabaseRecords(open_engine(url)))
        return opened[-1]

    try:
        yield Store(reopened(), reopened)
    finally:
        for records in opened:
            records.close()


@pytest.fixture(scope="session")
def postgresql_url(postgres_server):
    """A migrated database on a real server."""
    url = postgres_server.new_database()
    engine = open_engine(url)
    migrate(engine, shipped.folder("migrations"))
    engine.dispose()
    return url


@pytest.fixture
def empty_postgresql(postgresql_url):
    """The same database with no row in it."""
    engine = open_engine(postgresql_url)
    with engine.begin() as connection:
        empty(connection)
    engine.dispose()
    return postgresql_url


def empty(connection: Connection) -> None:
    """Take every row out of a PostgreSQL, those of append-only tables too."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    connection.execute(text(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE"))


def opened_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> AbstractContextManager[Store]:
    """Empty records of a kind."""
    if kind == "fake":
        return in_memory()
    if kind == "sqlite":
        path = shutil.copy(request.getfixturevalue("empty_database"), folder / "records.db")
        return in_database(f"sqlite:///{path}")
    return in_database(request.getfixturevalue("empty_postgresql"))


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def store(request, tmp_path):
    with opened_store(request.param, request, tmp_path) as store:
        yield store


@pytest.fixture
def records(store):
    return store.records


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Records in a real database."""
    with opened_store(request.param, request, tmp_path) as store:
        yield store.records
