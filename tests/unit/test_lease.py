"""A stage in hand: its lease beats beside the work, and what the records must hear is said until they answer."""

from __future__ import annotations

import time
from threading import Event, Thread

import pytest

from orchestrator.domain.errors import Broken, Fault, Transient
from orchestrator.service.working import complete_stage, fail_stage
from tests.fakes.restarting import RestartingRecords
from tests.strategies import manifest_of
from tests.workbench import hold
from workers.consume.lease import AbandonedError, insist


@pytest.fixture
def records():
    return RestartingRecords()


@pytest.fixture
def held(records):
    with hold(0.15, records) as taken:
        yield taken


def until(is_so, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# the lease


def test_it_is_prolonged_again_and_again_with_what_was_noted_last(held):
    first = held.stage.lease_until
    held.lease.note(0.5, "half way")
    until(lambda: held.stage.progress == 0.5)
    second = held.stage.lease_until
    until(lambda: held.stage.lease_until > second)
    assert second > first
    assert held.stage.progress_text == "half way"
    assert not held.lease.is_over


def test_records_that_do_not_answer_do_not_end_it(held, records):
    records.is_down = True
    asked = records.asked
    until(lambda: records.asked > asked + 2)
    assert not held.lease.is_over
    held.lease.check()

    records.is_down = False
    before = held.stage.lease_until
    until(lambda: held.stage.lease_until > before)
    assert not held.lease.is_over


def test_it_is_over_when_the_job_is_cancelled(held):
    held.cancel()
    until(lambda: held.lease.is_over)
    with pytest.raises(AbandonedError):
        held.lease.check()


def test_it_is_over_when_the_worker_stops(held):
    held.stopping.set()
    assert held.lease.is_over


def test_nothing_is_asked_once_the_stage_is_out_of_hand(records):
    with hold(0.15, records) as held:
        pass
    asked = records.asked
    time.sleep(0.3)
    assert records.asked == asked
    assert not held.lease.is_over


# what must be heard


def test_what_the_records_must_hear_is_said_until_they_answer(held, records):
    records.is_down = True
    manifest = manifest_of("bone_ct")
    heard = []
    saying = Thread(
        target=lambda: heard.append(
            insist(lambda: complete_stage(held.workshop, held.claimed, manifest, {"mask": "ab"}), held.stopping)
        )
    )
    asked = records.asked
    saying.start()
    until(lambda: records.asked > asked + 5)
    assert heard == []
    records.is_down = False
    saying.join(20)
    assert heard == [True]


@pytest.mark.parametrize("end", ["complete", "fail", "retry"])
def test_an_end_kept_although_its_answer_was_lost_is_kept_once(held, records, end):
    manifest = manifest_of("bone_ct")
    ends = {
        "complete": lambda: complete_stage(held.workshop, held.claimed, manifest, {"mask": "ab"}),
        "fail": lambda: fail_stage(held.workshop, held.claimed, Broken(Fault.PIPELINE_FAULT)),
        "retry": lambda: fail_stage(held.workshop, held.claimed, Transient(Fault.STAGE_DIED)),
    }
    records.answers_lost = 1
    assert insist(ends[end], held.stopping) is False
    with records.reading() as unit:
        stages = unit.jobs.stages(held.claimed.job.id)
    assert [stage.state for stage in stages] == {
        "complete": ["done", "ready"],
        "fail": ["failed"],
        "retry": ["ready"],
    }[end]


def test_a_worker_told_to_stop_insists_no_longer(held, records):
    records.is_down = True
    held.stopping.set()
    with pytest.raises(AbandonedError):
        insist(lambda: complete_stage(held.workshop, held.claimed, manifest_of("bone_ct"), {}), held.stopping)


def test_other_failures_are_not_repeated():
    asked = []

    def fail():
        asked.append(1)
        raise Transient(Fault.STAGE_DIED)

    with pytest.raises(Transient):
        insist(fail, Event())
    assert asked == [1]
