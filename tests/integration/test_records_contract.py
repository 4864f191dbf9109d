"""What the port `Records` promises, on the fake and on SQLite."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from threading import Barrier, Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import shipped
from orchestrator.domain.delivery import Delivery, Destination, Node, Output
from orchestrator.domain.job import Job, JobInput, Stage
from orchestrator.domain.route import Decision
from orchestrator.domain.study import Header, Patient, RegionFact
from orchestrator.ports import Association, SiteFile
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import migrate
from tests.fakes.records import MemoryRecords
from tests.strategies import START, STUDY_UID, ct_header, instance_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.domain.study import Instance
    from orchestrator.ports import Records

SERIES, OTHER_SERIES = "1.2.3.1", "1.2.3.2"


@dataclass
class Store:
    """Records, and how to open them anew as the next process does."""

    records: Records
    reopened: Callable[[], Records]


@pytest.fixture(scope="module")
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


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def ct(uid: str = "1.2.3.1.0", *, series_uid: str = SERIES, association_id: str = "a1", **given: Any) -> Instance:
    facts = {name: given.pop(name) for name in ("received_at", "digest", "is_own") if name in given}
    made = instance_of(ct_header(uid, series_uid=series_uid, **given), **facts)
    return replace(made, association_id=association_id)


def received(records: Records, *instances: Instance, look_at: datetime = START) -> list[str]:
    with records.transaction() as unit:
        return [unit.studies.add(instance, look_at) for instance in instances]


def due(records: Records, now: datetime = START) -> list[str]:
    with records.reading() as unit:
        return unit.studies.due(now)


def closed(records: Records, *series_uids: str) -> None:
    with records.transaction() as unit:
        unit.studies.settle(STUDY_UID, series_uids or (SERIES,), close=True)


def job_of(identifier: str = "j1", **given: Any) -> Job:
    facts: dict[str, Any] = {
        "id": identifier,
        "study_uid": STUDY_UID,
        "study_revision": 1,
        "pipeline": "bone_ct",
        "version": "1.0.0",
        "inputs": (JobInput("ct", "volume", SERIES, {"1.2.9": "ab", "1.2.10": "cd"}), JobInput("t", "region", "9", {})),
        "input_set": identifier,
        "generation": 0,
        "priority": "routine",
        "send": ("pacs", "ehr"),
        "release": "at_once",
        "rule_set_version": 3,
        "rules": ({"name": "CT", "when": {"all": [{"field": "series.modality", "eq": "CT"}]}},),
        "created_at": START,
        "changed_at": START,
    }
    return Job(**facts | given)


def stage_of(job: Job, **given: Any) -> Stage:
    facts: dict[str, Any] = {
        "id": f"{job.id} {given.get('name', 'segment')}",
        "job_id": job.id,
        "name": "segment",
        "lane": "cpu",
        "gpu": "no",
        "priority": job.priority,
        "created_at": START,
        "not_before": START,
    }
    return Stage(**facts | given)


def with_stage(records: Records, identifier: str = "j1", *, priority: Any = "routine", **given: Any) -> Stage:
    job = job_of(identifier, priority=priority)
    stage = stage_of(job, **given)
    with records.transaction() as unit:
        unit.jobs.add(job)
        unit.jobs.add_stage(stage)
    return stage


def claimed(records: Records, now: datetime = START, *, lanes: tuple[str, ...] = ("cpu",), lease_s: float = 10) -> Any:
    with records.transaction() as unit:
        return unit.jobs.claim(lanes, "worker", now, now + timedelta(seconds=lease_s))


def finished(records: Records, stage: Stage, **given: Any) -> bool:
    with records.transaction() as unit:
        return unit.jobs.finish(replace(stage, **{"state": "done", "artefacts": {"mask": "ab"}, **given}))


def only_stage(records: Records, job_id: str = "j1") -> Stage:
    with records.reading() as unit:
        (stage,) = unit.jobs.stages(job_id)
        return stage


# transactions


def test_an_error_in_a_transaction_leaves_nothing_of_it(records):
    received(records, ct())
    with pytest.raises(ZeroDivisionError), records.transaction() as unit:
        unit.studies.open_association(Association("a9", "CT1", "10.0.0.1", START))
        unit.studies.add(ct("1.2.3.1.1"), START)
        unit.studies.claim_uids(["1.9"])
        unit.jobs.add(job_of())
        unit.jobs.add_stage(stage_of(job_of()))
        unit.deliveries.add_output(output_of("o1"))
        unit.site.installation("lost")
        raise ZeroDivisionError
    with records.reading() as unit:
        assert [len(s.instances) for s in unit.studies.get(STUDY_UID).series] == [1]
        assert unit.studies.association("a9") is None
        assert not unit.studies.is_own("1.9")
        assert unit.jobs.page(9) == []
        assert unit.deliveries.outputs("j1") == []
    with records.transaction() as unit:
        assert unit.site.installation("first") == "first"


def test_a_transaction_sees_its_own_rows_and_others_see_them_once_it_ended(records):
    with records.transaction() as unit:
        unit.studies.add(ct(), START)
        assert unit.studies.get(STUDY_UID) is not None
        with records.reading() as outside:
            assert outside.studies.get(STUDY_UID) is None
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID) is not None


def test_a_reading_keeps_its_view_while_others_write(records):
    with records.reading() as unit:
        assert unit.jobs.page(9) == []
        with_stage(records)
        assert unit.jobs.page(9) == []


def test_what_a_reading_writes_is_not_kept(records):
    with records.reading() as unit:
        unit.jobs.add(job_of())
    with records.reading() as unit:
        assert unit.jobs.page(9) == []


def test_writers_follow_one_another(records):
    order: list[str] = []
    inside, tried = Event(), Event()

    def second() -> None:
        inside.wait(10)
        tried.set()
        with records.transaction() as unit:
            order.append("second")
            unit.jobs.add(job_of("j2"))

    thread = Thread(target=second)
    thread.start()
    with records.transaction() as unit:
        inside.set()
        assert tried.wait(10)
        thread.join(0.05)
        unit.jobs.add(job_of("j1"))
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_what_was_committed_is_there_for_the_next_process(store):
    stage = with_stage(store.records)
    received(store.records, ct())
    held = claimed(store.records)
    again = store.reopened()
    with again.reading() as unit:
        assert unit.studies.get(STUDY_UID).series[0].instances == (ct(),)
        assert unit.jobs.get("j1") == job_of()
        assert unit.jobs.stages("j1") == [held.stage]
    assert finished(again, held.stage)
    assert only_stage(again).id == stage.id


# what was received


def test_an_instance_is_new_then_the_same_then_another_version(records):
    assert received(records, ct(), ct(received_at=after(5)), ct(digest="ff")) == ["new", "same", "version"]
    assert received(records, ct(digest="ff")) == ["same"]
    with records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
        assert [i.digest for i in study.series[0].instances] == [ct().digest]
        assert [i.digest for i in unit.studies.left_out(STUDY_UID)] == ["ff"]
        assert unit.studies.counts() == {"routable": 1, "not routable": 1}


def test_every_header_fact_comes_back_as_it_was(records):
    header = Header(
        "1.2.840.1",
        "1.9",
        "1.2.840.2",
        study_uid=STUDY_UID,
        series_uid=SERIES,
        patient=Patient("P1", "MAIN", "Ash^Robin", "19700102", "O"),
        study_description="Knee \N{LATIN SMALL LETTER E WITH ACUTE}",
        series_number=-3,
        image_type=("ORIGINAL", "PRIMARY"),
        spacing_mm=(0.8, 0.1 + 0.2),
        position_mm=(-1e-7, 2.0, 3.0),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        kvp=120.0,
        rescaled=True,
        regions=(RegionFact("GTV", "rtstruct", None),),
    )
    received(records, replace(ct(), header=header))
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).series[0].instances[0].header == header


def test_moments_keep_their_microseconds_and_come_back_in_utc(records):
    moment = datetime(2024, 7, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    received(records, ct(received_at=moment))
    with records.reading() as unit:
        found = unit.studies.get(STUDY_UID).series[0].instances[0].received_at
    assert found == moment
    assert found.utcoffset() in (timedelta(0), timedelta(hours=2))


def test_a_study_never_heard_of_is_none(records):
    with records.reading() as unit:
        assert unit.studies.get("9.9") is None
        assert unit.studies.left_out("9.9") == []
        assert unit.studies.association("a9") is None
        assert unit.studies.due(START) == []


def test_series_are_apart_and_instances_in_order_of_arrival(records):
    received(records, ct("1.5"), ct("1.4"), ct("1.6", series_uid=OTHER_SERIES))
    with records.reading() as unit:
        found = unit.studies.get(STUDY_UID)
        everything = {s.uid: [i.header.sop_instance_uid for i in s.instances] for s in found.series}
    assert everything == {SERIES: ["1.5", "1.4"], OTHER_SERIES: ["1.6"]}
    assert found.revision == 1


def test_own_and_unreadable_objects_are_kept_but_start_nothing(records):
    assert received(records, ct("1.4", is_own=True), ct("1.5", unreadable="too deep")) == ["new", "new"]
    assert due(records, after(1e6)) == []
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID) is None
        assert [i.header.sop_instance_uid for i in unit.studies.left_out(STUDY_UID)] == ["1.4", "1.5"]
        assert [i.is_own for i in unit.studies.left_out(STUDY_UID)] == [True, False]


def test_a_study_is_due_once_the_time_of_one_of_its_series_has_come(records):
    received(records, ct(), look_at=after(30))
    received(records, ct("1.6", series_uid=OTHER_SERIES), look_at=after(40))
    assert due(records, after(29)) == []
    assert due(records, after(30)) == [STUDY_UID]
    assert due(records, after(50)) == [STUDY_UID]


def test_the_newest_instance_of_a_series_moves_its_time(records):
    received(records, ct(), look_at=after(30))
    received(records, ct("1.2.3.1.1"), look_at=after(35))
    assert due(records, after(30)) == []
    assert due(records, after(35)) == [STUDY_UID]


def test_the_same_bytes_again_move_nothing(records):
    received(records, ct(), look_at=after(30))
    received(records, ct(), look_at=after(90))
    assert due(records, after(30)) == [STUDY_UID]


def test_a_postponed_series_is_due_later(records):
    received(records, ct())
    with records.transaction() as unit:
        unit.studies.postpone(SERIES, after(60))
    assert due(records, after(59)) == []
    assert due(records, after(60)) == [STUDY_UID]


def test_an_open_association_keeps_its_series_from_being_due(records):
    with records.transaction() as unit:
        unit.studies.open_association(Association("a1", "CT1", "10.0.0.1", START))
    received(records, ct(), look_at=START)
    assert due(records, after(1e6)) == []
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).series[0].is_receiving
    with records.transaction() as unit:
        unit.studies.close_association("a1", after(5), "released")
    assert due(records, after(5)) == [STUDY_UID]
    with records.reading() as unit:
        assert not unit.studies.get(STUDY_UID).series[0].is_receiving
        assert unit.studies.association("a1") == Association("a1", "CT1", "10.0.0.1", START, after(5), "released")


def test_an_association_open_on_one_series_lets_the_other_be_due(records):
    with records.transaction() as unit:
        unit.studies.open_association(Association("a2", "CT1", "10.0.0.1", START))
    received(records, ct("1.6", series_uid=OTHER_SERIES), ct("1.4", association_id="a2"))
    with records.reading() as unit:
        assert {s.uid: s.is_receiving for s in unit.studies.get(STUDY_UID).series} == {
            SERIES: True,
            OTHER_SERIES: False,
        }
    assert due(records) == [STUDY_UID]


def test_visits_whose_process_died_are_closed_and_counted(records):
    with records.transaction() as unit:
        for name in ("a1", "a2", "a3"):
            unit.studies.open_association(Association(name, "CT1", "10.0.0.1", START))
        unit.studies.close_association("a1", after(1), "released")
    received(records, ct("1.4", association_id="a2"))
    with records.transaction() as unit:
        assert unit.studies.close_abandoned(after(9)) == 2
        assert unit.studies.close_abandoned(after(9)) == 0
    assert due(records, after(9)) == [STUDY_UID]
    with records.reading() as unit:
        assert unit.studies.association("a1").outcome == "released"
        assert unit.studies.association("a2").closed_at == after(9)
        assert unit.studies.association("a2").outcome


def test_a_settled_series_is_due_no_more(records):
    received(records, ct(), ct("1.6", series_uid=OTHER_SERIES))
    with records.transaction() as unit:
        unit.studies.settle(STUDY_UID, [SERIES], close=False)
    with records.reading() as unit:
        assert {s.uid: s.is_settled for s in unit.studies.get(STUDY_UID).series} == {SERIES: True, OTHER_SERIES: False}
    assert due(records) == [STUDY_UID]
    closed(records, SERIES, OTHER_SERIES)
    assert due(records, after(1e6)) == []


def test_a_late_instance_of_a_closed_study_opens_one_new_revision(records):
    received(records, ct())
    closed(records)
    received(records, ct("1.5"), ct("1.6"), look_at=after(60))
    with records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
    assert study.revision == 2
    assert not study.series[0].is_settled
    assert due(records, after(60)) == [STUDY_UID]


def test_a_new_instance_of_an_open_study_stays_in_its_revision(records):
    received(records, ct())
    with records.transaction() as unit:
        unit.studies.settle(STUDY_UID, [SERIES], close=False)
    received(records, ct("1.5"))
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).revision == 1
    assert due(records) == [STUDY_UID]


@pytest.mark.parametrize(
    "late",
    [ct(), ct(digest="ff"), ct("1.7", is_own=True), ct("1.7", unreadable="too deep")],
    ids=["the same", "another version", "our own", "unreadable"],
)
def test_what_is_not_routable_opens_no_revision(records, late):
    received(records, ct())
    closed(records)
    received(records, late)
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).revision == 1
    assert due(records, after(1e6)) == []


def test_studies_are_listed_newest_first(records):
    received(records, ct("1.4", study_uid="1.2.1", received_at=after(3)))
    received(records, ct("1.5", study_uid="1.2.2", received_at=after(9)))
    received(records, ct("1.6", study_uid="1.2.4", received_at=after(1)))
    with records.reading() as unit:
        assert unit.studies.page(2) == [("1.2.2", after(9)), ("1.2.1", after(3))]


def test_the_ledger_knows_the_uids_claimed_however_often(records):
    for uids in (["1.7", "1.8"], ["1.8", "1.9", "1.9"], []):
        with records.transaction() as unit:
            unit.studies.claim_uids(uids)
    with records.reading() as unit:
        assert [unit.studies.is_own(uid) for uid in ("1.7", "1.8", "1.9", "1.6")] == [True, True, True, False]


# decisions and jobs


def test_decisions_are_kept_with_their_revision_and_rule_set_oldest_first(records):
    yes = Decision("CT", "bone_ct", SERIES, is_yes=True, reason="it is CT")
    no = Decision("MR", "", "", is_yes=False, reason="no MR", code="TND-3001")
    with records.transaction() as unit:
        unit.jobs.add_decisions(STUDY_UID, 1, 7, START, [yes, no])
        unit.jobs.add_decisions("9.9", 1, 7, START, [no])
        unit.jobs.add_decisions(STUDY_UID, 2, 8, after(9), [no])
    with records.reading() as unit:
        assert unit.jobs.decisions(STUDY_UID) == [(1, 7, START, yes), (1, 7, START, no), (2, 8, after(9), no)]


def test_a_job_comes_back_as_it_was_and_saving_changes_only_its_state(records):
    with records.transaction() as unit:
        unit.jobs.add(job_of())
    with records.reading() as unit:
        found = unit.jobs.get("j1")
        assert found == job_of()
        assert list(found.inputs[0].instances) == ["1.2.9", "1.2.10"]
        assert unit.jobs.get("j9") is None
    with records.transaction() as unit:
        unit.jobs.save(replace(job_of().changed("held", after(4), reason="why", code="TND-2006"), pipeline="other"))
    with records.reading() as unit:
        assert unit.jobs.get("j1") == job_of().changed("held", after(4), reason="why", code="TND-2006")


def test_jobs_are_listed_by_study_by_state_and_newest_first(records):
    with records.transaction() as unit:
        for number, state in enumerate(("waiting", "running", "done"), start=1):
            unit.jobs.add(job_of(f"j{number}", state=state))
        unit.jobs.add(job_of("j4", study_uid="9.9"))
    with records.reading() as unit:
        assert [job.id for job in unit.jobs.of_study(STUDY_UID)] == ["j1", "j2", "j3"]
        assert [job.id for job in unit.jobs.page(2)] == ["j4", "j3"]
        assert [job.id for job in unit.jobs.in_state("waiting", "done")] == ["j1", "j3", "j4"]
        assert unit.jobs.counts() == {"waiting": 2, "running": 1, "done": 1}


# stages


def test_a_claim_leases_the_stage_with_its_job(records):
    stage = with_stage(records)
    found = claimed(records, after(1))
    assert found.job == job_of()
    assert found.stage == replace(
        stage, state="leased", attempt=1, owner="worker", lease_until=after(11), started_at=after(1)
    )
    assert only_stage(records) == found.stage
    assert claimed(records, after(1)) is None


def test_the_highest_priority_is_claimed_first_then_the_oldest(records):
    for name, priority in (("j1", "batch"), ("j2", "routine"), ("j3", "stat"), ("j4", "routine"), ("j5", "stat")):
        with_stage(records, name, priority=priority)
    assert [claimed(records).job.id for _ in range(5)] == ["j3", "j5", "j2", "j4", "j1"]


def test_only_stages_of_the_lanes_asked_for_are_claimed(records):
    with_stage(records, "j1", lane="gpu", gpu="required")
    assert claimed(records, lanes=("cpu",)) is None
    assert claimed(records, lanes=("cpu", "gpu")).job.id == "j1"


def test_a_stage_is_not_claimed_before_its_time(records):
    with_stage(records, not_before=after(4))
    assert claimed(records, after(3.9)) is None
    assert claimed(records, after(4)) is not None


def test_stages_are_listed_in_the_order_they_were_opened(records):
    with_stage(records)
    with records.transaction() as unit:
        unit.jobs.add_stage(stage_of(job_of(), name="report"))
        unit.jobs.add_stage(stage_of(job_of(), name="another"))
    with records.reading() as unit:
        assert [s.name for s in unit.jobs.stages("j1")] == ["segment", "report", "another"]


def test_a_lease_that_ran_out_is_claimed_by_the_next_worker(records):
    with_stage(records)
    claimed(records, lease_s=10)
    assert claimed(records, after(9.9)) is None
    assert claimed(records, after(10)).stage.attempt == 2


def test_a_renewed_lease_is_kept(records):
    with_stage(records)
    held = claimed(records, lease_s=10)
    with records.transaction() as unit:
        assert unit.jobs.renew(held.stage, after(25), 0.5, "half way")
    assert claimed(records, after(20)) is None
    stage = only_stage(records)
    assert (stage.progress, stage.progress_text, stage.lease_until) == (0.5, "half way", after(25))


def test_a_finished_stage_keeps_its_artefacts_and_is_never_claimed_again(records):
    with_stage(records)
    held = claimed(records)
    assert finished(records, held.stage, finished_at=after(3), progress=1.0)
    stage = only_stage(records)
    assert (stage.state, stage.artefacts, stage.finished_at) == ("done", {"mask": "ab"}, after(3))
    assert claimed(records, after(1e6)) is None
    assert not finished(records, held.stage), "a stage ends once"


def test_a_late_finisher_changes_nothing(records):
    with_stage(records)
    first = claimed(records, lease_s=10)
    second = claimed(records, after(10))
    assert not finished(records, first.stage, artefacts={"mask": "late"})
    with records.transaction() as unit:
        assert not unit.jobs.renew(first.stage, after(99), 0.9, "late")
    assert only_stage(records) == second.stage
    assert finished(records, second.stage)
    assert not finished(records, first.stage, artefacts={"mask": "late"})
    assert only_stage(records).artefacts == {"mask": "ab"}


def test_a_stage_given_back_is_claimed_again_from_its_time_on_and_the_former_attempt_is_over(records):
    with_stage(records)
    first = claimed(records)
    assert finished(records, first.stage, state="ready", not_before=after(5), code="TND-4002", reason="it died")
    assert only_stage(records).code == "TND-4002"
    assert claimed(records, after(4)) is None
    second = claimed(records, after(5))
    assert second.stage.attempt == 2
    assert not finished(records, first.stage)


@pytest.mark.parametrize("state", ["cancelled", "superseded", "failed", "unfit", "held", "done"])
def test_the_stage_of_a_job_that_is_not_worked_on_is_neither_renewed_nor_finished_nor_claimed(records, state):
    with_stage(records)
    held = claimed(records)
    with records.transaction() as unit:
        unit.jobs.save(replace(job_of(), state=state))
    with records.transaction() as unit:
        assert not unit.jobs.renew(held.stage, after(99), 0.5, "")
    assert not finished(records, held.stage)
    assert only_stage(records) == held.stage
    assert claimed(records, after(1e6)) is None
    with records.reading() as unit:
        assert unit.jobs.exhausted(after(1e6)) == []


def test_a_stage_is_claimed_as_often_as_allowed_then_it_is_exhausted(records):
    with_stage(records, attempts_allowed=2)
    assert [claimed(records, after(10 * k)).stage.attempt for k in range(2)] == [1, 2]
    with records.reading() as unit:
        assert unit.jobs.exhausted(after(19)) == []
        (found,) = unit.jobs.exhausted(after(20))
    assert claimed(records, after(20)) is None
    assert (found.stage.attempt, found.job) == (2, job_of())
    assert finished(records, found.stage, state="failed"), "who gives it up owns its last attempt"
    with records.reading() as unit:
        assert unit.jobs.exhausted(after(1e6)) == []


def test_eight_workers_claim_each_of_two_hundred_stages_exactly_once(records):
    with records.transaction() as unit:
        for number in range(200):
            job = job_of(f"j{number}", priority=("batch", "routine", "stat")[number % 3])
            unit.jobs.add(job)
            unit.jobs.add_stage(stage_of(job))
    start, taken = Barrier(8), Counter[str]()

    def work() -> None:
        start.wait()
        while (found := claimed(records, lease_s=1e6)) is not None:
            taken[found.stage.id] += 1

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(taken.values()) == {1}
    assert len(taken) == 200
    with records.reading() as unit:
        assert {s.attempt for k in range(200) for s in unit.jobs.stages(f"j{k}")} == {1}


# outputs and deliveries


def output_of(identifier: str, job_id: str = "j1", **given: Any) -> Output:
    return Output(
        identifier, job_id, "seg", f"{identifier}.dcm", "ab" * 32, STUDY_UID, "1.2.840", "1.9", "1.8", **given
    )


def delivery_of(identifier: str, output_id: str = "o1", destination: str = "pacs", **given: Any) -> Delivery:
    facts: dict[str, Any] = {"state": "waiting", "created_at": START, "due_at": START}
    return Delivery(identifier, "j1", output_id, destination, **facts | given)


def with_outputs(records: Records, *names: str) -> None:
    with records.transaction() as unit:
        unit.jobs.add(job_of())
        for name in names:
            unit.deliveries.add_output(output_of(name))


def test_outputs_come_back_in_the_order_they_were_built(records):
    with_outputs(records, "o2", "o1", "o3")
    with records.reading() as unit:
        assert unit.deliveries.outputs("j1") == [output_of("o2"), output_of("o1"), output_of("o3")]
        assert unit.deliveries.outputs("j9") == []


def test_a_delivery_comes_back_as_it_was_saved(records):
    with_outputs(records, "o1")
    given = delivery_of("d1", tries=2, reason="later", code="TND-5001")
    proven = replace(given, state="proven", proof="query", proven_at=after(9), code="", reason="")
    with records.transaction() as unit:
        unit.deliveries.add(given)
        assert unit.deliveries.of_job("j1") == [given]
        unit.deliveries.save(proven)
    with records.reading() as unit:
        assert unit.deliveries.of_job("j1") == [proven]
        assert unit.deliveries.counts() == {"proven": 1}


def test_deliveries_are_due_oldest_first_and_only_where_something_can_be_done(records):
    states = ("waiting", "sent", "accepted", "proven", "held", "quarantined", "superseded", "withdrawn")
    with_outputs(records, *(f"o{k}" for k in range(len(states))))
    with records.transaction() as unit:
        for k, state in enumerate(states):
            unit.deliveries.add(delivery_of(f"d{k}", f"o{k}", state=state, due_at=after(30 - 10 * (k % 3))))
    with records.reading() as unit:
        assert [d.id for d in unit.deliveries.due(after(30), 9)] == ["d2", "d1", "d0"]
        assert [d.id for d in unit.deliveries.due(after(20), 9)] == ["d2", "d1"]
        assert [d.id for d in unit.deliveries.due(after(30), 1)] == ["d2"]
        assert unit.deliveries.due(after(9), 9) == []


# the site


def site_of(version: int, **given: Any) -> SiteFile:
    facts: dict[str, Any] = {
        "nodes": (Node("ct1", "CT1", "10.1.2.3", 104, patient_id_issuer="MAIN"),),
        "destinations": (
            Destination("ehr", "fhir", url="https://ehr.example/fhir", patient_systems=(("MAIN", "urn:oid:2.999"),)),
        ),
        "rules": ({"name": "CT", "send": ["ehr"]},),
        "author": "import",
        "at": after(version),
    }
    return SiteFile(version=version, **facts | given)


def test_the_newest_version_of_the_site_is_in_force(records):
    with records.reading() as unit:
        assert unit.site.current() is None
    for version in (1, 2):
        with records.transaction() as unit:
            unit.site.replace(site_of(version))
    with records.reading() as unit:
        assert unit.site.current() == site_of(2)


def test_the_installation_keeps_its_first_name_for_ever(store):
    for name, opened in (("north", store.records), ("south", store.records), ("west", store.reopened())):
        with opened.transaction() as unit:
            assert unit.site.installation(name) == "north"
