"""What was kept long enough is let go, what nothing refers to is swept, and a disk that fills is told in time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.commands import study as study_command
from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.service.operating import study_story
from orchestrator.service.receiving import PIECE_BYTES, RESERVE_BYTES
from orchestrator.service.recording import Entry
from orchestrator.service.retiring import SAFE_AGE_S, SHELVES, Keeper, retire_due, sweep, watermark
from orchestrator.service.telling import story_told
from orchestrator.service.working import complete_report, complete_stage, fail_stage
from tests.fakes.objects import MemoryObjects
from tests.fakes.records import MemoryRecords
from tests.fakes.system import SEG, FakeSystem, slices
from tests.strategies import STUDY_UID, ct_header, instance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.ports import Unit

DAY_S = 86_400
WHOLE_WALK = SHELVES // 4


class InterruptedRecords(MemoryRecords):
    """Records in which something else happens just before the next transaction begins."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], object]] = []

    @contextmanager
    def transaction(self) -> Iterator[Unit]:
        happening, self.meanwhile = self.meanwhile, []
        for happens in happening:
            happens()
        with super().transaction() as unit:
            yield unit


class InterruptedObjects(MemoryObjects):
    """Objects among which something else happens just after a commit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.meanwhile: list[Callable[[], object]] = []

    def place(self, data: bytes) -> Any:
        stored = super().place(data)
        happening, self.meanwhile = self.meanwhile, []
        for happens in happening:
            happens()
        return stored


@pytest.fixture
def system(tmp_path):
    system = FakeSystem(tmp_path, records=InterruptedRecords())
    system.objects = InterruptedObjects(tmp_path)
    return system


@pytest.fixture
def keeper(system):
    return Keeper(system.records, system.objects, system.clock, retention_days=30)


def days_pass(system: FakeSystem, days: float) -> None:
    system.clock.pass_s(days * DAY_S)
    system.objects.now_s += days * DAY_S


def sweep_all(keeper: Keeper) -> int:
    return sum(sweep(keeper) for _ in range(WHOLE_WALK))


def work(system: FakeSystem) -> str:
    """Every stage of the next job, with artefacts that are stored; gives the job's id."""
    claimed = system.claim()
    artefact = system.objects.keep(f"mask of {claimed.job.id}".encode())
    assert complete_stage(system.workshop, claimed, system.manifests[0], {"mask-1.npz": artefact})
    report = system.claim()
    assert complete_report(system.workshop, report, [(SEG, system.objects.keep(b"SEG of " + report.job.id.encode()))])
    return report.job.id


def finish_study(system: FakeSystem, study_uid: str = STUDY_UID) -> str:
    """A study received, worked on, delivered and proven."""
    system.receive_and_route(*slices(f"{study_uid}.1", study_uid=study_uid))
    job_id = work(system)
    system.deliver()
    return job_id


def is_retired(system: FakeSystem, study_uid: str = STUDY_UID) -> bool:
    with system.records.reading() as unit:
        return unit.keeping.retirement(study_uid) is not None


# retention


def test_everything_is_kept_for_ever_unless_a_site_decides_otherwise(system):
    finish_study(system)
    days_pass(system, 10_000)
    assert retire_due(Keeper(system.records, system.objects, system.clock)) == 0
    assert not is_retired(system)


def test_a_study_is_retired_when_its_work_is_done_and_its_time_is_over(system, keeper):
    finish_study(system)
    days_pass(system, 29)
    assert retire_due(keeper) == 0
    days_pass(system, 1)
    assert retire_due(keeper) == 1
    assert is_retired(system)
    assert retire_due(keeper) == 0


def test_the_story_of_a_retired_study_is_still_told(system, keeper):
    job_id = finish_study(system)
    days_pass(system, 31)
    at = system.clock.now()
    retire_due(keeper)
    story = study_story(system.records, STUDY_UID)
    assert (story.retirement.at, story.study.series) == (at, ())
    assert [(s.uid, s.modality, s.instances) for s in story.retirement.series] == [(f"{STUDY_UID}.1", "CT", 3)]
    assert [visit.calling_ae for visit in story.associations] == ["CT1"]
    assert [d.pipeline for _, _, _, d in story.decisions if d.is_yes] == ["", "bone_ct"]
    (job,) = story.jobs
    assert (job.job.id, job.job.state) == (job_id, "done")
    assert [d.state for d in job.deliveries] == ["proven"]


