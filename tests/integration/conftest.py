"""Fixtures of the contracts: the same tests on the fake and on the real thing."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from orchestrator import shipped
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import migrate
from tests.fakes.records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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
def in_sqlite(path: Path) -> Iterator[Store]:
    opened = []

    def reopened() -> Records:
        opened.append(DatabaseRecords(open_engine(f"sqlite:///{path}")))
        return opened[-1]

    try:
        yield Store(reopened(), reopened)
    finally:
        for records in opened:
            records.close()


@pytest.fixture(params=["fake", "sqlite"])
def store(request, tmp_path):
    if request.param == "fake":
        with in_memory() as store:
            yield store
    else:
        path = shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "records.db")
        with in_sqlite(path) as store:
            yield store


@pytest.fixture
def records(store):
    return store.records
