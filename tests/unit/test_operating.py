"""What staff ask and decide."""

from __future__ import annotations

import pytest

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.site import SiteContent
from orchestrator.service.operating import (
    clear_alarm,
    current_site,
    job_summary,
    newest_jobs,
    note_unusable_message,
    open_alarms,
    replace_site,
    study_story,
)
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import SettableClock
from tests.fakes.system import CT1, PACS, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, ct_header


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path)


def test_the_story_of_a_study_tells_what_came_was_decided_done_and_sent(system):
    system.receive(*slices(count=2))
    system.receive_and_route(*slices(first=2, count=1))
    system.receive(ct_header("1.2.3.1.9", unreadable="too deep"))
    job_id = system.report()
    system.deliver()
    story = study_story(system.records, STUDY_UID)
    assert story.study.series[0].instances == 3
    assert [a.calling_ae for a in story.associations] == ["CT1", "CT1"]
    assert [i.header.unreadable for i in story.left_out] == ["too deep"]
    assert [d.pipeline for _, _, _, d in story.decisions if d.is_yes] == ["", "bone_ct"]
    (job,) = story.jobs
    assert (job.job.id, job.job.state) == (job_id, "done")
    assert [s.name for s in job.stages] == ["segment", "report"]
    assert [o.kind for o in job.outputs] == ["seg"]
    assert [d.state for d in job.deliveries] == ["proven"]


def test_a_study_never_received_is_refused(system):
    with pytest.raises(Refused) as refusal:
        study_story(system.records, "9.9")
    assert refusal.value.fault is Fault.NOT_FOUND


def test_the_newest_jobs_come_first_and_no_more_than_asked_for(system):
    for number in range(3):
        system.receive_and_route(*slices(f"1.2.{number}.1", study_uid=f"1.2.{number}"))
    assert [story.job.study_uid for story in newest_jobs(system.records, 2)] == ["1.2.2", "1.2.1"]


def test_a_job_is_shown_with_state_reason_and_stages(system):
    system.receive_and_route(*slices())
    system.claim()
    (story,) = newest_jobs(system.records, 9)
    assert job_summary(story) == {
        "id": story.job.id,
        "study_uid": STUDY_UID,
        "pipeline": "bone_ct",
        "state": "running",
        "reason": "",
        "stages": [{"name": "segment", "state": "leased", "attempt": 1}],
    }


def test_each_decision_of_staff_is_the_next_version_and_the_newest_is_in_force():
    records, clock = MemoryRecords(), SettableClock()
    with pytest.raises(Refused) as refusal:
        current_site(records)
    assert refusal.value.fault is Fault.NOT_FOUND
    first = replace_site(records, clock, SiteContent(nodes=(CT1,), destinations=(PACS,), rules=(rule(),)), "import")
    clock.pass_s(9)
    second = replace_site(records, clock, SiteContent(destinations=(PACS,)), "admin")
    assert [site.version for site in (first, second)] == [1, 2]
    assert current_site(records) == second
    assert (second.author, second.at) == ("admin", clock.now())


def test_a_decision_that_cannot_be_kept_leaves_the_older_one_in_force(system):
    before = current_site(system.records)
    system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        replace_site(system.records, system.clock, SiteContent(), "import")
    assert current_site(system.records) == before


# alarms


def test_messages_no_worker_can_use_are_one_alarm_per_queue_until_somebody_sees_to_it():
    records, clock = MemoryRecords(), SettableClock()
    first = clock.now()
    note_unusable_message(records, clock, "tendon.cpu.stat", "it names no stage")
    clock.pass_s(5)
    note_unusable_message(records, clock, "tendon.gpu.batch", "it is no message of ours")
    note_unusable_message(records, clock, "tendon.cpu.stat", "it names no stage")
    cpu, gpu = open_alarms(records)
    assert (cpu.code, cpu.subject, cpu.times) == (Fault.MESSAGE_UNUSABLE.code, "tendon.cpu.stat", 2)
    assert (cpu.raised_at, cpu.last_at, cpu.detail) == (first, clock.now(), "it names no stage")
    assert (gpu.subject, gpu.times) == ("tendon.gpu.batch", 1)
    clear_alarm(records, clock, cpu.code, cpu.subject)
    assert open_alarms(records) == [gpu]


def test_an_alarm_that_is_not_open_cannot_be_cleared():
    with pytest.raises(Refused) as refusal:
        clear_alarm(MemoryRecords(), SettableClock(), "TND-9006", "tendon.cpu.stat")
    assert refusal.value.fault is Fault.NOT_FOUND