def test_a_study_says_that_it_was_retired_and_why(system, keeper):
    finish_study(system)
    assert story_told(study_story(system.records, STUDY_UID), ())["retired"] is None
    days_pass(system, 31)
    retire_due(keeper)
    story = study_story(system.records, STUDY_UID)
    reason = "nothing came for 30 days and all work on it had ended"
    assert story_told(story, ())["retired"] == {
        "at": system.clock.now().isoformat(),
        "reason": reason,
        "series": [{"series_uid": f"{STUDY_UID}.1", "modality": "CT", "instances": 3}],
    }
    told = "\n".join(study_command._lines(story_told(story, ())))
    assert f"retired on {system.clock.now().isoformat()}: {reason}" in told
    assert f"CT series {STUDY_UID}.1: 3 instances, retired" in told


def test_what_waits_for_a_person_or_a_worker_is_not_retired(system, keeper):
    system.receive_and_route(*slices("1.2.4.1", study_uid="1.2.4"))
    fail_stage(system.workshop, system.claim(), Broken(Fault.PIPELINE_FAULT))
    system.receive_and_route(*slices("1.2.5.1", study_uid="1.2.5"))
    work(system)
    system.receive_and_route(*slices("1.2.6.1", study_uid="1.2.6"))
    days_pass(system, 99)
    assert retire_due(keeper) == 0
    assert [system.jobs(uid)[0].state for uid in ("1.2.4", "1.2.5", "1.2.6")] == ["failed", "delivering", "waiting"]


def test_a_study_whose_proof_is_late_is_not_retired(system, keeper):
    system.sender.is_blind = True
    finish_study(system)
    days_pass(system, 99)
    assert [d.state for d in system.deliveries()] == ["accepted"]
    assert retire_due(keeper) == 0
    system.sender.is_blind = False
    system.deliver()
    assert retire_due(keeper) == 1


def test_a_study_that_was_never_routed_is_not_retired(system, keeper):
    system.receive(*slices())
    days_pass(system, 99)
    assert retire_due(keeper) == 0
    system.route()
    assert retire_due(keeper) == 0, "its job is waiting"


def test_the_same_object_arriving_after_retirement_is_stored_and_routed_as_new(system, keeper):
    finish_study(system)
    (before,) = (s.instances for s in system.study().series)
    days_pass(system, 31)
    retire_due(keeper)
    sweep_all(keeper)
    assert not any(system.objects.holds(i.digest) for i in before)
    system.receive_and_route(*slices(f"{STUDY_UID}.1"))
    assert system.study().revision == 2
    assert [i.digest for s in system.study().series for i in s.instances] == [i.digest for i in before]
    assert all(system.objects.read(i.digest) for i in before)
    assert not is_retired(system)


def test_a_study_that_something_came_for_in_this_very_moment_is_not_retired(system, keeper):
    finish_study(system)
    days_pass(system, 31)
    visit = system.visit()
    system.records.meanwhile = [lambda: system.send(visit, ct_header(f"{STUDY_UID}.1.9", series_uid=f"{STUDY_UID}.1"))]
    assert retire_due(keeper) == 0
    assert len(system.study().series[0].instances) == 4


def test_a_study_whose_job_was_reopened_in_this_very_moment_is_not_retired(system, keeper):
    job_id = finish_study(system)
    days_pass(system, 31)

    def reopen() -> None:
        with system.records.transaction() as unit:
            unit.jobs.save(replace(system.job(job_id), state="held"))

    system.records.meanwhile = [reopen]
    assert retire_due(keeper) == 0
    assert not is_retired(system)


def test_a_round_that_dies_leaves_the_study_as_it_was_and_the_next_one_retires_it(system, keeper):
    finish_study(system)
    days_pass(system, 31)
    before = system.study()
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        retire_due(keeper)
    assert system.study() == before
    assert retire_due(keeper) == 1


def test_a_round_retires_so_many_studies_and_the_next_one_goes_on(system, keeper):
    for n in range(25):
        system.receive_and_route(*slices(f"1.2.{n}.1", study_uid=f"1.2.{n}", modality="MR"))
    days_pass(system, 31)
    assert [retire_due(keeper) for _ in range(3)] == [20, 5, 0]


