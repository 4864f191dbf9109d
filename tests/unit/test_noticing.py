"""What happens is told to those whom the site in force names, in the transaction in which it happens."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain.alarm import Alarm
from orchestrator.domain.errors import Broken, Fault, Unfit
from orchestrator.domain.notice import EVENTS, Notice
from orchestrator.service.deciding import Office, activate, propose, roll_back
from orchestrator.service.noticing import sound_alarm
from orchestrator.service.operating import note_unusable_message, replace_site
from orchestrator.service.repairing import retry_job
from orchestrator.service.working import fail_stage
from tests.fakes.surroundings import GivenCatalog
from tests.fakes.system import PACS, FakeSystem, rule, slices
from tests.strategies import manifest_of

if TYPE_CHECKING:
    from orchestrator.domain.notice import Happening

SERVICES = Path(__file__).resolve().parents[2] / "orchestrator" / "service"
ALL = Notice("ops", "webhook", EVENTS, url="https://hook.example/")
FAILED_ONLY = Notice("mail", "email", ("job.failed",), to=("a@b.example",))


@pytest.fixture
def system(tmp_path):
    system = FakeSystem(tmp_path)
    notify(system, ALL, FAILED_ONLY)
    told(system)
    return system


def notify(system: FakeSystem, *notices: Notice) -> None:
    content = replace(system.content(*system.rules), notices=notices)
    replace_site(system.records, system.clock, content, "test")


def told(system: FakeSystem, notice: str = "ops") -> list[Happening]:
    """What waits to be told; told now."""
    found = []
    with system.records.transaction() as unit:
        while posting := unit.notices.claim(notice, system.clock.now(), system.clock.now()):
            found.append(posting.happening)
            unit.notices.keep(posting.sent(system.clock.now()))
    return found


def events(system: FakeSystem, notice: str = "ops") -> list[str]:
    return [happening.event for happening in told(system, notice)]


def test_a_study_routed_and_its_job_done_are_told_in_their_order(system):
    system.receive_and_route(*slices())
    (routed,) = told(system)
    assert (routed.event, routed.study_uid, routed.state) == ("study.routed", system.job().study_uid, "routed")
    system.report()
    system.deliver()
    (done,) = told(system)
    assert (done.event, done.job_id, done.pipeline, done.state) == ("job.done", system.job().id, "bone_ct", "done")
    assert done.at == system.job().changed_at


@pytest.mark.parametrize(
    ("error", "event"),
    [(Broken(Fault.STAGE_DIED, "it died"), "job.failed"), (Unfit(Fault.GANTRY_TILT, "tilted"), "job.unfit")],
)
def test_a_job_that_ends_without_a_result_is_told_with_code_and_reason(system, error, event):
    system.receive_and_route(*slices())
    told(system)
    fail_stage(system.workshop, system.claim(), error)
    (ended,) = told(system)
    assert (ended.event, ended.code, ended.reason) == (event, error.code, error.detail)
    assert events(system, "mail") == (["job.failed"] if event == "job.failed" else [])


def test_a_job_that_fails_again_is_told_again_and_a_retry_is_not(system):
    system.receive_and_route(*slices())
    fail_stage(system.workshop, system.claim(), Broken(Fault.STAGE_DIED))
    told(system)
    retry_job(system.router, system.job().id)
    assert events(system) == []
    fail_stage(system.workshop, system.claim(), Broken(Fault.STAGE_DIED))
    assert events(system) == ["job.failed"]


def test_objects_refused_together_are_told_once(tmp_path):
    system = FakeSystem(tmp_path, rules=({**rule(), "run": [], "send": [], "forward": ["pacs"]},))
    notify(system, ALL)
    told(system)
    system.receive_and_route(*slices(count=5))
    system.sender.refuses = frozenset(o.name for o in outputs(system))
    told(system)
    system.deliver()
    happenings = told(system)
    assert [happening.event for happening in happenings] == ["job.failed", "delivery.quarantined"]
    refused = happenings[1]
    assert (refused.destination, refused.state, refused.code) == ("pacs", "quarantined", Fault.PEER_REFUSED.code)
    assert refused.study_uid == system.job().study_uid


def outputs(system: FakeSystem) -> list:
    with system.records.reading() as unit:
        return unit.deliveries.outputs(system.job().id)


def test_what_is_quarantined_at_once_and_what_is_held_are_told(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(send=["nowhere", "ehr"]),))
    notify(system, ALL)
    told(system)
    system.receive_and_route(*slices())
    told(system)
    system.report()
    assert events(system) == ["job.failed", "delivery.quarantined"]


def test_a_job_held_from_its_beginning_is_told(system):
    one, two, three = slices()
    system.receive_and_route(one, two, replace(three, patient=replace(three.patient, id="another")))
    assert sorted(events(system)) == ["job.held", "study.routed"]


def test_an_alarm_is_told_when_it_is_raised_and_not_when_it_is_counted_up(system):
    for _ in range(3):
        note_unusable_message(system.records, system.clock, "tendon.cpu.stat", "no JSON")
    (raised,) = told(system)
    assert (raised.event, raised.code, raised.reason) == (
        "alarm.raised",
        Fault.MESSAGE_UNUSABLE.code,
        "tendon.cpu.stat: no JSON",
    )
    with system.records.transaction() as unit:
        unit.alarms.clear(raised.code, "tendon.cpu.stat", system.clock.now())
        sound_alarm(unit, Alarm(raised.code, "tendon.cpu.stat", "", system.clock.now(), system.clock.now()))
    assert events(system) == ["alarm.raised"]


def test_rules_that_come_in_force_are_told_and_drafts_are_not(system):
    drafting = Office(
        system.records, GivenCatalog(manifest_of("bone_ct")), system.clock, system.rulebook, needs_approval=True
    )
    draft = propose(drafting, "ann", "", rules=[rule("new")])
    assert told(system) == []
    activate(drafting, draft.version, "bob")
    roll_back(drafting, 2, "bob")
    propose(replace(drafting, needs_approval=False), "ann", "", rules=[rule("newer")])
    assert [happening.reason for happening in told(system)] == [
        f"version {draft.version}, switched on by bob",
        f"version {draft.version + 1}, switched on by bob",
        f"version {draft.version + 2}, switched on by ann",
    ]
    with system.records.reading() as unit:
        assert unit.site.current().notices == (ALL, FAILED_ONLY)


def test_without_a_notice_for_it_nothing_waits_to_be_told(tmp_path):
    system = FakeSystem(tmp_path, destinations=(PACS,))
    notify(system, FAILED_ONLY)
    system.receive_and_route(*slices())
    system.report()
    system.deliver()
    with system.records.reading() as unit:
        assert not unit.notices.is_under_way()


def test_a_transaction_that_fails_tells_nothing(system):
    system.records.fail_next = OSError()
    with pytest.raises(OSError):
        note_unusable_message(system.records, system.clock, "tendon.cpu.stat", "no JSON")
    assert told(system) == []


@pytest.mark.parametrize("path", sorted(SERVICES.glob("*.py")), ids=lambda path: path.stem)
def test_no_service_changes_a_job_or_sounds_an_alarm_past_those_who_are_to_be_told(path):
    found = re.findall(r"unit\.(?:jobs\.(?:save|add)|alarms\.sound)\(", path.read_text(encoding="utf-8"))
    assert bool(found) == (path.stem == "noticing")
