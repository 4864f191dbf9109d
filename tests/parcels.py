"""Results on their way to destinations, and what became of them, for the tests of delivering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.ports import BuiltObject
from orchestrator.service.delivering import deliver_to
from tests.fakes.system import SEG, FakeSystem, rule, slices
from tests.strategies import CT_IMAGE, EXPLICIT_LITTLE

if TYPE_CHECKING:
    from orchestrator.domain.circuit import Circuit
    from orchestrator.domain.delivery import Delivery
    from orchestrator.domain.job import Job

SR = BuiltObject("sr", "bone.sr.dcm", b"a report", CT_IMAGE, "2.25.2", "2.25.8", EXPLICIT_LITTLE)


def result(system: FakeSystem, number: int, *built: BuiltObject, **given) -> str:
    """A result of a study of its own on its way; gives its job's id. `given` goes into the rule."""
    system.decide(rule(**given), destinations=system.destinations)
    study_uid = f"1.2.{number}"
    system.receive_and_route(*slices(f"{study_uid}.1", study_uid=study_uid))
    return system.report(*(built or (SEG,)))


def results(system: FakeSystem, count: int, **given) -> list[str]:
    return [result(system, number, **given) for number in range(10, 10 + count)]


def every_job(system: FakeSystem) -> list[Job]:
    with system.records.reading() as unit:
        return list(reversed(unit.jobs.page(99)))


def job(system: FakeSystem, job_id: str) -> Job:
    (found,) = [one for one in every_job(system) if one.id == job_id]
    return found


def every_delivery(system: FakeSystem) -> list[Delivery]:
    with system.records.reading() as unit:
        return [d for one in reversed(unit.jobs.page(99)) for d in unit.deliveries.of_job(one.id)]


def only_delivery(system: FakeSystem, job_id: str) -> Delivery:
    (delivery,) = system.deliveries(job_id)
    return delivery


def counts(system: FakeSystem) -> dict[str, int]:
    with system.records.reading() as unit:
        return unit.deliveries.counts()


def output_names(system: FakeSystem, job_id: str) -> list[str]:
    with system.records.reading() as unit:
        return [output.name for output in unit.deliveries.outputs(job_id)]


def sent_to(system: FakeSystem, name: str) -> list[tuple[str, ...]]:
    """The job of each output of each association to a destination."""
    owner = {output: one.id for one in every_job(system) for output in output_names(system, one.id)}
    return [tuple(owner[output] for output in outputs) for to, outputs in system.sender.calls if to == name]


def circuit(system: FakeSystem, name: str = "pacs") -> Circuit:
    with system.records.reading() as unit:
        return unit.deliveries.circuit(name)


def is_open(system: FakeSystem, name: str = "pacs") -> bool:
    return circuit(system, name).state(system.clock.now()) == "open"


def shut(system: FakeSystem, name: str = "pacs") -> None:
    """Fail until the circuit is open."""
    system.sender.down = frozenset({name})
    while not is_open(system, name):
        system.clock.pass_s(60)
        deliver_to(system.dispatch, name)


def wait_for_probe(system: FakeSystem, name: str = "pacs") -> None:
    """Until an open circuit may be probed."""
    open_until = circuit(system, name).open_until
    assert open_until is not None
    system.clock.moment = max(system.clock.now(), open_until)


def die() -> None:
    """What a killed process does."""
    raise SystemExit
