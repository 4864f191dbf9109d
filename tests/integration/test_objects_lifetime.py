"""Objects from arrival to sweep, in any order and at the same time: what a row refers to is there."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from orchestrator.domain.errors import Broken, Fault
from orchestrator.service.recording import Entry
from orchestrator.service.retiring import SHELVES, Keeper, retire_due, sweep
from orchestrator.service.working import complete_report, complete_stage, fail_stage
from orchestrator.store.bucket import BucketObjects
from orchestrator.store.objects import DirectoryObjects
from tests.fakes.objects import MemoryObjects
from tests.fakes.system import PACS, SEG, FakeSystem
from tests.integration.conftest import empty, opened_store
from tests.servers.s3 import KEY_ID, REGION, SECRET, s3_server
from tests.strategies import ct_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.study import Header
    from orchestrator.keeping import StoredObject
    from orchestrator.ports import Records

DAY_S = 86_400.0
STUDIES = ("1.2.1", "1.2.2")
EXAMPLES = {"fake": (60, 40), "sqlite": (12, 30), "postgresql": (8, 25)}


class AgeingObjects(DirectoryObjects):
    """Objects in a directory, where a test lets time pass."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._files = folder

    def pass_s(self, seconds: float) -> None:
        for path in self._files.glob("??/*"):
            written = path.stat().st_mtime - seconds
            os.utime(path, (written, written))


class AgeingMemory(MemoryObjects):
    """The same in memory."""

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


def header_of(study_uid: str, number: int) -> Header:
    uid = f"{study_uid}.1.{number}"
    return ct_header(uid, study_uid=study_uid, series_uid=f"{study_uid}.1", z_mm=2.0 * number, instance_number=number)


