"""Workers are told of ready stages until one comes; a broker that does not answer costs nothing but time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from orchestrator.domain.errors import Fault, Transient
from orchestrator.service.announcing import Crier, announce_ready
from orchestrator.service.working import complete_stage, fail_stage
from tests.fakes.surroundings import RememberingAnnouncer
from tests.fakes.system import LEASE_S, FakeSystem, rule, slices

AGAIN_S = 20.0


@dataclass
class Office:
    system: FakeSystem
    announcer: RememberingAnnouncer = field(default_factory=RememberingAnnouncer)

    def tell(self) -> int:
        return announce_ready(Crier(self.system.records, self.system.clock, self.announcer, AGAIN_S))

    def told(self) -> list[str]:
        return [queue for queue, _ in self.announcer.announced]


@pytest.fixture
def office(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(priority="stat"),))
    system.receive_and_route(*slices())
    return Office(system)


def test_a_ready_stage_is_announced_once_by_its_queue_and_id(office):
    (stage,) = office.system.stages(office.system.job().id)
    assert [office.tell() for _ in range(3)] == [1, 0, 0]
    assert office.announcer.announced == [("tendon.cpu.stat", stage.id)]


def test_a_stage_nobody_came_for_is_announced_again(office):
    office.tell()
    office.system.clock.pass_s(AGAIN_S - 1)
    assert office.tell() == 0
    office.system.clock.pass_s(1)
    assert office.tell() == 1


def test_a_leased_stage_is_not_announced_until_its_lease_runs_out(office):
    office.tell()
    office.system.claim()
    office.system.clock.pass_s(LEASE_S - 1)
    assert office.tell() == 0
    office.system.clock.pass_s(AGAIN_S)
    assert office.tell() == 1


def test_the_next_stage_is_announced_when_it_opens(office):
    claimed = office.system.claim()
    assert complete_stage(office.system.workshop, claimed, office.system.manifests[0], {"mask": "ab"})
    assert office.tell() == 1
    assert office.told() == ["tendon.cpu.stat"]


def test_a_retry_is_announced_when_its_back_off_is_over(office):
    office.tell()
    claimed = office.system.claim()
    assert fail_stage(office.system.workshop, claimed, Transient(Fault.STAGE_DIED))
    assert office.tell() == 0
    office.system.clock.pass_s(2)
    assert office.tell() == 1


def test_while_the_broker_is_down_nothing_counts_as_told(office):
    office.announcer.is_down = True
    assert office.tell() == 0
    office.announcer.is_down = False
    assert office.tell() == 1


def test_a_stage_told_but_not_marked_is_told_twice_rather_than_never(office):
    office.system.records.fail_next = ConnectionError()
    with pytest.raises(ConnectionError):
        office.tell()
    assert office.tell() == 1
    assert office.told() == ["tendon.cpu.stat", "tendon.cpu.stat"]
