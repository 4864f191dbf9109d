"""What the ports `Jobs` and `Studies` promise to those who announce, retry, cancel and reroute."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.errors import Fault, Transient
from tests.rows import OTHER_SERIES, SERIES, after, ct, job_of, stage_of, worker_of
from tests.strategies import START, STUDY_UID

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.job import Stage
    from orchestrator.ports import ClaimedStage, Records

EXHAUSTED_S = 1e6


def with_stage(records: Records, identifier: str = "j1", *, priority: Any = "routine", **given: Any) -> Stage:
    job = job_of(identifier, priority=priority)
    stage = stage_of(job, **given)
    with records.transaction() as unit:
        unit.jobs.add(job)
        unit.jobs.add_stage(stage)
    return stage


def claimed(records: Records, now: datetime = START, *, lease_s: float = 10) -> ClaimedStage | None:
    with records.transaction() as unit:
        return unit.jobs.claim(worker_of(), now, now + timedelta(seconds=lease_s))


def failed(records: Records, now: datetime = START) -> Stage:
    """The next stage, leased and failed."""
    held = claimed(records, now)
    assert held is not None
    ended = replace(held.stage, state="failed", finished_at=now, code="TND-4002", reason="it died")
    with records.transaction() as unit:
        assert unit.jobs.finish(ended)
    return only_stage(records, held.job.id)


def only_stage(records: Records, job_id: str = "j1") -> Stage:
    with records.reading() as unit:
        (stage,) = unit.jobs.stages(job_id)
        return stage


def reopened(records: Records, stage: Stage, now: datetime) -> bool:
    with records.transaction() as unit:
        return unit.jobs.reopen(stage.reopened(now))


def unannounced(records: Records, now: datetime = START, told_before: datetime | None = None, limit: int = 9) -> list:
    with records.reading() as unit:
        return [s.job_id for s in unit.jobs.unannounced(now, told_before or now - timedelta(seconds=30), limit)]


def told(records: Records, *stages: Stage, now: datetime = START) -> None:
    with records.transaction() as unit:
        unit.jobs.mark_announced([stage.id for stage in stages], now)


# by the beginning of an id


def test_jobs_are_found_by_the_beginning_of_their_id_oldest_first(records):
    with records.transaction() as unit:
        for name in ("abcdef1", "abcdef2", "abc", "ABCDEF3", "xabcdef", "abcdef4"):
            unit.jobs.add(job_of(name))
    with records.reading() as unit:
        assert [job.id for job in unit.jobs.starting("abcdef", 9)] == ["abcdef1", "abcdef2", "abcdef4"]
        assert [job.id for job in unit.jobs.starting("abcdef", 2)] == ["abcdef1", "abcdef2"]
        assert [job.id for job in unit.jobs.starting("abcdef2", 9)] == ["abcdef2"]
        assert unit.jobs.starting("abc%", 9) == []
        assert unit.jobs.starting("abcde_", 9) == []


# stages that are tried again


def test_a_failed_stage_that_is_reopened_is_claimed_again_with_attempts_anew(records):
    with_stage(records, attempts_allowed=1)
    ended = failed(records)
    assert claimed(records, after(EXHAUSTED_S)) is None
    assert reopened(records, ended, after(50))
    stage = only_stage(records)
    assert (stage.state, stage.not_before, stage.finished_at) == ("ready", after(50), None)
    assert (stage.code, stage.reason, stage.announced_at) == ("", "", None)
    assert claimed(records, after(49)) is None
    attempts = [claimed(records, after(50 + 10 * k)).stage.attempt for k in range(3)]
    assert attempts == [2, 3, 4]
    assert claimed(records, after(90)) is None


def test_only_a_failed_stage_is_reopened_and_only_once(records):
    stage = with_stage(records)
    assert not reopened(records, stage, after(1))
    held = claimed(records)
    assert not reopened(records, held.stage, after(1))
    assert only_stage(records) == held.stage
    with records.transaction() as unit:
        assert unit.jobs.finish(replace(held.stage, state="failed"))
    assert reopened(records, held.stage, after(2))
    assert not reopened(records, held.stage, after(3))
    assert only_stage(records).not_before == after(2)
    assert not reopened(records, replace(stage, id="unknown"), after(4))


def test_the_worker_of_a_former_attempt_cannot_finish_a_stage_that_was_reopened(records):
    with_stage(records)
    held = claimed(records)
    with records.transaction() as unit:
        assert unit.jobs.finish(replace(held.stage, state="failed"))
    assert reopened(records, held.stage, after(1))
    with records.transaction() as unit:
        assert not unit.jobs.finish(replace(held.stage, state="done", artefacts={"mask": "late"}))
        assert not unit.jobs.renew(held.stage, after(99), 0.9, "late")
    assert only_stage(records).state == "ready"


# stages nobody waits for


def test_stages_given_up_are_neither_claimed_nor_finished_nor_renewed_and_say_why(records):
    with_stage(records)
    held = claimed(records)
    with records.transaction() as unit:
        unit.jobs.add_stage(stage_of(job_of(), name="report"))
        unit.jobs.give_up("j1", after(4), code="TND-3012", reason="the job was cancelled")
    with records.transaction() as unit:
        assert not unit.jobs.renew(held.stage, after(99), 0.5, "")
        assert not unit.jobs.finish(replace(held.stage, state="done"))
    with records.reading() as unit:
        stages = unit.jobs.stages("j1")
    assert [(s.state, s.code, s.reason) for s in stages] == [("failed", "TND-3012", "the job was cancelled")] * 2
    assert [(s.finished_at, s.lease_until) for s in stages] == [(after(4), None)] * 2
    assert claimed(records, after(EXHAUSTED_S)) is None


def test_a_stage_that_has_ended_stays_as_it_is_when_its_job_is_given_up(records):
    with_stage(records)
    held = claimed(records)
    done = replace(held.stage, state="done", lease_until=None, artefacts={"mask": "ab"})
    with records.transaction() as unit:
        assert unit.jobs.finish(done)
        unit.jobs.give_up("j1", after(4), code="", reason="the job was cancelled")
    assert only_stage(records) == done


def test_giving_up_one_job_leaves_the_others_alone(records):
    with_stage(records, "j1")
    with_stage(records, "j2")
    with records.transaction() as unit:
        unit.jobs.give_up("j1", after(4), code="", reason="why")
    assert claimed(records, after(5)).job.id == "j2"


# telling workers


def test_a_stage_is_announced_once_it_is_ready_and_not_again_before_its_time(records):
    stage = with_stage(records, not_before=after(5))
    assert unannounced(records, after(4.9)) == []
    assert unannounced(records, after(5)) == ["j1"]
    told(records, stage, now=after(5))
    assert only_stage(records).announced_at == after(5)
    assert unannounced(records, after(20), told_before=after(4.9)) == []
    assert unannounced(records, after(20), told_before=after(5)) == ["j1"]


def test_the_most_urgent_stages_are_announced_first_then_the_oldest_and_no_more_than_asked_for(records):
    for name, priority in (("j1", "batch"), ("j2", "routine"), ("j3", "stat"), ("j4", "routine"), ("j5", "stat")):
        with_stage(records, name, priority=priority)
    assert unannounced(records) == ["j3", "j5", "j2", "j4", "j1"]
    assert unannounced(records, limit=2) == ["j3", "j5"]


def test_a_stage_whose_worker_came_is_announced_again_only_when_its_lease_has_run_out(records):
    stage = with_stage(records)
    told(records, stage)
    claimed(records, after(1), lease_s=60)
    assert unannounced(records, after(50)) == []
    assert unannounced(records, after(61)) == ["j1"]


def test_what_has_ended_or_used_up_its_attempts_is_announced_no_more(records):
    with_stage(records, "j1", attempts_allowed=1)
    failed(records)
    with_stage(records, "j2", attempts_allowed=1)
    claimed(records)
    assert unannounced(records, after(EXHAUSTED_S)) == []


def test_a_stage_given_back_or_reopened_is_announced_anew(records):
    stage = with_stage(records)
    told(records, stage)
    held = claimed(records)
    with records.transaction() as unit:
        assert unit.jobs.finish(held.stage.ended_without_result(Transient(Fault.STAGE_DIED), after(1)))
    assert unannounced(records, after(9), told_before=after(-30)) == ["j1"]
    told(records, stage, now=after(9))
    failed(records, after(9))
    assert reopened(records, stage, after(9))
    assert unannounced(records, after(9), told_before=after(-30)) == ["j1"]


@pytest.mark.parametrize("state", ["cancelled", "superseded", "held", "unfit"])
def test_no_worker_is_called_for_a_job_that_is_not_worked_on(records, state):
    with_stage(records)
    with records.transaction() as unit:
        unit.jobs.save(job_of(state=state))
    assert unannounced(records) == []


def test_marking_nothing_or_what_is_gone_is_harmless(records):
    with_stage(records)
    with records.transaction() as unit:
        unit.jobs.mark_announced([], after(1))
        unit.jobs.mark_announced(["unknown"], after(1))
    assert unannounced(records) == ["j1"]


# studies


def test_a_study_to_be_looked_at_again_is_due_with_all_its_series_in_the_same_revision(records):
    with records.transaction() as unit:
        for instance in (ct(), ct("1.6", series_uid=OTHER_SERIES), ct("1.7", study_uid="9.9", series_uid="9.9.1")):
            unit.studies.add(instance, START)
        unit.studies.settle(STUDY_UID, [SERIES, OTHER_SERIES], close=True)
        unit.studies.settle("9.9", ["9.9.1"], close=True)
    with records.transaction() as unit:
        unit.studies.look_again(STUDY_UID, after(60))
    with records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
        assert unit.studies.due(after(59)) == []
        assert unit.studies.due(after(60)) == [STUDY_UID]
    assert study.revision == 1
    assert [series.is_settled for series in study.series] == [False, False]


def test_what_comes_while_a_study_is_looked_at_again_is_no_new_revision(records):
    with records.transaction() as unit:
        unit.studies.add(ct(), START)
        unit.studies.settle(STUDY_UID, [SERIES], close=True)
        unit.studies.look_again(STUDY_UID, after(1))
        unit.studies.add(ct("1.5"), after(2))
    with records.reading() as unit:
        assert unit.studies.get(STUDY_UID).revision == 1


def test_looking_again_at_a_study_nobody_knows_is_harmless(records):
    with records.transaction() as unit:
        unit.studies.look_again("9.9", START)
    with records.reading() as unit:
        assert unit.studies.due(after(1)) == []
        assert unit.studies.get("9.9") is None