def test_objects_of_no_study_go_when_their_time_is_over(system, keeper):
    system.receive(ct_header("1.9", study_uid=""))
    with system.records.transaction() as unit:
        unit.studies.claim_uids(["2.25.7"])
    system.receive(ct_header("2.25.7", study_uid="2.25.9"))
    days_pass(system, 29)
    retire_due(keeper)
    assert sweep_all(keeper) == 0
    days_pass(system, 1)
    retire_due(keeper)
    assert sweep_all(keeper) == 2
    assert system.objects.kept == {}


# the sweep


def test_what_rows_refer_to_stays_and_the_rest_goes(system, keeper):
    finish_study(system)
    kept = dict(system.objects.kept)
    orphan = system.objects.keep(b"left by a transaction that failed")
    days_pass(system, 1)
    assert sweep_all(keeper) == 1
    assert not system.objects.holds(orphan)
    assert system.objects.kept == kept


def test_what_a_retired_study_had_goes_all_of_it(system, keeper):
    finish_study(system)
    finish_study(system, "1.2.4")
    days_pass(system, 29)
    finish_study(system, "1.2.5")
    kept_of_last = len(system.objects.kept) // 3
    days_pass(system, 1)
    assert retire_due(keeper) == 2
    assert sweep_all(keeper) == 2 * kept_of_last
    assert len(system.objects.kept) == kept_of_last
    assert all(system.objects.holds(i.digest) for s in system.study("1.2.5").series for i in s.instances)


def test_what_was_written_lately_stays_since_its_row_may_still_come(system, keeper):
    orphan = system.objects.keep(b"its row comes in a moment")
    system.objects.now_s += SAFE_AGE_S - 1
    assert sweep_all(keeper) == 0
    system.objects.now_s += 1
    assert sweep_all(keeper) == 1
    assert not system.objects.holds(orphan)


def test_a_round_visits_a_few_shelves_and_all_of_them_in_turn(system):
    visited = []

    class Watched(MemoryObjects):
        def old(self, shelf: str, age_s: float) -> dict[str, str]:
            visited.append(shelf)
            return {}

    keeper = Keeper(system.records, Watched(system.folder), system.clock)
    sweep(keeper)
    assert len(visited) == 4
    for _ in range(WHOLE_WALK - 1):
        sweep(keeper)
    assert sorted(visited) == [f"{n:02x}" for n in range(SHELVES)]


def test_rounds_that_begin_again_and_again_do_not_visit_the_same_shelves_only(system):
    visited = set()

    class Watched(MemoryObjects):
        def old(self, shelf: str, age_s: float) -> dict[str, str]:
            visited.add(shelf)
            return {}

    for _ in range(20):
        sweep(Keeper(system.records, Watched(system.folder), system.clock))
        system.clock.pass_s(1009)
    assert len(visited) > 40


def test_a_shelf_that_cannot_be_looked_at_keeps_no_other_from_its_turn(system):
    visited = []

    class Failing(MemoryObjects):
        def old(self, shelf: str, age_s: float) -> dict[str, str]:
            visited.append(shelf)
            raise Transient(Fault.OBJECTS_UNREACHABLE)

    keeper = Keeper(system.records, Failing(system.folder), system.clock)
    for _ in range(3):
        with pytest.raises(Transient):
            sweep(keeper)
    assert len(set(visited)) == 3


def test_more_than_one_batch_on_a_shelf_goes_in_one_round(system, keeper):
    numbers = (str(n).encode() for n in range(40_000))
    on_one_shelf = [data for data in numbers if sha256(data).hexdigest().startswith("5a")]
    kept = system.objects.keep(on_one_shelf.pop())
    with system.records.transaction() as unit:
        unit.studies.add(instance_of(ct_header("1.2.3.1.0"), digest=kept), system.clock.now())
    for data in on_one_shelf:
        system.objects.keep(data)
    days_pass(system, 1)
    assert sweep_all(keeper) == len(on_one_shelf) > 100
    assert list(system.objects.kept) == [kept]


def interrupted_sweep(system: FakeSystem, keeper: Keeper, happens: Callable[[], object]) -> int:
    """A whole walk, with something happening between the look at the rows and the removal."""
    system.records.meanwhile = [happens]
    removed = sweep_all(keeper)
    assert system.records.meanwhile == [], "it has happened"
    return removed


