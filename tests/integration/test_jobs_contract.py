"""What the ports `Jobs` and `Deliveries` promise, on the fake and on SQLite."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.queue import Queue
from orchestrator.domain.route import Decision
from orchestrator.domain.worker import Waiting
from tests.rows import SERIES, after, job_of, stage_of, worker_of
from tests.strategies import START, STUDY_UID

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.domain.job import Stage
    from orchestrator.ports import Records


def with_stage(
    records: Records,
    identifier: str = "j1",
    *,
    priority: Any = "routine",
    job: dict[str, Any] | None = None,
    **given: Any,
) -> Stage:
    kept = job_of(identifier, priority=priority, **(job or {}))
    stage = stage_of(kept, **given)
    with records.transaction() as unit:
        unit.jobs.add(kept)
        unit.jobs.add_stage(stage)
    return stage


def claimed(records: Records, now: datetime = START, *, lanes: tuple[str, ...] = ("cpu",), lease_s: float = 10) -> Any:
    with records.transaction() as unit:
        return unit.jobs.claim(worker_of(lanes), now, now + timedelta(seconds=lease_s))


def finished(records: Records, stage: Stage, **given: Any) -> bool:
    with records.transaction() as unit:
        return unit.jobs.finish(replace(stage, **{"state": "done", "artefacts": {"mask": "ab"}, **given}))


def only_stage(records: Records, job_id: str = "j1") -> Stage:
    with records.reading() as unit:
        (stage,) = unit.jobs.stages(job_id)
        return stage


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
    assert found.job == job_of(state="running", changed_at=after(1))
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


def test_what_a_worker_cannot_run_is_passed_by_and_left_to_others(records):
    def claim(**given: Any) -> str | None:
        with records.transaction() as unit:
            found = unit.jobs.claim(replace(worker_of(has_gpu=False), **given), START, after(99))
        return None if found is None else found.job.id

    with_stage(records, "on a GPU", lane="gpu", gpu="required")
    with_stage(records, "of another build", job={"package_digest": "b" * 64})
    with_stage(records, "anywhere", lane="gpu", gpu="optional")
    with_stage(records, "of this build", job={"package_digest": "a" * 64})
    a = frozenset({"a" * 64})
    assert [claim(builds=a), claim(builds=a), claim(builds=a)] == ["anywhere", "of this build", None]
    assert [claim(builds=frozenset({"b" * 64})), claim(builds=a)] == ["of another build", None]
    assert [claim(has_gpu=True), claim(has_gpu=True)] == ["on a GPU", None]


def test_what_waits_is_told_by_what_it_needs(records):
    with_stage(records, "j1", lane="gpu", gpu="required")
    for number in (2, 3):
        with_stage(records, f"j{number}", not_before=after(number), job={"package_digest": "b" * 64})
    with_stage(records, "j4", not_before=after(61))
    with_stage(records, "j5", attempt=3, attempts_allowed=3)
    with_stage(records, "j6", job={"state": "cancelled"})
    with records.reading() as unit:
        assert unit.jobs.ready_since(after(60)) == [
            Waiting(Queue("cpu", "routine"), "no", "bone_ct", "b" * 64, 2, after(2)),
            Waiting(Queue("gpu", "routine"), "required", "bone_ct", "", 1, START),
        ]


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
    assert (found.stage.attempt, found.job) == (2, job_of(state="running", changed_at=START))
    assert finished(records, found.stage, state="failed"), "who gives it up owns its last attempt"
    with records.reading() as unit:
        assert unit.jobs.exhausted(after(1e6)) == []


def test_work_is_under_way_from_the_first_ready_stage_to_the_last_finish(records):
    def is_under_way() -> bool:
        with records.reading() as unit:
            return unit.jobs.is_under_way()

    assert not is_under_way()
    with_stage(records, not_before=after(60))
    assert is_under_way(), "its time will come"
    held = claimed(records, after(60))
    assert is_under_way()
    assert finished(records, held.stage)
    assert not is_under_way()


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
