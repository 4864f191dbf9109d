"""Which rows keep objects and which let them go: what the port `Keeping` promises, on the fake and on databases."""

from __future__ import annotations

from dataclasses import asdict, replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, MetaData, Table

from orchestrator import shipped
from orchestrator.domain.retention import ENDED_JOBS, RetiredSeries, is_ended, is_over
from orchestrator.ports import Association
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import migrate
from tests.rows import OTHER_SERIES, SERIES, after, ct, delivery_of, job_of, output_of, stage_of, worker_of
from tests.strategies import START, STUDY_UID

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from orchestrator.domain.study import Instance
    from orchestrator.ports import Records

JOB_STATES = (*ENDED_JOBS, "waiting", "running", "delivering", "held", "failed")
DELIVERIES: list[tuple[dict[str, str], bool]] = [
    ({"state": "proven", "proof": "query"}, True),
    ({"state": "accepted", "proof": "ack"}, True),
    ({"state": "superseded"}, True),
    ({"state": "withdrawn"}, True),
    ({"state": "accepted"}, False),
    ({"state": "waiting"}, False),
    ({"state": "sent"}, False),
    ({"state": "held"}, False),
    ({"state": "quarantined"}, False),
]
A, B = "aa" * 32, "bb" * 32


def received(records: Records, *instances: Instance) -> list[str]:
    with records.transaction() as unit:
        return [unit.studies.add(instance, START) for instance in instances]


def routed(records: Records, study_uid: str = STUDY_UID, *series_uids: str) -> None:
    with records.transaction() as unit:
        unit.studies.settle(study_uid, series_uids or (SERIES,), close=True)


def finished(records: Records, before: datetime, limit: int = 9, **given: Any) -> list[str]:
    with records.reading() as unit:
        return unit.keeping.finished(before, limit, **given)


def retire(records: Records, study_uid: str = STUDY_UID, at: datetime = START) -> int:
    with records.transaction() as unit:
        return unit.keeping.retire(study_uid, at, "kept long enough")


def kept(records: Records, *digests: str) -> set[str]:
    with records.reading() as unit:
        return unit.keeping.needed(digests)


def with_job(records: Records, identifier: str = "j1", **given: Any) -> None:
    with records.transaction() as unit:
        unit.jobs.add(job_of(identifier, **given))


# when a study has ended


def test_a_study_routed_whole_has_ended_once_it_was_quiet_for_long_enough(records):
    received(records, ct("1.4"), ct("1.5", received_at=after(10)))
    assert finished(records, after(99)) == []
    routed(records)
    assert finished(records, after(9)) == []
    assert finished(records, after(10)) == [STUDY_UID]


def test_an_object_that_is_never_routed_counts_as_something_that_came(records):
    received(records, ct("1.4"), ct("1.5", received_at=after(10), is_own=True))
    routed(records)
    assert finished(records, after(9)) == []
    assert finished(records, after(10)) == [STUDY_UID]


@pytest.mark.parametrize("state", JOB_STATES)
def test_a_study_has_ended_when_each_of_its_jobs_has(records, state):
    received(records, ct())
    routed(records)
    with_job(records, "j1", state="done")
    with_job(records, "j2", state=state)
    with_job(records, "j3", state="waiting", study_uid="1.9")
    assert finished(records, START) == ([STUDY_UID] if state in ENDED_JOBS else [])


@pytest.mark.parametrize(
    ("facts", "has_ended"), DELIVERIES, ids=lambda given: "-".join(given.values()) if isinstance(given, dict) else ""
)
def test_a_study_has_ended_when_nothing_of_it_is_on_its_way(records, facts, has_ended):
    received(records, ct())
    routed(records)
    with_job(records, state="done")
    with records.transaction() as unit:
        unit.deliveries.add_output(output_of("o1"))
        unit.deliveries.add(delivery_of("d1", destination="share", state="proven"))
        unit.deliveries.add(delivery_of("d2", **facts))
    assert finished(records, START) == ([STUDY_UID] if has_ended else [])


@given(
    st.lists(st.sampled_from(JOB_STATES), max_size=3),
    st.lists(st.sampled_from([facts for facts, _ in DELIVERIES]), max_size=3),
)
def test_work_is_over_when_every_part_of_it_is(states, facts):
    deliveries = [delivery_of(f"d{n}", **given) for n, given in enumerate(facts)]
    every_part = [state in ENDED_JOBS for state in states] + [is_ended(delivery) for delivery in deliveries]
    assert is_over(states, deliveries) == (False not in every_part)


def test_the_longest_quiet_come_first_and_no_more_than_asked_for(records):
    for n in (3, 1, 2):
        received(records, ct(f"1.{n}", study_uid=f"1.2.{n}", received_at=after(n)))
        routed(records, f"1.2.{n}")
    assert finished(records, after(9), 2) == ["1.2.1", "1.2.2"]
    assert finished(records, after(9), study_uid="1.2.3") == ["1.2.3"]
    assert finished(records, after(9), study_uid="1.2.4") == []


