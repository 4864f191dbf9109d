"""The hospital's interface engine tells of orders by the API, and studies that wait for them go on."""

from __future__ import annotations

import pytest

from orchestrator.domain import audit
from orchestrator.domain.access import Permission
from orchestrator.domain.errors import Fault
from tests.fakes.system import CT, FakeSystem, rule, slices
from tests.web import Web

ORDER = {
    "patient_id": "P1",
    "patient_id_issuer": "MAIN",
    "procedure_code": "CTKNEEL",
    "procedure_description": "CT knee left",
    "reason": "fall from a ladder",
    "department": "ED",
    "priority": "STAT",
    "scheduled_station": "CT1",
}
PATH = "/api/v1/orders/A1"
WHEN = {"all": [CT, {"field": "order.priority", "eq": "stat"}]}


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path, rules=(rule(when=WHEN, wait_s=300),))


@pytest.fixture
def engine(system):
    return Web(system).program("operator", Permission.ORDERS_WRITE)


def told(system: FakeSystem) -> list[tuple[str, str, str]]:
    with system.records.reading() as unit:
        return [(e.event, e.actor, e.subject) for e in unit.audit.newest(99) if e.event.startswith("order.")]


def test_a_study_that_waits_goes_on_when_its_order_is_told(database, tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(when=WHEN, wait_s=300),), records=database)
    engine = Web(system).program("operator", Permission.ORDERS_WRITE)
    system.receive_and_route(*slices(accession_number="A1"))
    assert system.jobs() == []
    answer = engine.put(PATH, json=ORDER)
    assert (answer.status_code, answer.json()["reason"], answer.json()["accession_number"]) == (
        200,
        "fall from a ladder",
        "A1",
    )
    system.route()
    assert system.job().pipeline == "bone_ct"
    assert told(system) == [(audit.ORDER_KEPT, "operator", audit.order_mark("A1"))]
    assert "A1" not in audit.order_mark("A1")


def test_an_order_is_taken_back_for_one_patient_or_for_all(system, engine):
    for patient_id in ("P1", "P2", ""):
        assert engine.put(PATH, json={"patient_id": patient_id}).status_code == 200
    assert engine.delete(PATH, params={"patient_id": "P3"}).json()["code"] == Fault.NOT_FOUND.code
    assert engine.delete(PATH, params={"patient_id": "P1"}).status_code == 204
    with system.records.reading() as unit:
        assert [order.patient_id for order in unit.orders.of_number("A1")] == ["", "P2"]
    assert engine.delete(PATH).status_code == 204
    assert engine.delete(PATH).status_code == 404
    assert [event for event, _, _ in told(system)] == [audit.ORDER_DROPPED] * 2 + [audit.ORDER_KEPT] * 3


def test_accession_numbers_may_hold_any_sign(system, engine):
    assert engine.put("/api/v1/orders/26%2F0815%20K", json={}).json()["accession_number"] == "26/0815 K"
    assert engine.put("/api/v1/orders/%20%20", json={}).json()["code"] == Fault.REQUEST_INVALID.code
    assert engine.put("/api/v1/orders/A%0A1", json={}).json()["code"] == Fault.NOT_FOUND.code
    assert engine.put(f"/api/v1/orders/{'9' * 65}", json={}).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {"patient_name": "Doe^Jane"},
        {"accession_number": "A2"},
        {"reason": "x" * 1001},
        {"patient_id": 4711},
        {"priority": "as soon as possible"},
        [],
    ],
)
def test_only_known_fields_within_their_bounds_are_taken(system, engine, body):
    answer = engine.put(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, Fault.REQUEST_INVALID.code)
    with system.records.reading() as unit:
        assert unit.orders.of_number("A1") == []


def test_who_may_not_tell_of_orders_is_refused(system):
    web = Web(system)
    for program in (web.program("viewer"), web.program("operator", Permission.JOBS_ACT)):
        assert program.put(PATH, json=ORDER).json()["code"] == Fault.NOT_ALLOWED.code
        assert program.delete(PATH).status_code == 403
    assert web.browser().put(PATH, json=ORDER).status_code == 401
