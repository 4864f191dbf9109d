"""The hospital tells of an order, or takes it back: the studies it was made for are decided again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.order import KEPT_FOR

if TYPE_CHECKING:
    from orchestrator.domain.order import Order
    from orchestrator.ports import Clock, Records, Unit


def keep_order(records: Records, clock: Clock, order: Order) -> None:
    """Keep an order. Told again as it is known, it changes nothing but how long it is remembered."""
    with records.transaction() as unit:
        before = unit.orders.of_number(order.accession_number)
        unit.orders.keep(order)
        unit.orders.forget(clock.now() - KEPT_FOR)
        if order not in [replace(known, at=order.at) for known in before]:
            _decide_again(unit, clock, order.accession_number)


def drop_order(records: Records, clock: Clock, accession_number: str, patient_id: str | None = None) -> None:
    """Forget the order of a patient, those of all where none is given. Raises Refused NOT_FOUND."""
    with records.transaction() as unit:
        if not unit.orders.drop(accession_number, patient_id):
            raise Refused(Fault.NOT_FOUND, "there is no such order")
        _decide_again(unit, clock, accession_number)


def _decide_again(unit: Unit, clock: Clock, accession_number: str) -> None:
    """Who routes one of the studies meanwhile has not seen the change: it is decided after that."""
    studies = unit.orders.studies(accession_number)
    unit.studies.hold(*studies)
    for study_uid in studies:
        unit.studies.look_again(study_uid, clock.now())
