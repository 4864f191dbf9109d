"""Several threads and processes deliver at once, on real databases: no change is lost and nothing goes twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

from orchestrator.service.delivering import deliver_due, deliver_to, destinations_due
from orchestrator.service.desks import Desks
from orchestrator.service.leading import ROUNDS, Office
from orchestrator.service.resuming import resume_destination
from tests.fakes.system import LEASE_S, PACS, SEG, SHARE, FakeSystem
from tests.parcels import SR, counts, every_delivery, every_job, output_names, result

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.service.delivering import Dispatch

MORE = tuple(replace(SHARE, name=name) for name in ("share", "archive", "research"))
NAMES = [PACS.name, *(destination.name for destination in MORE)]


@pytest.fixture
def system(database, tmp_path):
    return FakeSystem(tmp_path, destinations=(PACS, *MORE), records=database)


def at_once(*steps: Callable[[], object]) -> None:
    """Do all of it in threads that start together; the first error of any is raised."""
    barrier, errors = Barrier(len(steps)), []

    def do(step: Callable[[], object]) -> None:
        barrier.wait(30)
        try:
            step()
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=do, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def process(system: FakeSystem, holder: str) -> Dispatch:
    office = Office(system.records, system.clock, ROUNDS, holder, LEASE_S)
    return replace(system.dispatch, office=office, desks=Desks())


def test_destinations_that_end_one_job_at_the_same_time_lose_no_change(system):
    for number in range(12):
        result(system, number, SEG, SR, send=NAMES)
    at_once(*(lambda name=name: deliver_to(system.dispatch, name) for name in NAMES))
    assert {delivery.state for delivery in every_delivery(system)} == {"accepted", "proven"}
    assert {job.state for job in every_job(system)} == {"done"}


def test_of_processes_that_deliver_at_once_only_the_leader_sends_and_each_object_once(system):
    for number in range(12):
        result(system, number, SEG, SR, send=NAMES)

    def work(dispatch: Dispatch) -> None:
        while destinations_due(dispatch):
            if dispatch.office.take():
                deliver_due(dispatch)
                dispatch.office.give_up()

    at_once(*(lambda name=name: work(process(system, name)) for name in ("a", "b", "c")))
    assert set(Counter(every_sending(system)).values()) == {1}
    assert sum(counts(system).values()) == 12 * 2 * len(NAMES)
    assert {job.state for job in every_job(system)} == {"done"}


def every_sending(system: FakeSystem) -> list[tuple[str, str]]:
    return [(to, name) for to, names in system.sender.calls for name in names]


def test_routing_receiving_and_resuming_go_on_beside_it(system):
    jobs = [result(system, number, send=["pacs", "share"]) for number in range(8)]
    system.sender.refuses = frozenset(name for job_id in jobs for name in output_names(system, job_id))
    deliver_to(system.dispatch, "share")
    system.sender.refuses = frozenset()
    at_once(
        lambda: deliver_to(system.dispatch, "pacs"),
        lambda: resume_destination(system.records, system.clock, "share"),
        lambda: [result(system, number, send=["archive"]) for number in range(20, 24)],
        lambda: [deliver_to(system.dispatch, name) for name in destinations_due(system.dispatch)],
    )
    while deliver_due(system.dispatch):
        pass
    assert {job.state for job in every_job(system)} == {"done"}
    assert sum(counts(system).values()) == 8 * 2 + 4
