"""Jobs as they went wrong, for tests of what an operator does about them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.errors import Broken, Fault, Refused
from orchestrator.domain.pipeline import Input
from orchestrator.domain.queue import LANES, queues_of
from orchestrator.service.repairing import cancel_job
from orchestrator.service.working import claim_stage, fail_stage
from tests.fakes.system import EHR, PACS, SHARE, FakeSystem, rule, slices
from tests.strategies import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.domain.errors import TendonError
    from orchestrator.ports import BuiltObject
    from orchestrator.service.repairing import Cancelled

BONE = manifest_of("bone_ct")
RISK = manifest_of("fracture_risk", Input("ct", "volume"), Input("bone", "result", pipeline="bone_ct"))
ALL_QUEUES = queues_of(LANES)


def routed(tmp_path, **given) -> FakeSystem:
    system = FakeSystem(tmp_path, **given)
    system.receive_and_route(*slices())
    return system


def reported(tmp_path, *built: BuiltObject, destinations=(PACS, EHR, SHARE), **given) -> FakeSystem:
    """A job whose report is made, with its deliveries open."""
    system = routed(tmp_path, rules=(rule(**given),), destinations=destinations)
    system.report(*built)
    return system


def fail(system: FakeSystem, error: TendonError | None = None) -> str:
    """The next stage fails for good; gives the job's id."""
    claimed = system.claim()
    assert fail_stage(system.workshop, claimed, error or Broken(Fault.PIPELINE_FAULT, "a fault"))
    return claimed.job.id


def put(system: FakeSystem, job_id: str, state: str, reason: str = "") -> None:
    """Put a job into a state, as somebody else left it."""
    with system.records.transaction() as unit:
        unit.jobs.save(replace(unit.jobs.get(job_id), state=state, reason=reason))


def quarantine(system: FakeSystem, *destinations: str) -> str:
    """The deliveries to these destinations were refused for good; gives the job's id."""
    for delivery in system.deliveries():
        if delivery.destination in destinations:
            with system.records.transaction() as unit:
                unit.deliveries.save(delivery.quarantined(code=Fault.PEER_REFUSED.code, reason="status 0xC000"))
    put(system, system.job().id, "failed", "status 0xC000")
    return system.job().id


def cancel(system: FakeSystem, job_id: str = "", **given: Any) -> Cancelled:
    """Ann cancels the job, by default the only one."""
    return cancel_job(system.router, job_id or system.job().id, by="ann", **given)


def refusal_of(action: Callable[..., object], *given: object) -> Refused:
    with pytest.raises(Refused) as refusal:
        action(*given)
    return refusal.value


def nothing_to_do(system: FakeSystem) -> bool:
    return claim_stage(system.workshop, system.worker) is None


def states(system: FakeSystem, job_id: str = "") -> list[tuple[str, str]]:
    return [(d.destination, d.state) for d in system.deliveries(job_id)]


def chain(system: FakeSystem) -> list[tuple[str, str, int]]:
    return [(job.pipeline, job.state, job.generation) for job in system.jobs()]
