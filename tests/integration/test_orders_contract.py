"""What the port `Orders` promises, on the fake and on real databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.order import Order
from tests.rows import after, ct

ANN = Order(
    accession_number="A1",
    at=after(0),
    patient_id="P1",
    patient_id_issuer="MAIN",
    procedure_code="CTKNEEL",
    procedure_description="CT knee left",
    reason="fall on the knee",
    department="ED",
    priority="STAT",
    scheduled_station="CT1",
)
NAMELESS = Order(accession_number="A1", at=after(5))
OTHER = replace(ANN, accession_number="A2", at=after(9))


@pytest.fixture
def kept(store):
    with store.records.transaction() as unit:
        for order in (ANN, NAMELESS, OTHER):
            unit.orders.keep(order)
    return store


def test_orders_are_read_as_they_were_kept_last(kept):
    changed = replace(ANN, at=after(1), reason="", priority="ROUTINE", patient_id_issuer="NORTH")
    with kept.reopened().reading() as unit:
        assert unit.orders.of_number("A1") == [NAMELESS, ANN]
        assert unit.orders.of_number("a1") == unit.orders.of_number("") == []
    with kept.records.transaction() as unit:
        unit.orders.keep(changed)
    with kept.reopened().reading() as unit:
        assert (unit.orders.of_number("A1"), unit.orders.of_number("A2")) == ([NAMELESS, changed], [OTHER])


def test_an_order_is_dropped_for_one_patient_or_for_all(kept):
    with kept.records.transaction() as unit:
        assert unit.orders.drop("A1", "P2") == unit.orders.drop("A3") == 0
        assert unit.orders.drop("A1", "") == 1
        assert unit.orders.of_number("A1") == [ANN]
        assert unit.orders.drop("A1") == 1
        assert (unit.orders.of_number("A1"), unit.orders.of_number("A2")) == ([], [OTHER])


def test_orders_told_before_then_are_forgotten(kept):
    with kept.records.transaction() as unit:
        unit.orders.forget(after(5))
        assert (unit.orders.of_number("A1"), unit.orders.of_number("A2")) == ([NAMELESS], [OTHER])


def test_studies_of_an_accession_number_are_found_until_they_are_retired(records):
    with records.transaction() as unit:
        for n, number in enumerate(("A1", "A1", "A2", "")):
            image = ct(f"1.9.{n}.1.1", series_uid=f"1.9.{n}.1", study_uid=f"1.9.{n}", accession_number=number)
            unit.studies.add(image, after(0))
    with records.transaction() as unit:
        assert unit.orders.studies("A1") == ["1.9.0", "1.9.1"]
        assert unit.orders.studies("A3") == []
        unit.keeping.retire("1.9.0", after(1), "old")
        assert unit.orders.studies("A1") == ["1.9.1"]
