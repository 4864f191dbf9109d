"""What the port `Versions` promises of what came again with other bytes, on the fake, SQLite and PostgreSQL."""

from __future__ import annotations

import runpy
from dataclasses import replace
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from orchestrator import shipped
from orchestrator.domain.study import Patient
from orchestrator.ports import Association
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import migrate
from tests.rows import SERIES, after, ct, version_of
from tests.strategies import START, STUDY_UID

if TYPE_CHECKING:
    from orchestrator.domain.study import Instance
    from orchestrator.domain.version import Version
    from orchestrator.ports import Records

FIRST = ct("1.2.3.1.1", digest="aa")
AGAIN = ct("1.2.3.1.1", digest="bb", received_at=after(5), patient=Patient("P2"), association_id="a2")


def received(records: Records, *instances: Instance) -> list[str]:
    with records.transaction() as unit:
        return [unit.studies.add(instance, instance.received_at) for instance in instances]


def versions(records: Records, study_uid: str = STUDY_UID) -> list[Version]:
    with records.reading() as unit:
        return unit.versions.of_study(study_uid)


def only(records: Records) -> Version:
    (version,) = versions(records)
    return version


def save(records: Records, version: Version) -> None:
    with records.transaction() as unit:
        unit.versions.save(version)


def take(records: Records, version: Version) -> None:
    with records.transaction() as unit:
        unit.versions.take(version.decided("taken", by="alice", now=after(9)), after(9))


def claim(records: Records, at_s: float = 5, limit: int = 9) -> list[tuple[str, int]]:
    with records.transaction() as unit:
        return [(v.instance.digest, v.attempt) for v in unit.versions.claim(after(at_s), after(100), limit)]


def in_use(records: Records) -> dict[str, str]:
    with records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
        return {i.header.sop_instance_uid: i.digest for s in study.series for i in s.instances}


# what comes


def test_other_bytes_under_a_known_uid_are_an_open_version_of_the_one_in_use(records):
    assert received(records, FIRST, AGAIN) == ["new", "version"]
    assert only(records) == version_of(AGAIN)
    with records.reading() as unit:
        assert unit.versions.get("1.2.3.1.1", "bb") == version_of(AGAIN)
        assert unit.versions.get("1.2.3.1.1", "aa") is None
        assert unit.versions.current("1.2.3.1.1") == FIRST
        assert unit.versions.current("9.9") is None
        assert unit.versions.in_question() == [STUDY_UID]
        assert unit.versions.is_under_way()


def test_known_bytes_are_no_version_nor_is_what_we_made(records):
    own = ct("2.25.1", is_own=True)
    assert received(records, FIRST, FIRST, own, replace(own, digest="cc")) == ["new", "same", "new", "version"]
    assert versions(records) == []
    with records.reading() as unit:
        assert not unit.versions.is_under_way()


def test_a_version_that_names_another_study_is_one_of_the_study_in_use(records):
    elsewhere = ct("1.2.3.1.1", digest="bb", study_uid="7.7")
    received(records, FIRST, elsewhere)
    assert only(records).study_uid == STUDY_UID
    assert versions(records, "7.7") == []


def test_where_the_first_could_not_be_read_the_version_is_of_its_own_study(records):
    received(records, ct("1.2.3.1.1", digest="aa", study_uid="", unreadable="too deep"), AGAIN)
    assert only(records) == version_of(AGAIN)
    with records.reading() as unit:
        assert unit.versions.current("1.2.3.1.1") is None


# who compares


def test_what_is_claimed_is_due_to_others_only_later_and_costs_an_attempt(records):
    received(records, FIRST, AGAIN, replace(AGAIN, digest="cc"))
    assert claim(records, 4) == []
    assert claim(records, limit=1) == [("bb", 1)]
    assert claim(records) == [("cc", 1)]
    assert claim(records) == []
    assert claim(records, 100) == [("bb", 2), ("cc", 2)]


@pytest.mark.parametrize("changed", [{"difference": "identity"}, {"standing": "asked"}, {"standing": "kept"}], ids=str)
def test_what_was_compared_or_decided_is_not_claimed(records, changed):
    received(records, FIRST, AGAIN)
    save(records, replace(only(records), **changed))
    assert claim(records) == []


