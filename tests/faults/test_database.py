"""A database that stops or hangs while objects come: what was acknowledged is recorded when it is back, once."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from orchestrator import settings
from orchestrator.assembly import Receiver, migrate_site, open_system
from orchestrator.commands.role import monitored
from orchestrator.store import clock, journal
from tests.dicom_peers import LOOPBACK, eventually
from tests.modalities import (
    OUT_OF_RESOURCES,
    RECORDED,
    SUCCESS,
    TIMEOUT_S,
    Modality,
    are_refused,
    go_on,
    lost,
    sending,
    statuses,
)
from tests.servers.postgres import PostgresServer, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_REASON_FOR_NOW = (2, 1, 1)
SMALL_BYTES = 1 << 14
LARGE_BYTES = 9 << 20
FEW = 3
"""So many objects the journal takes from then on: it is full at once."""


@dataclass
class Listener:
    """The listener on a database server of its own, and its monitor."""

    server: PostgresServer
    receiver: Receiver
    dicom_port: int
    monitor: httpx.Client

    def modality(self, number: int, pixel_bytes: int = SMALL_BYTES) -> Modality:
        return Modality(self.dicom_port, pixel_bytes, f"1.2.{number}")

    def check(self, name: str) -> dict[str, Any]:
        return self.monitor.get("/readyz").json()["checks"][name]

    def is_ready(self) -> bool:
        return self.monitor.get("/readyz").status_code == 200

    def has_recorded_all(self) -> bool:
        return self.receiver.journal.owed.objects == 0 and self._count("SELECT 1 FROM instances") > 0

    def open_visits(self) -> int:
        return self._count("SELECT 1 FROM associations WHERE closed_at IS NULL")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        url = self.receiver.system.settings.database_url
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()

    def _count(self, query: str) -> int:
        return len(self.rows(query))

    def lost(self, *modalities: Modality) -> list[str]:
        return lost(self.rows(RECORDED), self.receiver.system.settings.data_dir, *modalities)


@contextmanager
def started(server: PostgresServer, folder: Path) -> Iterator[Listener]:
    given = {
        "TENDON_DATA_DIR": str(folder / "data"),
        "TENDON_DATABASE_URL": server.new_database(),
        "TENDON_DICOM_PORT": "0",
        "TENDON_ENVIRONMENT": "test",
    }
    migrate_site(settings.load(given))
    system = open_system(settings.load(given))
    receiver = system.scp()
    receiver.journal._patience_s = 0.2
    dicom_port = receiver.start()
    try:
        with (
            monitored(system, 0, receiver.checks, receiver.owed) as port,
            httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as monitor,
        ):
            yield Listener(server, receiver, dicom_port, monitor)
    finally:
        receiver.stop()
        system.records.close()


@pytest.fixture(scope="module")
def server():
    with postgres() as server:
        yield server


@pytest.fixture
def listener(server, tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "_ASK_EVERY_S", 0.0)
    with started(server, tmp_path) as listener:
        yield listener


def test_while_the_database_is_down_open_associations_go_on_until_the_journal_is_full(listener, monkeypatch):
    assert eventually(listener.is_ready, TIMEOUT_S)
    small, large, late = listener.modality(1), listener.modality(2, LARGE_BYTES), listener.modality(3)
    with sending(small, large):
        assert go_on(small, large)
        listener.server.kill()
        assert go_on(small), "what it sends is acknowledged from the journal"
        monkeypatch.setattr(journal, "MOST_OWED", FEW)
        assert are_refused(small, large)
        assert eventually(lambda: listener.check("database").get("code") == "TND-9008", TIMEOUT_S)
        assert eventually(lambda: listener.check("recorder").get("code") == "TND-1010", TIMEOUT_S)
        assert not listener.is_ready()
        assert "tendon_journal_owed_objects 0.0" not in listener.monitor.get("/metrics").text
        with sending(late):
            assert eventually(lambda: late.rejected[NO_REASON_FOR_NOW] >= 2, TIMEOUT_S)
            listener.server.start()
            assert go_on(small, large, late)
    assert set(late.rejected) == {NO_REASON_FOR_NOW}
    assert statuses(small, large, late) == {SUCCESS, OUT_OF_RESOURCES}
    assert eventually(listener.has_recorded_all, TIMEOUT_S)
    assert eventually(listener.is_ready, TIMEOUT_S)
    assert listener.lost(small, large, late) == []
    assert eventually(lambda: listener.open_visits() == 0, TIMEOUT_S)


@contextmanager
def hanging(server: PostgresServer) -> Iterator[None]:
    """Every process of the server is stopped, and so says neither yes nor no."""
    stopped = server.folder.processes()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_while_the_database_hangs_monitors_are_answered_and_open_associations_go_on(listener, monkeypatch):
    assert eventually(listener.is_ready, TIMEOUT_S)
    small, late = listener.modality(1), listener.modality(2)
    with sending(small):
        assert go_on(small)
        with hanging(listener.server):
            assert go_on(small), "what it sends is acknowledged from the journal"
            silent = {"status": "fail", "detail": "it does not answer"}
            assert eventually(lambda: listener.check("database") == silent, TIMEOUT_S)
            assert not listener.is_ready()
            assert "tendon_journal_owed_objects" in listener.monitor.get("/metrics").text
            monkeypatch.setattr(journal, "MOST_OWED", FEW)
            assert are_refused(small)
        with sending(late):
            assert go_on(small, late)
    assert statuses(small, late) == {SUCCESS, OUT_OF_RESOURCES}
    assert eventually(listener.has_recorded_all, TIMEOUT_S)
    assert eventually(listener.is_ready, TIMEOUT_S)
    assert listener.lost(small, late) == []
