"""What the port `Records` promises of transactions and of what was received, on the fake and on SQLite."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Barrier, Event, Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.study import Header, Patient, RegionFact
from orchestrator.ports import Association
from orchestrator.store import postgresql
from orchestrator.store import records as store_records
from orchestrator.store.records import DatabaseRecords, open_engine
from tests.rows import OTHER_SERIES, SERIES, after, ct, job_of, output_of, stage_of, worker_of
from tests.strategies import START, STUDY_UID

if TYPE_CHECKING:
    from orchestrator.domain.study import Instance
    from orchestrator.ports import Records


def received(records: Records, *instances: Instance, look_at: datetime = START) -> list[str]:
    with records.transaction() as unit:
        return [unit.studies.add(instance, look_at) for instance in instances]


def due(records: Records, now: datetime = START) -> list[str]:
    with records.reading() as unit:
        return unit.studies.due(now)


def closed(records: Records, *series_uids: str) -> None:
    with records.transaction() as unit:
        unit.studies.settle(STUDY_UID, series_uids or (SERIES,), close=True)


# transactions


def fail_midway(records: Records) -> None:
    with records.transaction() as unit:
        unit.studies.open_association(Association("a9", "CT1", "10.0.0.1", START))
        unit.studies.add(ct("1.2.3.1.1"), START)
        unit.studies.claim_uids(["1.9"])
        unit.jobs.add(job_of())
        unit.jobs.add_stage(stage_of(job_of()))
        unit.deliveries.add_output(output_of("o1"))
        unit.site.installation("lost")
        raise ZeroDivisionError


def test_an_error_in_a_transaction_leaves_nothing_of_it(records):
    received(records, ct())
    with pytest.raises(ZeroDivisionError):
        fail_midway(records)
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
        with records.transaction() as writing:
            writing.jobs.add(job_of())
        assert unit.jobs.page(9) == []


def test_what_a_reading_writes_is_not_kept(records):
    with suppress(DBAPIError), records.reading() as unit:
        unit.jobs.add(job_of())
    with records.reading() as unit:
        assert unit.jobs.page(9) == []


def test_writers_of_one_study_follow_one_another(records):
    order: list[str] = []
    inside, tried = Event(), Event()

    def second() -> None:
        inside.wait(10)
        tried.set()
        with records.transaction() as unit:
            unit.studies.hold("9.9", STUDY_UID)
            order.append("second")
            unit.jobs.add(job_of("j2"))

    thread = Thread(target=second)
    thread.start()
    with records.transaction() as unit:
        unit.studies.hold(STUDY_UID)
        inside.set()
        assert tried.wait(10)
        thread.join(0.05)
        unit.jobs.add(job_of("j1"))
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_what_was_committed_is_there_for_the_next_process(store):
    received(store.records, ct())
    with store.records.transaction() as unit:
        unit.jobs.add(job_of())
        unit.jobs.add_stage(stage_of(job_of()))
        held = unit.jobs.claim(worker_of(["cpu"]), START, after(9))
    again = store.reopened()
    with again.reading() as unit:
        assert unit.studies.get(STUDY_UID).series[0].instances == (ct(),)
        assert unit.jobs.get("j1") == held.job
        assert unit.jobs.stages("j1") == [held.stage]
    with again.transaction() as unit:
        assert unit.jobs.renew(held.stage, after(20), 0.5, "")


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
    visit = Association("a1", "CT1", "10.0.0.1", START, called_ae="TENDON", node="ct1")
    with records.transaction() as unit:
        unit.studies.open_association(visit)
    received(records, ct(), look_at=START)
    assert due(records, after(1e6)) == []
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).series[0].is_receiving
    with records.transaction() as unit:
        unit.studies.close_association("a1", after(5), "released")
    assert due(records, after(5)) == [STUDY_UID]
    with records.reading() as unit:
        assert not unit.studies.get(STUDY_UID).series[0].is_receiving
        assert unit.studies.association("a1") == replace(visit, closed_at=after(5), outcome="released")


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


def test_visits_are_open_until_they_are_closed(records):
    with records.transaction() as unit:
        for number, name in enumerate(("a1", "a2", "a3")):
            unit.studies.open_association(Association(name, "CT1", "10.0.0.1", after(number)))
        unit.studies.close_association("a2", after(9), "released")
    with records.reading() as unit:
        assert unit.studies.open_visits() == ["a1", "a3"]


def test_what_a_node_sent_is_counted_by_its_visits(records):
    with records.transaction() as unit:
        for name, node in (("a1", "ct1"), ("a2", "ct1"), ("a3", "mr1"), ("a4", "")):
            unit.studies.open_association(Association(name, "CT1", "10.0.0.1", START, node=node))
        for number, visit in enumerate(("a1", "a1", "a1", "a2", "a3", "a4")):
            instance = ct(f"1.{number}", association_id=visit)
            unit.studies.add(replace(instance, size=1 << number, received_at=after(10 * number)), START)
    with records.reading() as unit:
        assert sorted(unit.studies.sent_by("ct1", after(10))) == [(after(20), 2 + 4), (after(30), 8)]
        assert unit.studies.sent_by("mr1", after(50)) == []
        assert unit.studies.sent_by("unheard of", START) == []


def test_studies_are_under_way_until_their_last_series_is_settled(records):
    def is_under_way() -> bool:
        with records.reading() as unit:
            return unit.studies.is_under_way()

    assert not is_under_way()
    received(records, ct(), look_at=after(30))
    assert is_under_way()
    closed(records)
    assert not is_under_way()


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


# at the same time


def test_objects_of_one_study_that_arrive_at_once_make_one_study_and_none_is_lost(records):
    barrier = Barrier(4)

    def arrive(number: int) -> None:
        barrier.wait()
        for k in range(5):
            with records.transaction() as unit:
                unit.studies.add(ct(f"1.2.3.1.{number}.{k}"), START)

    threads = [Thread(target=arrive, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
    assert (study.revision, len(study.series), len(study.series[0].instances)) == (1, 1, 20)


def test_of_two_versions_that_arrive_at_once_one_is_new(records):
    barrier, added = Barrier(2), []

    def arrive(digest: str) -> None:
        barrier.wait()
        with records.transaction() as unit:
            added.append(unit.studies.add(ct(digest=digest), START))

    threads = [Thread(target=arrive, args=(digest,)) for digest in ("a" * 64, "b" * 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == ["new", "version"]


def test_what_a_hostile_peer_calls_itself_is_kept_as_it_is(records):
    uid, title = "1." + "9" * 300, "x" * 40
    with records.transaction() as unit:
        unit.studies.open_association(Association("a1", title, "10.0.0.1", START))
        assert unit.studies.add(ct(uid), START) == "new"
    with records.reading() as unit:
        assert unit.studies.association("a1").calling_ae == title


def test_an_object_larger_than_four_gigabytes_has_a_size(records):
    with records.transaction() as unit:
        unit.studies.add(replace(ct(), size=16 << 30), START)
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).series[0].instances[0].size == 16 << 30


def test_connections_that_died_while_they_rested_are_replaced_without_an_error(postgresql_url, monkeypatch):
    monkeypatch.setattr(postgresql, "_TRUSTED_FOR_S", 0.0)
    records = DatabaseRecords(open_engine(postgresql_url))
    with records.reading() as unit:
        unit.studies.counts()
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    with records.reading() as unit:
        assert unit.studies.get("1.2.3.4.5") is None
    records.close()


@pytest.fixture
def sqlite_file(tmp_path, empty_database):
    return shutil.copy(empty_database, tmp_path / "records.db")


def test_a_database_that_another_holds_too_long_may_be_asked_again(sqlite_file, monkeypatch):
    monkeypatch.setattr(store_records, "_BUSY_TIMEOUT_MS", 50)
    records = DatabaseRecords(open_engine(f"sqlite:///{sqlite_file}"))
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient) as refusal:
            received(records, ct())
        assert refusal.value.fault is Fault.DATABASE_UNREACHABLE
        other.execute("ROLLBACK")
    assert received(records, ct()) == ["new"]
    records.close()


def test_a_database_without_room_may_be_asked_again_and_keeps_nothing_half(sqlite_file):
    records = DatabaseRecords(open_engine(f"sqlite:///{sqlite_file}"))
    assert received(records, ct("1.1")) == ["new"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Transient) as refusal:
            received(records, ct("1.2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refusal.value.fault is Fault.DATABASE_UNREACHABLE
    assert received(records, ct("1.1"), ct("1.2")) == ["same", "new"]
    records.close()


def test_a_table_that_is_not_there_is_no_matter_of_waiting(tmp_path):
    records = DatabaseRecords(open_engine(f"sqlite:///{tmp_path / 'none.db'}"))
    with pytest.raises(DBAPIError):
        due(records)
    records.close()