class Lifetime(RuleBasedStateMachine):
    """Peers, workers, retention and sweeps in any order; a peer's object may be written long before its row comes."""

    def __init__(self, records: Records, objects: Any, folder: Path, end: Callable[[], None]) -> None:
        super().__init__()
        self.system = FakeSystem(folder, records=records, destinations=(PACS,))
        self.system.objects = objects
        self.objects = objects
        self.keeper = Keeper(records, objects, self.system.clock, retention_days=30)
        self.visit = self.system.visit()
        self.unrecorded: list[tuple[Header, StoredObject]] = []
        self.acknowledged: dict[str, dict[str, bytes]] = {uid: {} for uid in STUDIES}
        self.end = end

    def teardown(self) -> None:
        self.end()

    # peers

    @staticmethod
    def content(header: Header, version: int) -> tuple[bytes, bytes]:
        return f"DICM {header.sop_instance_uid} ".encode(), f"version {version}".encode()

    @rule(study=st.sampled_from(STUDIES), number=st.integers(1, 3), version=st.integers(1, 2))
    def arrive(self, study: str, number: int, version: int) -> None:
        header = header_of(study, number)
        prefix, data = self.content(header, version)
        self.system.send(self.visit, header, data)
        self.note(header, prefix + data)

    @rule(study=st.sampled_from(STUDIES), number=st.integers(1, 3), version=st.integers(1, 2))
    def write_without_row(self, study: str, number: int, version: int) -> None:
        header = header_of(study, number)
        writer = self.objects.begin()
        for part in self.content(header, version):
            writer.write(part)
        self.unrecorded.append((header, writer.commit()))

    @precondition(lambda self: self.unrecorded)
    @rule(data=st.data())
    def keep_row(self, data: st.DataObject) -> None:
        header, stored = self.unrecorded.pop(data.draw(st.integers(0, len(self.unrecorded) - 1)))
        try:
            self.system.reception.record(Entry(self.visit, header, stored, self.system.clock.now()))
        except Broken as refusal:
            if refusal.fault is not Fault.STORE_FAILED:
                raise
        else:
            self.note(header, self.objects.read(stored.digest))

    def note(self, header: Header, data: bytes) -> None:
        self.acknowledged[header.study_uid][sha256(data).hexdigest()] = data

    # workers

    @rule()
    def route(self) -> None:
        self.system.reception.close(self.visit, "released")
        self.system.clock.pass_s(1000)
        self.system.route()
        self.visit = self.system.visit()

    def waiting(self) -> bool:
        return any(job.state in ("waiting", "running") for uid in STUDIES for job in self.system.jobs(uid))

    @precondition(waiting)
    @rule(ends=st.sampled_from(["done", "done", "done", "failed"]))
    def work(self, ends: str) -> None:
        claimed = self.system.claim()
        if ends == "failed":
            fail_stage(self.system.workshop, claimed, Broken(Fault.PIPELINE_FAULT))
        elif claimed.stage.name == "report":
            built = [(SEG, self.store(b"SEG of " + claimed.job.input_set.encode()))]
            assert complete_report(self.system.workshop, claimed, built)
        else:
            artefacts = {"mask-1.npz": self.store(b"mask of " + claimed.job.input_set.encode())}
            assert complete_stage(self.system.workshop, claimed, self.system.manifests[0], artefacts)

    def store(self, data: bytes) -> str:
        writer = self.objects.begin()
        writer.write(data)
        return writer.commit().digest

    @rule()
    def deliver(self) -> None:
        self.system.deliver()

    @rule()
    def finish(self) -> None:
        """All that is left to do, done well."""
        self.route()
        while self.waiting():
            self.work("done")
        self.deliver()

    # time and keeping

    def days_pass(self, days: float) -> None:
        self.system.clock.pass_s(days * DAY_S)
        self.objects.pass_s(days * DAY_S)

    @rule(days=st.sampled_from([31, 31, 31, 1, 0]))
    def retire(self, days: float) -> None:
        self.days_pass(days)
        retire_due(self.keeper)
        with self.system.records.reading() as unit:
            for uid in STUDIES:
                if unit.keeping.retirement(uid) is not None:
                    self.acknowledged[uid].clear()

    @rule(days=st.sampled_from([0.5, 0.5, 0.01, 0]))
    def sweep(self, days: float) -> None:
        self.days_pass(days)
        for _ in range(SHELVES // 4):
            sweep(self.keeper)

    # what holds at any moment

    @invariant()
    def what_was_acknowledged_is_known_and_there(self) -> None:
        with self.system.records.reading() as unit:
            for uid in STUDIES:
                study = unit.studies.get(uid)
                kept = [i for s in study.series for i in s.instances] if study else []
                kept += unit.studies.left_out(uid)
                assert {i.digest for i in kept} == set(self.acknowledged[uid])
                for digest, data in self.acknowledged[uid].items():
                    assert self.objects.read(digest) == data

    @invariant()
    def what_work_left_is_there_unless_its_study_was_retired(self) -> None:
        with self.system.records.reading() as unit:
            for uid in STUDIES:
                for job in unit.jobs.of_study(uid):
                    left = [digest for stage in unit.jobs.stages(job.id) for digest in stage.artefacts.values()]
                    for digest in unit.keeping.needed(left):
                        assert self.objects.read(digest)
                    if job.state not in ("done", "superseded"):
                        assert unit.keeping.needed(left) == set(left)

    @invariant()
    def what_a_stage_works_on_is_there(self) -> None:
        for uid in STUDIES:
            for job in self.system.jobs(uid):
                if job.state in ("waiting", "running", "failed", "held"):
                    assert all(self.objects.holds(d) for given in job.inputs for d in given.instances.values())


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_no_order_of_arrivals_work_retirement_and_sweeps_loses_what_a_row_refers_to(kind, request):
    def made() -> Lifetime:
        stack = ExitStack()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tendon-lifetime-")))
        records = stack.enter_context(opened_store(kind, request, folder)).records
        if kind == "postgresql":
            stack.callback(lambda: emptied(records))
        objects = AgeingMemory(folder) if kind == "fake" else AgeingObjects(folder / "objects")
        return Lifetime(records, objects, folder, stack.close)

    examples, steps = EXAMPLES[kind]
    given = settings(max_examples=examples, stateful_step_count=steps, deadline=None, database=None)
    run_state_machine_as_test(made, settings=given)


def emptied(records: Any) -> None:
    with records._engine.begin() as connection:
        empty(connection)


# at the same time


class NeverYoungInDirectory(DirectoryObjects):
    """As where the clock jumped: everything looks old at once, so that only the rows and the hold protect it."""

    def old(self, shelf: str, age_s: float) -> dict[str, str]:
        return super().old(shelf, 0)


class NeverYoungInBucket(BucketObjects):
    """The same in a bucket, whose stamps tell no more than the second."""

    def old(self, shelf: str, age_s: float) -> dict[str, str]:
        return super().old(shelf, 0)


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture(params=["directory", "bucket"])
def never_young(request, tmp_path):
    if request.param == "directory":
        return NeverYoungInDirectory(tmp_path / "objects")
    bucket = request.getfixturevalue("s3").new_bucket()
    given = {"endpoint": bucket.endpoint, "region": REGION, "key_id": KEY_ID, "secret": SECRET}
    return NeverYoungInBucket(bucket.url, tmp_path, cache_bytes=0, **given)


def test_arrivals_retirement_and_sweeps_at_the_same_time_acknowledge_nothing_that_is_gone(
    database, never_young, tmp_path
):
    objects = never_young
    system = FakeSystem(tmp_path, records=database)
    system.objects = objects
    header = ct_header("1.2.3.1.0")
    shelf = sha256(b"DICM 1.2.3.1.0 pixels").hexdigest()[:2]
    ended, removed, faults = Event(), [0], []

    def sweeping() -> None:
        keeper = Keeper(database, objects, system.clock)
        while not ended.is_set():
            keeper._next_shelf = int(shelf, 16)
            try:
                removed[0] += sweep(keeper)
            except Exception as error:
                faults.append(error)

    sweeper = Thread(target=sweeping)
    sweeper.start()
    visit = system.visit()
    acknowledged = 0
    try:
        while acknowledged < 40 or not removed[0]:
            try:
                system.send(visit, header)
            except Broken as refusal:
                if refusal.fault is not Fault.STORE_FAILED:
                    raise
                continue
            acknowledged += 1
            with database.transaction() as unit:
                (instance,) = unit.studies.get("1.2.3").series[0].instances
                assert objects.holds(instance.digest)
                assert objects.read(instance.digest) == b"DICM 1.2.3.1.0 pixels"
                unit.studies.hold("1.2.3")
                unit.keeping.retire("1.2.3", system.clock.now(), "to have it swept")
    finally:
        ended.set()
        sweeper.join()
    assert faults == []
