"""Workers compare what came again: each version once, whoever dies meanwhile, and never without end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.domain.errors import Fault
from orchestrator.domain.version import MAX_ATTEMPTS
from orchestrator.service.classing import AT_ONCE, claim_versions, class_version, put_back
from orchestrator.service.identifying import decide_question
from tests.fakes.system import slices
from tests.returns import CANARY, FINCH, alarms, come_again, result_of, send_again, system_of, versions
from tests.strategies import STUDY_UID

LEASE = timedelta(seconds=60)


@pytest.fixture
def system(tmp_path):
    made = system_of(tmp_path)
    result_of(made)
    return made


def claim(system):
    return claim_versions(system.records, system.clock, LEASE)


def keep(system, pair, content, reason=""):
    class_version(system.records, system.clock, pair.version, pair.current, content, reason)


def classes(system):
    return [(v.difference, v.standing) for v in versions(system)]


def test_each_pair_is_given_to_one_with_the_version_in_use(system):
    come_again(system, FINCH)
    pairs = claim(system)
    assert [pair.version.uid for pair in pairs] == [pair.current.header.sop_instance_uid for pair in pairs]
    assert {pair.current.header.patient for pair in pairs} == {CANARY}
    assert len(pairs) == 3
    assert claim(system) == []


def test_what_died_is_tried_again_alone_and_a_person_is_asked_at_last(system):
    come_again(system, FINCH)
    sizes = []
    for _ in range(3 * (MAX_ATTEMPTS + 1)):
        sizes.append(len(claim(system)))
        system.clock.pass_s(60)
    assert sizes[0] == 3
    assert set(sizes[1:]) == {0, 1}
    assert classes(system) == [("conflict", "asked")] * 3
    assert {v.reason for v in versions(system)} == {f"comparing them failed {MAX_ATTEMPTS} times"}
    assert [alarm.code for alarm in alarms(system)] == [Fault.CONTENT_CHANGED.code]


def test_what_was_not_begun_is_put_back_and_costs_nothing(system):
    come_again(system, FINCH)
    for _ in range(3 * MAX_ATTEMPTS):
        pairs = claim(system)
        assert len(pairs) == 3
        put_back(system.records, system.clock, [pair.version for pair in pairs])
    keep(system, claim(system)[0], "same")
    assert classes(system)[0] == ("identity", "open")


def test_what_was_taken_over_is_not_put_back(system):
    come_again(system, FINCH, count=1)
    (mine,) = claim(system)
    system.clock.pass_s(60)
    claim(system)
    put_back(system.records, system.clock, [mine.version])
    assert claim(system) == []
    assert versions(system)[0].attempt == 2


def test_the_first_answer_counts(system):
    come_again(system, CANARY, content="again", count=1)
    (pair,) = claim(system)
    keep(system, pair, "same")
    keep(system, pair, "other")
    put_back(system.records, system.clock, [pair.version])
    assert classes(system) == [("variant", "kept")]
    assert alarms(system) == []


def test_an_answer_about_what_is_no_longer_in_use_is_no_answer(system):
    come_again(system, FINCH, count=1)
    (stale,) = claim(system)
    come_again(system, CANARY, content="again", count=1)
    (_, later) = versions(system)
    with system.records.transaction() as unit:
        unit.versions.take(later.decided("taken", by="alice", now=system.clock.now()), system.clock.now())
    keep(system, stale, "same")
    assert classes(system)[0] == ("", "open")
    system.clock.pass_s(60)
    (again,) = claim(system)
    assert again.current == later.instance


def test_an_answer_that_comes_after_a_persons_changes_nothing(system):
    come_again(system, FINCH, count=1)
    (pair,) = claim(system)
    decide_question(system.router, STUDY_UID, take=False, by="alice")
    keep(system, pair, "other")
    assert classes(system) == [("", "kept")]
    assert alarms(system) == []


def test_nobody_is_given_what_cannot_be_read(system):
    (header,) = slices(count=1)
    send_again(system, [replace(header, unreadable="too deep")])
    assert claim(system) == []
    assert classes(system) == [("conflict", "asked")]
    assert "too deep" in versions(system)[0].reason


def test_what_came_first_and_cannot_be_read_gives_way_only_to_a_person(tmp_path):
    system = system_of(tmp_path)
    headers = slices()
    send_again(system, [replace(header, unreadable="too deep") for header in headers], content="broken")
    send_again(system, headers)
    assert claim(system) == []
    assert classes(system) == [("conflict", "asked")] * 3
    decide_question(system.router, STUDY_UID, take=True, by="alice")
    assert [len(series.instances) for series in system.study().series] == [3]


def test_many_are_given_some_at_a_time(system):
    come_again(system, FINCH, count=AT_ONCE + 3)
    assert len(versions(system)) == 3, "the others are new"
    for number in range(AT_ONCE):
        come_again(system, CANARY, content=f"{number}", count=1)
    assert [len(claim(system)) for _ in range(3)] == [AT_ONCE, 3, 0]