# what retirement leaves


def test_a_retired_study_has_no_instances_and_says_what_they_were(records):
    received(
        records,
        ct("1.4", association_id="a2"),
        ct("1.5", association_id="a1"),
        ct("1.6", series_uid=OTHER_SERIES, modality="RTSTRUCT"),
        ct("1.4", digest="ff", association_id="a3"),
    )
    routed(records, STUDY_UID, SERIES, OTHER_SERIES)
    assert retire(records, at=after(7)) == 4
    with records.reading() as unit:
        study, left = unit.studies.get(STUDY_UID), unit.keeping.retirement(STUDY_UID)
        assert unit.studies.left_out(STUDY_UID) == []
        assert unit.studies.counts() == {}
    assert (study.series, study.revision) == ((), 1)
    assert (left.at, left.reason) == (after(7), "kept long enough")
    assert left.series == (RetiredSeries(SERIES, "CT", 3), RetiredSeries(OTHER_SERIES, "RTSTRUCT", 1))
    assert sorted(left.association_ids) == ["a1", "a2", "a3"]
    assert left.association_ids[0] == "a2", "in the order they came"


def test_a_study_is_retired_once(records):
    received(records, ct())
    routed(records)
    retire(records)
    assert finished(records, after(99)) == []
    assert finished(records, after(99), study_uid=STUDY_UID) == []


def test_a_study_that_was_not_retired_says_so(records):
    received(records, ct())
    with records.reading() as unit:
        assert unit.keeping.retirement(STUDY_UID) is None
        assert unit.keeping.retirement("9.9") is None


def test_what_arrives_again_after_retirement_is_new_and_opens_a_new_revision(records):
    received(records, ct("1.4"), ct("1.5"))
    routed(records)
    retire(records)
    assert received(records, ct("1.4", received_at=after(50), association_id="a2")) == ["new"]
    with records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
        assert unit.keeping.retirement(STUDY_UID) is None
        assert unit.studies.due(START) == [STUDY_UID]
    assert study.revision == 2
    assert [i.header.sop_instance_uid for s in study.series for i in s.instances] == ["1.4"]
    assert finished(records, after(99)) == []
    routed(records)
    assert finished(records, after(99)) == [STUDY_UID]


def test_other_bytes_under_a_uid_whose_first_bytes_were_let_go_are_new(records):
    received(records, ct("1.4"))
    routed(records)
    retire(records)
    assert received(records, ct("1.4", digest="ff"), ct("1.4")) == ["new", "version"]


def test_retiring_one_study_leaves_others_alone(records):
    received(records, ct("1.4"), ct("1.5", study_uid="1.9"))
    retire(records)
    with records.reading() as unit:
        assert len(unit.studies.get("1.9").series) == 1
        assert unit.keeping.retirement("1.9") is None


def test_the_visits_of_a_retired_study_are_still_known(records):
    with records.transaction() as unit:
        unit.studies.open_association(Association("a1", "CT1", "10.0.0.1", START))
    received(records, ct())
    retire(records)
    with records.reading() as unit:
        (identifier,) = unit.keeping.retirement(STUDY_UID).association_ids
        assert unit.studies.association(identifier).calling_ae == "CT1"


# what belongs to no study that is kept


def strays(records: Records, before: datetime = START, limit: int = 9) -> list[str]:
    with records.reading() as unit:
        return unit.keeping.strays(before, limit)


def test_objects_of_no_study_are_strays_once_they_are_old_enough(records):
    received(records, ct("1.4", study_uid="", unreadable="too deep"), ct("1.5", study_uid="1.9", is_own=True))
    assert strays(records, after(-1)) == []
    assert sorted(strays(records)) == ["", "1.9"]
    assert len(strays(records, limit=1)) == 1


def test_what_is_left_out_of_a_study_that_is_kept_is_no_stray(records):
    received(records, ct("1.4"), ct("1.5", unreadable="too deep"), ct("1.4", digest="ff"))
    assert strays(records) == []


def test_our_own_result_that_comes_back_after_its_study_was_retired_is_a_stray(records):
    received(records, ct("1.4"))
    retire(records)
    received(records, ct("1.5", is_own=True))
    assert strays(records) == [STUDY_UID]


def test_strays_are_forgotten_by_study_and_age(records):
    received(
        records,
        ct("1.4", study_uid="", unreadable="too deep"),
        ct("1.5", study_uid="", unreadable="too deep", received_at=after(9)),
        ct("1.6", study_uid="1.9", is_own=True),
    )
    with records.transaction() as unit:
        assert unit.keeping.forget_strays("", START) == 1
        assert [i.header.sop_instance_uid for i in unit.studies.left_out("")] == ["1.5"]
    assert strays(records, after(99)) == ["1.9", ""]


def test_forgetting_strays_touches_no_study_that_is_kept(records):
    received(records, ct("1.4"), ct("1.5", unreadable="too deep"))
    with records.transaction() as unit:
        assert unit.keeping.forget_strays(STUDY_UID, after(99)) == 0