def test_two_who_claim_at_once_never_get_the_same(records):
    received(records, FIRST, *(replace(AGAIN, digest=f"b{n}") for n in range(20)))
    claimed, ready = [], Barrier(4)

    def some() -> None:
        ready.wait(10)
        while found := claim(records, limit=3):
            claimed.extend(found)

    threads = [Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted((f"b{n}", 1) for n in range(20))


# what becomes of it


def test_what_was_found_and_decided_is_kept(store):
    received(store.records, FIRST, AGAIN)
    decided = replace(
        only(store.records),
        difference="identity",
        standing="kept",
        reason="why",
        attempt=2,
        due_at=after(50),
        decided_by="alice",
        decided_at=after(60),
    )
    save(store.records, decided)
    records = store.reopened()
    assert only(records) == decided
    with records.reading() as unit:
        assert unit.versions.in_question() == []
        assert not unit.versions.is_under_way()


def test_a_version_that_is_taken_is_in_use_and_the_other_displaced(records):
    received(records, FIRST, ct("1.2.3.1.2"), AGAIN)
    take(records, only(records))
    assert in_use(records)["1.2.3.1.1"] == "bb"
    taken, displaced = versions(records)
    assert (taken.instance, taken.standing, taken.decided_by, taken.decided_at) == (AGAIN, "taken", "alice", after(9))
    assert (displaced.instance, displaced.standing, displaced.decided_by) == (FIRST, "displaced", "alice")
    with records.reading() as unit:
        assert unit.versions.current("1.2.3.1.1") == AGAIN
        assert [i.digest for i in unit.studies.left_out(STUDY_UID)] == ["aa"]


def test_taking_opens_the_study_again_in_a_new_revision(records):
    received(records, FIRST, AGAIN)
    with records.transaction() as unit:
        unit.studies.settle(STUDY_UID, [SERIES], close=True)
    take(records, only(records))
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).revision == 2
        assert unit.studies.due(after(8)) == []
        assert unit.studies.due(after(9)) == [STUDY_UID]


def test_a_version_of_another_study_takes_the_object_there(records):
    received(records, FIRST, ct("1.2.3.1.2"), ct("1.2.3.1.1", digest="bb", study_uid="7.7", series_uid="7.7.1"))
    take(records, only(records))
    assert list(in_use(records)) == ["1.2.3.1.2"]
    with records.reading() as unit:
        (moved,) = unit.studies.get("7.7").series
        assert [i.digest for i in moved.instances] == ["bb"]


def test_what_was_displaced_is_a_question_again_when_it_comes_again(records):
    received(records, FIRST, AGAIN)
    take(records, only(records))
    with records.transaction() as unit:
        unit.studies.open_association(Association("a3", "CT1", "10.0.0.1", START))
    back = replace(FIRST, received_at=after(20), association_id="a3")
    assert received(records, AGAIN, back) == ["same", "version"]
    _, reopened = versions(records)
    assert reopened == version_of(FIRST, received_at=after(20), association_id="a3", due_at=after(20))
    take(records, reopened)
    assert in_use(records)["1.2.3.1.1"] == "aa"
    assert [v.standing for v in versions(records)] == ["displaced", "taken"]


@pytest.mark.parametrize(
    ("difference", "standing", "becomes"),
    [("", "open", "open"), ("identity", "asked", "open"), ("conflict", "asked", "asked")],
)
def test_an_undecided_version_that_comes_once_more_is_of_who_sent_it_last(records, difference, standing, becomes):
    received(records, FIRST, AGAIN)
    save(records, replace(only(records), difference=difference, standing=standing, attempt=2, due_at=after(70)))
    assert received(records, replace(AGAIN, received_at=after(20), association_id="a3")) == ["version"]
    facts = {"difference": difference, "standing": becomes, "attempt": 2, "due_at": after(70)}
    assert only(records) == version_of(AGAIN, received_at=after(20), association_id="a3", **facts)


def test_what_was_kept_out_is_not_asked_again(records):
    received(records, FIRST, AGAIN)
    save(records, only(records).decided("kept", by="alice", now=after(9)))
    assert received(records, AGAIN) == ["same"]
    assert only(records).standing == "kept"


# what is forgotten


def test_versions_go_with_their_study(records):
    received(records, FIRST, AGAIN, ct("1.2.3.1.1", digest="cc", study_uid="7.7"))
    with records.transaction() as unit:
        unit.keeping.retire(STUDY_UID, after(99), "old")
    assert versions(records) == []
    assert received(records, FIRST) == ["version"], "the one that named another study is kept there"


def test_a_version_of_a_study_that_is_none_of_ours_is_no_stray_while_it_is_undecided(records):
    received(records, FIRST, ct("1.2.3.1.1", digest="bb", study_uid="7.7"))
    with records.reading() as unit:
        assert unit.keeping.strays(after(99), 9) == []
    save(records, only(records).decided("kept", by="alice", now=after(9)))
    with records.transaction() as unit:
        assert unit.keeping.strays(after(99), 9) == ["7.7"]
        assert unit.keeping.forget_strays("7.7", after(99)) == 1
    assert versions(records) == []


# what was there before


def test_versions_that_came_before_anybody_asked_are_entered(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'records.db'}")
    migrate(engine, shipped.folder("migrations"))
    records = DatabaseRecords(engine)
    unread = ct("1.2.3.1.9", unreadable="too deep")
    received(records, FIRST, AGAIN, unread, ct("2.25.1", is_own=True), ct("2.25.1", is_own=True, digest="dd"))
    (migration,) = (shipped.folder("migrations") / "versions").glob("*_pre_versions.py")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM versions"))
        connection.execute(text(runpy.run_path(str(migration))["ENTER"]))
    assert only(records) == version_of(AGAIN)
    records.close()
