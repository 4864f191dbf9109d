"""How the parts of receiving are found out, watched and told to monitors, also while one of them hangs."""

from __future__ import annotations

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

import httpx
import pytest
from starlette.applications import Starlette

from orchestrator import telemetry, watch
from orchestrator.admin.monitors import monitor_routes
from orchestrator.admin.server import AdminServer
from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.domain.health import PASS, Health, of_fault, of_room, works, worst
from orchestrator.keeping import Owed
from orchestrator.service.checking import database_health, recorder_health, storage_health
from orchestrator.service.receiving import PIECE_BYTES, RESERVE_BYTES
from orchestrator.watch import Watch
from tests.dicom_peers import LOOPBACK, PATIENT_NAME, eventually
from tests.fakes.system import FakeSystem


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "_EVERY_S", 0.01)
    monkeypatch.setattr(watch, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(telemetry, "_PATIENCE_S", 0.1)


# the checks


@pytest.mark.parametrize(
    ("free_bytes", "status"),
    [
        (2 * RESERVE_BYTES, "pass"),
        (2 * RESERVE_BYTES - 1, "warn"),
        (RESERVE_BYTES + PIECE_BYTES, "warn"),
        (RESERVE_BYTES + PIECE_BYTES - 1, "fail"),
        (0, "fail"),
    ],
)
def test_room_is_told_before_it_is_short_and_fails_exactly_where_objects_are_refused(system, free_bytes, status):
    system.objects.free = free_bytes
    state = storage_health(system.reception)
    assert state.status == status
    assert state.code == ("" if status == "pass" else "TND-1004")


def test_the_same_state_is_told_in_the_same_words_however_many_bytes_are_free():
    assert len({of_room(free, 1000) for free in range(1000, 2000)}) == 1
    assert len({of_room(free, 1000) for free in range(1000)}) == 1


def test_a_disk_with_room_that_cannot_be_written_fails(system, monkeypatch):
    def cannot():
        raise Broken(Fault.STORE_FAILED, "the object could not be made durable: Read-only file system")

    monkeypatch.setattr(system.objects, "begin", cannot)
    with pytest.raises(Broken):
        storage_health(system.reception)


def test_looking_at_the_storage_leaves_nothing(system):
    storage_health(system.reception)
    assert system.objects.kept == {}


def test_a_database_that_does_not_answer_fails():
    assert database_health(lambda: True) == PASS
    assert database_health(lambda: False) == of_fault("fail", Fault.DATABASE_UNREACHABLE)


@dataclass
class Journal:
    has_room: bool


def test_a_recorder_that_is_late_is_told_and_a_full_journal_fails():
    assert recorder_health(Journal(has_room=True), lambda: True) == PASS
    assert recorder_health(Journal(has_room=True), lambda: False).status == "warn"
    assert recorder_health(Journal(has_room=False), lambda: True).status == "fail"


def test_the_whole_is_as_its_worst_part():
    assert worst([]) == worst([PASS]) == "pass"
    assert worst([PASS, Health("warn")]) == "warn"
    assert worst([Health("warn"), Health("fail"), PASS]) == "fail"


# the watch


@contextmanager
def watched(**checks):
    watching = Watch(checks)
    watching.start()
    try:
        yield watching
    finally:
        watching.stop()


def test_what_was_not_looked_at_yet_is_not_ready():
    assert {state.status for state in Watch({"storage": lambda: PASS}).states().values()} == {"fail"}


def test_a_part_that_hangs_is_told_at_once_and_the_others_go_on():
    hanging, released = Event(), Event()

    def hang() -> Health:
        hanging.set()
        released.wait(30)
        return PASS

    with watched(storage=hang, database=lambda: PASS) as watching:
        assert hanging.wait(10)
        assert eventually(lambda: watching.states()["storage"].detail == "it does not answer")
        assert watching.states()["database"] == PASS
        released.set()
        assert eventually(lambda: watching.states()["storage"] == PASS)


@pytest.mark.parametrize(
    ("error", "code"), [(Transient(Fault.OBJECTS_UNREACHABLE), "TND-9009"), (RuntimeError(PATIENT_NAME), "")]
)
def test_a_part_that_cannot_be_looked_at_fails_and_nothing_is_quoted(error, code):
    def fail() -> Health:
        raise error

    with watched(storage=fail) as watching:
        assert eventually(lambda: watching.states()["storage"].detail not in ("", "it was not looked at yet"))
        state = watching.states()["storage"]
    assert (state.status, state.code) == ("fail", code)
    assert PATIENT_NAME not in state.detail


def test_a_change_is_logged_once_and_what_works_from_the_start_is_not(caplog):
    caplog.set_level(logging.INFO, "tendon.watch")
    states = {"storage": PASS, "database": PASS}
    with watched(**{name: lambda name=name: states[name] for name in states}) as watching:
        for state in (PASS, of_fault("fail", Fault.STORAGE_LOW), PASS):
            states["storage"] = state
            assert eventually(lambda state=state: watching.states()["storage"] == state)
            if state != PASS:
                assert eventually(lambda: "storage: fail TND-1004" in caplog.text)
        assert eventually(lambda: "storage: pass" in caplog.text)
    assert [record.getMessage() for record in caplog.records] == [
        "storage: fail TND-1004 (too little free space to accept more)",
        "storage: pass",
    ]


# HTTP


@contextmanager
def answering(states=dict, metrics=lambda: b""):
    server = AdminServer(
        Starlette(routes=monitor_routes(metrics=metrics, states=states)), socket.create_server((LOOPBACK, 0))
    )
    server.start()
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{server.port}", timeout=30) as monitor:
            yield monitor
    finally:
        server.stop()


@pytest.mark.parametrize(("status", "answer"), [("pass", 200), ("warn", 200), ("fail", 503)])
def test_readiness_is_the_worst_part_and_names_each(status, answer):
    states = {"listening": works(is_so=True), "storage": Health(status, "TND-1004", "low")}
    with answering(lambda: states) as monitor:
        told = monitor.get("/readyz")
    assert told.status_code == answer
    assert told.json() == {
        "status": status,
        "checks": {
            "listening": {"status": "pass"},
            "storage": {"status": status, "code": "TND-1004", "detail": "low"},
        },
    }


def test_metrics_that_hang_keep_no_monitor_from_its_answer():
    hanging, released = Event(), Event()

    def hang() -> bytes:
        hanging.set()
        released.wait(30)
        return b"late"

    with answering(lambda: {"storage": PASS}, hang) as monitor, ThreadPoolExecutor() as scrapers:
        scrapes = [scrapers.submit(monitor.get, "/metrics") for _ in range(2)]
        assert hanging.wait(10)
        for path in ("/healthz", "/readyz"):
            assert monitor.get(path).status_code == 200
        released.set()
        assert {scrape.result().text for scrape in scrapes} == {"late"}


# metrics


def test_the_journal_is_told_while_database_and_disk_hang_or_fail(system, monkeypatch):
    released = Event()
    monkeypatch.setattr(system.objects, "free_bytes", lambda: released.wait(30))
    system.records.fail_next = Transient(Fault.DATABASE_UNREACHABLE)
    monkeypatch.setattr(system.records, "reading", system.records.transaction)
    metrics = telemetry.metrics_of(system.records, system.objects, lambda: Owed(3, 5000, 7.5))
    for _ in range(3):
        told = metrics().decode()
        assert "tendon_free_bytes" not in told
        assert "tendon_journal_owed_objects 3.0" in told
    assert "tendon_journal_owed_bytes 5000.0" in told
    assert "tendon_journal_oldest_seconds 7.5" in told
    assert "tendon_jobs" in told, "the database answers again"
    monkeypatch.undo()
    released.set()
    assert eventually(lambda: "tendon_free_bytes" in metrics().decode())


def test_a_process_without_a_journal_tells_of_none(system):
    told = telemetry.metrics_of(system.records, system.objects)().decode()
    assert "tendon_free_bytes" in told
    assert "journal" not in told


# the log


def passed(name: str, *sentences: str) -> list[str]:
    repeats = telemetry._Repeats()
    records = [logging.LogRecord(name, logging.ERROR, "", 0, sentence, (), None) for sentence in sentences]
    return [record.getMessage() for record in records if repeats.filter(record)]


def test_what_every_object_meets_is_logged_once_a_minute(monkeypatch):
    assert passed("orchestrator.dicom.scp", "a", "a", "b", "a") == ["a", "b"]
    assert passed("uvicorn.error", "a", "a") == ["a"]
    assert passed("tendon.watch", "a", "a", "b", "a") == ["a", "a", "b", "a"]
    monkeypatch.setattr(telemetry, "_REPEATED_S", 0.0)
    assert passed("tendon.recorder", "a", "a") == ["a", "a"]


def test_as_many_sentences_as_there_may_be_take_no_more_memory(monkeypatch):
    monkeypatch.setattr(telemetry, "_MOST_SENTENCES", 10)
    repeats = telemetry._Repeats()
    for number in range(100):
        record = logging.LogRecord("tendon.recorder", logging.ERROR, "", 0, str(number), (), None)
        assert repeats.filter(record)
    assert len(repeats._told_s) <= 10