# what keeps an object


def test_instances_keep_their_objects_until_they_are_retired(records):
    received(records, ct("1.4", digest=A), ct("1.4", digest=B))
    assert kept(records, A, B, "cc" * 32) == {A, B}
    retire(records)
    assert kept(records, A, B) == set()


def test_an_object_that_two_studies_share_stays_with_the_second(records):
    received(records, ct("1.4", digest=A), ct("1.5", digest=A, study_uid="1.9"))
    retire(records)
    assert kept(records, A) == {A}


def run_stage(records: Records, artefacts: dict[str, str], *, is_in_time: bool = True) -> bool:
    """The stage of the only job, done with these artefacts."""
    with records.transaction() as unit:
        claimed = unit.jobs.claim(worker_of(), START, after(9))
        stage = claimed.stage if is_in_time else replace(claimed.stage, owner="another")
        return unit.jobs.finish(replace(stage, state="done", finished_at=START, artefacts=artefacts))


@pytest.fixture
def with_stage(records):
    with records.transaction() as unit:
        unit.jobs.add(job_of())
        unit.jobs.add_stage(stage_of(job_of()))
    return records


def test_a_job_keeps_its_artefacts_until_it_lets_go(with_stage):
    assert run_stage(with_stage, {"results.json": A, "mask-1.npz": B, "mask-2.npz": A})
    assert kept(with_stage, A, B) == {A, B}
    retire(with_stage)
    assert kept(with_stage, A, B) == set()
    with with_stage.reading() as unit:
        (stage,) = unit.jobs.stages("j1")
        assert stage.artefacts == {"results.json": A, "mask-1.npz": B, "mask-2.npz": A}


def test_what_a_worker_left_that_came_too_late_is_not_kept(with_stage):
    assert not run_stage(with_stage, {"results.json": A}, is_in_time=False)
    assert kept(with_stage, A) == set()


def test_a_job_keeps_its_outputs_until_it_lets_go(records):
    with_job(records, "j1")
    with_job(records, "j2")
    with records.transaction() as unit:
        for job_id, identifier in (("j1", "o1"), ("j1", "o2"), ("j2", "o3")):
            unit.deliveries.add_output(output_of(identifier, job_id))
    digest = output_of("o1").digest
    assert kept(records, digest) == {digest}
    retire(records)
    assert kept(records, digest) == set()
    with records.reading() as unit:
        assert [o.id for o in unit.deliveries.outputs("j1")] == ["o1", "o2"]


def test_an_output_that_is_an_artefact_too_is_kept(with_stage):
    digest = output_of("o1").digest
    assert run_stage(with_stage, {"bone.seg.dcm": digest})
    with with_stage.transaction() as unit:
        unit.deliveries.add_output(output_of("o1"))
    assert kept(with_stage, digest) == {digest}


def test_letting_go_of_one_study_keeps_what_jobs_of_others_need(records):
    with_job(records, "j1")
    with_job(records, "j2", study_uid="1.9")
    with records.transaction() as unit:
        unit.deliveries.add_output(output_of("o1", "j1"))
        unit.deliveries.add_output(output_of("o2", "j2"))
    retire(records)
    digest = output_of("o1").digest
    assert kept(records, digest) == {digest}


def test_nothing_is_kept_of_nothing(records):
    assert kept(records) == set()


def test_whoever_keeps_a_row_of_an_object_waits_for_whoever_holds_its_digest(database):
    order: list[str] = []

    def keep() -> None:
        with database.transaction() as unit:
            unit.studies.hold(A)
            order.append("row")
            unit.studies.add(ct(digest=A), START)

    with database.transaction() as unit:
        unit.studies.hold(A, B)
        assert unit.keeping.needed([A]) == set()
        keeping = Thread(target=keep)
        keeping.start()
        keeping.join(0.2)
        order.append("removed")
    keeping.join()
    assert order == ["removed", "row"]


# databases of before


def test_objects_of_jobs_from_before_are_kept_after_the_migration(tmp_path: Path):
    engine = open_engine(f"sqlite:///{tmp_path / 'records.db'}")
    migrations = shipped.folder("migrations")
    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        _insert(connection, "jobs", job_of())
        _insert(connection, "stages", stage_of(job_of()), rank=1, artefacts={"results.json": A, "mask-1.npz": B})
        _insert(connection, "outputs", output_of("o1"))
    migrate(engine, migrations)
    records = DatabaseRecords(engine)
    output = output_of("o1").digest
    assert kept(records, A, B, output, "dd" * 32) == {A, B, output}
    records.close()


def _insert(connection: Connection, name: str, row: Any, **given: Any) -> None:
    """A row with the columns that the table has by now."""
    table = Table(name, MetaData(), autoload_with=connection)
    values = asdict(row) | given
    connection.execute(table.insert().values({column: values[column] for column in table.c.keys() & values.keys()}))
