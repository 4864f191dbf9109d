"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.house import Services
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import rabbitmq


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of public sample images; tests that need it are skipped where it is absent."""
    named = os.environ.get("TENDON_SAMPLE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public sample images are not here (TENDON_SAMPLE_DATA)")
    return folder


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server of this test process; take a `new_database`. A test that kills a server starts its own."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server():
    """A RabbitMQ broker of this test process; take a `new_vhost`. A test that kills a broker starts its own."""
    with rabbitmq() as broker:
        yield broker


@pytest.fixture(params=["embedded", "distributed"])
def services(request):
    """Both modes of the same code: no servers for the embedded system, a database and a broker for a cluster."""
    if request.param == "embedded":
        return None
    database, broker = (request.getfixturevalue(name) for name in ("postgres_server", "rabbitmq_server"))
    return Services(database.new_database(), broker.new_vhost())