def test_an_object_whose_row_comes_between_the_look_and_the_removal_stays(system, keeper):
    data = b"DICM 1.2.3.1.0 pixels"
    digest = system.objects.keep(data)
    days_pass(system, 1)

    def row() -> None:
        system.headers.headers["1.2.3.1.0"] = ct_header("1.2.3.1.0")
        entry = Entry(system.visit(), ct_header("1.2.3.1.0"), system.objects.place(data), system.clock.now())
        system.reception.record(entry)

    assert interrupted_sweep(system, keeper, row) == 0
    assert system.objects.read(digest) == data


def test_an_object_written_again_between_the_look_and_the_removal_stays(system, keeper):
    digest = system.objects.keep(b"as before")
    days_pass(system, 1)
    assert interrupted_sweep(system, keeper, lambda: system.objects.keep(b"as before")) == 0
    assert system.objects.holds(digest)


def test_an_object_swept_before_its_row_is_refused_and_may_be_sent_again(system, keeper):
    """A writer that slept for hours between the object and its row, or a clock that jumped."""
    visit = system.visit()

    def asleep() -> None:
        days_pass(system, 1)
        assert sweep_all(keeper) == 1

    system.objects.meanwhile = [asleep]
    with pytest.raises(Broken) as refusal:
        system.send(visit, ct_header("1.2.3.1.0"))
    assert refusal.value.fault is Fault.STORE_FAILED
    assert system.study() is None
    system.send(visit, ct_header("1.2.3.1.0"))
    (instance,) = system.study().series[0].instances
    assert system.objects.read(instance.digest) == b"DICM 1.2.3.1.0 pixels"


# the watermark


@pytest.fixture
def free():
    return {"objects": 10 * RESERVE_BYTES, "work": 10 * RESERVE_BYTES}


@pytest.fixture
def watcher(system, free):
    spaces = {name: lambda name=name: free[name] for name in free}
    return Keeper(system.records, system.objects, system.clock, spaces=spaces)


def alarms(system: FakeSystem) -> dict[str, int]:
    with system.records.reading() as unit:
        assert {alarm.code for alarm in unit.alarms.open()} <= {Fault.STORAGE_LOW.code}
        return {alarm.subject: alarm.times for alarm in unit.alarms.open()}


def test_room_enough_is_no_alarm(system, watcher, free):
    free["objects"] = 2 * RESERVE_BYTES
    assert watermark(watcher) == []
    assert alarms(system) == {}


@pytest.mark.parametrize("name", ["objects", "work"])
def test_less_than_twice_the_reserve_sounds_the_alarm_of_that_space(system, watcher, free, name):
    free[name] = 2 * RESERVE_BYTES - 1
    assert watermark(watcher) == [name]
    assert alarms(system) == {name: 1}
    with system.records.reading() as unit:
        (alarm,) = unit.alarms.open()
    assert alarm.detail == "2047 MiB are free; below 1024 MiB no new work is taken"


def test_the_alarm_sounds_before_work_is_refused(system, watcher, free):
    system.objects.free = free["objects"] = RESERVE_BYTES + PIECE_BYTES
    watermark(watcher)
    system.receive(ct_header("1.2.3.1.0"))
    assert alarms(system) == {"objects": 1}


def test_the_alarm_is_cleared_when_there_is_room_again_and_others_stay(system, watcher, free):
    free["objects"] = free["work"] = 0
    assert watermark(watcher) == ["objects", "work"]
    free["objects"] = 3 * RESERVE_BYTES
    assert watermark(watcher) == ["work"]
    assert alarms(system) == {"work": 1}


def test_an_alarm_that_is_open_is_sounded_again_every_ten_minutes(system, watcher, free):
    free["objects"] = 0
    for _ in range(21):
        watermark(watcher)
        system.clock.pass_s(60)
    assert alarms(system) == {"objects": 3}


def test_a_steady_state_writes_nothing(system, watcher, free):
    free["objects"] = 0
    watermark(watcher)
    system.records.fail_next = ConnectionError("nothing is to be written")
    watermark(watcher)
    free["objects"] = 0
    assert system.records.fail_next is not None


def test_alarms_of_others_are_left_alone(system, watcher, free):
    free["objects"] = 0
    watermark(watcher)
    watermark(replace(watcher, spaces={"database": lambda: 0}))
    assert alarms(system) == {"objects": 1, "database": 1}
