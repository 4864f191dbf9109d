"""Time goes on at its pace whatever is done to the clocks of machines, and the same for all processes of a site."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from orchestrator.dicom import timer
from orchestrator.dicom.timer import SteadyTimer
from orchestrator.store import clock as clocks
from orchestrator.store.clock import DatabaseClock, SteadyClock
from orchestrator.store.records import open_engine
from tests.dicom_peers import eventually

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Machine:
    """A machine whose clock a test sets; `up_s` is how long it runs."""

    def __init__(self) -> None:
        self.shown, self.up_s = NOW, 1000.0

    def pass_s(self, seconds: float) -> None:
        self.shown += timedelta(seconds=seconds)
        self.up_s += seconds


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(clocks, "_machine_time", lambda: machine.shown)
    monkeypatch.setattr(clocks, "_since_boot_us", lambda: int(machine.up_s * 1e6))
    return machine


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_a_clock_that_is_set_moves_no_time(machine, tmp_path, hours):
    clock = SteadyClock(tmp_path / "clock")
    assert clock.now() == NOW
    machine.pass_s(5)
    machine.shown += timedelta(hours=hours)
    assert clock.now() == NOW + timedelta(seconds=5)
    assert clock.skew_s() == hours * 3600
    clock.set()
    assert (clock.now(), clock.skew_s()) == (machine.shown, 0)


def test_all_processes_of_a_site_have_one_time(machine, tmp_path):
    first = SteadyClock(tmp_path / "clock")
    machine.shown += timedelta(hours=3)
    assert SteadyClock(tmp_path / "clock").now() == first.now() == NOW


@pytest.mark.parametrize("left", ["", "another-boot 7", "\0", "a b c"])
def test_an_anchor_of_an_earlier_boot_or_one_that_cannot_be_read_is_dropped(machine, tmp_path, left):
    (tmp_path / "clock").write_text(left)
    assert SteadyClock(tmp_path / "clock").now() == NOW
    machine.shown += timedelta(hours=1)
    assert SteadyClock(tmp_path / "clock").now() == NOW
    assert [path.name for path in tmp_path.iterdir()] == ["clock"]


def test_where_no_anchor_can_be_written_time_goes_on_all_the_same(machine, tmp_path):
    clock = SteadyClock(tmp_path / "nowhere" / "clock")
    machine.pass_s(5)
    machine.shown += timedelta(hours=1)
    assert clock.now() == NOW + timedelta(seconds=5)


def test_the_real_machine_is_believed(tmp_path):
    before = datetime.now(UTC)
    clock = SteadyClock(tmp_path / "clock")
    assert before - timedelta(seconds=1) < clock.now()
    assert abs(clock.skew_s()) < 1


# of the database


@pytest.fixture
def engine(postgres_server):
    engine = open_engine(postgres_server.new_database())
    yield engine
    engine.dispose()


def test_the_database_tells_the_time(engine):
    clock = DatabaseClock(engine)
    with engine.connect() as connection:
        before = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        told = clock.now()
        after = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert before <= told + timedelta(seconds=1)
    assert told <= after + timedelta(seconds=1)


def test_time_is_not_told_before_the_database_has_told_it_once():
    with pytest.raises(OperationalError):
        DatabaseClock(open_engine("postgresql://nobody@127.0.0.1:1/none")).now()


@contextmanager
def hanging(pid: int):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_while_the_database_hangs_time_goes_on_and_nobody_waits(engine, monkeypatch):
    clock = DatabaseClock(engine)
    before = clock.now()
    monkeypatch.setattr(clocks, "_ASK_EVERY_S", 0.0)
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    told: list[datetime] = []
    asking = Thread(target=lambda: told.extend(clock.now() for _ in range(3)))
    with hanging(pid):
        asking.start()
        asking.join(30)
        assert not asking.is_alive()
    assert before <= told[0] <= told[1] <= told[2]
    assert eventually(lambda: clock._asking is None or not clock._asking.is_alive())


# of an association


def test_the_timers_of_an_association_expire_by_the_time_that_passes(monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr(timer.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(timer.time, "time", lambda: 1e12)
    running = SteadyTimer(10)
    assert not running.expired, "it was not started"
    running.start()
    now_s[0] += 9
    assert (running.expired, running.remaining) == (False, 1)
    running.restart()
    now_s[0] += 11
    assert running.expired
    running.start()
    running.stop()
    now_s[0] += 100
    assert not running.expired
    running.timeout = None
    running.start()
    assert not running.expired
